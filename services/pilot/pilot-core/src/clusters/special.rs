//! Clusters that belong to no service (XDS-TRAFFIC 7.9).

use std::net::Ipv4Addr;
use std::sync::Arc;

use envoy_api::envoy::config::cluster::v3::Cluster;
use envoy_api::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, LbPolicy,
};
use envoy_api::envoy::config::core::v3::{BindConfig, ExtraSourceAddress};
use envoy_api::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use envoy_api::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use mesh_config::resource::Duration;
use mesh_config::resource::sidecar::OutboundMode;
use mesh_model::{ProxyKind, View};
use xds_core::Encoded;

use super::build::{dynamic_forward_proxy, filters, lookup_family, resolver};
use super::pool::{self, Upstream};
use super::settings::Settings;
use crate::naming::{ALLOW_ANY_DYNAMIC_DNS, BLACK_HOLE, INBOUND_PASSTHROUGH, PASSTHROUGH};
use crate::{Memos, OutboundKey, proto};

/// Idle timeout of connections to destinations we know nothing of.
const PASSTHROUGH_IDLE: Duration = Duration::from_secs(300);
/// Most hosts whose addresses are remembered under ALLOW_ANY_DYNAMIC_DNS.
const MAX_HOSTS: u32 = 1024;
/// Port of the agent's DNS server, on loopback.
const AGENT_DNS_PORT: u16 = 15053;

/// Which one, and what it is made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SpecialInput {
    what: Special,
    settings: Arc<Settings>,
}

/// A cluster that belongs to no service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Special {
    BlackHole,
    Passthrough,
    DynamicDns { agent_resolves: bool },
    InboundPassthrough,
}

/// Which ones an outbound class has.
pub(super) fn of(view: &View, key: &OutboundKey) -> Vec<Special> {
    let mut out = vec![Special::BlackHole];
    if key.view.kind == ProxyKind::Sidecar {
        out.push(Special::Passthrough);
        if view.outbound_policy.mode == OutboundMode::AllowAnyDynamicDns {
            out.push(Special::DynamicDns {
                agent_resolves: key.dns_capture,
            });
        }
    }
    out
}

/// These clusters.
pub(super) fn clusters(
    which: &[Special],
    settings: &Arc<Settings>,
    memo: &Memos,
) -> Vec<Arc<Encoded>> {
    let one = |what: &Special| {
        let input = SpecialInput {
            what: *what,
            settings: settings.clone(),
        };
        memo.clusters.special.get_or(input, encode)
    };
    which.iter().map(one).collect()
}

/// The special cluster of the inbound side.
pub(super) fn inbound(settings: Arc<Settings>, memo: &Memos) -> Arc<Encoded> {
    memo.clusters.special.get_or(
        SpecialInput {
            what: Special::InboundPassthrough,
            settings,
        },
        encode,
    )
}

fn encode(input: &SpecialInput) -> Encoded {
    let settings = &*input.settings;
    super::encoded(&match input.what {
        Special::BlackHole => black_hole(settings),
        Special::Passthrough => passthrough(settings),
        Special::DynamicDns { agent_resolves } => dynamic_dns(settings, agent_resolves),
        Special::InboundPassthrough => Cluster {
            name: INBOUND_PASSTHROUGH.to_owned(),
            filters: Vec::new(),
            // The statistics name stays that of PassthroughCluster, as dashboards expect.
            upstream_bind_config: Some(bind(settings)),
            ..passthrough(settings)
        },
    })
}

fn black_hole(settings: &Settings) -> Cluster {
    Cluster {
        name: BLACK_HOLE.to_owned(),
        alt_stat_name: format!("{BLACK_HOLE};"),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        connect_timeout: Some(proto::duration(settings.connect_timeout)),
        lb_policy: LbPolicy::RoundRobin as i32,
        ..Cluster::default()
    }
}

fn passthrough(settings: &Settings) -> Cluster {
    let mut cluster = Cluster {
        name: PASSTHROUGH.to_owned(),
        alt_stat_name: format!("{PASSTHROUGH};"),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(
            DiscoveryType::OriginalDst as i32,
        )),
        lb_policy: LbPolicy::ClusterProvided as i32,
        filters: filters(settings.vanilla),
        ..Cluster::default()
    };
    pool::apply(
        &mut cluster,
        Upstream::AsDownstream,
        settings.pool.as_ref(),
        None,
        Some(PASSTHROUGH_IDLE),
        None,
        settings,
    );
    cluster
}

fn dynamic_dns(settings: &Settings, agent_resolves: bool) -> Cluster {
    let agent = || proto::address(Ipv4Addr::LOCALHOST.to_string(), AGENT_DNS_PORT);
    let cache = DnsCacheConfig {
        name: "allow_any_dfp_dns_cache".to_owned(),
        dns_lookup_family: lookup_family(settings.ipv4, settings.ipv6) as i32,
        max_hosts: Some(MAX_HOSTS),
        typed_dns_resolver_config: Some(resolver(CaresDnsResolverConfig {
            resolvers: agent_resolves.then(agent).into_iter().collect(),
            ..CaresDnsResolverConfig::default()
        })),
        ..DnsCacheConfig::default()
    };
    let mut cluster = Cluster {
        name: ALLOW_ANY_DYNAMIC_DNS.to_owned(),
        alt_stat_name: format!("{ALLOW_ANY_DYNAMIC_DNS};"),
        cluster_discovery_type: Some(dynamic_forward_proxy(cache)),
        lb_policy: LbPolicy::ClusterProvided as i32,
        ..Cluster::default()
    };
    pool::apply(
        &mut cluster,
        Upstream::AsDownstream,
        settings.pool.as_ref(),
        None,
        None,
        None,
        settings,
    );
    cluster
}

/// The source address of connections to the application, by which captured traffic is told from the proxy's own.
pub(super) fn bind(settings: &Settings) -> BindConfig {
    let (v4, v6) = (
        || proto::socket_address("127.0.0.6", 0),
        || proto::socket_address("::6", 0),
    );
    let extra = |address| ExtraSourceAddress {
        address: Some(address),
        ..ExtraSourceAddress::default()
    };
    BindConfig {
        source_address: Some(if settings.ipv4 || !settings.ipv6 {
            v4()
        } else {
            v6()
        }),
        extra_source_addresses: (settings.ipv4 && settings.ipv6)
            .then(|| extra(v6()))
            .into_iter()
            .collect(),
        ..BindConfig::default()
    }
}
