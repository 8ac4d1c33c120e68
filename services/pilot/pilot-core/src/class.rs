//! Classes of proxies: everything that translation may read of a proxy.
//!
//! Two proxies with equal keys get the same resources, made once. A fact of a proxy that is not here cannot change its configuration.

use std::net::IpAddr;
use std::sync::Arc;

use mesh_config::resource::Duration;
use mesh_config::resource::mesh::{GatewayTopology, ProxyConfig, Tracing};
use mesh_model::{
    CertificateFiles, Interception, Mesh, Proxy, ProxyKind, ServiceTarget, View, ViewKey,
};
use mesh_types::Labels;
use serde_json::Value;

use crate::proxy_config::HttpSettings;

/// Everything that outbound (sidecar) or gateway (router) generation reads from a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutboundKey {
    /// What it may see.
    pub view: ViewKey,
    /// Fourth part of the node id, `default.svc.cluster.local`: which short names are its own.
    pub dns_domain: Arc<str>,
    /// Whether it has an IPv4 address.
    pub ipv4: bool,
    /// Whether it has an IPv6 address.
    pub ipv6: bool,
    /// How it gets its traffic.
    pub interception: Interception,
    /// Port of the HTTP forward-proxy listener, the mesh's default applied; 0 makes none.
    pub http_proxy_port: u16,
    /// IDLE_TIMEOUT of the node.
    pub idle_timeout: Option<Duration>,
    /// Whether ports below 1024 cannot be bound.
    pub unprivileged: bool,
    /// The proxy's own ports, that no listener may take; sorted.
    pub reserved_ports: Vec<u16>,
    /// Whether HTTP/1.0 is accepted.
    pub http10: bool,
    /// Whether outbound listeners balance connections exactly.
    pub exact_balance: bool,
    /// Whether the agent answers DNS, so that allotted addresses can be used.
    pub dns_capture: bool,
    /// Network.
    pub network: Arc<str>,
    /// Networks whose endpoints it wants; empty means every one. Sorted.
    pub network_view: Vec<Arc<str>>,
    /// Its node; only if the mesh has services that must stay on the node.
    pub node_name: Option<Arc<str>>,
    /// Whether Envoy lacks Istio's extensions.
    pub vanilla: bool,
    /// Whether an agent hands out certificates.
    pub agent: bool,
    /// What it offers mutual TLS with instead of its own certificate.
    pub client_files: Option<CertificateFiles>,
    /// Whether it may have credentials of its namespace.
    pub credentials: bool,
    /// Its address; only if it is an endpoint of a service without virtual address, for which it must not listen itself.
    pub own_address: Option<IpAddr>,
    /// What is read of its ProxyConfig.
    pub proxy_config: Arc<ProxyConfigFacts>,
    /// Its labels, restricted to the keys that some selector of the mesh reads.
    pub labels: Labels,
}

/// Everything that the inbound side of a sidecar reads from a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InboundKey {
    /// What it may see: its Sidecar, and the rules of its services' server side.
    pub view: ViewKey,
    /// Service ports it is an instance of, oldest service first.
    pub targets: Vec<ServiceTarget>,
    /// Its addresses; only if a Sidecar's ingress binds them or leads to them.
    pub addresses: Vec<IpAddr>,
    /// Whether it has an IPv4 address.
    pub ipv4: bool,
    /// Whether it has an IPv6 address.
    pub ipv6: bool,
    /// How it gets its traffic.
    pub interception: Interception,
    /// IDLE_TIMEOUT of the node.
    pub idle_timeout: Option<Duration>,
    /// Whether ports below 1024 cannot be bound.
    pub unprivileged: bool,
    /// The proxy's own ports, that no listener may take; sorted.
    pub reserved_ports: Vec<u16>,
    /// Whether HTTP/1.0 is accepted.
    pub http10: bool,
    /// Whether inbound listeners balance connections exactly.
    pub exact_balance: bool,
    /// Whether Envoy lacks Istio's extensions.
    pub vanilla: bool,
    /// Whether an agent hands out certificates.
    pub agent: bool,
    /// What it takes mutual TLS with instead of its own certificate.
    pub server_files: Option<CertificateFiles>,
    /// What is read of its ProxyConfig.
    pub proxy_config: Arc<ProxyConfigFacts>,
}

/// What translation reads of a proxy's ProxyConfig: the mesh's `defaultConfig`, with what the proxy brought laid over it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ProxyConfigFacts {
    /// Tracing.
    pub tracing: Option<Tracing>,
    /// What stands in front of a gateway.
    pub gateway_topology: Option<GatewayTopology>,
    /// Connection limits and headers.
    pub http: HttpSettings,
}

impl ProxyConfigFacts {
    fn of(mesh: &Mesh, proxy: &Proxy) -> ProxyConfigFacts {
        let default = &mesh.config().default_config;
        // A proxy's config that cannot be read counts as none: its stream is not refused for it.
        let own = match &proxy.proxy_config {
            Value::Null => ProxyConfig::default(),
            value => serde_json::from_value(value.clone()).unwrap_or_default(),
        };
        ProxyConfigFacts {
            http: HttpSettings::of(&own, default),
            tracing: own.tracing.or_else(|| default.tracing.clone()),
            gateway_topology: own
                .gateway_topology
                .or_else(|| default.gateway_topology.clone()),
        }
    }
}

impl OutboundKey {
    /// The outbound class of a proxy that [`Mesh::complete`] has completed.
    pub fn of(mesh: &Mesh, proxy: &Proxy) -> OutboundKey {
        let view = mesh.view_key(proxy);
        let mut network_view = proxy.network_view.clone();
        network_view.sort();
        network_view.dedup();
        OutboundKey {
            dns_domain: proxy.dns_domain.clone(),
            ipv4: proxy.addresses.iter().any(IpAddr::is_ipv4),
            ipv6: proxy.addresses.iter().any(IpAddr::is_ipv6),
            interception: proxy.interception,
            http_proxy_port: match proxy.http_proxy_port {
                0 => u16::try_from(mesh.config().proxy_http_port).unwrap_or(0),
                own => own,
            },
            idle_timeout: proxy.idle_timeout,
            unprivileged: proxy.unprivileged,
            reserved_ports: sorted(&proxy.reserved_ports),
            http10: proxy.http10,
            exact_balance: proxy.outbound_exact_balance,
            dns_capture: proxy.dns_capture,
            network: proxy.network.clone(),
            network_view,
            node_name: Some(proxy.node_name.clone())
                .filter(|node| !node.is_empty() && mesh.has_node_local_services()),
            vanilla: proxy.vanilla,
            agent: proxy.agent,
            client_files: proxy.client_files.clone(),
            credentials: proxy.verified && proxy.kind == ProxyKind::Router,
            own_address: proxy
                .addresses
                .first()
                .copied()
                .filter(|address| mesh.is_headless_endpoint(address)),
            proxy_config: Arc::new(ProxyConfigFacts::of(mesh, proxy)),
            labels: view.labels.clone(),
            view,
        }
    }
}

impl InboundKey {
    /// The inbound class of a sidecar that [`Mesh::complete`] has completed.
    pub fn of(mesh: &Mesh, view: &View, proxy: &Proxy) -> InboundKey {
        InboundKey {
            view: view.key.clone(),
            targets: mesh.service_targets(proxy),
            addresses: if view.ingress.is_empty() {
                Vec::new()
            } else {
                proxy.addresses.clone()
            },
            ipv4: proxy.addresses.iter().any(IpAddr::is_ipv4),
            ipv6: proxy.addresses.iter().any(IpAddr::is_ipv6),
            interception: proxy.interception,
            idle_timeout: proxy.idle_timeout,
            unprivileged: proxy.unprivileged,
            reserved_ports: sorted(&proxy.reserved_ports),
            http10: proxy.http10,
            exact_balance: proxy.inbound_exact_balance,
            vanilla: proxy.vanilla,
            agent: proxy.agent,
            server_files: proxy.server_files.clone(),
            proxy_config: Arc::new(ProxyConfigFacts::of(mesh, proxy)),
        }
    }
}

fn sorted(ports: &[u16]) -> Vec<u16> {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    ports.dedup();
    ports
}
