//! Inbound listeners of a sidecar: virtualInbound with a chain per port of the application, and listeners that bind (XDS-TRAFFIC 4).
//!
//! Without mutual TLS: the DISABLE column of 4.3.

use std::collections::BTreeMap;
use std::net::IpAddr;

use envoy_api::any;
use envoy_api::envoy::config::core::v3::TrafficDirection;
use envoy_api::envoy::config::listener::v3::listener_filter_chain_match_predicate::{
    MatchSet, Rule,
};
use envoy_api::envoy::config::listener::v3::{
    FilterChain, FilterChainMatch, Listener, ListenerFilter,
    ListenerFilterChainMatchPredicate as Predicate,
};
use envoy_api::envoy::extensions::filters::listener::{original_dst, original_src};
use envoy_api::envoy::r#type::v3::Int32Range;
use mesh_config::resource::mesh::MeshConfig;
use mesh_config::resource::sidecar::CaptureMode;
use mesh_model::{Interception, ServiceTarget, View};
use mesh_types::Protocol;

use super::convert::{address, listener_name};
use super::facts::Facts;
use super::hcm::{Hcm, Route, Side};
use super::inbound_route;
use super::plan::TcpPlan;
use super::{access_log, assembly, ports, tcp};
use crate::InboundKey;
use crate::naming::{self, ClusterName};
use crate::proto::duration;

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
}

/// The listeners of a class: virtualInbound, then those that bind, by port.
pub fn listeners(view: &View, key: &InboundKey) -> Vec<Listener> {
    let facts = Facts::inbound(view, key);
    let all = match view.ingress.is_empty() {
        true => of_services(view, key, &facts),
        false => of_sidecar(view, key, &facts),
    };
    let (bound, captured): (Vec<_>, Vec<_>) = all.into_iter().partition(|port| port.bound);
    let mut out = Vec::new();
    if key.interception != Interception::None {
        out.push(virtual_inbound(view, key, &facts, &captured));
    }
    out.extend(bound.iter().map(|port| listener(view, key, &facts, port)));
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
fn of_services(view: &View, key: &InboundKey, facts: &Facts) -> Vec<InboundPort> {
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
            }
        });
    }
    out.into_values().collect()
}

/// The ports that a Sidecar lists.
fn of_sidecar(view: &View, key: &InboundKey, facts: &Facts) -> Vec<InboundPort> {
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
        out.entry(ingress.port).or_insert_with(|| InboundPort {
            port: ingress.port,
            service_port: ingress.port,
            protocol: ingress.protocol,
            bind,
            host: host.clone(),
            stat_prefix: cluster.clone(),
            bound,
            cluster,
        });
    }
    out.into_values().collect()
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
    ports: &[InboundPort],
) -> Listener {
    let own = u16::try_from(view.mesh.proxy_inbound_listen_port).unwrap_or(15006);
    let unknown = InboundPort {
        port: 0,
        service_port: 0,
        protocol: Protocol::Auto,
        bind: facts.wildcard().to_owned(),
        host: String::new(),
        stat_prefix: naming::INBOUND_PASSTHROUGH.to_owned(),
        bound: false,
        cluster: naming::INBOUND_PASSTHROUGH.to_owned(),
    };
    let mut filter_chains = vec![FilterChain {
        name: "virtualInbound-blackhole".into(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(own.into()),
            ..Default::default()
        }),
        filters: tcp::filters(facts, Side::Inbound, &TcpPlan::to(naming::BLACK_HOLE, None)),
        ..Default::default()
    }];
    filter_chains.extend(chains(view, facts, &unknown));
    filter_chains.extend(ports.iter().flat_map(|port| chains(view, facts, port)));

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
    // Ports of unknown services are sniffed, so the inspector is there, and off where the protocol is known.
    listener_filters.push(ListenerFilter {
        filter_disabled: any_port(
            ports
                .iter()
                .filter(|p| p.protocol != Protocol::Auto)
                .map(|p| p.port),
        ),
        ..assembly::http_inspector()
    });
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
fn listener(view: &View, key: &InboundKey, facts: &Facts, port: &InboundPort) -> Listener {
    let sniffed = port.protocol == Protocol::Auto;
    Listener {
        name: listener_name(&port.bind, port.port),
        address: Some(address(&port.bind, port.port)),
        filter_chains: chains(view, facts, port),
        listener_filters: if sniffed {
            vec![assembly::http_inspector()]
        } else {
            Vec::new()
        },
        listener_filters_timeout: sniffed.then(|| duration(facts.detection_timeout)),
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

/// The chains of a port: HTTP, bytes, or whichever of the two arrives.
fn chains(view: &View, facts: &Facts, port: &InboundPort) -> Vec<FilterChain> {
    let unknown = port.port == 0;
    let name = |http: bool| match (unknown, http) {
        (true, true) => "virtualInbound-catchall-http".to_owned(),
        (true, false) => NAME.to_owned(),
        (false, _) => format!("{}_{}", port.bind, port.port),
    };
    let matching = |application_protocols| FilterChainMatch {
        destination_port: (!unknown).then_some(port.port.into()),
        transport_protocol: "raw_buffer".into(),
        application_protocols,
        ..Default::default()
    };
    let http = |application_protocols| FilterChain {
        name: name(true),
        filter_chain_match: Some(matching(application_protocols)),
        filters: http_filters(view, facts, port),
        ..Default::default()
    };
    let bytes = || FilterChain {
        name: name(false),
        filter_chain_match: Some(matching(Vec::new())),
        filters: tcp::filters(
            facts,
            Side::Inbound,
            &TcpPlan {
                stat_prefix: port.stat_prefix.clone(),
                protocol: port.protocol,
                ..TcpPlan::to(port.cluster.clone(), facts.idle_timeout)
            },
        ),
        ..Default::default()
    };
    match port.protocol {
        p if p.is_http() => vec![http(Vec::new())],
        Protocol::Auto => vec![http(assembly::plain_http(facts.http10)), bytes()],
        _ => vec![bytes()],
    }
}

fn http_filters(
    view: &View,
    facts: &Facts,
    port: &InboundPort,
) -> Vec<envoy_api::envoy::config::listener::v3::Filter> {
    let hcm = Hcm {
        facts,
        side: Side::Inbound,
        stat_prefix: match port.port {
            0 => format!("{};", naming::INBOUND_PASSTHROUGH),
            number => format!("inbound_{}_{number};", facts.wildcard()),
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
