//! VirtualService as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Duration, Percent, StringMatch, resource};

resource! {
/// How requests to a set of hosts are routed.
pub struct VirtualService {
    /// Hosts the rules apply to; short names belong to the object's namespace. Empty makes this a delegate.
    pub hosts: Vec<String>,
    /// Gateways (`namespace/name`) and sidecars (`mesh`) that apply the rules; empty means `mesh`.
    pub gateways: Vec<String>,
    /// HTTP rules, first match wins.
    pub http: Vec<HttpRoute>,
    /// Rules for TLS that is passed through, by SNI.
    pub tls: Vec<TlsRoute>,
    /// Rules for opaque TCP.
    pub tcp: Vec<TcpRoute>,
    /// Namespaces that see this object: names, `.` or `*`; empty takes the mesh default.
    pub export_to: Vec<String>,
}
}

resource! {
/// One HTTP rule.
pub struct HttpRoute {
    /// Name used in logs and statistics.
    pub name: String,
    /// Conditions, any of which suffices; empty matches everything.
    #[serde(rename = "match")]
    pub matches: Vec<HttpMatchRequest>,
    /// Weighted destinations.
    pub route: Vec<HttpRouteDestination>,
    /// Answer with a redirect instead of forwarding.
    pub redirect: Option<HttpRedirect>,
    /// Answer with a fixed response instead of forwarding.
    pub direct_response: Option<HttpDirectResponse>,
    /// Take the rules from another VirtualService.
    pub delegate: Option<Delegate>,
    /// Rewrite path or authority before forwarding.
    pub rewrite: Option<HttpRewrite>,
    /// Whole-request timeout; unset or 0 disables it.
    pub timeout: Option<Duration>,
    /// Retry policy.
    pub retries: Option<HttpRetry>,
    /// Faults to inject.
    pub fault: Option<HttpFaultInjection>,
    /// Copy requests to this destination.
    pub mirror: Option<Destination>,
    /// Copy requests to several destinations, each with its share.
    pub mirrors: Vec<HttpMirrorPolicy>,
    /// Deprecated: share of requests to mirror, in percent.
    #[serde(alias = "mirror_percent")]
    pub mirror_percent: Option<u32>,
    /// Share of requests to mirror; unset means all.
    pub mirror_percentage: Option<Percent>,
    /// Cross-origin resource sharing.
    pub cors_policy: Option<CorsPolicy>,
    /// Header changes for every destination.
    pub headers: Option<Headers>,
}
}

resource! {
/// Reference to a VirtualService whose HTTP rules are used.
pub struct Delegate {
    /// Name of the delegate.
    pub name: String,
    /// Its namespace; empty means that of the root.
    pub namespace: String,
}
}

resource! {
/// Header changes.
pub struct Headers {
    /// Applied to the request.
    pub request: Option<HeaderOperations>,
    /// Applied to the response.
    pub response: Option<HeaderOperations>,
}
}

resource! {
/// Header operations.
pub struct HeaderOperations {
    /// Overwrite.
    pub set: BTreeMap<String, String>,
    /// Append.
    pub add: BTreeMap<String, String>,
    /// Remove.
    pub remove: Vec<String>,
}
}

resource! {
/// Conditions on an HTTP request, all of which must hold.
pub struct HttpMatchRequest {
    /// Name, appended to the route's.
    pub name: String,
    /// Path without query.
    pub uri: Option<StringMatch>,
    /// URI scheme.
    pub scheme: Option<StringMatch>,
    /// Method.
    pub method: Option<StringMatch>,
    /// Host header.
    pub authority: Option<StringMatch>,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, StringMatch>,
    /// Port the request was sent to; 0 is any.
    pub port: u32,
    /// Labels of the calling workload.
    pub source_labels: BTreeMap<String, String>,
    /// Gateways this condition is for; replaces the list at the top.
    pub gateways: Vec<String>,
    /// Query parameters by name.
    pub query_params: BTreeMap<String, StringMatch>,
    /// Compare the path regardless of case.
    pub ignore_uri_case: bool,
    /// Headers that must not match.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Namespace of the calling workload.
    pub source_namespace: String,
    /// Prefix for per-route statistics.
    pub stat_prefix: String,
}
}

resource! {
/// A destination with its share of the traffic.
pub struct HttpRouteDestination {
    /// Where to.
    pub destination: Option<Destination>,
    /// Share relative to the other destinations of the rule.
    pub weight: i32,
    /// Header changes for this destination only.
    pub headers: Option<Headers>,
}
}

resource! {
/// A service, optionally one subset and port of it.
pub struct Destination {
    /// Host name of a service in the registry.
    pub host: String,
    /// Name of a subset in the service's DestinationRule.
    pub subset: String,
    /// Port; needed when the service has several.
    pub port: Option<PortSelector>,
}
}

resource! {
/// A port by number.
pub struct PortSelector {
    /// Number, 1..=65535.
    pub number: u32,
}
}

resource! {
/// Redirect answer.
pub struct HttpRedirect {
    /// New path.
    pub uri: String,
    /// New prefix in place of the matched one; excludes `uri`.
    pub prefix_rewrite: Option<String>,
    /// New authority.
    pub authority: String,
    /// New port.
    pub port: Option<u32>,
    /// Where the port comes from; excludes `port`.
    pub derive_port: Option<RedirectPortSelection>,
    /// New scheme.
    pub scheme: String,
    /// Status: 301 (default), 302, 303, 307 or 308.
    pub redirect_code: u32,
}
}

/// Where a redirect's port comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RedirectPortSelection {
    /// 80 for http, 443 for https.
    FromProtocolDefault,
    /// The port the request came to.
    FromRequestPort,
}

resource! {
/// Fixed answer.
pub struct HttpDirectResponse {
    /// Status, 200..=599.
    pub status: u32,
    /// Body.
    pub body: Option<HttpBody>,
}
}

resource! {
/// Body of a fixed answer; one of the two.
pub struct HttpBody {
    /// As text.
    pub string: Option<String>,
    /// As base64.
    pub bytes: Option<String>,
}
}

resource! {
/// Path and authority rewrite.
pub struct HttpRewrite {
    /// Replaces the matched path or prefix.
    pub uri: String,
    /// Replaces the authority.
    pub authority: String,
    /// Rewrite by regular expression; excludes `uri`.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}
}

resource! {
/// Rewrite by regular expression (RE2).
pub struct RegexRewrite {
    /// Pattern.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Replacement with `\1` groups.
    pub rewrite: String,
}
}

resource! {
/// Retry policy.
pub struct HttpRetry {
    /// Retries after the first attempt; 0 turns retries off.
    pub attempts: i32,
    /// Timeout of each attempt.
    pub per_try_timeout: Option<Duration>,
    /// Comma-separated conditions and status codes.
    pub retry_on: String,
    /// Retry in other localities too.
    pub retry_remote_localities: Option<bool>,
    /// Skip hosts already tried; unset means yes unless the route hashes consistently.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// Base interval between retries.
    pub backoff: Option<Duration>,
}
}

resource! {
/// Cross-origin policy.
pub struct CorsPolicy {
    /// Deprecated: exact origins.
    pub allow_origin: Vec<String>,
    /// Origins.
    pub allow_origins: Vec<StringMatch>,
    /// Methods.
    pub allow_methods: Vec<String>,
    /// Request headers.
    pub allow_headers: Vec<String>,
    /// Response headers.
    pub expose_headers: Vec<String>,
    /// How long a preflight may be cached.
    pub max_age: Option<Duration>,
    /// Whether credentials are allowed.
    pub allow_credentials: Option<bool>,
    /// What becomes of preflights whose origin does not match.
    pub unmatched_preflights: Option<UnmatchedPreflights>,
}
}

/// What becomes of preflights whose origin does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UnmatchedPreflights {
    /// The default: forward.
    Unspecified,
    /// Forward to the destination.
    Forward,
    /// Answer without CORS headers.
    Ignore,
}

resource! {
/// Faults to inject.
pub struct HttpFaultInjection {
    /// Delay before forwarding.
    pub delay: Option<FaultDelay>,
    /// Abort instead of forwarding.
    pub abort: Option<FaultAbort>,
}
}

resource! {
/// Delay fault.
pub struct FaultDelay {
    /// Deprecated: share of requests in percent.
    pub percent: i32,
    /// Share of requests; unset means all.
    pub percentage: Option<Percent>,
    /// How long, at least 1 ms.
    pub fixed_delay: Option<Duration>,
    /// Not acted on.
    pub exponential_delay: Option<Duration>,
}
}

resource! {
/// Abort fault; exactly one status.
pub struct FaultAbort {
    /// HTTP status, 200..=599.
    pub http_status: Option<i32>,
    /// gRPC status by name or number.
    pub grpc_status: Option<String>,
    /// HTTP/2 error; not acted on.
    pub http2_error: Option<String>,
    /// Share of requests; unset means none.
    pub percentage: Option<Percent>,
}
}

resource! {
/// A mirror destination.
pub struct HttpMirrorPolicy {
    /// Where to.
    pub destination: Option<Destination>,
    /// Share of requests; unset means all.
    pub percentage: Option<Percent>,
}
}

resource! {
/// One TLS rule.
pub struct TlsRoute {
    /// Conditions, any of which suffices.
    #[serde(rename = "match")]
    pub matches: Vec<TlsMatchAttributes>,
    /// Weighted destinations.
    pub route: Vec<RouteDestination>,
}
}

resource! {
/// Conditions on a TLS connection.
pub struct TlsMatchAttributes {
    /// Server names, wildcards allowed; must be subsets of the object's hosts.
    pub sni_hosts: Vec<String>,
    /// Destination networks.
    pub destination_subnets: Vec<String>,
    /// Destination port; 0 is any.
    pub port: u32,
    /// Labels of the calling workload.
    pub source_labels: BTreeMap<String, String>,
    /// Gateways this condition is for.
    pub gateways: Vec<String>,
    /// Namespace of the calling workload.
    pub source_namespace: String,
}
}

resource! {
/// One TCP rule.
pub struct TcpRoute {
    /// Conditions, any of which suffices.
    #[serde(rename = "match")]
    pub matches: Vec<L4MatchAttributes>,
    /// Weighted destinations.
    pub route: Vec<RouteDestination>,
}
}

resource! {
/// Conditions on a TCP connection.
pub struct L4MatchAttributes {
    /// Destination networks.
    pub destination_subnets: Vec<String>,
    /// Destination port; 0 is any.
    pub port: u32,
    /// Deprecated and without effect.
    pub source_subnet: String,
    /// Labels of the calling workload.
    pub source_labels: BTreeMap<String, String>,
    /// Gateways this condition is for.
    pub gateways: Vec<String>,
    /// Namespace of the calling workload.
    pub source_namespace: String,
}
}

resource! {
/// A TCP or TLS destination with its share of the traffic.
pub struct RouteDestination {
    /// Where to.
    pub destination: Option<Destination>,
    /// Share relative to the other destinations of the rule.
    pub weight: i32,
}
}
