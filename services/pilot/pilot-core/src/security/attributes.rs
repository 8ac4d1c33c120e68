//! What a policy may ask of a request, one function per attribute: a value as written to the matcher of Envoy (SECURITY-INJECTION E.6).

use envoy_api::any;
use envoy_api::envoy::config::core::v3::CidrRange;
use envoy_api::envoy::config::rbac::v3::{
    MetadataSource, Permission, Principal, SourcedMetadata, permission, principal,
};
use envoy_api::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use envoy_api::envoy::r#type::matcher::v3::metadata_matcher::{PathSegment, path_segment};
use envoy_api::envoy::r#type::matcher::v3::value_matcher::MatchPattern;
use envoy_api::envoy::r#type::matcher::v3::{
    ListMatcher, MetadataMatcher, OrMatcher, PathMatcher, StringMatcher, ValueMatcher,
    list_matcher, path_matcher,
};

use mesh_config::resource::authorization_policy::path_template;

use super::text::{self, Pattern};
use crate::listeners::cidr;

/// The filter that leaves the claims of valid tokens behind.
pub const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";
/// Where it leaves them.
pub const PAYLOAD: &str = "payload";

/// A value that means nothing: no network, no port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit;

/// A permission or a principal.
pub trait Node: Sized {
    /// Holds always.
    fn any() -> Self;
    /// Holds if all of several do.
    fn all(several: Vec<Self>) -> Self;
    /// Holds if one of several does.
    fn one_of(several: Vec<Self>) -> Self;
    /// Holds if the other does not.
    fn not(self) -> Self;
}

macro_rules! node {
    ($node:ident, $make:ident, $inner:ident, $field:ident, $oneof:ident, $and:ident, $or:ident, $not:ident) => {
        impl Node for $node {
            fn any() -> Self {
                $make($inner::$oneof::Any(true))
            }
            fn all(mut several: Vec<Self>) -> Self {
                match several.len() {
                    0 => Self::any(),
                    1 => several.remove(0),
                    _ => $make($inner::$oneof::$and($inner::Set { $field: several })),
                }
            }
            fn one_of(mut several: Vec<Self>) -> Self {
                match several.len() {
                    1 => several.remove(0),
                    _ => $make($inner::$oneof::$or($inner::Set { $field: several })),
                }
            }
            fn not(self) -> Self {
                $make($inner::$oneof::$not(Box::new(self)))
            }
        }
    };
}

node!(
    Permission, allow, permission, rules, Rule, AndRules, OrRules, NotRule
);
node!(
    Principal, who, principal, ids, Identifier, AndIds, OrIds, NotId
);

fn allow(rule: permission::Rule) -> Permission {
    Permission { rule: Some(rule) }
}

fn who(identifier: principal::Identifier) -> Principal {
    Principal {
        identifier: Some(identifier),
    }
}

/// Host of the request, of any case.
pub fn host(value: &str) -> Permission {
    allow(permission::Rule::Header(text::header(
        ":authority",
        value,
        true,
    )))
}

/// Method of the request.
pub fn method(value: &str) -> Permission {
    allow(permission::Rule::Header(text::header(
        ":method", value, false,
    )))
}

/// Path of the request without query; `{*}` stands for one segment, `{**}` for the rest.
pub fn path(value: &str) -> Result<Permission, Unfit> {
    if path_template(value).map_err(|_| Unfit)? {
        let template = UriTemplateMatchConfig {
            path_template: value.replace("{**}", "**").replace("{*}", "*"),
        };
        return Ok(allow(permission::Rule::UriTemplate(any::extension(
            "uri-template",
            &template,
        ))));
    }
    Ok(allow(permission::Rule::UrlPath(PathMatcher {
        rule: Some(path_matcher::Rule::Path(text::matcher(value))),
    })))
}

/// Port of the workload.
pub fn port(value: &str) -> Result<Permission, Unfit> {
    let port: u16 = value.parse().map_err(|_| Unfit)?;
    Ok(allow(permission::Rule::DestinationPort(port.into())))
}

/// Address of the workload.
pub fn destination_ip(value: &str) -> Result<Permission, Unfit> {
    Ok(allow(permission::Rule::DestinationIp(network(value)?)))
}

/// Server name that the client asked for.
pub fn server_name(value: &str) -> Permission {
    allow(permission::Rule::RequestedServerName(text::matcher(value)))
}

/// What another filter left behind; `[v]` is looked for in a list.
pub fn filter_metadata(filter: &str, key: &str, value: &str) -> Permission {
    let inner = value.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
    let matcher = match inner {
        Some(inner) => list_of(text::matcher(inner)),
        None => string(text::matcher(value)),
    };
    allow(permission::Rule::SourcedMetadata(sourced(
        filter,
        &[key],
        matcher,
    )))
}

/// Identity of the peer, `TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
pub fn principal(value: &str) -> Principal {
    peer(match Pattern::of(value) {
        Pattern::Present => text::present(),
        Pattern::Suffix(end) => text::regex(format!("spiffe://.*{}", text::quote(end))),
        Pattern::Prefix(start) => text::prefix(format!("spiffe://{start}")),
        Pattern::Exact(exact) => text::exact(format!("spiffe://{exact}")),
    })
}

/// Exactly this SPIFFE ID, as the peer's certificate has it.
pub fn spiffe_id(id: &str) -> Principal {
    peer(text::exact(id))
}

/// Namespace of the peer; a `*` anywhere stands for anything.
pub fn namespace(value: &str) -> Principal {
    let parts: Vec<String> = value.split('*').map(text::quote).collect();
    peer(text::regex(format!(".*/ns/{}/.*", parts.join(".*"))))
}

/// Service account of the peer, `ACCOUNT` of the policy's namespace or `NAMESPACE/ACCOUNT`.
pub fn service_account(value: &str, own_namespace: &str) -> Principal {
    let (namespace, account) = value.split_once('/').unwrap_or((own_namespace, value));
    let (namespace, account) = (text::quote(namespace), text::quote(account));
    peer(text::regex(format!(
        "spiffe://.+/ns/{namespace}/(.+/|)sa/{account}(/.+)?"
    )))
}

/// Trust domain of the peer; a `*` at an end stands for anything but `/`.
pub fn trust_domain(value: &str) -> Principal {
    peer(match Pattern::of(value) {
        Pattern::Present => text::prefix("spiffe://"),
        Pattern::Exact(exact) => text::prefix(format!("spiffe://{exact}/")),
        Pattern::Prefix(start) => text::regex(format!("spiffe://{}[^/]*/.*", text::quote(start))),
        Pattern::Suffix(end) => text::regex(format!("spiffe://[^/]*{}/.*", text::quote(end))),
    })
}

/// Address of the peer of the connection.
pub fn direct_ip(value: &str) -> Result<Principal, Unfit> {
    Ok(who(principal::Identifier::DirectRemoteIp(network(value)?)))
}

/// Address of the client behind proxies.
pub fn remote_ip(value: &str) -> Result<Principal, Unfit> {
    Ok(who(principal::Identifier::RemoteIp(network(value)?)))
}

/// A header of the request.
pub fn header(name: &str, value: &str) -> Result<Principal, Unfit> {
    // Envoy refuses a listener with a name that no header can have.
    let plain = name.strip_prefix(':').unwrap_or(name);
    let letters = |b: u8| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&b);
    if plain.is_empty() || !plain.bytes().all(letters) {
        return Err(Unfit);
    }
    Ok(who(principal::Identifier::Header(text::header(
        name, value, false,
    ))))
}

/// Identity of the token, `ISSUER/SUBJECT`, divided at the last `/`.
pub fn request_principal(value: &str) -> Principal {
    let (issuer, subject) = match (Pattern::of(value), value.rsplit_once('/')) {
        (Pattern::Present, _) => (text::present(), text::present()),
        (Pattern::Suffix(_), Some(("*", subject))) => (text::present(), text::exact(subject)),
        (Pattern::Suffix(_), Some((issuer, subject))) => {
            (text::matcher(issuer), text::exact(subject))
        }
        (Pattern::Suffix(_), None) => (text::present(), text::matcher(value)),
        (Pattern::Prefix(_), Some((issuer, subject))) => {
            (text::exact(issuer), text::matcher(subject))
        }
        (Pattern::Prefix(_), None) => (text::matcher(value), text::present()),
        (Pattern::Exact(_), Some((issuer, subject))) => (text::exact(issuer), text::exact(subject)),
        (Pattern::Exact(issuer), None) => (text::exact(issuer), text::exact("")),
    };
    Principal::all(vec![
        claim_as(&["iss"], string(issuer)),
        claim_as(&["sub"], string(subject)),
    ])
}

/// A claim of the token: the text itself, or one of a list of texts.
pub fn claim(path: &[&str], value: &str) -> Principal {
    let text = text::matcher(value);
    let either = OrMatcher {
        value_matchers: vec![string(text.clone()), list_of(text)],
    };
    claim_as(
        path,
        ValueMatcher {
            match_pattern: Some(MatchPattern::OrMatch(either)),
        },
    )
}

fn claim_as(path: &[&str], value: ValueMatcher) -> Principal {
    let path: Vec<&str> = std::iter::once(PAYLOAD)
        .chain(path.iter().copied())
        .collect();
    who(principal::Identifier::SourcedMetadata(sourced(
        JWT_FILTER, &path, value,
    )))
}

fn peer(name: StringMatcher) -> Principal {
    who(principal::Identifier::Authenticated(
        principal::Authenticated {
            principal_name: Some(name),
        },
    ))
}

fn network(value: &str) -> Result<CidrRange, Unfit> {
    cidr(value).ok_or(Unfit)
}

fn string(text: StringMatcher) -> ValueMatcher {
    ValueMatcher {
        match_pattern: Some(MatchPattern::StringMatch(text)),
    }
}

fn list_of(text: StringMatcher) -> ValueMatcher {
    let list = ListMatcher {
        match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(string(text)))),
    };
    ValueMatcher {
        match_pattern: Some(MatchPattern::ListMatch(Box::new(list))),
    }
}

fn sourced(filter: &str, path: &[&str], value: ValueMatcher) -> SourcedMetadata {
    SourcedMetadata {
        metadata_matcher: Some(metadata(filter, path, value)),
        metadata_source: MetadataSource::Dynamic.into(),
    }
}

/// Metadata that a filter left behind for the request.
pub fn metadata(filter: &str, path: &[&str], value: ValueMatcher) -> MetadataMatcher {
    let segment = |key: &&str| PathSegment {
        segment: Some(path_segment::Segment::Key((*key).to_owned())),
    };
    MetadataMatcher {
        filter: filter.to_owned(),
        path: path.iter().map(segment).collect(),
        value: Some(value),
        ..Default::default()
    }
}

/// Metadata whose text starts so.
pub fn starts_with(start: String) -> ValueMatcher {
    string(text::prefix(start))
}
