//! Inbound listeners of a sidecar: virtualInbound with a chain per port of the application, and listeners that bind (XDS-TRAFFIC 4).
//!
//! Which chains a port has, `inbound_chains` says. A proxy without an agent has no certificate: it takes plaintext where that may be, and
//! what asks for mutual TLS is closed.

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
use mesh_model::{Interception, View};
use mesh_types::Protocol;

use super::convert::{address, listener_name};
use super::facts::Facts;
use super::hcm::{Hcm, Route, Side};
use super::inbound_chains::{Row, needs_http, needs_tls};
use super::inbound_ports::{Ends, InboundPort, of_services, of_sidecar};
use super::inbound_route;
use super::plan::TcpPlan;
use super::{access_log, assembly, tcp};
use crate::naming;
use crate::proto::{duration, seconds};
use crate::{InboundKey, Memos};

/// Name of the listener that takes every captured connection.
const NAME: &str = "virtualInbound";
/// Mark of connections that keep their source address under TPROXY.
const TPROXY_MARK: u32 = 1337;

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
