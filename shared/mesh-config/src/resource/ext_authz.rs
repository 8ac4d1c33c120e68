//! External authorizers among a mesh's `extensionProviders`, as written. MeshConfig keeps the list as it is; this reads one entry.

use std::collections::BTreeMap;

use serde_json::Value;

use super::common::{Duration, resource};
use super::mesh::MeshConfig;

/// An external authorizer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ExtAuthz {
    /// Asked over HTTP: `envoyExtAuthzHttp`.
    Http(ExtAuthzHttp),
    /// Asked over gRPC, as Envoy's `envoy.service.auth.v3.Authorization`: `envoyExtAuthzGrpc`.
    Grpc(ExtAuthzGrpc),
}

resource! {
/// An authorizer that is asked over HTTP. Source: `EnvoyExternalAuthorizationHttpProvider`.
pub struct ExtAuthzHttp {
    /// Host of its service, `NAMESPACE/HOST` or `HOST`.
    pub service: String,
    /// Port of its service.
    pub port: u32,
    /// Longest time an answer may take. Default 600s.
    pub timeout: Option<Duration>,
    /// What stands before the path of the request that is asked about.
    pub path_prefix: String,
    /// Whether requests pass when it cannot be asked. Default false.
    pub fail_open: bool,
    /// Whether the route is chosen anew after its answer.
    pub clear_route_cache: bool,
    /// Status that clients get when it cannot be asked. Default 403.
    pub status_on_error: String,
    /// Old name of `includeRequestHeadersInCheck`.
    pub include_headers_in_check: Vec<String>,
    /// Headers of the request that it gets, besides Host, Method, Path, Content-Length and Authorization: exact, `x*` or `*x`.
    pub include_request_headers_in_check: Vec<String>,
    /// Headers that it gets besides.
    pub include_additional_headers_in_check: BTreeMap<String, String>,
    /// Whether it gets the body.
    pub include_request_body_in_check: Option<CheckedBody>,
    /// Headers of its answer that the application gets: exact, `x*` or `*x`.
    pub headers_to_upstream_on_allow: Vec<String>,
    /// Headers of its answer that the client gets when it refuses.
    pub headers_to_downstream_on_deny: Vec<String>,
    /// Headers of its answer that the client gets when it allows.
    pub headers_to_downstream_on_allow: Vec<String>,
}
}

resource! {
/// An authorizer that is asked over gRPC. Source: `EnvoyExternalAuthorizationGrpcProvider`.
pub struct ExtAuthzGrpc {
    /// Host of its service, `NAMESPACE/HOST` or `HOST`.
    pub service: String,
    /// Port of its service.
    pub port: u32,
    /// Longest time an answer may take. Default 600s.
    pub timeout: Option<Duration>,
    /// Whether requests pass when it cannot be asked. Default false.
    pub fail_open: bool,
    /// Whether the route is chosen anew after its answer.
    pub clear_route_cache: bool,
    /// Status that clients get when it cannot be asked. Default 403.
    pub status_on_error: String,
    /// Whether it gets the body.
    pub include_request_body_in_check: Option<CheckedBody>,
}
}

resource! {
/// How much of a body an authorizer gets.
pub struct CheckedBody {
    /// Most bytes.
    pub max_request_bytes: u32,
    /// Whether a longer body is cut; otherwise it is refused with 413.
    pub allow_partial_message: bool,
    /// Whether it goes as bytes, not as text; gRPC alone.
    pub pack_as_bytes: bool,
}
}

impl ExtAuthz {
    /// The authorizer in an entry of `extensionProviders`; `None` if the entry is of another kind or cannot be read.
    pub fn read(provider: &Value) -> Option<ExtAuthz> {
        let of = |name: &str| provider.get(name).cloned();
        if let Some(http) = of("envoyExtAuthzHttp") {
            return serde_json::from_value(http).ok().map(ExtAuthz::Http);
        }
        of("envoyExtAuthzGrpc")
            .and_then(|grpc| serde_json::from_value(grpc).ok())
            .map(ExtAuthz::Grpc)
    }

    /// Where it is: host of its service, with or without `NAMESPACE/` before it, and port.
    pub fn place(&self) -> (&str, u32) {
        match self {
            ExtAuthz::Http(http) => (&http.service, http.port),
            ExtAuthz::Grpc(grpc) => (&grpc.service, grpc.port),
        }
    }
}

impl MeshConfig {
    /// The external authorizer of that name, if there is one that can be read. Of several of one name the first counts.
    pub fn ext_authz(&self, name: &str) -> Option<ExtAuthz> {
        let providers = self.other.0.get("extensionProviders")?.as_array()?;
        let named = |p: &&Value| p.get("name").and_then(Value::as_str) == Some(name);
        providers.iter().find(named).and_then(ExtAuthz::read)
    }
}
