//! The message of one outbound cluster.

use envoy_api::any::extension;
use envoy_api::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CommonLbConfig, CustomClusterType, DiscoveryType, DnsLookupFamily,
    EdsClusterConfig, LbConfig, OriginalDstLbConfig,
};
use envoy_api::envoy::config::cluster::v3::{Cluster, Filter};
use envoy_api::envoy::config::core::v3::TypedExtensionConfig;
use envoy_api::envoy::extensions::clusters::dynamic_forward_proxy::v3::{
    ClusterConfig, cluster_config,
};
use envoy_api::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use envoy_api::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use mesh_config::resource::normal::Registry;
use xds_core::Encoded;

use super::metadata::IstioMetadata;
use super::plan::{ClusterInput, Discovery};
use super::pool::Upstream;
use super::{balance, outlier, pool, secure};
use crate::{naming, proto};

pub(super) fn encode(input: &ClusterInput) -> Encoded {
    super::encoded(&cluster(input))
}

fn cluster(input: &ClusterInput) -> Cluster {
    let (service, port, settings) = (&input.service, input.port(), &*input.settings);
    let (name, policy, subset) = (input.name(), input.policy(), input.subset());
    let stat_name = naming::stat_name(
        &settings.outbound_stat_name,
        name,
        Some((service, &service.key.namespace)),
        Some(port),
    );
    let mut cluster = Cluster {
        name: name.to_string(),
        alt_stat_name: format!("{stat_name};"),
        common_lb_config: Some(CommonLbConfig::default()),
        metadata: IstioMetadata::default()
            .services([&**service])
            .rule(input.rule.as_deref())
            .subset(subset.map(|s| &*s.name))
            .external(service.external && subset.is_none())
            .build(),
        filters: filters(settings.vanilla),
        ..Cluster::default()
    };
    discover(&mut cluster, input);

    let upstream = Upstream::of(port.protocol, !settings.router);
    let http = policy.connection_pool.and_then(|p| p.http.as_ref());
    let upstream = upstream.upgraded(port.protocol, http, settings.h2_upgrade);
    let names = secure::apply(&mut cluster, input, &policy, upstream);
    pool::apply(
        &mut cluster,
        upstream,
        policy.connection_pool,
        policy.retry_budget,
        None,
        names,
        settings,
    );
    outlier::apply(&mut cluster, policy.outlier_detection);
    balance::apply(&mut cluster, input.discovery, policy.load_balancer);
    cluster
}

/// Sets how endpoints are found.
fn discover(cluster: &mut Cluster, input: &ClusterInput) {
    let (service, settings) = (&input.service, &*input.settings);
    let found = match input.discovery {
        Discovery::Eds => {
            cluster.eds_cluster_config = Some(EdsClusterConfig {
                service_name: cluster.name.clone(),
                eds_config: Some(proto::ads()),
            });
            DiscoveryType::Eds
        }
        Discovery::StrictDns => {
            by_dns(cluster, input);
            DiscoveryType::StrictDns
        }
        Discovery::LogicalDns => {
            by_dns(cluster, input);
            DiscoveryType::LogicalDns
        }
        Discovery::OriginalDst => {
            let port = input.port();
            // Only a ServiceEntry redirects ports here: a headless service's caller dials the pod's own.
            if service.registry == Registry::External
                && port.target_port != 0
                && port.target_port != port.number
            {
                cluster.lb_config = Some(LbConfig::OriginalDstLbConfig(OriginalDstLbConfig {
                    upstream_port_override: Some(u32::from(port.target_port)),
                    ..OriginalDstLbConfig::default()
                }));
            }
            DiscoveryType::OriginalDst
        }
        Discovery::DynamicDns => {
            let cache = DnsCacheConfig {
                name: format!("{}_dfp_dns_cache", service.hostname),
                dns_lookup_family: lookup_family(settings.ipv4, settings.ipv6) as i32,
                dns_refresh_rate: Some(proto::duration(settings.dns_refresh_rate)),
                typed_dns_resolver_config: Some(resolver(CaresDnsResolverConfig::default())),
                ..DnsCacheConfig::default()
            };
            cluster.cluster_discovery_type = Some(dynamic_forward_proxy(cache));
            return;
        }
    };
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(found as i32));
}

#[expect(
    deprecated,
    reason = "the extension that replaces these fields is unknown to the oldest Envoy we serve"
)]
fn by_dns(cluster: &mut Cluster, input: &ClusterInput) {
    let settings = &*input.settings;
    let family = if input.service.race_first_connect {
        DnsLookupFamily::All
    } else {
        lookup_family(settings.ipv4, settings.ipv6)
    };
    cluster.dns_lookup_family = family as i32;
    cluster.typed_dns_resolver_config = Some(resolver(CaresDnsResolverConfig::default()));
    cluster.dns_jitter = Some(prost_types::Duration {
        seconds: 0,
        nanos: 100_000_000,
    });
    cluster.dns_refresh_rate = Some(proto::duration(settings.dns_refresh_rate));
    cluster.respect_dns_ttl = true;
    cluster.load_assignment = input.inline.as_ref().map(|inline| inline.message());
}

/// Addresses a proxy can use.
pub(super) fn lookup_family(ipv4: bool, ipv6: bool) -> DnsLookupFamily {
    match (ipv4, ipv6) {
        (true, true) => DnsLookupFamily::All,
        (false, true) => DnsLookupFamily::V6Only,
        (true | false, false) => DnsLookupFamily::V4Only,
    }
}

/// Envoy's resolver, which must give up a socket now and then: some servers stop answering one that has asked much.
pub(super) fn resolver(config: CaresDnsResolverConfig) -> TypedExtensionConfig {
    extension(
        "envoy.network.dns_resolver.cares",
        &CaresDnsResolverConfig {
            udp_max_queries: Some(100),
            ..config
        },
    )
}

/// A cluster whose endpoints are looked up by the host of each request.
///
/// The checks that Envoy would insist on concern TLS upstream, which a rule may leave out.
pub(super) fn dynamic_forward_proxy(cache: DnsCacheConfig) -> ClusterDiscoveryType {
    ClusterDiscoveryType::ClusterType(CustomClusterType {
        name: "envoy.clusters.dynamic_forward_proxy".to_owned(),
        typed_config: Some(envoy_api::any::pack(&ClusterConfig {
            allow_insecure_cluster_options: true,
            cluster_implementation_specifier: Some(
                cluster_config::ClusterImplementationSpecifier::DnsCacheConfig(cache),
            ),
            ..ClusterConfig::default()
        })),
    })
}

/// Filters of upstream connections: Istio's exchange of peer metadata, unless Envoy lacks it.
pub(super) fn filters(vanilla: bool) -> Vec<Filter> {
    if vanilla {
        return Vec::new();
    }
    let config = proto::object([
        ("enable_discovery", proto::flag(true)),
        ("protocol", proto::text("istio-peer-exchange")),
    ]);
    vec![Filter {
        name: "istio.metadata_exchange".to_owned(),
        typed_config: Some(proto::typed_struct(
            "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange",
            config,
        )),
        ..Filter::default()
    }]
}
