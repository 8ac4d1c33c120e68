//! Filters that only istio/proxy builds of Envoy have (XDS-TRAFFIC 5.3), as typed structs: their messages are not Envoy's.

use envoy_api::any;
use envoy_api::envoy::config::listener::v3::Filter;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use prost::Name;
use prost_types::Struct;
use serde_json::{Value, json};

use super::access_log::to_struct;

/// `xds.type.v3.TypedStruct`: a message by its type and its fields. Envoy's descriptors do not have it.
#[derive(Clone, PartialEq, prost::Message)]
struct TypedStruct {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Struct>,
}

impl Name for TypedStruct {
    const NAME: &'static str = "TypedStruct";
    const PACKAGE: &'static str = "xds.type.v3";
    fn type_url() -> String {
        "type.googleapis.com/xds.type.v3.TypedStruct".into()
    }
}

fn typed(type_url: &str, value: &Value) -> TypedStruct {
    TypedStruct {
        type_url: format!("type.googleapis.com/{type_url}"),
        value: Some(to_struct(value)),
    }
}

/// Learns who the HTTP peer is, and tells it who we are.
pub fn http_metadata_exchange(inbound: bool, in_mesh_only: bool) -> HttpFilter {
    let discovery = json!([{"istio_headers": {}}, {"workload_discovery": {}}]);
    let propagation = match in_mesh_only {
        true => json!([{"istio_headers": {"skip_external_clusters": true}}]),
        false => json!([{"istio_headers": {}}]),
    };
    let side = if inbound { "downstream" } else { "upstream" };
    let config =
        json!({format!("{side}_discovery"): discovery, format!("{side}_propagation"): propagation});
    any::http_filter(
        "istio.metadata_exchange",
        &typed("io.istio.http.peer_metadata.Config", &config),
    )
}

/// Learns who the TCP peer is, by an exchange under its own ALPN.
pub fn tcp_metadata_exchange() -> Filter {
    let config = json!({"protocol": "istio-peer-exchange", "enable_discovery": true});
    any::network_filter(
        "istio.metadata_exchange",
        &typed(
            "envoy.tcp.metadataexchange.config.MetadataExchange",
            &config,
        ),
    )
}

/// Tells the server side of mTLS which HTTP version is inside.
pub fn alpn() -> HttpFilter {
    let config = json!({"alpn_override": [
        {"upstream_protocol": "HTTP10", "alpn_override": ["istio-http/1.0", "istio", "http/1.0"]},
        {"upstream_protocol": "HTTP11", "alpn_override": ["istio-http/1.1", "istio", "http/1.1"]},
        {"upstream_protocol": "HTTP2", "alpn_override": ["istio-h2", "istio", "h2"]},
    ]});
    any::http_filter(
        "istio.alpn",
        &typed(
            "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
            &config,
        ),
    )
}

/// Istio's HTTP metrics.
pub fn http_stats(outbound_sidecar: bool) -> HttpFilter {
    any::http_filter(
        "istio.stats",
        &typed("stats.PluginConfig", &stats_config(outbound_sidecar)),
    )
}

/// Istio's TCP metrics.
pub fn tcp_stats(outbound_sidecar: bool) -> Filter {
    any::network_filter(
        "istio.stats",
        &typed("stats.PluginConfig", &stats_config(outbound_sidecar)),
    )
}

fn stats_config(outbound_sidecar: bool) -> Value {
    match outbound_sidecar {
        true => json!({}),
        false => json!({"disable_host_header_fallback": true}),
    }
}
