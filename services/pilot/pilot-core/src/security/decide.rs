//! What comes out for one request: the decision that Envoy takes by the same messages, for people who ask before they send one.
//!
//! The messages themselves are evaluated, not the policies that they were made from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use envoy_api::any;
use envoy_api::envoy::config::core::v3::CidrRange;
use envoy_api::envoy::config::rbac::v3::permission::Rule;
use envoy_api::envoy::config::rbac::v3::principal::Identifier;
use envoy_api::envoy::config::rbac::v3::{Permission, Principal, Rbac, SourcedMetadata, rbac};
use envoy_api::envoy::config::route::v3::HeaderMatcher;
use envoy_api::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_api::envoy::extensions::filters::http::ext_authz::v3::ExtAuthz as HttpExtAuthz;
use envoy_api::envoy::extensions::filters::http::jwt_authn::v3::JwtAuthentication;
use envoy_api::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use envoy_api::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz as NetworkExtAuthz;
use envoy_api::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use envoy_api::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use envoy_api::envoy::r#type::matcher::v3::metadata_matcher::path_segment::Segment;
use envoy_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern as Text;
use envoy_api::envoy::r#type::matcher::v3::value_matcher::MatchPattern as Value;
use envoy_api::envoy::r#type::matcher::v3::{
    PathMatcher, StringMatcher, ValueMatcher, list_matcher, path_matcher,
};
use prost::{Message, Name};
use serde_json::Value as Json;

use super::attributes::{JWT_FILTER, PAYLOAD};
use super::layers::{ASK_PREFIX, Layer, ext_prefix};

/// One step of a decision, as it stands in a filter chain.
#[derive(Clone, PartialEq)]
pub enum Check {
    /// Policies of one action.
    Rbac {
        /// Those in force.
        rules: Option<Rbac>,
        /// Those that are only counted or noted, and the prefix of what they leave behind.
        shadow: Option<(String, Rbac)>,
    },
    /// Tokens are checked: of these issuers, each with the claims of its tokens that are lists with spaces between. An empty name is any issuer.
    Tokens(BTreeMap<String, BTreeSet<String>>),
    /// An authorizer of that name is asked about what the step before noted for it.
    Ask(String),
}

impl Check {
    /// The step in the configuration of a filter; `None` if the filter decides nothing of this kind.
    pub fn read(config: &any::Any) -> Option<Check> {
        fn of<M: Message + Name + Default>(config: &any::Any) -> Option<M> {
            any::unpack(config).ok().flatten()
        }
        if let Some(http) = of::<HttpRbac>(config) {
            let shadow = http
                .shadow_rules
                .map(|rules| (http.shadow_rules_stat_prefix, rules));
            return Some(Check::Rbac {
                rules: http.rules,
                shadow,
            });
        }
        if let Some(network) = of::<NetworkRbac>(config) {
            let prefix = network.shadow_rules_stat_prefix;
            return Some(Check::Rbac {
                rules: network.rules,
                shadow: network.shadow_rules.map(|rules| (prefix, rules)),
            });
        }
        if let Some(tokens) = of::<JwtAuthentication>(config) {
            return Some(issuers(&tokens));
        }
        let enabled = match (of::<HttpExtAuthz>(config), of::<NetworkExtAuthz>(config)) {
            (Some(http), _) => http.filter_enabled_metadata,
            (_, Some(network)) => network.filter_enabled_metadata,
            (None, None) => return None,
        };
        match enabled?.value?.match_pattern? {
            Value::StringMatch(StringMatcher {
                match_pattern: Some(Text::Prefix(start)),
                ..
            }) => {
                let name = start.strip_prefix(ext_prefix())?.strip_suffix("-ns[")?;
                Some(Check::Ask(name.to_owned()))
            }
            _ => None,
        }
    }

    /// Its policies: what each does, and its name.
    pub fn policies(&self) -> Vec<(String, &str)> {
        let Check::Rbac { rules, shadow } = self else {
            return Vec::new();
        };
        fn names<'a>(
            action: &str,
            rules: &'a Rbac,
        ) -> impl Iterator<Item = (String, &'a str)> + use<'a> {
            let action = action.to_owned();
            let names = rules.policies.keys();
            names.map(move |name| (action.clone(), name.as_str()))
        }
        let word = |rules: &Rbac| match rules.action() {
            rbac::Action::Allow => "ALLOW",
            rbac::Action::Deny => "DENY",
            rbac::Action::Log => "AUDIT",
        };
        let mut out = Vec::new();
        if let Some((prefix, rules)) = shadow {
            let action = match prefix == ASK_PREFIX {
                true => "CUSTOM".to_owned(),
                false => format!("{} (dry run)", word(rules)),
            };
            out.extend(names(&action, rules));
        }
        if let Some(rules) = rules {
            out.extend(names(word(rules), rules));
        }
        out
    }
}

impl From<&Layer> for Check {
    fn from(layer: &Layer) -> Check {
        match layer {
            Layer::Rbac { rules, shadow, .. } => Check::Rbac {
                rules: rules.clone(),
                shadow: shadow
                    .as_ref()
                    .map(|(prefix, rules)| ((*prefix).to_owned(), rules.clone())),
            },
            Layer::Tokens(tokens) => issuers(tokens),
            Layer::Ask { name, .. } => Check::Ask(name.to_string()),
        }
    }
}

fn issuers(tokens: &JwtAuthentication) -> Check {
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for provider in tokens.providers.values() {
        let lists = out.entry(provider.issuer.clone()).or_default();
        let normal = provider.normalize_payload_in_metadata.as_ref();
        lists.extend(normal.iter().flat_map(|n| n.space_delimited_claims.clone()));
    }
    Check::Tokens(out)
}

/// The claims of a token as the token filter leaves them behind; `None` if it takes no token of that issuer.
fn left_by(issuers: &BTreeMap<String, BTreeSet<String>>, claims: &Json) -> Option<Json> {
    let issuer = claims.get("iss").and_then(Json::as_str).unwrap_or_default();
    let lists = issuers.get(issuer).or_else(|| issuers.get(""))?;
    let mut claims = claims.clone();
    for name in lists {
        if let Some(claim) = claims.get_mut(name)
            && let Some(text) = claim.as_str()
        {
            *claim = text.split(' ').filter(|word| !word.is_empty()).collect();
        }
    }
    Some(claims)
}

/// A request, as a proxy sees it.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// SPIFFE ID of the peer's certificate; `None` without mutual TLS.
    pub peer: Option<String>,
    /// Address of the peer of the connection.
    pub source: Option<IpAddr>,
    /// Address of the client behind proxies.
    pub remote: Option<IpAddr>,
    /// Address of the workload.
    pub destination: Option<IpAddr>,
    /// Port of the workload.
    pub port: u16,
    /// Server name that the client asked for.
    pub server_name: String,
    /// Path, with the query if there is one.
    pub path: String,
    /// Headers by lower-case name, `:authority` and `:method` among them.
    pub headers: BTreeMap<String, String>,
    /// Claims of a token that is valid, if its issuer is one of those whose tokens are taken.
    pub claims: Option<Json>,
}

/// What one step made of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Refused by the policy of that name, or, without one, because no policy allows it.
    Refused(Option<String>),
    /// Refused because its token is of an issuer whose tokens are not taken.
    Stranger,
    /// Allowed by the policy of that name; later steps may still refuse.
    Allowed(String),
    /// Marked for the access log by the policy of that name.
    Audited(String),
    /// Whether this authorizer allows it decides.
    Asked(String),
    /// What a dry run would have refused, or (`None`) not allowed.
    WouldRefuse(Option<String>),
    /// What a dry run would have allowed, by the policy of that name.
    WouldAllow(String),
}

/// What every step makes of a request, in order, up to the one that refuses it. Nothing at all means that nothing is said about it: it is
/// allowed.
pub fn decide(checks: &[Check], asked: &Request) -> Vec<Step> {
    let mut out = Vec::new();
    let mut noted: Option<String> = None;
    // Of a token nothing is known before it was looked at.
    let mut request = Request {
        claims: None,
        ..asked.clone()
    };
    for check in checks {
        match check {
            Check::Tokens(issuers) => {
                if let Some(claims) = &asked.claims {
                    request.claims = left_by(issuers, claims);
                    if request.claims.is_none() {
                        out.push(Step::Stranger);
                        return out;
                    }
                }
            }
            Check::Ask(name) => {
                let start = format!("{}{name}-ns[", ext_prefix());
                if noted.as_ref().is_some_and(|n| n.starts_with(&start)) {
                    out.push(Step::Asked(name.clone()));
                }
            }
            Check::Rbac { rules, shadow } => {
                if let Some((prefix, rules)) = shadow {
                    let found = matching(rules, &request);
                    if prefix == ASK_PREFIX {
                        noted = found.or(noted);
                    } else {
                        out.extend(match (action(rules), found) {
                            (rbac::Action::Deny, Some(name)) => Some(Step::WouldRefuse(Some(name))),
                            (rbac::Action::Allow, None) => Some(Step::WouldRefuse(None)),
                            (rbac::Action::Allow, Some(name)) => Some(Step::WouldAllow(name)),
                            (rbac::Action::Deny | rbac::Action::Log, _) => None,
                        });
                    }
                }
                let Some(rules) = rules else { continue };
                match (action(rules), matching(rules, &request)) {
                    (rbac::Action::Deny, Some(name)) => out.push(Step::Refused(Some(name))),
                    (rbac::Action::Allow, None) => out.push(Step::Refused(None)),
                    (rbac::Action::Allow, Some(name)) => out.push(Step::Allowed(name)),
                    (rbac::Action::Log, Some(name)) => out.push(Step::Audited(name)),
                    (rbac::Action::Deny | rbac::Action::Log, None) => {}
                }
                if matches!(out.last(), Some(Step::Refused(_))) {
                    return out;
                }
            }
        }
    }
    out
}

fn action(rules: &Rbac) -> rbac::Action {
    rules.action()
}

/// The first policy, by name, that a request matches.
fn matching(rules: &Rbac, request: &Request) -> Option<String> {
    let mut all = rules.policies.iter();
    let found = all.find(|(_, policy)| {
        policy.permissions.iter().any(|p| permitted(p, request))
            && policy.principals.iter().any(|p| identified(p, request))
    });
    found.map(|(name, _)| name.clone())
}

#[expect(
    deprecated,
    reason = "fields that nothing makes must be named to be sure of it"
)]
fn permitted(permission: &Permission, r: &Request) -> bool {
    let Some(rule) = &permission.rule else {
        return false;
    };
    match rule {
        Rule::AndRules(set) => set.rules.iter().all(|p| permitted(p, r)),
        Rule::OrRules(set) => set.rules.iter().any(|p| permitted(p, r)),
        Rule::NotRule(inner) => !permitted(inner, r),
        Rule::Any(any) => *any,
        Rule::Header(header) => has_header(header, r),
        Rule::UrlPath(path) => on_path(path, r),
        Rule::DestinationIp(net) => within(net, r.destination),
        Rule::DestinationPort(port) => *port == u32::from(r.port),
        Rule::RequestedServerName(name) => text(name, &r.server_name),
        Rule::UriTemplate(config) => config
            .typed_config
            .as_ref()
            .and_then(|config| any::unpack::<UriTemplateMatchConfig>(config).ok().flatten())
            .is_some_and(|config| template(&config.path_template, plain_path(r))),
        Rule::SourcedMetadata(metadata) => left_behind(metadata, r),
        // Nothing here makes these.
        Rule::DestinationPortRange(_) | Rule::Metadata(_) | Rule::Matcher(_) => false,
    }
}

#[expect(
    deprecated,
    reason = "fields that nothing makes must be named to be sure of it"
)]
fn identified(principal: &Principal, r: &Request) -> bool {
    let Some(identifier) = &principal.identifier else {
        return false;
    };
    match identifier {
        Identifier::AndIds(set) => set.ids.iter().all(|p| identified(p, r)),
        Identifier::OrIds(set) => set.ids.iter().any(|p| identified(p, r)),
        Identifier::NotId(inner) => !identified(inner, r),
        Identifier::Any(any) => *any,
        Identifier::Authenticated(peer) => match (&r.peer, &peer.principal_name) {
            (Some(id), Some(name)) => text(name, id),
            (Some(_), None) => true,
            (None, _) => false,
        },
        Identifier::DirectRemoteIp(net) => within(net, r.source),
        Identifier::RemoteIp(net) => within(net, r.remote.or(r.source)),
        Identifier::Header(header) => has_header(header, r),
        Identifier::SourcedMetadata(metadata) => left_behind(metadata, r),
        // Nothing here makes these.
        Identifier::SourceIp(_)
        | Identifier::UrlPath(_)
        | Identifier::Metadata(_)
        | Identifier::FilterState(_)
        | Identifier::Custom(_) => false,
    }
}

fn has_header(header: &HeaderMatcher, r: &Request) -> bool {
    let value = r.headers.get(&header.name.to_ascii_lowercase());
    match &header.header_match_specifier {
        Some(HeaderMatchSpecifier::PresentMatch(wanted)) => value.is_some() == *wanted,
        Some(HeaderMatchSpecifier::StringMatch(matcher)) => value.is_some_and(|v| text(matcher, v)),
        _ => false,
    }
}

/// The path without query and fragment.
fn plain_path(r: &Request) -> &str {
    r.path.split(['?', '#']).next().unwrap_or_default()
}

fn on_path(path: &PathMatcher, r: &Request) -> bool {
    match &path.rule {
        Some(path_matcher::Rule::Path(matcher)) => text(matcher, plain_path(r)),
        None => false,
    }
}

/// `*` is one segment, `**` is whatever is left behind a slash. Both take only what Envoy calls a character of a path.
fn template(template: &str, path: &str) -> bool {
    let fits = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&b))
    };
    let (mut parts, mut segments) = (template.split('/'), path.split('/'));
    loop {
        match (parts.next(), segments.next()) {
            (None, None) => return true,
            (Some("**"), Some(first)) => return fits(first) && segments.all(fits),
            (Some("*"), Some(segment)) if !segment.is_empty() && fits(segment) => {}
            (Some(part), Some(segment)) if part == segment && part != "*" => {}
            _ => return false,
        }
    }
}

fn within(net: &CidrRange, ip: Option<IpAddr>) -> bool {
    let bits = net.prefix_len.unwrap_or(0);
    match (net.address_prefix.parse(), ip) {
        (Ok(IpAddr::V4(net)), Some(IpAddr::V4(ip))) => {
            let differ = u32::from(net) ^ u32::from(ip);
            differ.checked_shr(32 - bits.min(32)).unwrap_or(0) == 0
        }
        (Ok(IpAddr::V6(net)), Some(IpAddr::V6(ip))) => {
            let differ = u128::from(net) ^ u128::from(ip);
            differ.checked_shr(128 - bits.min(128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

fn text(matcher: &StringMatcher, value: &str) -> bool {
    let fold = |s: &str| match matcher.ignore_case {
        true => s.to_ascii_lowercase(),
        false => s.to_owned(),
    };
    let value = fold(value);
    match &matcher.match_pattern {
        Some(Text::Exact(exact)) => value == fold(exact),
        Some(Text::Prefix(start)) => value.starts_with(&fold(start)),
        Some(Text::Suffix(end)) => value.ends_with(&fold(end)),
        Some(Text::SafeRegex(regex)) => {
            regex::Regex::new(&format!("^(?:{})$", regex.regex)).is_ok_and(|re| re.is_match(&value))
        }
        Some(Text::Contains(_) | Text::Custom(_)) | None => false,
    }
}

/// What the token filter left behind; nothing is known of other filters.
fn left_behind(metadata: &SourcedMetadata, r: &Request) -> bool {
    let Some(matcher) = &metadata.metadata_matcher else {
        return false;
    };
    let mut path = matcher
        .path
        .iter()
        .filter_map(|s| s.segment.as_ref().map(|Segment::Key(key)| key.as_str()));
    if matcher.filter != JWT_FILTER || path.next() != Some(PAYLOAD) {
        return false;
    }
    let mut at = r.claims.as_ref();
    for key in path {
        at = at.and_then(|value| value.get(key));
    }
    matches!((at, &matcher.value), (Some(at), Some(matcher)) if value(matcher, at))
}

fn value(matcher: &ValueMatcher, json: &Json) -> bool {
    match &matcher.match_pattern {
        Some(Value::StringMatch(wanted)) => json.as_str().is_some_and(|s| text(wanted, s)),
        Some(Value::ListMatch(list)) => match &list.match_pattern {
            Some(list_matcher::MatchPattern::OneOf(one)) => {
                let mut items = json.as_array().into_iter().flatten();
                items.any(|item| value(one, item))
            }
            None => false,
        },
        Some(Value::OrMatch(either)) => either.value_matchers.iter().any(|m| value(m, json)),
        Some(Value::PresentMatch(_) | Value::NullMatch(_) | Value::DoubleMatch(_))
        | Some(Value::BoolMatch(_))
        | None => false,
    }
}
