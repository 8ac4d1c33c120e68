//! The one builder of HTTP connection managers, for every direction (XDS-TRAFFIC 5).

use envoy_api::any;
use envoy_api::envoy::config::core::v3::{
    self as core, http_protocol_options::HeadersWithUnderscoresAction,
};
use envoy_api::envoy::config::listener::v3::Filter;
use envoy_api::envoy::config::route::v3::RouteConfiguration;
use envoy_api::envoy::extensions::filters::http as http_filters;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_api::envoy::extensions::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig;
use envoy_api::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use envoy_api::envoy::r#type::tracing::v3::{CustomTag, custom_tag};
use envoy_api::envoy::r#type::v3::Percent;
use hcm::http_connection_manager as m;
use mesh_config::resource::mesh::NormalizationType;
use mesh_types::Protocol;

use super::access_log;
use super::convert::ZERO;
use super::facts::{self, Facts};
use super::istio_filters;
use crate::proto::{self, duration};
use crate::proxy_config::ConnectionSettings;

/// Name of the filter, as Envoy and EnvoyFilter authors know it.
pub const NAME: &str = "envoy.filters.network.http_connection_manager";

/// Where the requests of a connection manager come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// From the application beside the sidecar.
    Outbound,
    /// From other workloads, to the application.
    Inbound,
    /// From outside the mesh, or from sidecars to an egress gateway.
    Gateway,
}

/// Where routes come from.
#[derive(Clone)]
pub enum Route<'a> {
    /// Over RDS, by name.
    Rds(&'a str),
    /// Written into the filter.
    Inline(Box<RouteConfiguration>),
}

/// An HTTP connection manager to be built.
pub struct Hcm<'a> {
    /// What the class decides.
    pub facts: &'a Facts,
    /// Direction.
    pub side: Side,
    /// Prefix of its statistics, the closing `;` included where there is one.
    pub stat_prefix: String,
    /// Routes.
    pub route: Route<'a>,
    /// Protocol of the port.
    pub protocol: Protocol,
    /// Whether it is a forward proxy: absolute URLs are accepted.
    pub forward_proxy: bool,
}

impl Hcm<'_> {
    /// The network filter.
    pub fn build(self) -> Filter {
        any::network_filter(NAME, &self.message())
    }

    /// The message inside the filter.
    pub fn message(self) -> hcm::HttpConnectionManager {
        let facts = self.facts;
        let headers = &facts.http.headers;
        let limits = match &facts.http.connection {
            Some(connection) => connection.on(facts.router),
            None => ConnectionSettings::default(),
        };
        let paths = PathHandling::of(facts.paths, &limits);
        let http_filters = self.filters();
        let (forward_cert, cert_details) = self.client_certs();
        hcm::HttpConnectionManager {
            codec_type: m::CodecType::Auto.into(),
            http_filters,
            tracing: facts.tracing.as_ref().map(|t| tracing(t, self.side)),
            common_http_protocol_options: common_options(facts, &limits),
            http_protocol_options: self.http1(),
            http2_protocol_options: self.http2(&limits),
            server_name: match (headers.server_disabled, &headers.server, self.side) {
                (true, ..) | (_, None, Side::Outbound) => String::new(),
                (_, Some(name), _) => name.clone(),
                (_, None, Side::Inbound | Side::Gateway) => "istio-envoy".into(),
            },
            server_header_transformation: match headers.server_disabled {
                true => m::ServerHeaderTransformation::PassThrough,
                false => m::ServerHeaderTransformation::Overwrite,
            }
            .into(),
            stream_idle_timeout: Some(limits.stream_idle_timeout.map_or(ZERO, duration)),
            request_timeout: limits.request_timeout.map(duration),
            request_headers_timeout: limits.request_headers_timeout.map(duration),
            drain_timeout: limits.drain_timeout.map(duration),
            access_log: access_log::loggers(&facts.log),
            use_remote_address: Some(self.side == Side::Gateway),
            xff_num_trusted_hops: if self.side == Side::Gateway {
                facts.trusted_proxies
            } else {
                0
            },
            generate_request_id: headers.request_id_disabled.then_some(false),
            forward_client_cert_details: forward_cert.into(),
            set_current_client_cert_details: cert_details,
            proxy_100_continue: true,
            upgrade_configs: vec![m::UpgradeConfig {
                upgrade_type: "websocket".into(),
                ..Default::default()
            }],
            normalize_path: Some(paths.normalize),
            merge_slashes: paths.merge_slashes,
            path_with_escaped_slashes_action: paths.escaped_slashes.into(),
            request_id_extension: Some(hcm::RequestIdExtension {
                typed_config: Some(any::pack(&UuidRequestIdConfig {
                    pack_trace_reason: None,
                    use_request_id_for_trace_sampling: Some(true),
                })),
            }),
            append_x_forwarded_port: headers.x_forwarded_port,
            route_specifier: Some(match self.route {
                Route::Rds(name) => m::RouteSpecifier::Rds(rds(name)),
                Route::Inline(routes) => m::RouteSpecifier::RouteConfig(*routes),
            }),
            stat_prefix: self.stat_prefix,
            ..Default::default()
        }
    }

    /// HTTP filters in the order of XDS-TRAFFIC 5.2.
    fn filters(&self) -> Vec<hcm::HttpFilter> {
        let facts = self.facts;
        let inbound = self.side == Side::Inbound;
        let mut out = Vec::with_capacity(8);
        if !facts.vanilla {
            let in_mesh = !inbound && facts.http.headers.metadata_exchange_in_mesh;
            out.push(istio_filters::http_metadata_exchange(inbound, in_mesh));
        }
        if let Some(guard) = &facts.guard {
            out.extend_from_slice(guard.http_filters());
        }
        if self.protocol == Protocol::GrpcWeb {
            out.push(any::http_filter(
                "envoy.filters.http.grpc_web",
                &http_filters::grpc_web::v3::GrpcWeb {},
            ));
        }
        out.push(any::http_filter(
            "envoy.filters.http.grpc_stats",
            &grpc_stats(),
        ));
        if !facts.vanilla && !inbound {
            out.push(istio_filters::alpn());
        }
        out.push(any::http_filter(
            "envoy.filters.http.fault",
            &http_filters::fault::v3::HttpFault::default(),
        ));
        out.push(any::http_filter(
            "envoy.filters.http.cors",
            &http_filters::cors::v3::Cors {},
        ));
        if facts.metrics {
            out.push(istio_filters::http_stats(self.side == Side::Outbound));
        }
        let router = http_filters::router::v3::Router {
            suppress_envoy_headers: facts.http.headers.debug_headers_disabled,
            ..Default::default()
        };
        out.push(any::http_filter("envoy.filters.http.router", &router));
        out
    }

    fn http1(&self) -> Option<core::Http1ProtocolOptions> {
        use core::http1_protocol_options::{HeaderKeyFormat, header_key_format::HeaderFormat};
        let facts = self.facts;
        let preserve_case = facts.http.headers.preserve_case;
        let wanted =
            self.side == Side::Gateway || facts.http10 || preserve_case || self.forward_proxy;
        wanted.then(|| core::Http1ProtocolOptions {
            accept_http_10: facts.http10,
            allow_absolute_url: self.forward_proxy.then_some(true),
            header_key_format: preserve_case.then(|| HeaderKeyFormat {
                header_format: Some(HeaderFormat::StatefulFormatter(any::extension(
                    "preserve_case",
                    &PreserveCaseFormatterConfig::default(),
                ))),
            }),
            ..Default::default()
        })
    }

    fn http2(&self, limits: &ConnectionSettings) -> Option<core::Http2ProtocolOptions> {
        let limited = [
            limits.max_concurrent_streams,
            limits.stream_window,
            limits.connection_window,
        ]
        .iter()
        .any(Option::is_some);
        let spoken = self.side == Side::Inbound && self.protocol.is_http2();
        (limited || spoken).then(|| core::Http2ProtocolOptions {
            max_concurrent_streams: limits.max_concurrent_streams,
            initial_stream_window_size: limits.stream_window,
            initial_connection_window_size: limits.connection_window,
            ..Default::default()
        })
    }

    /// What becomes of `x-forwarded-client-cert`, and what is added to it.
    fn client_certs(
        &self,
    ) -> (
        m::ForwardClientCertDetails,
        Option<m::SetCurrentClientCertDetails>,
    ) {
        use m::ForwardClientCertDetails as Forward;
        let (given, default) = match self.side {
            Side::Outbound => return (Forward::Sanitize, None),
            Side::Inbound => (
                &self.facts.http.headers.forwarded_client_cert,
                Forward::AppendForward,
            ),
            Side::Gateway => (&self.facts.forward_client_cert, Forward::SanitizeSet),
        };
        let forward = given
            .as_deref()
            .and_then(Forward::from_str_name)
            .unwrap_or(default);
        if !matches!(forward, Forward::AppendForward | Forward::SanitizeSet) {
            return (forward, None);
        }
        let details = match self.side {
            Side::Inbound => self.facts.http.headers.client_cert,
            Side::Outbound | Side::Gateway => Default::default(),
        };
        let add = m::SetCurrentClientCertDetails {
            subject: Some(details.subject.unwrap_or(true)),
            cert: details.cert.unwrap_or(self.side == Side::Gateway),
            chain: details.chain.unwrap_or(false),
            dns: details.dns.unwrap_or(true),
            uri: details.uri.unwrap_or(true),
            ..Default::default()
        };
        (forward, Some(add))
    }
}

fn rds(name: &str) -> hcm::Rds {
    hcm::Rds {
        config_source: Some(proto::ads()),
        route_config_name: name.to_owned(),
    }
}

fn grpc_stats() -> http_filters::grpc_stats::v3::FilterConfig {
    use http_filters::grpc_stats::v3::{FilterConfig, filter_config::PerMethodStatSpecifier};
    FilterConfig {
        emit_filter_state: true,
        per_method_stat_specifier: Some(PerMethodStatSpecifier::StatsForAllMethods(false)),
        ..Default::default()
    }
}

fn common_options(facts: &Facts, limits: &ConnectionSettings) -> Option<core::HttpProtocolOptions> {
    let underscores = limits
        .underscores
        .as_deref()
        .and_then(HeadersWithUnderscoresAction::from_str_name)
        .unwrap_or(HeadersWithUnderscoresAction::Allow);
    let options = core::HttpProtocolOptions {
        idle_timeout: limits.idle_timeout.or(facts.idle_timeout).map(duration),
        max_connection_duration: limits.max_connection_duration.map(duration),
        max_stream_duration: limits.max_stream_duration.map(duration),
        headers_with_underscores_action: underscores.into(),
        ..Default::default()
    };
    (options != core::HttpProtocolOptions::default()).then_some(options)
}

fn tracing(tracing: &facts::Tracing, side: Side) -> m::Tracing {
    let percent = |value| Some(Percent { value });
    m::Tracing {
        client_sampling: percent(100.0),
        random_sampling: percent(tracing.sampling.0),
        overall_sampling: percent(100.0),
        max_path_tag_length: tracing.max_path_tag_length,
        custom_tags: if tracing.istio_tags {
            tags()
        } else {
            Vec::new()
        },
        spawn_upstream_span: (side == Side::Gateway).then_some(true),
        ..Default::default()
    }
}

/// Who the proxy is, on every span, sorted by tag.
///
/// Envoy reads the values from its own node when it writes a span, so that proxies of different workloads can share their listeners.
fn tags() -> Vec<CustomTag> {
    let metadata = |field: &str| {
        format!("%CEL(has(xds.node.metadata.{field}) ? xds.node.metadata.{field} : 'unknown')%")
    };
    let label = |name: &str, or: &str| {
        format!(
            "%CEL(has(xds.node.metadata.LABELS) && '{name}' in xds.node.metadata.LABELS ? xds.node.metadata.LABELS['{name}'] : '{or}')%"
        )
    };
    [
        (
            "istio.canonical_revision",
            label("service.istio.io/canonical-revision", "latest"),
        ),
        (
            "istio.canonical_service",
            label("service.istio.io/canonical-name", "unknown"),
        ),
        ("istio.cluster_id", metadata("CLUSTER_ID")),
        ("istio.mesh_id", metadata("MESH_ID")),
        ("istio.namespace", metadata("NAMESPACE")),
    ]
    .map(|(tag, value)| CustomTag {
        tag: tag.into(),
        r#type: Some(custom_tag::Type::Value(value)),
    })
    .into()
}

/// How paths are treated before routing.
struct PathHandling {
    normalize: bool,
    merge_slashes: bool,
    escaped_slashes: m::PathWithEscapedSlashesAction,
}

impl PathHandling {
    fn of(mesh: NormalizationType, limits: &ConnectionSettings) -> PathHandling {
        use m::PathWithEscapedSlashesAction as Escaped;
        let (normalize, merge, escaped) = match mesh {
            NormalizationType::None => (false, false, Escaped::KeepUnchanged),
            NormalizationType::Default | NormalizationType::Base => {
                (true, false, Escaped::KeepUnchanged)
            }
            NormalizationType::MergeSlashes => (true, true, Escaped::KeepUnchanged),
            NormalizationType::DecodeAndMergeSlashes => (true, true, Escaped::UnescapeAndForward),
        };
        let own = limits
            .escaped_slashes
            .as_deref()
            .and_then(Escaped::from_str_name);
        PathHandling {
            normalize,
            merge_slashes: limits.merge_slashes.unwrap_or(merge),
            escaped_slashes: own.unwrap_or(escaped),
        }
    }
}
