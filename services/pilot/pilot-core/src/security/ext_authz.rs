//! External authorizers as Envoy's filters (SECURITY-INJECTION E.9).

use envoy_api::any;
use envoy_api::envoy::config::core::v3::{
    ApiVersion, GrpcService, HeaderValue, HttpUri, grpc_service, http_uri,
};
use envoy_api::envoy::config::listener::v3::Filter;
use envoy_api::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use envoy_api::envoy::extensions::filters::http::ext_authz::v3::{
    AuthorizationRequest, AuthorizationResponse, BufferSettings, ExtAuthz as HttpExtAuthz,
    HttpService,
};
use envoy_api::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz as NetworkExtAuthz;
use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_api::envoy::r#type::matcher::v3::{ListStringMatcher, MetadataMatcher, StringMatcher};
use envoy_api::envoy::r#type::v3::{HttpStatus, StatusCode};
use mesh_config::resource::Duration;
use mesh_config::resource::ext_authz::{CheckedBody, ExtAuthz, ExtAuthzGrpc, ExtAuthzHttp};
use mesh_types::Hostname;

use super::layers::{ASK_PREFIX, ext_prefix};
use super::{HTTP_RBAC, NETWORK_RBAC, attributes, text};
use crate::naming::ClusterName;
use crate::proto::duration;

const HTTP_NAME: &str = "envoy.filters.http.ext_authz";
const NETWORK_NAME: &str = "envoy.filters.network.ext_authz";
/// Longest time an answer may take where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(600);

/// An authorizer that can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authorizer {
    spec: ExtAuthz,
    host: Hostname,
    port: u16,
    /// Status that clients get when it cannot be asked.
    status: Option<i32>,
}

impl Authorizer {
    /// An authorizer at a port of a service; `None` if what is written of it means nothing to Envoy.
    pub fn new(spec: ExtAuthz, host: &Hostname, port: u16) -> Option<Authorizer> {
        let status = match &spec {
            ExtAuthz::Http(http) => &http.status_on_error,
            ExtAuthz::Grpc(grpc) => &grpc.status_on_error,
        };
        let status = match status.as_str() {
            "" => None,
            code => Some(StatusCode::try_from(code.parse::<i32>().ok()?).ok()?),
        };
        let body = match &spec {
            ExtAuthz::Http(http) => &http.include_request_body_in_check,
            ExtAuthz::Grpc(grpc) => &grpc.include_request_body_in_check,
        };
        // What Envoy refuses would cost the proxy its listeners.
        let refused = body
            .as_ref()
            .is_some_and(|body| body.max_request_bytes == 0)
            || matches!(&spec, ExtAuthz::Http(http) if !is_accepted(http));
        (!refused).then(|| Authorizer {
            spec,
            host: host.clone(),
            port,
            status: status
                .filter(|code| *code != StatusCode::Empty)
                .map(i32::from),
        })
    }

    /// Whether it can only be asked about requests.
    pub fn needs_http(&self) -> bool {
        matches!(self.spec, ExtAuthz::Http(_))
    }

    fn cluster(&self) -> String {
        ClusterName::outbound(self.port, "", self.host.as_str()).to_string()
    }

    /// The filter that asks it about requests that a policy is for.
    pub(super) fn http_filter(&self, name: &str) -> HttpFilter {
        let common = HttpExtAuthz {
            transport_api_version: ApiVersion::V3.into(),
            status_on_error: self.status.map(|code| HttpStatus { code }),
            filter_enabled_metadata: Some(noted(HTTP_RBAC, name)),
            ..Default::default()
        };
        let config = match &self.spec {
            ExtAuthz::Http(http) => self.over_http(http, common),
            ExtAuthz::Grpc(grpc) => HttpExtAuthz {
                failure_mode_allow: grpc.fail_open,
                clear_route_cache: grpc.clear_route_cache,
                with_request_body: body(grpc.include_request_body_in_check.as_ref()),
                services: Some(Services::GrpcService(self.service(grpc))),
                ..common
            },
        };
        any::http_filter(HTTP_NAME, &config)
    }

    /// The filter that asks it about connections that a policy is for; none if it cannot be asked about them.
    pub(super) fn network_filter(&self, name: &str) -> Option<Filter> {
        let ExtAuthz::Grpc(grpc) = &self.spec else {
            return None;
        };
        let config = NetworkExtAuthz {
            stat_prefix: "tcp.".into(),
            transport_api_version: ApiVersion::V3.into(),
            failure_mode_allow: grpc.fail_open,
            grpc_service: Some(self.service(grpc)),
            filter_enabled_metadata: Some(noted(NETWORK_RBAC, name)),
            ..Default::default()
        };
        Some(any::network_filter(NETWORK_NAME, &config))
    }

    fn service(&self, grpc: &ExtAuthzGrpc) -> GrpcService {
        GrpcService {
            timeout: Some(duration(grpc.timeout.unwrap_or(TIMEOUT))),
            target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(
                grpc_service::EnvoyGrpc {
                    cluster_name: self.cluster(),
                    authority: self.host.to_string(),
                    ..Default::default()
                },
            )),
            ..Default::default()
        }
    }

    fn over_http(&self, http: &ExtAuthzHttp, common: HttpExtAuthz) -> HttpExtAuthz {
        let wanted = match &http.include_request_headers_in_check[..] {
            [] => &http.include_headers_in_check,
            wanted => wanted,
        };
        let added = http.include_additional_headers_in_check.iter();
        let service = HttpService {
            server_uri: Some(HttpUri {
                uri: format!("http://{}:{}", self.host, self.port),
                timeout: Some(duration(http.timeout.unwrap_or(TIMEOUT))),
                http_upstream_type: Some(http_uri::HttpUpstreamType::Cluster(self.cluster())),
            }),
            path_prefix: http.path_prefix.clone(),
            authorization_request: (added.len() > 0).then(|| AuthorizationRequest {
                headers_to_add: added
                    .map(|(key, value)| HeaderValue {
                        key: key.clone(),
                        value: value.clone(),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            }),
            authorization_response: Some(AuthorizationResponse {
                allowed_upstream_headers: names(&http.headers_to_upstream_on_allow),
                allowed_client_headers: names(&http.headers_to_downstream_on_deny),
                allowed_client_headers_on_success: names(&http.headers_to_downstream_on_allow),
                ..Default::default()
            }),
            ..Default::default()
        };
        HttpExtAuthz {
            failure_mode_allow: http.fail_open,
            clear_route_cache: http.clear_route_cache,
            with_request_body: body(http.include_request_body_in_check.as_ref()),
            allowed_headers: names(wanted),
            services: Some(Services::HttpService(service)),
            ..common
        }
    }
}

/// Whether Envoy takes a path prefix and headers.
fn is_accepted(http: &ExtAuthzHttp) -> bool {
    let clean = |text: &String| !text.chars().any(char::is_control);
    let named = |name: &String| !name.is_empty() && !name.contains(':') && clean(name);
    let mut added = http.include_additional_headers_in_check.iter();
    (http.path_prefix.is_empty() || http.path_prefix.starts_with('/'))
        && clean(&http.path_prefix)
        && added.all(|(name, value)| named(name) && clean(value))
}

/// Holds for what the shadow before it noted for an authorizer. The whole name is compared, up to the bracket that no name has: `a` is not
/// asked about what is for `a-b`.
fn noted(filter: &str, name: &str) -> MetadataMatcher {
    let key = format!("{ASK_PREFIX}shadow_effective_policy_id");
    let start = format!("{}{name}-ns[", ext_prefix());
    attributes::metadata(filter, &[&key], attributes::starts_with(start))
}

/// Header names, with `*` at one end; `None` for none.
fn names(list: &[String]) -> Option<ListStringMatcher> {
    let patterns = list.iter().map(|name| StringMatcher {
        ignore_case: true,
        ..text::matcher(name)
    });
    (!list.is_empty()).then(|| ListStringMatcher {
        patterns: patterns.collect(),
    })
}

fn body(written: Option<&CheckedBody>) -> Option<BufferSettings> {
    written.map(|body| BufferSettings {
        max_request_bytes: body.max_request_bytes,
        allow_partial_message: body.allow_partial_message,
        pack_as_bytes: body.pack_as_bytes,
    })
}
