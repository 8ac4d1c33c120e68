//! Static clusters: the agent's sockets, and Envoy's own administration.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use envoy_api::any::pack;
use envoy_api::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_api::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, UpstreamConnectionOptions, cluster,
};
use envoy_api::envoy::config::core::v3::{
    Address, Http2ProtocolOptions, HttpProtocolOptions as Common, RoutingPriority, TcpKeepalive,
};
use envoy_api::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use envoy_api::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_api::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_api::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions,
};

use super::Places;
use super::parts::{pipe, seconds, socket};

/// Cluster of Envoy's administration, for its metrics.
pub(super) const ADMIN: &str = "prometheus_stats";
/// Cluster of the agent's status port.
pub(super) const AGENT: &str = "agent";
/// Cluster of the workload's secrets.
pub(super) const SDS: &str = "sds-grpc";
/// Cluster of secrets of files, when another server owns the workload's.
const FILES: &str = "sds-files-grpc";
/// Cluster of an external server of credentials.
const EXTERNAL: &str = "sds-external";
/// Cluster of the agent's xDS.
pub(super) const XDS: &str = "xds-grpc";

pub(super) fn clusters(places: &Places) -> Vec<Cluster> {
    let mut found = vec![
        plain(ADMIN, socket(reached_at(places.admin))),
        plain(AGENT, socket(reached_at(places.agent))),
        grpc(SDS, pipe(&places.sds)),
        xds(places),
    ];
    found.extend(places.files.iter().map(|path| grpc(FILES, pipe(path))));
    found.extend(
        places
            .external
            .iter()
            .map(|path| grpc(EXTERNAL, pipe(path))),
    );
    found
}

/// Where a listener of this machine is reached: one of all interfaces on loopback, of its own family, as Envoy's listeners of IPv6 take no IPv4.
pub fn reached_at(mut at: SocketAddr) -> SocketAddr {
    if at.ip().is_unspecified() {
        at.set_ip(match at {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    at
}

fn plain(name: &str, address: Address) -> Cluster {
    let endpoint = LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
            address: Some(address),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(
            cluster::DiscoveryType::Static.into(),
        )),
        connect_timeout: Some(seconds(1)),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![endpoint],
                ..LocalityLbEndpoints::default()
            }],
            ..ClusterLoadAssignment::default()
        }),
        ..Cluster::default()
    }
}

fn grpc(name: &str, address: Address) -> Cluster {
    with_http2(plain(name, address), None)
}

fn with_http2(mut cluster: Cluster, requests: Option<u32>) -> Cluster {
    let options = HttpProtocolOptions {
        common_http_protocol_options: requests.map(|requests| Common {
            max_requests_per_connection: Some(requests),
            ..Common::default()
        }),
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
            ExplicitHttpConfig {
                protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(
                    Http2ProtocolOptions::default(),
                )),
            },
        )),
        ..HttpProtocolOptions::default()
    };
    cluster.typed_extension_protocol_options.insert(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".into(),
        pack(&options),
    );
    cluster
}

fn xds(places: &Places) -> Cluster {
    const MANY: Option<u32> = Some(100_000);
    let thresholds = |priority: RoutingPriority| Thresholds {
        priority: priority.into(),
        max_connections: MANY,
        max_pending_requests: MANY,
        max_requests: MANY,
        ..Thresholds::default()
    };
    let mut cluster = with_http2(plain(XDS, pipe(&places.xds)), Some(1));
    cluster.upstream_connection_options = Some(UpstreamConnectionOptions {
        tcp_keepalive: Some(TcpKeepalive {
            keepalive_time: Some(300),
            ..TcpKeepalive::default()
        }),
        ..UpstreamConnectionOptions::default()
    });
    cluster.circuit_breakers = Some(CircuitBreakers {
        thresholds: vec![
            thresholds(RoutingPriority::Default),
            thresholds(RoutingPriority::High),
        ],
        ..CircuitBreakers::default()
    });
    cluster
}
