//! Where destinations of a VirtualService lead, as one class sees its services (XDS-TRAFFIC 6.6, 6.10).

use std::sync::Arc;

use envoy_api::envoy::config::route::v3::route_action::HashPolicy;
use mesh_config::resource::normal::ServiceResolution;
use mesh_config::resource::virtual_service::{Destination, HttpRoute};
use mesh_model::{DestinationRule, Service, View};
use mesh_types::Hostname;

use super::hash;
use crate::naming::ClusterName;

/// Name of the cluster of a destination without host: there is none, so that such requests fail.
const UNKNOWN: &str = "UnknownService";

/// A destination, looked up: everything that is read of other objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// Host whose clusters are meant; `None` if none was written.
    host: Option<Hostname>,
    port: u16,
    /// The host's rule, if it balances by hash.
    rule: Option<Arc<DestinationRule>>,
}

impl Target {
    /// Looks a destination up. Requests came to `port`, which a service with several ports is asked at if the destination names none.
    pub(super) fn of(view: &View, destination: Option<&Destination>, port: u16) -> Target {
        let written = destination.and_then(|d| d.port.as_ref());
        let mut target = Target {
            host: None,
            port: written
                .and_then(|p| u16::try_from(p.number).ok())
                .unwrap_or(port),
            rule: None,
        };
        let Some(destination) = destination else {
            return target;
        };
        match view.services.get(destination.host.as_str()) {
            Some(service) => {
                let service = concrete(view, service);
                if let ([only], None) = (&service.ports[..], written) {
                    target.port = only.number;
                }
                target.rule = hashing_rule(view, &service.hostname);
                target.host = Some(service.hostname.clone());
            }
            None => target.host = Hostname::new(&destination.host).ok(),
        }
        target
    }

    /// The cluster of a subset (empty: none).
    pub(super) fn cluster(&self, subset: &str) -> String {
        match &self.host {
            Some(host) => ClusterName::outbound(self.port, subset, host.as_str()).to_string(),
            None => UNKNOWN.to_owned(),
        }
    }

    /// `host:port`, for the names of spans.
    pub(super) fn authority(&self) -> Option<String> {
        Some(format!("{}:{}", self.host.as_ref()?, self.port))
    }

    /// What its requests are hashed by.
    pub(super) fn hash_policy(&self, destination: &Destination) -> Option<HashPolicy> {
        let port = destination.port.as_ref().map(|_| self.port);
        hash::policy(self.rule.as_ref()?, &destination.subset, port)
    }
}

/// The rule of a host, if it balances by hash.
pub(super) fn hashing_rule(view: &View, host: &Hostname) -> Option<Arc<DestinationRule>> {
    let rule = view.destination_rules.get(host)?;
    hash::hashes(rule).then(|| rule.clone())
}

/// The service that an alias is another name of; any other service itself.
fn concrete<'a>(view: &'a View, service: &'a Arc<Service>) -> &'a Arc<Service> {
    if service.resolution != ServiceResolution::Alias {
        return service;
    }
    view.aliases
        .iter()
        .find(|(_, aliases)| aliases.contains(&service.hostname))
        .and_then(|(host, _)| view.services.get(host))
        .unwrap_or(service)
}

/// Every destination of a rule, mirrors last: in this order its targets are looked up.
pub(crate) fn destinations(http: &HttpRoute) -> impl Iterator<Item = Option<&Destination>> {
    let routes = http.route.iter().map(|r| r.destination.as_ref());
    let mirror = http.mirror.iter().map(Some);
    let mirrors = http.mirrors.iter().map(|m| m.destination.as_ref());
    routes.chain(mirror).chain(mirrors)
}
