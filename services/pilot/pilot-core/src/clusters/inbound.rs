//! Clusters of the application behind a sidecar (XDS-TRAFFIC 4.8).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use envoy_api::envoy::config::cluster::v3::Cluster;
use envoy_api::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, LbPolicy,
};
use envoy_api::envoy::config::core::v3::Address;
use envoy_api::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use mesh_config::resource::destination_rule::ConnectionPoolSettings;
use mesh_config::resource::mesh::InboundMode;
use mesh_model::{DestinationRule, IngressListener, ServiceTarget, Sidecar, View};
use mesh_types::Protocol;
use xds_core::Encoded;

use super::metadata::IstioMetadata;
use super::policy::Policy;
use super::pool::{self, Upstream};
use super::settings::Settings;
use super::special;
use crate::listeners::captured_targets;
use crate::naming::{self, ClusterName};
use crate::{InboundKey, Memos, proto};

/// How long an unused connection target is remembered: practically for ever. Unit: seconds.
const NEVER: i64 = 9_223_372_035;

/// Everything an inbound cluster is made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct InboundInput {
    port: u16,
    protocol: Protocol,
    endpoint: Application,
    /// Services at the port; the first is the one whose rule applies.
    services: Vec<ServiceTarget>,
    rule: Option<Arc<DestinationRule>>,
    /// The Sidecar, and the index of its ingress listener.
    sidecar: Option<(Arc<Sidecar>, Option<u32>)>,
    settings: Arc<Settings>,
}

/// Where the application listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Application {
    /// Where the client dialled.
    OriginalDst,
    /// On loopback.
    Loopback(IpAddr, u16),
    /// At an address of the workload.
    Own(IpAddr, u16),
    /// At a Unix domain socket.
    Pipe(Arc<str>),
}

pub(super) fn clusters(view: &View, key: &InboundKey, memo: &Memos) -> Vec<Arc<Encoded>> {
    let settings = Settings::inbound(&view.mesh, key, memo);
    let inputs = if view.ingress.is_empty() {
        of_targets(view, key, &settings)
    } else {
        let listeners = view.ingress.iter().enumerate();
        listeners
            .filter_map(|(index, listener)| {
                of_listener(view, key, index as u32, listener, &settings)
            })
            .collect()
    };
    let mut out: Vec<_> = inputs
        .into_iter()
        .map(|input| memo.clusters.inbound.get_or(input, encode))
        .collect();
    out.push(special::inbound(settings, memo));
    out
}

/// One cluster per port of the workload that services lead to, as there are filter chains; the oldest service decides.
fn of_targets(view: &View, key: &InboundKey, settings: &Arc<Settings>) -> Vec<InboundInput> {
    let mut by_port: BTreeMap<u16, Vec<&ServiceTarget>> = BTreeMap::new();
    for target in captured_targets(&view.mesh, key) {
        by_port.entry(target.target_port).or_default().push(target);
    }
    let one = |(port, targets): (u16, Vec<&ServiceTarget>)| {
        let first = targets.first()?;
        Some(InboundInput {
            port,
            protocol: first.port.protocol,
            endpoint: match settings.inbound_mode {
                InboundMode::Passthrough => Application::OriginalDst,
                InboundMode::Localhost => loopback(settings, port),
            },
            services: same_port(&targets, first.port.number),
            rule: rule(view, first),
            sidecar: view.sidecar.clone().map(|sidecar| (sidecar, None)),
            settings: settings.clone(),
        })
    };
    by_port.into_iter().filter_map(one).collect()
}

/// The services that clients reach by the primary's port number.
fn same_port(targets: &[&ServiceTarget], number: u16) -> Vec<ServiceTarget> {
    let mut out: Vec<ServiceTarget> = Vec::new();
    for target in targets.iter().filter(|t| t.port.number == number) {
        if !out
            .iter()
            .any(|known| known.service.hostname == target.service.hostname)
        {
            out.push((*target).clone());
        }
    }
    out
}

/// The cluster of one ingress listener; `None` if its `defaultEndpoint` cannot be read.
fn of_listener(
    view: &View,
    key: &InboundKey,
    index: u32,
    listener: &IngressListener,
    settings: &Arc<Settings>,
) -> Option<InboundInput> {
    let real = key.targets.iter().find(|t| t.target_port == listener.port);
    Some(InboundInput {
        port: listener.port,
        protocol: listener.protocol,
        endpoint: default_endpoint(
            &listener.spec.default_endpoint,
            listener.port,
            key,
            settings,
        )?,
        services: real.into_iter().cloned().collect(),
        rule: real.and_then(|target| rule(view, target)),
        sidecar: view.sidecar.clone().map(|sidecar| (sidecar, Some(index))),
        settings: settings.clone(),
    })
}

fn default_endpoint(
    text: &str,
    port: u16,
    key: &InboundKey,
    settings: &Settings,
) -> Option<Application> {
    if text.is_empty() {
        return Some(match settings.inbound_mode {
            InboundMode::Passthrough => Application::OriginalDst,
            InboundMode::Localhost => loopback(settings, port),
        });
    }
    if let Some(path) = text.strip_prefix("unix://") {
        return Some(Application::Pipe(path.into()));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let host: IpAddr = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()?;
    match host {
        _ if host.is_loopback() => Some(loopback(settings, port)),
        _ if host.is_unspecified() => {
            let own = key.addresses.iter().find(|a| a.is_ipv4() == host.is_ipv4());
            Some(own.map_or_else(
                || loopback(settings, port),
                |own| Application::Own(*own, port),
            ))
        }
        _ => None,
    }
}

/// Loopback of a family the proxy has.
fn loopback(settings: &Settings, port: u16) -> Application {
    let v6 = settings.ipv6 && !settings.ipv4;
    let address = if v6 {
        IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])
    } else {
        IpAddr::from([127, 0, 0, 1])
    };
    Application::Loopback(address, port)
}

fn rule(view: &View, target: &ServiceTarget) -> Option<Arc<DestinationRule>> {
    view.inbound_destination_rule(&target.service.hostname)
        .cloned()
}

impl InboundInput {
    /// Limits: of the ingress listener, else of the Sidecar, else of the service's rule, else of the mesh.
    fn pool(&self) -> Option<&ConnectionPoolSettings> {
        let sidecar = self.sidecar.as_ref().and_then(|(sidecar, index)| {
            let listener = index.and_then(|i| sidecar.spec.ingress.get(i as usize));
            listener
                .and_then(|l| l.connection_pool.as_ref())
                .or(sidecar.spec.inbound_connection_pool.as_ref())
        });
        sidecar
            .or_else(|| self.rule_policy().connection_pool)
            .or(self.settings.pool.as_ref())
    }

    fn rule_policy(&self) -> Policy<'_> {
        let number = self.services.first().map_or(self.port, |t| t.port.number);
        self.rule
            .as_ref()
            .map(|rule| Policy::of(&rule.spec, number, None))
            .unwrap_or_default()
    }
}

fn encode(input: &InboundInput) -> Encoded {
    let settings = &*input.settings;
    let name = ClusterName::inbound(input.port);
    let primary = input.services.first();
    let stat_name = naming::stat_name(
        &settings.inbound_stat_name,
        name,
        primary.map(|t| (&*t.service.spec, &*t.service.key.namespace)),
        primary.map(|t| &t.port),
    );
    let mut cluster = Cluster {
        name: name.to_string(),
        alt_stat_name: format!("{stat_name};"),
        metadata: IstioMetadata::default()
            .services(input.services.iter().map(|t| &*t.service))
            .rule(input.rule.as_deref())
            .build(),
        ..Cluster::default()
    };
    reach(&mut cluster, &input.endpoint, settings);
    let pool = input.pool();
    let upstream = match pool.and_then(|p| p.http.as_ref()) {
        Some(http) if http.use_client_protocol => Upstream::AsDownstream,
        _ => Upstream::of(input.protocol, true),
    };
    pool::apply(&mut cluster, upstream, pool, None, None, None, settings);
    super::encoded(&cluster)
}

/// Sets where the application is. Connections to it come from a special address, except where that cannot reach loopback.
fn reach(cluster: &mut Cluster, application: &Application, settings: &Settings) {
    let bind = Some(special::bind(settings));
    let (kind, address, bind) = match application {
        Application::OriginalDst => (DiscoveryType::OriginalDst, None, bind),
        Application::Loopback(ip, port) => (
            DiscoveryType::Static,
            Some(proto::address(ip.to_string(), *port)),
            None,
        ),
        Application::Own(ip, port) => (
            DiscoveryType::Static,
            Some(proto::address(ip.to_string(), *port)),
            bind,
        ),
        Application::Pipe(path) => (DiscoveryType::Static, Some(proto::pipe(&**path)), bind),
    };
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind as i32));
    cluster.upstream_bind_config = bind;
    match address {
        Some(address) => cluster.load_assignment = Some(single(&cluster.name, address)),
        None => {
            cluster.lb_policy = LbPolicy::ClusterProvided as i32;
            cluster.cleanup_interval = Some(proto::seconds(NEVER));
        }
    }
}

fn single(name: &str, address: Address) -> ClusterLoadAssignment {
    let endpoint = Endpoint {
        address: Some(address),
        ..Endpoint::default()
    };
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![LbEndpoint {
                host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
                ..LbEndpoint::default()
            }],
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}

#[cfg(test)]
mod tests;
