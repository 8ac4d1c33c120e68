//! Load balancing, without preferences of locality (XDS-TRAFFIC 7.8).

use envoy_api::envoy::config::cluster::v3::Cluster;
use envoy_api::envoy::config::cluster::v3::cluster::{
    LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig, RoundRobinLbConfig,
    SlowStartConfig,
};
use envoy_api::envoy::config::core::v3::RuntimeDouble;
use envoy_api::envoy::r#type::v3::Percent;
use mesh_config::resource::destination_rule::{ConsistentHashLb, LoadBalancerSettings, SimpleLb};

use super::plan::Discovery;
use crate::proto;

/// Smallest ring where the rule names none.
const RING_SIZE: u64 = 1024;

/// Sets how an endpoint is chosen.
pub(super) fn apply(
    cluster: &mut Cluster,
    discovery: Discovery,
    lb: Option<&LoadBalancerSettings>,
) {
    let (policy, config) = match discovery {
        Discovery::OriginalDst | Discovery::DynamicDns => (LbPolicy::ClusterProvided, None),
        Discovery::Eds | Discovery::StrictDns | Discovery::LogicalDns => {
            match lb.and_then(|lb| lb.consistent_hash.as_ref()) {
                Some(hash) => by_hash(hash),
                None => simple(lb),
            }
        }
    };
    cluster.lb_policy = policy as i32;
    if config.is_some() {
        cluster.lb_config = config;
    }
}

fn by_hash(hash: &ConsistentHashLb) -> (LbPolicy, Option<LbConfig>) {
    if let Some(maglev) = &hash.maglev {
        let config = maglev.table_size.map(|size| {
            LbConfig::MaglevLbConfig(MaglevLbConfig {
                table_size: Some(size),
            })
        });
        return (LbPolicy::Maglev, config);
    }
    let minimum = match &hash.ring_hash {
        Some(ring) => ring.minimum_ring_size,
        None => Some(
            hash.minimum_ring_size
                .filter(|n| *n > 0)
                .unwrap_or(RING_SIZE),
        ),
    };
    let config = minimum.map(|_| {
        LbConfig::RingHashLbConfig(RingHashLbConfig {
            minimum_ring_size: minimum,
            ..RingHashLbConfig::default()
        })
    });
    (LbPolicy::RingHash, config)
}

fn simple(lb: Option<&LoadBalancerSettings>) -> (LbPolicy, Option<LbConfig>) {
    let slow_start = lb.and_then(slow_start);
    match lb.and_then(|lb| lb.simple).unwrap_or(SimpleLb::Unspecified) {
        SimpleLb::Random => (LbPolicy::Random, None),
        SimpleLb::RoundRobin => {
            let config = slow_start.map(|s| {
                LbConfig::RoundRobinLbConfig(RoundRobinLbConfig {
                    slow_start_config: Some(s),
                })
            });
            (LbPolicy::RoundRobin, config)
        }
        // Such clusters were made ORIGINAL_DST already.
        SimpleLb::Passthrough => (LbPolicy::ClusterProvided, None),
        SimpleLb::Unspecified | SimpleLb::LeastConn | SimpleLb::LeastRequest => {
            let config = slow_start.map(|s| {
                LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                    slow_start_config: Some(s),
                    ..LeastRequestLbConfig::default()
                })
            });
            (LbPolicy::LeastRequest, config)
        }
    }
}

fn slow_start(lb: &LoadBalancerSettings) -> Option<SlowStartConfig> {
    if let Some(warmup) = &lb.warmup {
        return Some(SlowStartConfig {
            slow_start_window: warmup.duration.map(proto::duration),
            min_weight_percent: Some(Percent {
                value: warmup.minimum_percent.map_or(10.0, |p| p.0),
            }),
            aggression: Some(RuntimeDouble {
                default_value: warmup.aggression.map_or(1.0, |a| a.0),
                runtime_key: "(".to_owned(),
            }),
        });
    }
    lb.warmup_duration_secs.map(|window| SlowStartConfig {
        slow_start_window: Some(proto::duration(window)),
        ..SlowStartConfig::default()
    })
}
