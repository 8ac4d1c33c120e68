//! A rule of an AuthorizationPolicy as a policy of Envoy's RBAC (SECURITY-INJECTION E.4, E.7).
//!
//! What cannot be asked where the rule is used (HTTP attributes of bytes, tokens before they are read) or means nothing (a malformed
//! network) must never open a door: a rule that allows is left out whole, any other loses the condition and so covers more.

use envoy_api::envoy::config::rbac::v3::{Permission, Policy, Principal};
use mesh_config::resource::authorization_policy::{Condition, Operation, Rule, Source};

use super::attributes::{self as attribute, Node, Unfit};
use super::trust_domains::TrustDomains;

/// Where a rule is used, and what for.
#[derive(Debug, Clone, Copy)]
pub struct Use<'a> {
    /// Namespace of the policy.
    pub namespace: &'a str,
    /// Trust domains of the mesh.
    pub domains: &'a TrustDomains,
    /// Whether requests are looked at, and not only connections.
    pub http: bool,
    /// Whether tokens have been read by then.
    pub tokens: bool,
    /// Whether it allows what it matches.
    pub allows: bool,
}

/// What must be known of a request for an attribute.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Connection,
    Http,
    Token,
}

/// Conditions that must all hold, of one side.
struct All<'a, T> {
    at: Use<'a>,
    terms: Vec<T>,
}

impl<'a, T: Node + Clone> All<'a, T> {
    fn new(at: Use<'a>, terms: Vec<T>) -> All<'a, T> {
        All { at, terms }
    }

    /// Asks for one of some values, and for none of others.
    fn add(
        &mut self,
        need: Need,
        values: &[String],
        not_values: &[String],
        make: impl Fn(&str) -> Result<T, Unfit>,
    ) -> Result<(), Unfit> {
        let known = match need {
            Need::Connection => true,
            Need::Http => self.at.http,
            Need::Token => self.at.http && self.at.tokens,
        };
        for (list, negated) in [(values, false), (not_values, true)] {
            let made: Vec<T> = match known {
                true => list.iter().filter_map(|value| make(value).ok()).collect(),
                false => Vec::new(),
            };
            if self.at.allows && made.len() < list.len() {
                return Err(Unfit);
            }
            if !made.is_empty() {
                let any = T::one_of(made);
                self.terms.push(if negated { any.not() } else { any });
            }
        }
        Ok(())
    }

    fn done(self) -> T {
        T::all(self.terms)
    }
}

/// The policy of a rule; `None` if it allows and cannot be expressed.
pub fn policy(rule: &Rule, at: Use<'_>) -> Option<Policy> {
    let mut permissions = All::new(at, Vec::new());
    let mut principals = All::new(at, Vec::new());
    for condition in &rule.when {
        let written = when(condition, &mut permissions, &mut principals);
        if written.is_err() && at.allows {
            return None;
        }
    }
    let (permissions, principals) = (permissions.terms, principals.terms);
    let operations = rule.to.as_deref();
    let operations = operations.map(|list| list.iter().map(|to| to.operation.as_ref()).collect());
    let sources = rule.from.as_deref();
    let sources = sources.map(|list| list.iter().map(|from| from.source.as_ref()).collect());
    Some(Policy {
        permissions: side(at, operations, &permissions, operation).ok()?,
        principals: side(at, sources, &principals, source).ok()?,
        ..Default::default()
    })
}

/// One side of a rule: any of its entries, each with the conditions that every entry has.
fn side<T: Node + Clone, E: Default + PartialEq>(
    at: Use<'_>,
    entries: Option<Vec<Option<&E>>>,
    common: &[T],
    write: impl Fn(&mut All<'_, T>, &E) -> Result<(), Unfit>,
) -> Result<Vec<T>, Unfit> {
    // The check refuses entries that say nothing. If one is here all the same, it allows nobody.
    let says_something = |entry: &Option<&E>| entry.is_some_and(|e| *e != E::default());
    let mut out = Vec::new();
    for entry in entries.iter().flatten() {
        if at.allows && !says_something(entry) {
            return Err(Unfit);
        }
        let mut all = All::new(at, Vec::new());
        if let Some(entry) = entry {
            write(&mut all, entry)?;
        }
        all.terms.extend(common.iter().cloned());
        out.push(all.done());
    }
    if out.is_empty() {
        if at.allows && entries.is_some() {
            return Err(Unfit);
        }
        out.push(T::all(common.to_vec()));
    }
    Ok(out)
}

fn operation(all: &mut All<'_, Permission>, to: &Operation) -> Result<(), Unfit> {
    use attribute::{host, method, path, port};
    all.add(Need::Http, &to.hosts, &to.not_hosts, |v| Ok(host(v)))?;
    all.add(Need::Http, &to.methods, &to.not_methods, |v| Ok(method(v)))?;
    all.add(Need::Http, &to.paths, &to.not_paths, path)?;
    all.add(Need::Connection, &to.ports, &to.not_ports, port)
}

fn source(all: &mut All<'_, Principal>, from: &Source) -> Result<(), Unfit> {
    let Use {
        domains, namespace, ..
    } = all.at;
    all.add(
        Need::Connection,
        &domains.principals(&from.principals),
        &domains.principals(&from.not_principals),
        |v| Ok(attribute::principal(v)),
    )?;
    all.add(
        Need::Token,
        &from.request_principals,
        &from.not_request_principals,
        |v| Ok(attribute::request_principal(v)),
    )?;
    all.add(
        Need::Connection,
        &from.service_accounts,
        &from.not_service_accounts,
        |v| Ok(attribute::service_account(v, namespace)),
    )?;
    all.add(
        Need::Connection,
        &domains.domains(&from.trust_domains),
        &domains.domains(&from.not_trust_domains),
        |v| Ok(attribute::trust_domain(v)),
    )?;
    all.add(
        Need::Connection,
        &from.namespaces,
        &from.not_namespaces,
        |v| Ok(attribute::namespace(v)),
    )?;
    all.add(
        Need::Connection,
        &from.remote_ip_blocks,
        &from.not_remote_ip_blocks,
        attribute::remote_ip,
    )?;
    all.add(
        Need::Connection,
        &from.ip_blocks,
        &from.not_ip_blocks,
        attribute::direct_ip,
    )
}

/// Writes a further condition into the side it belongs to. An attribute that nobody knows is unfit.
fn when(
    condition: &Condition,
    permissions: &mut All<'_, Permission>,
    principals: &mut All<'_, Principal>,
) -> Result<(), Unfit> {
    use Need::{Connection, Http, Token};
    let Use {
        domains, namespace, ..
    } = principals.at;
    let (is, not) = (&condition.values[..], &condition.not_values[..]);
    match condition.key.as_str() {
        "destination.ip" => permissions.add(Connection, is, not, attribute::destination_ip),
        "destination.port" => permissions.add(Connection, is, not, attribute::port),
        "connection.sni" => permissions.add(Connection, is, not, |v| Ok(attribute::server_name(v))),
        "source.ip" => principals.add(Connection, is, not, attribute::direct_ip),
        "remote.ip" => principals.add(Connection, is, not, attribute::remote_ip),
        "source.namespace" => principals.add(Connection, is, not, |v| Ok(attribute::namespace(v))),
        "source.serviceAccount" => principals.add(Connection, is, not, |v| {
            Ok(attribute::service_account(v, namespace))
        }),
        "source.trustDomain" => principals.add(
            Connection,
            &domains.domains(is),
            &domains.domains(not),
            |v| Ok(attribute::trust_domain(v)),
        ),
        "source.principal" => principals.add(
            Connection,
            &domains.principals(is),
            &domains.principals(not),
            |v| Ok(attribute::principal(v)),
        ),
        "request.auth.principal" => {
            principals.add(Token, is, not, |v| Ok(attribute::request_principal(v)))
        }
        "request.auth.audiences" => {
            principals.add(Token, is, not, |v| Ok(attribute::claim(&["aud"], v)))
        }
        "request.auth.presenter" => {
            principals.add(Token, is, not, |v| Ok(attribute::claim(&["azp"], v)))
        }
        key => {
            let (name, inner) = bracketed(key).ok_or(Unfit)?;
            match name {
                "request.headers" => principals.add(Http, is, not, |v| attribute::header(inner, v)),
                "request.auth.claims" => {
                    let path = claim_path(inner);
                    principals.add(Token, is, not, |v| Ok(attribute::claim(&path, v)))
                }
                name if name.starts_with("experimental.envoy.filters.") => {
                    let filter = name.trim_start_matches("experimental.");
                    permissions.add(Connection, is, not, |v| {
                        Ok(attribute::filter_metadata(filter, inner, v))
                    })
                }
                _ => Err(Unfit),
            }
        }
    }
}

/// `a[b]` in its two parts, `b` up to the last bracket.
fn bracketed(key: &str) -> Option<(&str, &str)> {
    let (name, rest) = key.split_once('[')?;
    let inner = rest.strip_suffix(']')?;
    (!inner.is_empty()).then_some((name, inner))
}

/// The keys of `a][b`; whatever has stray brackets is the name of one claim.
fn claim_path(inner: &str) -> Vec<&str> {
    let path: Vec<&str> = inner.split("][").collect();
    let clean = |key: &&str| !key.is_empty() && !key.contains(['[', ']']);
    match path.iter().all(clean) {
        true => path,
        false => vec![inner],
    }
}
