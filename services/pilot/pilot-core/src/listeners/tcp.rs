//! Network filters of chains that forward bytes (XDS-TRAFFIC 3.6).

use envoy_api::any;
use envoy_api::envoy::config::listener::v3::Filter;
use envoy_api::envoy::extensions::filters::network::mongo_proxy::v3::MongoProxy;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::weighted_cluster::ClusterWeight;
use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{
    ClusterSpecifier, TunnelingConfig, WeightedCluster,
};
use envoy_api::envoy::r#type::v3::{HashPolicy, hash_policy};
use mesh_types::Protocol;

use super::access_log;
use super::facts::Facts;
use super::hcm::Side;
use super::istio_filters;
use super::plan::TcpPlan;
use crate::proto::duration;

/// Name of the filter that forwards bytes.
pub const NAME: &str = "envoy.filters.network.tcp_proxy";

/// The filters of a chain, in order.
pub fn filters(facts: &Facts, side: Side, plan: &TcpPlan) -> Vec<Filter> {
    let mut out = Vec::with_capacity(2);
    if !facts.vanilla && side == Side::Inbound {
        out.push(istio_filters::tcp_metadata_exchange());
    }
    if let Some(guard) = &facts.guard {
        out.extend_from_slice(guard.network_filters());
    }
    if facts.metrics {
        out.push(istio_filters::tcp_stats(side == Side::Outbound));
    }
    if plan.protocol == Protocol::Mongo {
        let mongo = MongoProxy {
            stat_prefix: plan.stat_prefix.clone(),
            ..Default::default()
        };
        out.push(any::network_filter(
            "envoy.filters.network.mongo_proxy",
            &mongo,
        ));
    }
    out.push(any::network_filter(NAME, &proxy(facts, plan)));
    out
}

fn proxy(facts: &Facts, plan: &TcpPlan) -> TcpProxy {
    TcpProxy {
        stat_prefix: plan.stat_prefix.clone(),
        idle_timeout: plan.idle_timeout.map(duration),
        max_downstream_connection_duration: plan.max_duration.map(duration),
        access_log: access_log::loggers(&facts.log),
        hash_policy: match plan.hash_source_ip {
            true => vec![HashPolicy {
                policy_specifier: Some(hash_policy::PolicySpecifier::SourceIp(
                    hash_policy::SourceIp {},
                )),
            }],
            false => Vec::new(),
        },
        tunneling_config: plan.tunnel.as_ref().map(|tunnel| TunnelingConfig {
            hostname: tunnel.authority.clone(),
            use_post: tunnel.post,
            ..Default::default()
        }),
        cluster_specifier: Some(match &plan.destinations[..] {
            [(cluster, _)] => ClusterSpecifier::Cluster(cluster.clone()),
            several => ClusterSpecifier::WeightedClusters(WeightedCluster {
                clusters: several
                    .iter()
                    .map(|(name, weight)| ClusterWeight {
                        name: name.clone(),
                        weight: *weight,
                        metadata_match: None,
                    })
                    .collect(),
            }),
        }),
        ..Default::default()
    }
}
