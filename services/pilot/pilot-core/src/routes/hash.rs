//! What a request's endpoint is chosen by, where a DestinationRule balances by hash (XDS-TRAFFIC 6.10).

use envoy_api::envoy::config::route::v3::route_action::HashPolicy;
use envoy_api::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
};
use mesh_config::resource::destination_rule::{ConsistentHashLb, HttpCookie, TrafficPolicy};
use mesh_model::DestinationRule;

use crate::proto::duration;

/// Whether some policy of a rule chooses endpoints by a hash.
pub(crate) fn hashes(rule: &DestinationRule) -> bool {
    let policy = |policy: &TrafficPolicy| {
        let ports = policy
            .port_level_settings
            .iter()
            .filter_map(|p| p.load_balancer.as_ref());
        policy
            .load_balancer
            .iter()
            .chain(ports)
            .any(|lb| lb.consistent_hash.is_some())
    };
    let subsets = rule
        .spec
        .subsets
        .iter()
        .filter_map(|s| s.traffic_policy.as_ref());
    rule.spec.traffic_policy.iter().chain(subsets).any(policy)
}

/// The policy for a subset (empty: none) of a rule's host. Settings of single ports count only for a destination that names its port.
pub(super) fn policy(
    rule: &DestinationRule,
    subset: &str,
    port: Option<u16>,
) -> Option<HashPolicy> {
    let subset = rule
        .spec
        .subsets
        .iter()
        .find(|s| !subset.is_empty() && s.name == subset);
    let subset = subset.and_then(|s| s.traffic_policy.as_ref());
    let found = [subset, rule.spec.traffic_policy.as_ref()]
        .into_iter()
        .flatten()
        .find_map(|policy| {
            of_port(policy, port)
                .or_else(|| policy.load_balancer.as_ref()?.consistent_hash.as_ref())
        })?;
    Some(HashPolicy {
        policy_specifier: Some(specifier(found)?),
        terminal: false,
    })
}

fn of_port(policy: &TrafficPolicy, port: Option<u16>) -> Option<&ConsistentHashLb> {
    let port = u32::from(port?);
    let own = policy
        .port_level_settings
        .iter()
        .find(|settings| settings.port.as_ref().is_some_and(|p| p.number == port))?;
    own.load_balancer.as_ref()?.consistent_hash.as_ref()
}

fn specifier(hash: &ConsistentHashLb) -> Option<PolicySpecifier> {
    Some(if let Some(name) = &hash.http_header_name {
        PolicySpecifier::Header(Header {
            header_name: name.clone(),
            regex_rewrite: None,
        })
    } else if let Some(cookie) = &hash.http_cookie {
        PolicySpecifier::Cookie(of_cookie(cookie))
    } else if hash.use_source_ip == Some(true) {
        PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true })
    } else if let Some(name) = &hash.http_query_parameter_name {
        PolicySpecifier::QueryParameter(QueryParameter { name: name.clone() })
    } else {
        return None;
    })
}

/// Without a lifetime the cookie is read, and never made.
fn of_cookie(cookie: &HttpCookie) -> Cookie {
    let attributes = cookie.attributes.iter().map(|attribute| CookieAttribute {
        name: attribute.name.clone(),
        value: attribute.value.clone(),
    });
    Cookie {
        name: cookie.name.clone(),
        ttl: cookie.ttl.map(duration),
        path: cookie.path.clone(),
        attributes: attributes.collect(),
    }
}
