//! What a class of proxies may see.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_config::resource::gateway::Server;
use mesh_config::resource::mesh::MeshConfig;
use mesh_config::resource::normal::MeshPort;
use mesh_config::resource::sidecar::{CaptureMode, IstioIngressListener, OutboundTrafficPolicy};
use mesh_types::{Hostname, Labels, Protocol};

use crate::endpoints::ScopedEndpoints;
use crate::{
    DestinationRule, PeerModes, Policies, ProxyKind, Secrets, Service, Sidecar, VirtualService,
};

/// Everything that scoping reads from a proxy: proxies of equal keys share a view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewKey {
    /// Sidecar or router.
    pub kind: ProxyKind,
    /// Config namespace.
    pub namespace: Arc<str>,
    /// The proxy's labels, restricted to the keys that some selector of the mesh reads ([`crate::Mesh::view_key`] does it).
    pub labels: Labels,
    /// Cluster.
    pub cluster_id: Arc<str>,
    /// Router: what ports the services it belongs to translate, as (service port, target port), in port order; only ports that differ,
    /// the oldest service decides (XDS-TRAFFIC 9.1). Sidecar: empty.
    pub gateway_ports: Vec<(u16, u16)>,
}

/// What proxies of one [`ViewKey`] may see. Every list is in the order that decides conflicts; everything is shared, not copied.
#[derive(Debug, Clone)]
pub struct View {
    /// Whom it is for.
    pub key: ViewKey,
    /// Settings of the mesh.
    pub mesh: Arc<MeshConfig>,
    /// The Sidecar that applies, if any.
    pub sidecar: Option<Arc<Sidecar>>,
    /// Sidecar: its egress listeners, the catch-all (no port) last. Router: one catch-all with everything visible.
    pub egress: Arc<[EgressListener]>,
    /// Sidecar.ingress of the Sidecar that applies; empty: derive from service targets.
    pub ingress: Arc<[IngressListener]>,
    /// Every service in scope, implicit destinations included, by host: what clusters are made from.
    pub services: Arc<BTreeMap<Hostname, Arc<Service>>>,
    /// The same services in the order that decides conflicts: those of the first egress listener first; within one listener those private
    /// to the namespace, then those exported to it, then public ones, each by creation time, name, namespace.
    pub services_in_order: Arc<[Arc<Service>]>,
    /// Endpoints of these services, as far as there are any. Not copied: looked up in the mesh the view was made from.
    pub endpoints: ScopedEndpoints,
    /// DestinationRule of each service in scope (outbound lookup, workload selectors applied).
    pub destination_rules: Arc<BTreeMap<Hostname, Arc<DestinationRule>>>,
    /// The rule a service's *server* side uses (lookup without workload selectors), for inbound clusters; only
    /// where it differs. Read it through [`View::inbound_destination_rule`].
    pub inbound_destination_rules: Arc<BTreeMap<Hostname, Arc<DestinationRule>>>,
    /// What happens to traffic for unknown destinations.
    pub outbound_policy: OutboundTrafficPolicy,
    /// Aliases (ExternalName hosts) of each concrete host in scope.
    pub aliases: Arc<BTreeMap<Hostname, Vec<Hostname>>>,
    /// Router: merged servers by (port, bind), in order. Sidecar: empty.
    pub servers: Arc<[MergedServer]>,
    /// Router: the Secrets of its namespace that its servers and rules name. Sidecar: empty.
    pub secrets: Arc<Secrets>,
    /// Sidecar: with or without mutual TLS, by port of the workload. Router: what is said where nothing is.
    pub peers: Arc<PeerModes>,
    /// What decides about requests that its proxies accept.
    pub policies: Arc<Policies>,
}

impl View {
    /// The rule of a service's own side: a rule for certain clients only (`workloadSelector`) does not count there.
    pub fn inbound_destination_rule(&self, host: &Hostname) -> Option<&Arc<DestinationRule>> {
        let outbound = self.destination_rules.get(host);
        match outbound {
            Some(rule) if rule.spec.workload_selector.is_some() => {
                self.inbound_destination_rules.get(host)
            }
            _ => outbound,
        }
    }
}

/// One egress listener with what it imports.
#[derive(Debug, Clone)]
pub struct EgressListener {
    /// Port and protocol; `None` is the catch-all.
    pub port: Option<(u16, Protocol)>,
    /// Name of the port as written; empty for the catch-all.
    pub port_name: Arc<str>,
    /// Address or `unix://` path to bind; empty means not fixed.
    pub bind: Arc<str>,
    /// How traffic is captured.
    pub capture_mode: CaptureMode,
    /// Imported services in conflict order; aliases included (their `resolution` is Alias).
    pub services: Arc<[Arc<Service>]>,
    /// Imported VirtualServices that apply to `mesh` (none for routers: see [`View::servers`]), in conflict order.
    pub virtual_services: Arc<[Arc<VirtualService>]>,
    /// For each imported service host that some VirtualService of this listener names: index into `virtual_services` of the most
    /// specific one (exact host first, then the longest wildcard; oldest among equals).
    pub most_specific: Arc<BTreeMap<Hostname, usize>>,
}

/// One entry of Sidecar.ingress.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IngressListener {
    /// Port number.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// As written.
    pub spec: Arc<IstioIngressListener>,
}

/// A service port that a proxy is an instance of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceTarget {
    /// The service.
    pub service: Arc<Service>,
    /// Its port.
    pub port: MeshPort,
    /// The port of the workload.
    pub target_port: u16,
}

/// The servers of all Gateways that share a port and bind of a router, merged (XDS-TRAFFIC 9.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MergedServer {
    /// Port the router opens: the service's target port, or the server's own number.
    pub port: u16,
    /// Protocol of the first server.
    pub protocol: Protocol,
    /// Address to bind; empty means every one.
    pub bind: Arc<str>,
    /// Name of the RouteConfiguration (XDS-TRAFFIC 2.3); empty for TCP and passthrough.
    pub route_name: Arc<str>,
    /// The servers, in merge order.
    pub servers: Vec<GatewayServer>,
}

/// One server of one Gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GatewayServer {
    /// `namespace/name` of its Gateway, as VirtualServices name it.
    pub gateway: Arc<str>,
    /// Namespace of its Gateway.
    pub namespace: Arc<str>,
    /// Hosts in normal form: `ns/host` or `host`.
    pub hosts: Vec<Arc<str>>,
    /// As written.
    pub spec: Arc<Server>,
    /// VirtualServices bound to the Gateway and visible to the router, in conflict order.
    pub virtual_services: Vec<Arc<VirtualService>>,
}
