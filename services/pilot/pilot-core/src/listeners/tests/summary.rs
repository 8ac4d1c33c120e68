//! Listeners as a few lines of text.

use envoy_api::any;
use envoy_api::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, filter};
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use prost::{Message, Name};

/// A listener: its name and what it has, then a line per chain.
pub fn listener(l: &Listener) -> String {
    let mut out = l.name.clone();
    if l.bind_to_port != Some(false) {
        out += " bound";
    }
    if let Some(t) = &l.listener_filters_timeout {
        out += &format!(" timeout={}s", t.seconds);
    }
    for f in &l.listener_filters {
        let off = f
            .filter_disabled
            .as_ref()
            .map_or("", |_| "(not everywhere)");
        out += &format!(" {}{off}", f.name.rsplit('.').next().unwrap());
    }
    out += "\n";
    for c in &l.filter_chains {
        out += &format!("  {}\n", chain(c));
    }
    if let Some(c) = &l.default_filter_chain {
        out += &format!("  default {}\n", chain(c));
    }
    out
}

fn chain(c: &FilterChain) -> String {
    let name = if c.name.is_empty() {
        String::new()
    } else {
        format!("{} ", c.name)
    };
    let matching = c
        .filter_chain_match
        .as_ref()
        .map(matching)
        .unwrap_or_default();
    let filters: Vec<String> = c.filters.iter().map(filter).collect();
    let ends = c.transport_socket.as_ref().map_or("", |_| "term ");
    format!("{name}{matching}{ends}-> {}", filters.join(" "))
}

fn matching(m: &FilterChainMatch) -> String {
    let mut out = String::new();
    let mut part = |text: String| out += &format!("{text} ");
    if let Some(port) = m.destination_port {
        part(format!(":{port}"));
    }
    if !m.transport_protocol.is_empty() {
        part(m.transport_protocol.clone());
    }
    if !m.application_protocols.is_empty() {
        part(format!("[{}]", m.application_protocols.join(",")));
    }
    if !m.server_names.is_empty() {
        part(format!("sni={}", m.server_names.join(",")));
    }
    for net in &m.prefix_ranges {
        part(format!(
            "{}/{}",
            net.address_prefix,
            net.prefix_len.unwrap_or(0)
        ));
    }
    out
}

fn filter(f: &Filter) -> String {
    if let Some(hcm) = message::<HttpConnectionManager>(f) {
        return match hcm.route_specifier {
            Some(RouteSpecifier::Rds(rds)) => format!("http {}", rds.route_config_name),
            Some(RouteSpecifier::RouteConfig(route)) => {
                format!(
                    "http {} vhost {} ({})",
                    route.name, route.virtual_hosts[0].name, hcm.stat_prefix
                )
            }
            _ => "http ?".into(),
        };
    }
    if let Some(tcp) = message::<TcpProxy>(f) {
        return match tcp.cluster_specifier {
            Some(ClusterSpecifier::Cluster(cluster)) => format!("tcp {cluster}"),
            Some(ClusterSpecifier::WeightedClusters(w)) => {
                let parts: Vec<String> = w
                    .clusters
                    .iter()
                    .map(|c| format!("{}={}", c.name, c.weight))
                    .collect();
                format!("tcp {} {}", tcp.stat_prefix, parts.join(" "))
            }
            None => "tcp ?".into(),
        };
    }
    f.name.clone()
}

/// The message of a filter, if it is of that type.
pub fn message<M: Message + Name + Default>(f: &Filter) -> Option<M> {
    match &f.config_type {
        Some(filter::ConfigType::TypedConfig(typed)) => any::unpack(typed).unwrap(),
        _ => None,
    }
}
