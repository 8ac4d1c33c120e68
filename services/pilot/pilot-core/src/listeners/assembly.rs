//! Writes a planned listener for Envoy (XDS-TRAFFIC 3.3, 9.2).

use envoy_api::any;
use envoy_api::envoy::config::core::v3::{Metadata, TrafficDirection};
use envoy_api::envoy::config::listener::v3::listener::{
    ConnectionBalanceConfig, connection_balance_config,
};
use envoy_api::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter,
};
use envoy_api::envoy::extensions::filters::listener::{
    http_inspector, proxy_protocol, tls_inspector,
};
use mesh_types::Key;

use super::convert::{ZERO, address, cidr, listener_name};
use super::facts::Facts;
use super::hcm::{Hcm, Route, Side};
use super::plan::{ChainPlan, ListenerPlan, Match, Stack, TcpPlan};
use super::tcp;
use crate::proto::{self, duration};

/// Name of the chain that takes what no service of a port takes.
const PASSTHROUGH_CHAIN: &str = "PassthroughFilterChain";
/// How long a TLS handshake may take, in seconds.
pub const HANDSHAKE: i64 = 15;

/// The listener of a plan.
pub fn listener(facts: &Facts, plan: &ListenerPlan) -> Listener {
    let name = listener_name(&plan.bind, plan.port);
    let sidecar = plan.side != Side::Gateway;
    let written = plan.chains.iter().map(|chain| {
        (
            chain.matching.is_all(),
            self::chain(facts, plan, &name, chain),
        )
    });
    let (all, mut chains): (Vec<_>, Vec<_>) = written.partition(|(all, _)| *all);
    let mut default = all.into_iter().next().map(|(_, chain)| chain);
    let mut filter_chains: Vec<FilterChain> = chains.drain(..).map(|(_, chain)| chain).collect();
    if filter_chains.is_empty() {
        filter_chains.extend(default.take());
    } else if sidecar && default.is_none() {
        default = Some(passthrough(facts));
    }

    let sniffs_http = plan.chains.iter().any(|chain| chain.matching.plain_http);
    let sniffs_tls = plan
        .chains
        .iter()
        .any(|chain| !chain.matching.sni.is_empty());
    let mut listener_filters = Vec::new();
    if plan.side == Side::Gateway && facts.proxy_protocol {
        let config = proxy_protocol::v3::ProxyProtocol::default();
        listener_filters.push(any::listener_filter(
            "envoy.filters.listener.proxy_protocol",
            &config,
        ));
    }
    if sniffs_tls {
        listener_filters.push(tls_inspector());
    }
    if sniffs_http {
        listener_filters.push(http_inspector());
    }
    Listener {
        name,
        address: Some(address(&plan.bind, plan.port)),
        filter_chains,
        default_filter_chain: default,
        listener_filters_timeout: match (sidecar, sniffs_http) {
            (true, true) => Some(duration(facts.detection_timeout)),
            (true, false) => Some(ZERO),
            (false, _) => None,
        },
        listener_filters,
        continue_on_listener_filters_timeout: sidecar,
        traffic_direction: TrafficDirection::Outbound.into(),
        bind_to_port: (!plan.bound).then_some(false),
        max_connections_to_accept_per_socket_event: plan.bound.then_some(1),
        ..common(facts)
    }
}

/// What every listener of a class has.
pub fn common(facts: &Facts) -> Listener {
    let limits = facts.http.connection.as_ref().map(|c| c.on(facts.router));
    Listener {
        connection_balance_config: facts.exact_balance.then_some(ConnectionBalanceConfig {
            balance_type: Some(connection_balance_config::BalanceType::ExactBalance(
                connection_balance_config::ExactBalance {},
            )),
        }),
        per_connection_buffer_limit_bytes: limits.and_then(|limits| limits.buffer_limit),
        ..Default::default()
    }
}

/// Looks at the first bytes for a TLS hello.
pub fn tls_inspector() -> ListenerFilter {
    let config = tls_inspector::v3::TlsInspector {
        initial_read_buffer_size: Some(512),
        ..Default::default()
    };
    any::listener_filter("envoy.filters.listener.tls_inspector", &config)
}

/// Looks at the first bytes for HTTP.
pub fn http_inspector() -> ListenerFilter {
    any::listener_filter(
        "envoy.filters.listener.http_inspector",
        &http_inspector::v3::HttpInspector {},
    )
}

fn chain(facts: &Facts, plan: &ListenerPlan, name: &str, chain: &ChainPlan) -> FilterChain {
    let filters = match &chain.stack {
        Stack::Http {
            route,
            protocol,
            forward_proxy,
        } => {
            let hcm = Hcm {
                facts,
                side: plan.side,
                stat_prefix: format!("outbound_{name};"),
                route: Route::Rds(route),
                protocol: *protocol,
                forward_proxy: *forward_proxy,
            };
            vec![hcm.build()]
        }
        Stack::Tcp(plan_of_chain) => tcp::filters(facts, plan.side, plan_of_chain),
    };
    FilterChain {
        filter_chain_match: (!chain.matching.is_all()).then(|| match_of(facts, &chain.matching)),
        filters,
        metadata: chain.source.as_ref().map(config_metadata),
        transport_socket: chain.tls.as_ref().map(|tls| tls.socket()),
        transport_socket_connect_timeout: Some(proto::seconds(HANDSHAKE)),
        ..Default::default()
    }
}

fn match_of(facts: &Facts, matching: &Match) -> FilterChainMatch {
    FilterChainMatch {
        prefix_ranges: matching.cidrs.iter().filter_map(|net| cidr(net)).collect(),
        server_names: matching.sni.iter().map(ToString::to_string).collect(),
        transport_protocol: if matching.plain_http {
            "raw_buffer".into()
        } else {
            String::new()
        },
        application_protocols: if matching.plain_http {
            plain_http(facts.http10)
        } else {
            Vec::new()
        },
        ..Default::default()
    }
}

/// What the HTTP inspector calls plaintext HTTP.
pub fn plain_http(http10: bool) -> Vec<String> {
    let old = http10.then_some("http/1.0");
    old.into_iter()
        .chain(["http/1.1", "h2c"])
        .map(str::to_owned)
        .collect()
}

/// Where operators find the object that a chain comes from.
fn config_metadata(source: &Key) -> Metadata {
    let path = format!(
        "/apis/networking.istio.io/v1/namespaces/{}/virtual-service/{}",
        source.namespace, source.name
    );
    Metadata {
        filter_metadata: [(
            "istio".to_owned(),
            proto::object([("config", proto::text(path))]),
        )]
        .into(),
        ..Default::default()
    }
}

/// The chain for traffic that no service of a port takes.
fn passthrough(facts: &Facts) -> FilterChain {
    FilterChain {
        name: PASSTHROUGH_CHAIN.into(),
        filter_chain_match: Some(FilterChainMatch::default()),
        filters: fallback(facts),
        ..Default::default()
    }
}

/// Filters of traffic for unknown destinations (XDS-TRAFFIC 3.7).
pub fn fallback(facts: &Facts) -> Vec<Filter> {
    tcp::filters(
        facts,
        Side::Outbound,
        &TcpPlan::to(facts.fallback.clone(), facts.idle_timeout),
    )
}
