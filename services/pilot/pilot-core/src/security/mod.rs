//! What decides about requests before they reach a workload: AuthorizationPolicy, RequestAuthentication, identities that were taken back.
//!
//! [`Guard`] is everything that this depends on, for the workloads of one class, and makes the filters of their HTTP and TCP chains. The
//! steps in between are [`Layer`]s: the order of decisions, before they are packed for Envoy. `rule` has what one rule means, `attributes`
//! what it may ask, [`decide`] what comes out for a request.

mod attributes;
pub mod decide;
mod ext_authz;
mod jwt;
mod layers;
mod rule;
#[cfg(test)]
mod tests;
mod text;
mod trust_domains;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use envoy_api::any;
use envoy_api::envoy::config::listener::v3::Filter;
use envoy_api::envoy::config::rbac::v3::Rbac;
use envoy_api::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_api::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use mesh_config::resource::ext_authz::ExtAuthz;
use mesh_model::{Policies, ProxyKind, View};

pub use ext_authz::Authorizer;
pub use layers::Layer;
use trust_domains::TrustDomains;

const HTTP_RBAC: &str = "envoy.filters.http.rbac";
const NETWORK_RBAC: &str = "envoy.filters.network.rbac";

/// Everything that the filters are made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Input {
    policies: Arc<Policies>,
    domains: TrustDomains,
    /// Authorizers that policies name and that can be asked, by name.
    authorizers: BTreeMap<Arc<str>, Authorizer>,
    /// Whether it stands at a gateway, where routes may depend on tokens.
    gateway: bool,
}

/// What stands before the workloads of one class. Equal guards make equal filters; each makes them once.
pub struct Guard {
    input: Input,
    http: OnceLock<Vec<HttpFilter>>,
    network: OnceLock<Vec<Filter>>,
}

impl Guard {
    /// The guard of a view's proxies; `None` where nothing is to be decided.
    pub fn of(view: &View) -> Option<Arc<Guard>> {
        let policies = &view.policies;
        if policies.authorization.is_empty()
            && policies.tokens.is_empty()
            && policies.denied.is_empty()
        {
            return None;
        }
        let authorizers = policies.authorizers.iter();
        let authorizers = authorizers.filter_map(|(name, (host, port))| {
            let spec: ExtAuthz = view.mesh.ext_authz(name)?;
            Some((name.clone(), Authorizer::new(spec, host, *port)?))
        });
        let input = Input {
            policies: policies.clone(),
            domains: TrustDomains::of(&view.mesh),
            authorizers: authorizers.collect(),
            gateway: view.key.kind == ProxyKind::Router,
        };
        Some(Arc::new(Guard {
            input,
            http: OnceLock::new(),
            network: OnceLock::new(),
        }))
    }

    /// What decides about requests, in order.
    pub fn http_layers(&self) -> Vec<Layer> {
        layers::of(&self.input, true)
    }

    /// What decides about connections, in order.
    pub fn network_layers(&self) -> Vec<Layer> {
        layers::of(&self.input, false)
    }

    /// The filters that decide about requests, in order; the first of a connection manager, after those that learn who the peer is.
    pub fn http_filters(&self) -> &[HttpFilter] {
        let make = || self.http_layers().iter().map(http_filter).collect();
        self.http.get_or_init(make)
    }

    /// The filters that decide about connections, in order; the first of a chain that forwards bytes.
    pub fn network_filters(&self) -> &[Filter] {
        let make = || {
            self.network_layers()
                .iter()
                .filter_map(network_filter)
                .collect()
        };
        self.network.get_or_init(make)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.input.fmt(f)
    }
}

impl PartialEq for Guard {
    fn eq(&self, other: &Guard) -> bool {
        self.input == other.input
    }
}
impl Eq for Guard {}
impl Hash for Guard {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
    }
}

fn http_filter(layer: &Layer) -> HttpFilter {
    match layer {
        Layer::Rbac {
            rules,
            shadow,
            stats,
        } => any::http_filter(
            HTTP_RBAC,
            &HttpRbac {
                rules: rules.clone(),
                shadow_rules: shadow.as_ref().map(|(_, rules)| rules.clone()),
                shadow_rules_stat_prefix: prefix_of(shadow.as_ref()),
                rules_stat_prefix: (*stats).to_owned(),
                ..Default::default()
            },
        ),
        Layer::Tokens(tokens) => any::http_filter(attributes::JWT_FILTER, &**tokens),
        Layer::Ask { name, authorizer } => authorizer.http_filter(name),
    }
}

fn network_filter(layer: &Layer) -> Option<Filter> {
    match layer {
        Layer::Rbac {
            rules,
            shadow,
            stats,
        } => Some(any::network_filter(
            NETWORK_RBAC,
            &NetworkRbac {
                rules: rules.clone(),
                shadow_rules: shadow.as_ref().map(|(_, rules)| rules.clone()),
                shadow_rules_stat_prefix: prefix_of(shadow.as_ref()),
                stat_prefix: if stats.is_empty() { "tcp." } else { stats }.to_owned(),
                ..Default::default()
            },
        )),
        Layer::Tokens(_) => None,
        Layer::Ask { name, authorizer } => authorizer.network_filter(name),
    }
}

fn prefix_of(shadow: Option<&(&'static str, Rbac)>) -> String {
    shadow.map_or_else(String::new, |(prefix, _)| (*prefix).to_owned())
}
