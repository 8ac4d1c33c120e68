//! Static listeners: health and metrics, and the administration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use envoy_api::any::{access_log, http_filter, network_filter, transport_socket};
use envoy_api::envoy::config::bootstrap::v3::Admin;
use envoy_api::envoy::config::core::v3::{
    Address, ApiConfigSource, ApiVersion, ConfigSource, DataSource, SocketAddress, address,
    api_config_source, config_source, data_source,
};
use envoy_api::envoy::config::listener::v3::{AdditionalAddress, FilterChain, Listener};
use envoy_api::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route,
    route_action, route_match,
};
use envoy_api::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use envoy_api::envoy::extensions::filters::http::compressor::v3::Compressor;
use envoy_api::envoy::extensions::filters::http::router::v3::Router;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter,
};
use envoy_api::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
};

use super::parts::{envoy_grpc, extension, seconds, socket};
use super::{Places, clusters};
use crate::options::Options;
use crate::secrets::{ROOT, WORKLOAD};

/// Paths of the static listeners.
const METRICS: &str = "/stats/prometheus";
const READY: &str = "/healthz/ready";

pub(super) fn admin(places: &Places) -> Admin {
    let log = FileAccessLog {
        path: "/dev/null".into(),
        access_log_format: None::<file_access_log::AccessLogFormat>,
    };
    Admin {
        address: Some(socket(places.admin)),
        access_log: vec![access_log("envoy.access_loggers.file", &log)],
        ..Admin::default()
    }
}

pub(super) fn listeners(options: &Options, places: &Places) -> Vec<Listener> {
    let mut found = vec![
        listener(
            places.prometheus,
            "prometheus",
            METRICS,
            clusters::ADMIN,
            false,
        ),
        listener(places.status, "health", READY, clusters::AGENT, false),
    ];
    let both = [IpAddr::is_ipv4, IpAddr::is_ipv6]
        .iter()
        .all(|family| options.node.addresses.iter().any(family));
    for (port, cluster) in [
        (options.envoy.secure_metrics, clusters::ADMIN),
        (options.envoy.secure_merged_metrics, clusters::AGENT),
    ] {
        if port > 0 {
            let at = SocketAddr::new(places.prometheus.ip(), port);
            found.push(listener(at, "secure-metrics", METRICS, cluster, true));
        }
    }
    if both {
        found.iter_mut().for_each(also_v6);
    }
    found
}

/// What listens on every interface of IPv4 does on those of IPv6 too.
fn also_v6(listener: &mut Listener) {
    if let Some(address::Address::SocketAddress(at)) =
        listener.address.as_ref().and_then(|at| at.address.clone())
        && at.address == Ipv4Addr::UNSPECIFIED.to_string()
    {
        let at = SocketAddress {
            address: Ipv6Addr::UNSPECIFIED.to_string(),
            ..at
        };
        listener.additional_addresses.push(AdditionalAddress {
            address: Some(Address {
                address: Some(address::Address::SocketAddress(at)),
            }),
            ..AdditionalAddress::default()
        });
    }
}

fn listener(at: SocketAddr, name: &str, path: &str, cluster: &str, tls: bool) -> Listener {
    let to = RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
        timeout: Some(seconds(30)),
        ..RouteAction::default()
    };
    let routes = vec![
        Route {
            r#match: Some(RouteMatch {
                path_specifier: Some(route_match::PathSpecifier::Path(path.to_owned())),
                ..RouteMatch::default()
            }),
            action: Some(route::Action::Route(to)),
            ..Route::default()
        },
        Route {
            r#match: Some(RouteMatch {
                path_specifier: Some(route_match::PathSpecifier::Prefix("/".into())),
                ..RouteMatch::default()
            }),
            action: Some(route::Action::DirectResponse(DirectResponseAction {
                status: 404,
                ..DirectResponseAction::default()
            })),
            ..Route::default()
        },
    ];
    let mut filters = Vec::new();
    if path == METRICS {
        filters.extend(compressors());
    }
    filters.push(http_filter("envoy.filters.http.router", &Router::default()));
    let manager = HttpConnectionManager {
        stat_prefix: name.to_owned(),
        http_filters: filters,
        route_specifier: Some(RouteSpecifier::RouteConfig(RouteConfiguration {
            name: name.to_owned(),
            virtual_hosts: vec![VirtualHost {
                name: name.to_owned(),
                domains: vec!["*".into()],
                routes,
                ..VirtualHost::default()
            }],
            ..RouteConfiguration::default()
        })),
        ..HttpConnectionManager::default()
    };
    Listener {
        name: format!("{name}-{}", at.port()),
        address: Some(socket(at)),
        filter_chains: vec![FilterChain {
            filters: vec![network_filter(
                "envoy.filters.network.http_connection_manager",
                &manager,
            )],
            transport_socket: tls
                .then(|| transport_socket("envoy.transport_sockets.tls", &mutual_tls())),
            ..FilterChain::default()
        }],
        ..Listener::default()
    }
}

/// Best first: a client that takes several gets the first of them.
fn compressors() -> Vec<HttpFilter> {
    // None has a setting that is not at its default.
    let library = |kind: &str, message: &str| {
        let name = format!("envoy.extensions.compression.{kind}.compressor.v3.{message}");
        extension(kind, &name, &())
    };
    [("brotli", "Brotli"), ("zstd", "Zstd"), ("gzip", "Gzip")]
        .into_iter()
        .map(|(kind, message)| {
            let compressor = Compressor {
                compressor_library: Some(library(kind, message)),
                choose_first: true,
                ..Compressor::default()
            };
            http_filter(format!("envoy.filters.http.compressor.{kind}"), &compressor)
        })
        .collect()
}

/// The workload's own certificate, and a client's certificate is a must.
fn mutual_tls() -> DownstreamTlsContext {
    let secret = |name: &str| SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(ConfigSource {
            config_source_specifier: Some(config_source::ConfigSourceSpecifier::ApiConfigSource(
                ApiConfigSource {
                    api_type: api_config_source::ApiType::Grpc.into(),
                    transport_api_version: ApiVersion::V3.into(),
                    grpc_services: vec![envoy_grpc(clusters::SDS)],
                    set_node_on_first_message_only: true,
                    ..ApiConfigSource::default()
                },
            )),
            initial_fetch_timeout: Some(seconds(0)),
            resource_api_version: ApiVersion::V3.into(),
            ..ConfigSource::default()
        }),
    };
    DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![secret(WORKLOAD)],
            validation_context_type: Some(ValidationContextType::ValidationContextSdsSecretConfig(
                secret(ROOT),
            )),
            ..CommonTlsContext::default()
        }),
        require_client_certificate: Some(true),
        ..DownstreamTlsContext::default()
    }
}

/// Text in a message.
pub(crate) fn inline(bytes: impl Into<bytes::Bytes>) -> DataSource {
    DataSource {
        specifier: Some(data_source::Specifier::InlineBytes(bytes.into())),
        ..DataSource::default()
    }
}
