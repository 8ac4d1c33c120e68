//! The order of decisions (SECURITY-INJECTION E.3, E.9, E.10): identities that were taken back, authorizers, tokens, AUDIT, DENY, ALLOW.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_api::envoy::config::rbac::v3::{Permission, Policy, Principal, Rbac, rbac};
use envoy_api::envoy::extensions::filters::http::jwt_authn::v3::JwtAuthentication;
use mesh_config::resource::authorization_policy::Action;
use mesh_model::AuthorizationPolicy;

use super::attributes::{self, Node};
use super::rule::{self, Use};
use super::{Authorizer, Input, jwt};

/// What the shadow of a CUSTOM policy leaves behind starts with this; Envoy adds `shadow_effective_policy_id`.
pub const ASK_PREFIX: &str = "istio_ext_authz_";
/// Statistics of identities that were taken back.
const REVOKED: &str = "revoked.";
/// End of the names of policies that refuse because nobody can be asked.
const NOBODY_TO_ASK: &str = "-deny-due-to-bad-CUSTOM-action";

/// One step of a decision.
#[derive(Clone, PartialEq)]
pub enum Layer {
    /// Policies of one action.
    Rbac {
        /// Those in force; `None` decides nothing.
        rules: Option<Rbac>,
        /// Those that are only counted or noted, and the prefix of what they leave behind.
        shadow: Option<(&'static str, Rbac)>,
        /// Prefix of its statistics; empty for none of its own.
        stats: &'static str,
    },
    /// Tokens are checked and their claims left behind. HTTP alone.
    Tokens(Box<JwtAuthentication>),
    /// An authorizer is asked about what the step before noted for it.
    Ask {
        /// Its name.
        name: Arc<str>,
        /// Where and how.
        authorizer: Authorizer,
    },
}

/// Policies of Envoy by name.
type Named = BTreeMap<String, Policy>;

/// The steps for requests (`http`) or connections.
pub(super) fn of(input: &Input, http: bool) -> Vec<Layer> {
    let mut out = Vec::new();
    out.extend(revoked(input));
    out.extend(custom(input, http));
    if http {
        let tokens = jwt::of(&input.policies, input.gateway);
        out.extend(tokens.map(|tokens| Layer::Tokens(Box::new(tokens))));
    }
    for action in [Action::Audit, Action::Deny, Action::Allow] {
        out.extend(of_action(input, http, action));
    }
    out
}

fn rules(action: rbac::Action, policies: Named) -> Rbac {
    Rbac {
        action: action.into(),
        policies,
        ..Default::default()
    }
}

fn deny(policies: Named) -> Layer {
    Layer::Rbac {
        rules: Some(rules(rbac::Action::Deny, policies)),
        shadow: None,
        stats: "",
    }
}

/// Refuses identities that were taken back, whatever policies say.
fn revoked(input: &Input) -> Option<Layer> {
    let denied = &input.policies.denied;
    let policy = Policy {
        permissions: vec![Permission::any()],
        principals: denied.iter().map(|id| attributes::spiffe_id(id)).collect(),
        ..Default::default()
    };
    (!denied.is_empty()).then(|| Layer::Rbac {
        rules: Some(rules(
            rbac::Action::Deny,
            [("revoked-identities".to_owned(), policy)].into(),
        )),
        shadow: None,
        stats: REVOKED,
    })
}

/// The policies of an action that decides by itself.
fn of_action(input: &Input, http: bool, action: Action) -> Option<Layer> {
    let (mut enforced, mut tried): (Option<Named>, Option<Named>) = (None, None);
    for policy in input.policies.authorization.iter() {
        if policy.spec.action != action {
            continue;
        }
        let dry = policy.dry_run && action != Action::Audit;
        let named = if dry { &mut tried } else { &mut enforced };
        let at = used(input, http, policy);
        named
            .get_or_insert_default()
            .extend(policies(policy, at, "", ""));
    }
    if enforced.is_none() && tried.is_none() {
        return None;
    }
    let (action, prefix) = match action {
        Action::Allow => (rbac::Action::Allow, "istio_dry_run_allow_"),
        Action::Deny => (rbac::Action::Deny, "istio_dry_run_deny_"),
        Action::Audit | Action::Custom => (rbac::Action::Log, ""),
    };
    Some(Layer::Rbac {
        rules: enforced.map(|named| rules(action, named)),
        shadow: tried.map(|named| (prefix, rules(action, named))),
        stats: "",
    })
}

/// What authorizers decide: each is told by the shadow of a DENY which requests are for it. Where nobody can be asked, all of them are
/// refused.
fn custom(input: &Input, http: bool) -> Vec<Layer> {
    // A policy that is only tried asks nobody.
    let all = input.policies.authorization.iter();
    let all = all.filter(|p| p.spec.action == Action::Custom && !p.dry_run);
    let mut by_name: BTreeMap<&str, Vec<&Arc<AuthorizationPolicy>>> = BTreeMap::new();
    for policy in all {
        let name = policy.spec.provider.as_ref().map_or("", |p| &p.name);
        by_name.entry(name).or_default().push(policy);
    }
    let settings = input.policies.settings;
    let too_many = by_name.len() > 1 && !settings.several_authorizers;
    let mut refused = Named::new();
    let mut out = Vec::new();
    for (name, of_name) in by_name {
        let named = |end: &str| -> Named {
            let start = format!("{}{name}-", ext_prefix());
            let each = of_name
                .iter()
                .flat_map(|policy| policies(policy, used(input, http, policy), &start, end));
            each.collect()
        };
        match input.authorizers.get_key_value(name).filter(|_| !too_many) {
            None => refused.extend(named(NOBODY_TO_ASK)),
            // One that is asked over HTTP has nothing to say about bytes.
            Some((_, authorizer)) if !http && authorizer.needs_http() => {}
            Some((name, authorizer)) => {
                let shadow = rules(rbac::Action::Deny, named(""));
                out.push(Layer::Rbac {
                    rules: None,
                    shadow: Some((ASK_PREFIX, shadow)),
                    stats: "",
                });
                out.push(Layer::Ask {
                    name: name.clone(),
                    authorizer: authorizer.clone(),
                });
            }
        }
    }
    if !refused.is_empty() {
        out.insert(0, deny(refused));
    }
    out
}

/// What the names of policies for an authorizer start with, before its name.
pub fn ext_prefix() -> &'static str {
    "istio-ext-authz-"
}

fn used<'a>(input: &'a Input, http: bool, policy: &'a AuthorizationPolicy) -> Use<'a> {
    Use {
        namespace: &policy.key.namespace,
        domains: &input.domains,
        http,
        // Authorizers are asked before tokens are looked at.
        tokens: policy.spec.action != Action::Custom,
        allows: policy.spec.action == Action::Allow,
    }
}

/// The policies of Envoy that an AuthorizationPolicy makes. Without rules it makes one that never matches, so that an ALLOW without rules
/// refuses everything.
fn policies(policy: &AuthorizationPolicy, at: Use<'_>, start: &str, end: &str) -> Named {
    let key = &policy.key;
    let name = |index: usize| {
        format!(
            "{start}ns[{}]-policy[{}]-rule[{index}]{end}",
            key.namespace, key.name
        )
    };
    if policy.spec.rules.is_empty() {
        let never = Policy {
            permissions: vec![Permission::any().not()],
            principals: vec![Principal::any().not()],
            ..Default::default()
        };
        return [(name(0), never)].into();
    }
    let rules = policy.spec.rules.iter().enumerate();
    rules
        .filter_map(|(index, rule)| Some((name(index), rule::policy(rule, at)?)))
        .collect()
}
