//! EDS: endpoints of one cluster for a class of proxies (XDS-TRAFFIC 8.3-8.5).

mod reach;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use envoy_api::envoy::config::core::v3::{HealthStatus, Locality, Metadata};
use envoy_api::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use mesh_config::resource::destination_rule::Subset;
use mesh_config::resource::normal::{Health, MeshEndpoint, MeshPort, ServiceResolution};
use mesh_model::{DestinationRule, Endpoints, Service, View};
use prost::Message;
use xds_core::{Encoded, TypeId};

use crate::clusters::Planner;
use crate::memo::Stats;
use crate::naming::ClusterName;
use crate::{Memo, Memos, OutboundKey, proto};

pub(crate) use reach::{Reach, Scope};

/// Memos of this module.
#[derive(Default)]
pub struct EndpointMemos {
    assignments: Memo<AssignmentInput>,
}

impl EndpointMemos {
    /// Adds how each memo did, with its name.
    pub fn stats(&self, out: &mut Vec<(&'static str, Stats)>) {
        out.push(("endpoints", self.assignments.stats()));
    }
}

/// The endpoints of a cluster; none for a cluster that is unknown or finds its endpoints elsewhere.
pub fn assignment(view: &View, key: &OutboundKey, cluster: &str, memo: &Memos) -> Arc<Encoded> {
    Planner::of(view, key, memo)
        .named(cluster)
        .and_then(|planned| planned.assignment)
        .map_or_else(|| Arc::new(empty(cluster)), |input| encode(input, memo))
}

/// The answer for a cluster that nobody knows: there it is, without endpoints. Never silence, or Envoy waits.
pub fn empty(cluster: &str) -> Encoded {
    let message = ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        ..ClusterLoadAssignment::default()
    };
    Encoded::new(cluster, TypeId::Eds, &message.encode_to_vec())
}

/// The endpoints of a planned cluster.
pub(crate) fn encode(input: AssignmentInput, memo: &Memos) -> Arc<Encoded> {
    memo.endpoints.assignments.get_or(input, |input| {
        let message = input.message();
        Encoded::new(
            message.cluster_name.as_str(),
            TypeId::Eds,
            &message.encode_to_vec(),
        )
    })
}

/// Everything the endpoints of a cluster are made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AssignmentInput {
    pub(crate) service: Arc<Service>,
    pub(crate) endpoints: Option<Arc<Endpoints>>,
    /// Index of the port.
    pub(crate) port: u16,
    /// The rule and the index of its subset.
    pub(crate) subset: Option<(Arc<DestinationRule>, u32)>,
    pub(crate) reach: Reach,
    /// Whether endpoints that are not ready are sent, marked so.
    pub(crate) send_unhealthy: bool,
    /// Whether one endpoint is all the cluster can have.
    pub(crate) first_only: bool,
    /// Which endpoints are marked for mutual TLS.
    pub(crate) tls: EndpointTls,
}

/// Key of endpoints' metadata, and its member, by which clusters choose mutual TLS or none.
const SOCKET_MATCH: &str = "envoy.transport_socket_match";
/// See [`SOCKET_MATCH`].
pub(crate) const TLS_MODE: &str = "tlsMode";

/// Which endpoints are marked for mutual TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum EndpointTls {
    /// Those that have a sidecar and take it at their port.
    Auto,
    /// All: a rule says so.
    Always,
    /// None: a rule says otherwise.
    Never,
}

impl AssignmentInput {
    fn port(&self) -> &MeshPort {
        &self.service.ports[usize::from(self.port)]
    }

    fn subset(&self) -> Option<&Subset> {
        let (rule, index) = self.subset.as_ref()?;
        rule.spec.subsets.get(*index as usize)
    }

    /// Endpoints that the cluster has, in the order they are known.
    fn chosen(&self) -> impl Iterator<Item = (u32, &MeshEndpoint)> {
        let all = self
            .endpoints
            .as_ref()
            .map_or(&[][..], |e| &e.spec.endpoints);
        let (port, subset) = (&self.port().name, self.subset());
        (0..)
            .zip(all)
            .filter(move |(_, e)| e.port_name == *port && self.reach.includes(e) && self.usable(e))
            .filter(move |(_, e)| {
                subset.is_none_or(|s| s.labels.iter().all(|(k, v)| e.labels.get(k) == Some(v)))
            })
            .take(if self.first_only { 1 } else { usize::MAX })
    }

    /// Whether connections to an endpoint are made with mutual TLS.
    fn mutual(&self, index: u32, endpoint: &MeshEndpoint) -> bool {
        let closed = || {
            let endpoints = self.endpoints.as_ref();
            endpoints.is_some_and(|e| e.peers.plaintext.binary_search(&index).is_ok())
        };
        match self.tls {
            EndpointTls::Always => true,
            EndpointTls::Never => false,
            EndpointTls::Auto => endpoint.mtls && !closed(),
        }
    }

    /// Whether there is no endpoint.
    pub(crate) fn is_empty(&self) -> bool {
        self.chosen().next().is_none()
    }

    fn usable(&self, endpoint: &MeshEndpoint) -> bool {
        let address = endpoint.addresses.first().map_or("", |a| a);
        let by_dns = matches!(
            self.service.resolution,
            ServiceResolution::DnsLb | ServiceResolution::DnsRoundRobinLb
        );
        let reachable = address.starts_with("unix://")
            || address.parse::<IpAddr>().is_ok()
            || by_dns && !address.is_empty();
        let healthy = match endpoint.health {
            Health::Healthy => true,
            Health::Unhealthy => self.send_unhealthy,
            Health::Draining => self.finishes_sessions(),
            Health::Terminating => false,
        };
        let draining = endpoint.labels.get("istio.io/draining").is_some();
        reachable && healthy && (!draining || self.finishes_sessions())
    }

    /// Whether endpoints on their way out keep the sessions they have.
    fn finishes_sessions(&self) -> bool {
        self.service
            .labels
            .get("istio.io/persistent-session")
            .is_some()
    }

    /// The message.
    pub(crate) fn message(&self) -> ClusterLoadAssignment {
        let mut localities: BTreeMap<&mesh_types::Locality, LocalityLbEndpoints> = BTreeMap::new();
        for (index, endpoint) in self.chosen() {
            let locality = &endpoint.locality;
            let group = localities
                .entry(locality)
                .or_insert_with(|| LocalityLbEndpoints {
                    locality: Some(Locality {
                        region: locality.region.to_string(),
                        zone: locality.zone.to_string(),
                        sub_zone: locality.sub_zone.to_string(),
                    }),
                    load_balancing_weight: Some(0),
                    ..LocalityLbEndpoints::default()
                });
            let endpoint = lb_endpoint(endpoint, self.mutual(index, endpoint));
            let sum = group.load_balancing_weight.unwrap_or(0);
            group.load_balancing_weight =
                Some(sum.saturating_add(endpoint.load_balancing_weight.unwrap_or(1)));
            group.lb_endpoints.push(endpoint);
        }
        let subset = self.subset().map_or("", |s| &s.name);
        let name =
            ClusterName::outbound(self.port().number, subset, self.service.hostname.as_str());
        ClusterLoadAssignment {
            cluster_name: name.to_string(),
            endpoints: localities.into_values().collect(),
            ..ClusterLoadAssignment::default()
        }
    }
}

fn lb_endpoint(endpoint: &MeshEndpoint, mutual: bool) -> LbEndpoint {
    let address = endpoint.addresses.first().map_or("", |a| a);
    let address = match address.strip_prefix("unix://") {
        Some(path) => proto::pipe(path),
        None => proto::address(address, endpoint.port),
    };
    let status = match endpoint.health {
        Health::Healthy => HealthStatus::Healthy,
        Health::Unhealthy => HealthStatus::Unhealthy,
        Health::Draining | Health::Terminating => HealthStatus::Draining,
    };
    LbEndpoint {
        health_status: status as i32,
        metadata: Some(Metadata {
            filter_metadata: [
                Some(("istio", ("workload", proto::text(workload(endpoint))))),
                mutual.then(|| (SOCKET_MATCH, (TLS_MODE, proto::text("istio")))),
            ]
            .into_iter()
            .flatten()
            .map(|(key, member)| (key.to_owned(), proto::object([member])))
            .collect(),
            ..Metadata::default()
        }),
        load_balancing_weight: Some(endpoint.weight.max(1)),
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(address),
            ..Endpoint::default()
        })),
    }
}

/// `workload;namespace;canonical name;canonical revision;cluster`, which telemetry of the client side reads; `latest` is left out.
fn workload(endpoint: &MeshEndpoint) -> String {
    let label = |keys: &[&str]| keys.iter().find_map(|key| endpoint.labels.get(key));
    let name = label(&[
        "service.istio.io/canonical-name",
        "app.kubernetes.io/name",
        "app",
    ])
    .unwrap_or(&endpoint.workload);
    let revision = label(&[
        "service.istio.io/canonical-revision",
        "app.kubernetes.io/version",
        "version",
    ]);
    let revision = revision.filter(|r| *r != "latest").unwrap_or_default();
    format!(
        "{};{};{name};{revision};{}",
        endpoint.workload, endpoint.namespace, endpoint.cluster
    )
}
