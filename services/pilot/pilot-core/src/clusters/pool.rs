//! Connection limits, keepalive and the HTTP version spoken upstream (XDS-TRAFFIC 7.3, 7.6).

use envoy_api::any::{Any, pack};
use envoy_api::envoy::config::cluster::v3::circuit_breakers::{Thresholds, thresholds};
use envoy_api::envoy::config::cluster::v3::{CircuitBreakers, Cluster, UpstreamConnectionOptions};
use envoy_api::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonOptions,
    KeepaliveSettings, TcpKeepalive, UpstreamHttpProtocolOptions,
};
use envoy_api::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_api::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
    explicit_http_config::ProtocolConfig,
};
use envoy_api::envoy::r#type::v3::Percent;
use mesh_config::resource::Duration;
use mesh_config::resource::destination_rule::{
    ConnectionPoolSettings, H2UpgradePolicy, HttpSettings, RetryBudget,
    TcpKeepalive as KeepaliveConfig,
};
use mesh_types::Protocol;

use super::settings::Settings;
use crate::proto;

/// Where the HTTP options of a cluster hang.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// What HTTP is spoken upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upstream {
    /// HTTP/1.1, Envoy's default.
    Http1,
    /// HTTP/2.
    Http2,
    /// What the client spoke.
    AsDownstream,
}

impl Upstream {
    /// What a port's protocol asks for.
    pub(super) fn of(protocol: Protocol, sniffs: bool) -> Upstream {
        match protocol {
            Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb => Upstream::Http2,
            Protocol::Auto if sniffs => Upstream::AsDownstream,
            _ => Upstream::Http1,
        }
    }

    /// What an outbound cluster speaks after `useClientProtocol` and upgrades. An upgrade never changes what is fixed already.
    pub(super) fn upgraded(
        self,
        protocol: Protocol,
        http: Option<&HttpSettings>,
        mesh: H2UpgradePolicy,
    ) -> Upstream {
        if http.is_some_and(|http| http.use_client_protocol) {
            return Upstream::AsDownstream;
        }
        let upgrade = match http.and_then(|http| http.h2_upgrade_policy) {
            Some(H2UpgradePolicy::Upgrade) => true,
            Some(H2UpgradePolicy::DoNotUpgrade) => false,
            Some(H2UpgradePolicy::Default) | None => {
                mesh == H2UpgradePolicy::Upgrade && protocol.is_http()
            }
        };
        if upgrade && self == Upstream::Http1 {
            Upstream::Http2
        } else {
            self
        }
    }
}

/// Sets limits, timeouts and HTTP options of a cluster. `idle_timeout` is for where no rule sets one, `names` what HTTP does for TLS.
pub(super) fn apply(
    cluster: &mut Cluster,
    upstream: Upstream,
    pool: Option<&ConnectionPoolSettings>,
    budget: Option<&RetryBudget>,
    idle_timeout: Option<Duration>,
    names: Option<UpstreamHttpProtocolOptions>,
    settings: &Settings,
) {
    let tcp = pool.and_then(|p| p.tcp.as_ref());
    let http = pool.and_then(|p| p.http.as_ref());

    let limit = |n: Option<i32>| {
        Some(
            n.and_then(|n| u32::try_from(n).ok())
                .filter(|n| *n > 0)
                .unwrap_or(u32::MAX),
        )
    };
    cluster.circuit_breakers = Some(CircuitBreakers {
        thresholds: vec![Thresholds {
            max_connections: limit(tcp.map(|t| t.max_connections)),
            max_pending_requests: limit(http.map(|h| h.http1_max_pending_requests)),
            max_requests: limit(http.map(|h| h.http2_max_requests)),
            max_retries: limit(http.map(|h| h.max_retries)),
            retry_budget: budget.map(retry_budget),
            ..Thresholds::default()
        }],
        ..CircuitBreakers::default()
    });

    let connect_timeout = tcp
        .and_then(|t| t.connect_timeout)
        .unwrap_or(settings.connect_timeout);
    cluster.connect_timeout = Some(proto::duration(connect_timeout));
    let keepalive = keepalive(
        settings.keepalive.as_ref(),
        tcp.and_then(|t| t.tcp_keepalive.as_ref()),
    );
    cluster.upstream_connection_options = keepalive.map(|keepalive| UpstreamConnectionOptions {
        tcp_keepalive: Some(keepalive),
        ..UpstreamConnectionOptions::default()
    });

    let common = CommonOptions {
        idle_timeout: http
            .and_then(|h| h.idle_timeout)
            .or(tcp.and_then(|t| t.idle_timeout))
            .or(idle_timeout)
            .map(proto::duration),
        max_connection_duration: tcp
            .and_then(|t| t.max_connection_duration)
            .map(proto::duration),
        max_requests_per_connection: http
            .and_then(|h| u32::try_from(h.max_requests_per_connection).ok())
            .filter(|n| *n > 0),
        ..CommonOptions::default()
    };
    let common = Some(common).filter(|common| *common != CommonOptions::default());
    if let Some(options) = http_options(upstream, common, names, http) {
        cluster
            .typed_extension_protocol_options
            .insert(HTTP_OPTIONS.to_owned(), options);
    }
}

/// The HTTP options; `None` where Envoy's defaults say the same.
pub(super) fn http_options(
    upstream: Upstream,
    common: Option<CommonOptions>,
    names: Option<UpstreamHttpProtocolOptions>,
    http: Option<&HttpSettings>,
) -> Option<Any> {
    if upstream == Upstream::Http1 && common.is_none() && names.is_none() {
        return None;
    }
    let explicit = |config| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })
    };
    let protocol = match upstream {
        Upstream::Http1 => explicit(ProtocolConfig::HttpProtocolOptions(
            Http1ProtocolOptions::default(),
        )),
        Upstream::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions {
            max_concurrent_streams: http
                .and_then(|h| u32::try_from(h.max_concurrent_streams).ok())
                .filter(|n| *n > 0),
            connection_keepalive: http
                .and_then(|h| h.http2_keep_alive.as_ref())
                .map(|keepalive| KeepaliveSettings {
                    interval: keepalive.interval.map(proto::duration),
                    timeout: keepalive.timeout.map(proto::duration),
                    ..KeepaliveSettings::default()
                }),
            ..Http2ProtocolOptions::default()
        })),
        Upstream::AsDownstream => {
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                http_protocol_options: Some(Http1ProtocolOptions::default()),
                http2_protocol_options: Some(Http2ProtocolOptions::default()),
                ..UseDownstreamHttpConfig::default()
            })
        }
    };
    Some(pack(&HttpProtocolOptions {
        common_http_protocol_options: common,
        upstream_http_protocol_options: names,
        upstream_protocol_options: Some(protocol),
        ..HttpProtocolOptions::default()
    }))
}

fn retry_budget(budget: &RetryBudget) -> thresholds::RetryBudget {
    thresholds::RetryBudget {
        budget_percent: Some(Percent {
            value: budget.percent.map_or(20.0, |p| p.0),
        }),
        budget_interval: budget.budget_interval.map(proto::duration),
        min_retry_concurrency: Some(budget.min_retry_concurrency.unwrap_or(3)),
    }
}

/// The mesh's keepalive with what the rule says laid over it, attribute by attribute. An empty one still turns keepalive on.
fn keepalive(
    mesh: Option<&KeepaliveConfig>,
    own: Option<&KeepaliveConfig>,
) -> Option<TcpKeepalive> {
    if mesh.is_none() && own.is_none() {
        return None;
    }
    let probes = |k: Option<&KeepaliveConfig>| k.map(|k| k.probes).filter(|n| *n > 0);
    let seconds =
        |d: Duration| u32::try_from(d.seconds()).unwrap_or(if d.nanos < 0 { 0 } else { u32::MAX });
    Some(TcpKeepalive {
        keepalive_probes: probes(own).or(probes(mesh)),
        keepalive_time: own
            .and_then(|k| k.time)
            .or(mesh.and_then(|k| k.time))
            .map(seconds),
        keepalive_interval: own
            .and_then(|k| k.interval)
            .or(mesh.and_then(|k| k.interval))
            .map(seconds),
    })
}
