//! DestinationRule as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Double, Duration, MatchingSelector, resource};

resource! {
/// What happens to traffic after routing chose a service.
pub struct DestinationRule {
    /// Service host; short names belong to the object's namespace, wildcards are allowed.
    pub host: String,
    /// Policy for the service.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Named parts of the service.
    pub subsets: Vec<Subset>,
    /// Namespaces that see this object.
    pub export_to: Vec<String>,
    /// Client workloads the rule is for; unset means all.
    pub workload_selector: Option<MatchingSelector>,
}
}

resource! {
/// Traffic policy.
pub struct TrafficPolicy {
    /// Load balancing.
    pub load_balancer: Option<LoadBalancerSettings>,
    /// Connection limits.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// Ejection of failing endpoints.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS towards the service.
    pub tls: Option<ClientTlsSettings>,
    /// Settings for single ports; they replace the others entirely.
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// Tunnel TCP inside HTTP.
    pub tunnel: Option<TunnelSettings>,
    /// PROXY protocol towards the service.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Bound on concurrent retries.
    pub retry_budget: Option<RetryBudget>,
}
}

resource! {
/// Traffic policy of one port.
pub struct PortTrafficPolicy {
    /// The port.
    pub port: Option<super::virtual_service::PortSelector>,
    /// Load balancing.
    pub load_balancer: Option<LoadBalancerSettings>,
    /// Connection limits.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// Ejection of failing endpoints.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS towards the service.
    pub tls: Option<ClientTlsSettings>,
}
}

resource! {
/// TCP inside HTTP CONNECT or POST.
pub struct TunnelSettings {
    /// `CONNECT` (default) or `POST`.
    pub protocol: String,
    /// Host to tunnel to.
    pub target_host: String,
    /// Port to tunnel to.
    pub target_port: u32,
}
}

resource! {
/// PROXY protocol.
pub struct ProxyProtocol {
    /// `V1` or `V2`.
    pub version: Option<ProxyProtocolVersion>,
}
}

/// PROXY protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ProxyProtocolVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}

resource! {
/// Bound on concurrent retries.
pub struct RetryBudget {
    /// Share of active requests that may be retries; default 20.
    pub percent: Option<Double>,
    /// Retries always allowed; default 3.
    pub min_retry_concurrency: Option<u32>,
    /// Window over which requests are counted.
    pub budget_interval: Option<Duration>,
}
}

resource! {
/// A named part of a service.
pub struct Subset {
    /// Name, used in routes.
    pub name: String,
    /// Labels of the endpoints.
    pub labels: BTreeMap<String, String>,
    /// Policy that replaces the rule's, block by block.
    pub traffic_policy: Option<TrafficPolicy>,
}
}

/// Simple load balancing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SimpleLb {
    /// The default, least request.
    Unspecified,
    /// Deprecated name of least request.
    LeastConn,
    /// A random healthy endpoint.
    Random,
    /// Straight to the address the caller dialled.
    Passthrough,
    /// In turn.
    RoundRobin,
    /// The less busy of two random endpoints.
    LeastRequest,
}

resource! {
/// Load balancing; `simple` excludes `consistentHash`.
pub struct LoadBalancerSettings {
    /// A simple policy.
    pub simple: Option<SimpleLb>,
    /// Hash-based affinity.
    pub consistent_hash: Option<ConsistentHashLb>,
    /// Locality preferences.
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    /// Zone preferences.
    pub zone_aware_lb_setting: Option<ZoneAwareLbSetting>,
    /// Deprecated: window of slow start.
    pub warmup_duration_secs: Option<Duration>,
    /// Slow start.
    pub warmup: Option<WarmupConfiguration>,
}
}

resource! {
/// Slow start of new endpoints.
pub struct WarmupConfiguration {
    /// Window.
    pub duration: Option<Duration>,
    /// Least share of the final weight in percent; default 10.
    pub minimum_percent: Option<Double>,
    /// Curve; default 1.0, linear.
    pub aggression: Option<Double>,
}
}

resource! {
/// Hash-based affinity; exactly one key.
pub struct ConsistentHashLb {
    /// By header.
    pub http_header_name: Option<String>,
    /// By cookie.
    pub http_cookie: Option<HttpCookie>,
    /// By source address.
    pub use_source_ip: Option<bool>,
    /// By query parameter.
    pub http_query_parameter_name: Option<String>,
    /// Ketama ring.
    pub ring_hash: Option<RingHash>,
    /// Maglev table.
    pub maglev: Option<Maglev>,
    /// Deprecated: least ring size.
    pub minimum_ring_size: Option<u64>,
}
}

resource! {
/// Ketama ring.
pub struct RingHash {
    /// Least number of virtual nodes; default 1024.
    pub minimum_ring_size: Option<u64>,
}
}

resource! {
/// Maglev table.
pub struct Maglev {
    /// Table size, a prime.
    pub table_size: Option<u64>,
}
}

resource! {
/// Cookie used as hash key.
pub struct HttpCookie {
    /// Name.
    pub name: String,
    /// Path set on a generated cookie.
    pub path: String,
    /// Lifetime of a generated cookie; 0s makes a session cookie, unset makes none.
    pub ttl: Option<Duration>,
    /// Attributes of a generated cookie.
    pub attributes: Vec<CookieAttribute>,
}
}

resource! {
/// An attribute of a generated cookie.
pub struct CookieAttribute {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}
}

resource! {
/// Locality preferences.
pub struct LocalityLoadBalancerSetting {
    /// Explicit weights.
    pub distribute: Vec<Distribute>,
    /// Where a region fails over to.
    pub failover: Vec<Failover>,
    /// Labels that rank endpoints.
    pub failover_priority: Vec<String>,
    /// Whether locality load balancing is on.
    pub enabled: Option<bool>,
}
}

resource! {
/// Weights for callers of one locality.
pub struct Distribute {
    /// Caller locality, wildcards allowed.
    pub from: String,
    /// Endpoint locality to weight.
    pub to: BTreeMap<String, u32>,
}
}

resource! {
/// Where a region fails over to.
pub struct Failover {
    /// Region of the caller.
    pub from: String,
    /// Region to use next.
    pub to: String,
}
}

resource! {
/// Zone preferences.
pub struct ZoneAwareLbSetting {
    /// Whether zones are preferred.
    pub enabled: Option<bool>,
    /// Where a region fails over to.
    pub failover: Vec<Failover>,
    /// Labels that rank endpoints.
    pub failover_priority: Vec<String>,
    /// Endpoints below which zones are ignored.
    pub min_cluster_size: Option<u32>,
}
}

impl LocalityLoadBalancerSetting {
    /// On, and nothing else said: the default of the mesh.
    pub fn on() -> LocalityLoadBalancerSetting {
        LocalityLoadBalancerSetting {
            enabled: Some(true),
            ..LocalityLoadBalancerSetting::default()
        }
    }
}

resource! {
/// Connection limits.
pub struct ConnectionPoolSettings {
    /// For every protocol.
    pub tcp: Option<TcpSettings>,
    /// For HTTP.
    pub http: Option<HttpSettings>,
}
}

resource! {
/// Limits of TCP connections.
pub struct TcpSettings {
    /// Most open connections; unset means unlimited.
    pub max_connections: i32,
    /// Connect timeout; default 10 s.
    pub connect_timeout: Option<Duration>,
    /// TCP keepalive.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Longest life of a connection.
    pub max_connection_duration: Option<Duration>,
    /// Idle timeout.
    pub idle_timeout: Option<Duration>,
}
}

resource! {
/// TCP keepalive; unset attributes keep the system's.
pub struct TcpKeepalive {
    /// Probes without answer before the connection is dead.
    pub probes: u32,
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
}
}

/// Whether HTTP/1.1 connections to a service are upgraded to HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2UpgradePolicy {
    /// As the mesh says.
    Default,
    /// Never.
    DoNotUpgrade,
    /// Always.
    Upgrade,
}

resource! {
/// Limits of HTTP connections.
pub struct HttpSettings {
    /// Most requests waiting for a connection; unset means unlimited.
    pub http1_max_pending_requests: i32,
    /// Most requests in flight; unset means unlimited.
    pub http2_max_requests: i32,
    /// Most requests on one connection; 0 is unlimited, 1 turns keep-alive off.
    pub max_requests_per_connection: i32,
    /// Most retries in flight; unset means unlimited.
    pub max_retries: i32,
    /// Idle timeout of upstream connections.
    pub idle_timeout: Option<Duration>,
    /// Upgrade to HTTP/2.
    pub h2_upgrade_policy: Option<H2UpgradePolicy>,
    /// Speak upstream what the client spoke.
    pub use_client_protocol: bool,
    /// Most streams on one HTTP/2 connection.
    pub max_concurrent_streams: i32,
    /// HTTP/2 keepalive.
    pub http2_keep_alive: Option<Http2KeepAlive>,
}
}

resource! {
/// HTTP/2 keepalive.
pub struct Http2KeepAlive {
    /// Time between pings.
    pub interval: Option<Duration>,
    /// Time to wait for an answer.
    pub timeout: Option<Duration>,
}
}

resource! {
/// Ejection of failing endpoints.
pub struct OutlierDetection {
    /// Deprecated and without effect.
    pub consecutive_errors: i32,
    /// Count locally originated failures apart.
    pub split_external_local_origin_errors: bool,
    /// Locally originated failures before ejection; default 5.
    pub consecutive_local_origin_failures: Option<u32>,
    /// 502, 503, 504 and connection failures before ejection; 0 turns it off.
    pub consecutive_gateway_errors: Option<u32>,
    /// 5xx answers before ejection; default 5, 0 turns it off.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// Time between sweeps; default 10 s.
    pub interval: Option<Duration>,
    /// Shortest ejection; default 30 s.
    pub base_ejection_time: Option<Duration>,
    /// Most endpoints ejected, in percent; default 10.
    pub max_ejection_percent: i32,
    /// Detection is off while fewer endpoints are healthy, in percent.
    pub min_health_percent: i32,
}
}

/// TLS towards the service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientTlsMode {
    /// None.
    #[default]
    Disable,
    /// Server certificate only.
    Simple,
    /// Client certificate from files or a secret.
    Mutual,
    /// Client certificate of the mesh.
    IstioMutual,
}

resource! {
/// TLS towards the service.
pub struct ClientTlsSettings {
    /// Mode.
    pub mode: ClientTlsMode,
    /// File of the client certificate.
    pub client_certificate: String,
    /// File of its private key.
    pub private_key: String,
    /// File of the CA, or `system`.
    pub ca_certificates: String,
    /// Secret that holds key, certificate and CA.
    pub credential_name: String,
    /// Names accepted in the server's certificate.
    pub subject_alt_names: Vec<String>,
    /// Server name to send.
    pub sni: String,
    /// Accept any server certificate.
    pub insecure_skip_verify: Option<bool>,
    /// File of a revocation list.
    pub ca_crl: String,
}
}
