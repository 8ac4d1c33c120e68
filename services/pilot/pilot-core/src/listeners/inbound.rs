//! Inbound listeners of a sidecar: virtualInbound with a chain per port of the application, and listeners that bind (XDS-TRAFFIC 4).
//!
//! Which chains a port has, `inbound_chains` says. A proxy without an agent has no certificate: it takes plaintext where that may be, and
//! what asks for mutual TLS is closed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use envoy_api::any;
use envoy_api::envoy::config::core::v3::{TrafficDirection, TransportSocket};
use envoy_api::envoy::config::listener::v3::listener_filter_chain_match_predicate::{
    MatchSet, Rule,
};
use envoy_api::envoy::config::listener::v3::{
    FilterChain, FilterChainMatch, Listener, ListenerFilter,
    ListenerFilterChainMatchPredicate as Predicate,
};
use envoy_api::envoy::extensions::filters::listener::{original_dst, original_src};
use envoy_api::envoy::r#type::v3::Int32Range;
use mesh_config::resource::gateway::{ServerTlsMode, ServerTlsSettings};
use mesh_config::resource::mesh::MeshConfig;
use mesh_config::resource::sidecar::CaptureMode;
use mesh_model::{CertificateFiles, IngressListener, Interception, PeerMode, ServiceTarget, View};
use mesh_types::Protocol;

use super::convert::{address, listener_name};
use super::facts::Facts;
use super::hcm::{Hcm, Route, Side};
use super::inbound_chains::{self, Row, needs_http, needs_tls};
use super::inbound_route;
use super::plan::TcpPlan;
use super::{access_log, assembly, ports, tcp};
use crate::naming::{self, ClusterName};
use crate::proto::{duration, seconds};
use crate::tls::{MeshTls, Own, ServerTls, Source};
use crate::{InboundKey, Memos};

/// Name of the listener that takes every captured connection.
const NAME: &str = "virtualInbound";
/// Mark of connections that keep their source address under TPROXY.
const TPROXY_MARK: u32 = 1337;

/// One port of the application.
#[derive(Debug, Clone)]
pub struct InboundPort {
    /// Port of the workload, or of the Sidecar's ingress.
    pub port: u16,
    /// Port of the service, for the name of the virtual host; 0 for anything else.
    pub service_port: u16,
    /// What is spoken.
    pub protocol: Protocol,
    /// Address the port belongs to.
    pub bind: String,
    /// Host that telemetry names; empty for ports of no service.
    pub host: String,
    /// Statistics prefix of the TCP chain.
    pub stat_prefix: String,
    /// Whether it has a listener of its own.
    pub bound: bool,
    /// Cluster it leads to.
    pub cluster: String,
    /// Its chains.
    rows: Vec<Row>,
    /// What ends TLS of a Sidecar's own certificates, instead of the mesh's.
    custom_tls: Option<Box<ServerTls>>,
}

/// TLS of a class: what its chains end mutual TLS with.
struct Ends {
    mesh: Arc<MeshTls>,
    files: Option<CertificateFiles>,
    /// Whether an agent hands out certificates. Without, and without files, there is none.
    agent: bool,
    vanilla: bool,
    http10: bool,
}

impl Ends {
    fn of(view: &View, key: &InboundKey, memo: &Memos) -> Ends {
        Ends {
            mesh: Arc::new(MeshTls::of(&view.mesh, memo.options.compliance)),
            files: key.server_files.clone(),
            agent: key.agent,
            vanilla: key.vanilla,
            http10: key.http10,
        }
    }

    fn source(&self) -> Source {
        if self.agent {
            Source::Agent
        } else {
            Source::Direct
        }
    }

    /// The chains of a port; none if it must not be open.
    fn rows(&self, protocol: Protocol, mode: PeerMode) -> Vec<Row> {
        match (mode, self.agent || self.files.is_some()) {
            (PeerMode::Strict, false) => Vec::new(),
            (PeerMode::Permissive, false) => {
                inbound_chains::rows(protocol, PeerMode::Disable, self.http10)
            }
            (mode, _) => inbound_chains::rows(protocol, mode, self.http10),
        }
    }

    fn socket(&self, port: &InboundPort, row: &Row) -> Option<TransportSocket> {
        if !row.ends_tls {
            return None;
        }
        let own = port.custom_tls.as_ref().map(|tls| tls.socket());
        own.or_else(|| {
            let (source, files) = (self.source(), self.files.as_ref());
            let tls = ServerTls::of_mesh(&self.mesh, source, files, row.http, self.vanilla);
            Some(tls.socket())
        })
    }
}

/// The listeners of a class: virtualInbound, then those that bind, by port.
pub fn listeners(view: &View, key: &InboundKey, memo: &Memos) -> Vec<Listener> {
    let facts = Facts::inbound(view, key);
    let ends = Ends::of(view, key, memo);
    let all = match view.ingress.is_empty() {
        true => of_services(view, key, &facts, &ends),
        false => of_sidecar(view, key, &facts, &ends),
    };
    let (bound, captured): (Vec<_>, Vec<_>) = all.into_iter().partition(|port| port.bound);
    let mut out = Vec::new();
    if key.interception != Interception::None {
        out.push(virtual_inbound(view, key, &facts, &ends, &captured));
    }
    // One without chains would be refused: the port is closed.
    let open = bound.iter().filter(|port| !port.rows.is_empty());
    out.extend(open.map(|port| listener(view, key, &facts, &ends, port)));
    out
}

/// The ports of services that are captured for a sidecar without ingress listeners of its own: none without interception, and none of the
/// proxy's own.
pub(crate) fn captured_targets<'a>(
    mesh: &'a MeshConfig,
    key: &'a InboundKey,
) -> impl Iterator<Item = &'a ServiceTarget> {
    let free = |port| {
        ports::allowed(
            "0.0.0.0",
            port,
            false,
            key.unprivileged,
            &key.reserved_ports,
            mesh,
        )
    };
    key.targets.iter().filter(move |target| {
        key.interception != Interception::None
            && target.target_port != 0
            && target.port.protocol != Protocol::Udp
            && free(target.target_port)
    })
}

/// One port per distinct target port of the services the proxy belongs to; the oldest service decides.
fn of_services(view: &View, key: &InboundKey, facts: &Facts, ends: &Ends) -> Vec<InboundPort> {
    let mut out = BTreeMap::new();
    for target in captured_targets(&view.mesh, key) {
        let port = target.target_port;
        out.entry(port).or_insert_with(|| {
            let name = ClusterName::inbound(port);
            InboundPort {
                port,
                service_port: target.port.number,
                protocol: target.port.protocol,
                bind: facts.wildcard().to_owned(),
                host: target.service.hostname.to_string(),
                stat_prefix: naming::stat_name(
                    &view.mesh.inbound_cluster_stat_name,
                    name,
                    Some((&target.service.spec, &target.service.key.namespace)),
                    Some(&target.port),
                ),
                bound: false,
                cluster: name.to_string(),
                rows: ends.rows(target.port.protocol, view.peers.at(port)),
                custom_tls: None,
            }
        });
    }
    out.into_values().collect()
}

/// The ports that a Sidecar lists.
fn of_sidecar(view: &View, key: &InboundKey, facts: &Facts, ends: &Ends) -> Vec<InboundPort> {
    let host = view.sidecar.as_ref().map_or_else(String::new, |s| {
        format!("{}.{}", s.key.name, s.key.namespace)
    });
    let mut out = BTreeMap::new();
    for ingress in view.ingress.iter() {
        let bound = match ingress.spec.capture_mode {
            CaptureMode::None => true,
            CaptureMode::Default => key.interception == Interception::None,
            CaptureMode::Iptables => false,
        };
        let bind = match &*ingress.spec.bind {
            "" => key
                .addresses
                .iter()
                .find(|ip| is_global(ip))
                .map_or(facts.wildcard().to_owned(), IpAddr::to_string),
            given => given.to_owned(),
        };
        let free = ports::allowed(
            &bind,
            ingress.port,
            bound,
            key.unprivileged,
            &key.reserved_ports,
            &view.mesh,
        );
        if !free || ingress.protocol == Protocol::Udp {
            continue;
        }
        let cluster = ClusterName::inbound(ingress.port).to_string();
        let mode = view.peers.at(ingress.port);
        let (protocol, rows, custom_tls) = match &ingress.spec.tls {
            // Mutual TLS of the mesh comes before certificates of a port's own.
            Some(tls) if mode == PeerMode::Disable && terminates(tls) => {
                own_tls(ingress, tls, ends)
            }
            _ => (ingress.protocol, ends.rows(ingress.protocol, mode), None),
        };
        out.entry(ingress.port).or_insert_with(|| InboundPort {
            port: ingress.port,
            service_port: ingress.port,
            protocol,
            bind,
            host: host.clone(),
            stat_prefix: cluster.clone(),
            bound,
            cluster,
            rows,
            custom_tls,
        });
    }
    out.into_values().collect()
}

/// Whether settings of a Sidecar's port end TLS.
fn terminates(tls: &ServerTlsSettings) -> bool {
    match tls.mode {
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => true,
        ServerTlsMode::Passthrough
        | ServerTlsMode::AutoPassthrough
        | ServerTlsMode::IstioMutual => false,
    }
}

/// A port with certificates of its own: one chain, and what is inside. Closed if they are in a Secret, which no sidecar is given.
fn own_tls(
    ingress: &IngressListener,
    tls: &ServerTlsSettings,
    ends: &Ends,
) -> (Protocol, Vec<Row>, Option<Box<ServerTls>>) {
    let inside = match ingress.protocol {
        Protocol::Https => Protocol::Http,
        Protocol::Tls => Protocol::Tcp,
        other => other,
    };
    let in_files = tls.credential_name.is_empty() && tls.credential_names.is_empty();
    let rows = if in_files {
        vec![Row {
            tls: true,
            alpn: Vec::new(),
            ends_tls: true,
            http: inside.is_http(),
        }]
    } else {
        Vec::new()
    };
    let own = ServerTls {
        mesh: ends.mesh.clone(),
        source: ends.source(),
        own: Own::Written(Arc::new(tls.clone())),
        alpn: ["h2", "http/1.1"].map(str::to_owned).into(),
    };
    (inside, rows, Some(Box::new(own)))
}

/// Whether others can dial an address, as far as its kind tells.
fn is_global(ip: &IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local)
}

/// The listener that takes every captured connection (XDS-TRAFFIC 4.4).
fn virtual_inbound(
    view: &View,
    key: &InboundKey,
    facts: &Facts,
    ends: &Ends,
    ports: &[InboundPort],
) -> Listener {
    let own = u16::try_from(view.mesh.proxy_inbound_listen_port).unwrap_or(15006);
    let unknown = |port, mode| InboundPort {
        port,
        service_port: 0,
        protocol: Protocol::Auto,
        bind: facts.wildcard().to_owned(),
        host: String::new(),
        stat_prefix: naming::INBOUND_PASSTHROUGH.to_owned(),
        bound: false,
        cluster: naming::INBOUND_PASSTHROUGH.to_owned(),
        rows: ends.rows(Protocol::Auto, mode),
        custom_tls: None,
    };
    // Ports that nobody declares have the workload's mode, or one of their own.
    let declared = |port: &u16| ports.iter().any(|known| known.port == *port);
    let own_modes = view.peers.ports.iter().filter(|(port, _)| !declared(port));
    let mut passed = vec![unknown(0, view.peers.workload)];
    passed.extend(own_modes.map(|(port, mode)| unknown(*port, *mode)));
    let all = || passed.iter().chain(ports);
    let mut filter_chains = vec![FilterChain {
        name: "virtualInbound-blackhole".into(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(own.into()),
            ..Default::default()
        }),
        filters: tcp::filters(facts, Side::Inbound, &TcpPlan::to(naming::BLACK_HOLE, None)),
        ..Default::default()
    }];
    filter_chains.extend(all().flat_map(|port| chains(view, facts, ends, port)));

    let tproxy = key.interception == Interception::Tproxy;
    let mut listener_filters = vec![any::listener_filter(
        "envoy.filters.listener.original_dst",
        &original_dst::v3::OriginalDst {},
    )];
    if tproxy {
        let config = original_src::v3::OriginalSrc {
            mark: TPROXY_MARK,
            ..Default::default()
        };
        listener_filters.push(any::listener_filter(
            "envoy.filters.listener.original_src",
            &config,
        ));
    }
    // Each inspector is there if somebody needs it, and off elsewhere: who looks where nothing may come waits for ever, and what is found
    // changes which chain is chosen.
    if all().any(|port| needs_tls(&port.rows)) {
        let those = |needs: bool| {
            let known = all().filter(|port| port.port != 0);
            any_port(
                known
                    .filter(|port| needs_tls(&port.rows) == needs)
                    .map(|port| port.port),
            )
        };
        listener_filters.push(ListenerFilter {
            filter_disabled: match needs_tls(&passed[0].rows) {
                true => those(false),
                false => those(true).map(|needing| Predicate {
                    rule: Some(Rule::NotMatch(Box::new(needing))),
                }),
            },
            ..assembly::tls_inspector()
        });
    }
    if all().any(|port| needs_http(&port.rows)) {
        let without = all().filter(|port| !needs_http(&port.rows));
        listener_filters.push(ListenerFilter {
            filter_disabled: any_port(without.map(|port| port.port)),
            ..assembly::http_inspector()
        });
    }
    Listener {
        name: NAME.into(),
        address: Some(address(facts.wildcard(), own)),
        filter_chains,
        listener_filters,
        listener_filters_timeout: Some(duration(facts.detection_timeout)),
        transparent: tproxy.then_some(true),
        access_log: match facts.listener_log {
            true => access_log::listener_loggers(&facts.log),
            false => Vec::new(),
        },
        ..common(facts)
    }
}

/// A listener that binds the port itself.
fn listener(
    view: &View,
    key: &InboundKey,
    facts: &Facts,
    ends: &Ends,
    port: &InboundPort,
) -> Listener {
    let mut listener_filters = Vec::new();
    if needs_tls(&port.rows) {
        listener_filters.push(assembly::tls_inspector());
    }
    if needs_http(&port.rows) {
        listener_filters.push(assembly::http_inspector());
    }
    let looked_at = !listener_filters.is_empty();
    Listener {
        name: listener_name(&port.bind, port.port),
        address: Some(address(&port.bind, port.port)),
        filter_chains: chains(view, facts, ends, port),
        listener_filters,
        listener_filters_timeout: looked_at.then(|| duration(facts.detection_timeout)),
        transparent: (key.interception == Interception::Tproxy).then_some(true),
        ..common(facts)
    }
}

fn common(facts: &Facts) -> Listener {
    Listener {
        traffic_direction: TrafficDirection::Inbound.into(),
        continue_on_listener_filters_timeout: true,
        max_connections_to_accept_per_socket_event: Some(1),
        ..assembly::common(facts)
    }
}

/// The chains of a port. One that must not be open has a chain that leads nowhere, or the chains for ports that nobody declares would take
/// its connections.
fn chains(view: &View, facts: &Facts, ends: &Ends, port: &InboundPort) -> Vec<FilterChain> {
    let unknown = port.cluster == naming::INBOUND_PASSTHROUGH;
    let name = |http: bool| match (unknown, http) {
        (true, true) => "virtualInbound-catchall-http".to_owned(),
        (true, false) => NAME.to_owned(),
        (false, _) => format!("{}_{}", port.bind, port.port),
    };
    let destination_port = (port.port != 0).then_some(port.port.into());
    if port.rows.is_empty() && port.port != 0 {
        return vec![FilterChain {
            name: name(false),
            filter_chain_match: Some(FilterChainMatch {
                destination_port,
                ..Default::default()
            }),
            filters: tcp::filters(facts, Side::Inbound, &TcpPlan::to(naming::BLACK_HOLE, None)),
            ..Default::default()
        }];
    }
    let chain = |row: &Row| FilterChain {
        name: name(row.http),
        filter_chain_match: Some(FilterChainMatch {
            destination_port,
            transport_protocol: if row.tls { "tls" } else { "raw_buffer" }.into(),
            application_protocols: row.alpn.clone(),
            ..Default::default()
        }),
        filters: match row.http {
            true => http_filters(view, facts, port),
            false => tcp_filters(facts, port),
        },
        transport_socket: ends.socket(port, row),
        transport_socket_connect_timeout: row.ends_tls.then(|| seconds(assembly::HANDSHAKE)),
        ..Default::default()
    };
    port.rows.iter().map(chain).collect()
}

fn tcp_filters(
    facts: &Facts,
    port: &InboundPort,
) -> Vec<envoy_api::envoy::config::listener::v3::Filter> {
    let plan = TcpPlan {
        stat_prefix: port.stat_prefix.clone(),
        protocol: port.protocol,
        ..TcpPlan::to(port.cluster.clone(), facts.idle_timeout)
    };
    tcp::filters(facts, Side::Inbound, &plan)
}

fn http_filters(
    view: &View,
    facts: &Facts,
    port: &InboundPort,
) -> Vec<envoy_api::envoy::config::listener::v3::Filter> {
    let hcm = Hcm {
        facts,
        side: Side::Inbound,
        stat_prefix: match port.cluster == naming::INBOUND_PASSTHROUGH {
            true => format!("{};", naming::INBOUND_PASSTHROUGH),
            false => format!("inbound_{}_{};", facts.wildcard(), port.port),
        },
        route: Route::Inline(Box::new(inbound_route::route(&view.mesh, port))),
        protocol: port.protocol,
        forward_proxy: false,
    };
    let exchange = (!facts.vanilla).then(super::istio_filters::tcp_metadata_exchange);
    exchange.into_iter().chain([hcm.build()]).collect()
}

/// Holds for connections to one of these ports; `None` for no port at all.
fn any_port(ports: impl Iterator<Item = u16>) -> Option<Predicate> {
    let rule = |rule| Predicate { rule: Some(rule) };
    let mut rules: Vec<_> = ports
        .map(|port| {
            let start = i32::from(port);
            rule(Rule::DestinationPortRange(Int32Range {
                start,
                end: start + 1,
            }))
        })
        .collect();
    match rules.len() {
        0 | 1 => rules.pop(),
        _ => Some(rule(Rule::OrMatch(MatchSet { rules }))),
    }
}
