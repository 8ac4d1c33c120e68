//! MeshConfig as written, with its defaults.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Double, Duration};
use super::destination_rule::{
    ConnectionPoolSettings, H2UpgradePolicy, LocalityLoadBalancerSetting, OutlierDetection,
    TcpKeepalive, ZoneAwareLbSetting,
};
use super::sidecar::OutboundTrafficPolicy;
use super::virtual_service::HttpRetry;

/// Words of `ingressControllerMode`, by their numbers.
const INGRESS_MODES: &[&str] = &["UNSPECIFIED", "OFF", "DEFAULT", "STRICT"];
/// Words of `forwardClientCertDetails`, by their numbers.
const FORWARD_CLIENT_CERT: &[&str] = &[
    "UNDEFINED",
    "SANITIZE",
    "FORWARD_ONLY",
    "APPEND_FORWARD",
    "SANITIZE_SET",
    "ALWAYS_FORWARD_ONLY",
];

/// Settings of the whole mesh. `Default` is what applies where nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshConfig {
    /// Port of virtualOutbound. Default 15001.
    pub proxy_listen_port: u32,
    /// Port of virtualInbound. Default 15006.
    pub proxy_inbound_listen_port: u32,
    /// Port of the HTTP forward-proxy listener on loopback; 0 (default) makes none.
    pub proxy_http_port: u32,
    /// Connect timeout of every cluster. Default 10s.
    pub connect_timeout: Duration,
    /// How long protocol detection waits for bytes. Default 0s, for ever.
    pub protocol_detection_timeout: Duration,
    /// TCP keepalive of every cluster.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Controller mode of Ingress; not acted on before Ingress is read.
    #[schemars(extend("enum" = INGRESS_MODES))]
    pub ingress_controller_mode: String,
    /// Class of Ingress objects. Default istio.
    pub ingress_class: String,
    /// Service of the ingress gateway. Default istio-ingressgateway.
    pub ingress_service: String,
    /// Whether tracing is on. Default true.
    pub enable_tracing: bool,
    /// Access log file, empty for none.
    pub access_log_file: String,
    /// Access log format, empty for the default.
    pub access_log_format: String,
    /// TEXT (default) or JSON.
    pub access_log_encoding: AccessLogEncoding,
    /// Do not log at listeners.
    pub disable_envoy_listener_log: bool,
    /// Namespace whose objects apply to the whole mesh. Default istio-system.
    pub root_namespace: String,
    /// Trust domain. Default cluster.local.
    pub trust_domain: String,
    /// Other trust domains that mean the same.
    pub trust_domain_aliases: Vec<String>,
    /// Mutual TLS wherever both ends can. Default true.
    pub enable_auto_mtls: bool,
    /// TLS of the mesh's own connections.
    #[serde(rename = "meshMTLS")]
    pub mesh_mtls: Option<TlsConfig>,
    /// TLS of all other connections, where their own settings say nothing.
    pub tls_defaults: Option<TlsConfig>,
    /// What happens to traffic for unknown destinations. Default ALLOW_ANY.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// How inbound traffic reaches the application.
    pub inbound_traffic_policy: InboundTrafficPolicy,
    /// Default of exportTo for services.
    pub default_service_export_to: Vec<String>,
    /// Default of exportTo for VirtualServices.
    pub default_virtual_service_export_to: Vec<String>,
    /// Default of exportTo for DestinationRules.
    pub default_destination_rule_export_to: Vec<String>,
    /// How often DNS clusters resolve when the answer has no TTL. Default 60s.
    pub dns_refresh_rate: Duration,
    /// Whether HTTP/1.1 connections are upgraded. Default DO_NOT_UPGRADE.
    #[schemars(extend("x-flotilla-numbers" = ["DO_NOT_UPGRADE", "UPGRADE"]))]
    pub h2_upgrade_policy: H2UpgradePolicy,
    /// Pattern of inbound statistics names.
    pub inbound_cluster_stat_name: String,
    /// Pattern of outbound statistics names.
    pub outbound_cluster_stat_name: String,
    /// Locality load balancing.
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    /// Zone preferences.
    pub zone_aware_lb_setting: Option<ZoneAwareLbSetting>,
    /// Retry policy where a VirtualService has none.
    pub default_http_retry_policy: Option<HttpRetry>,
    /// Retry policy of inbound routes.
    pub default_inbound_http_retry_policy: Option<HttpRetry>,
    /// Traffic policy where a DestinationRule has none.
    pub default_traffic_policy: Option<MeshTrafficPolicy>,
    /// How paths are normalized.
    pub path_normalization: PathNormalization,
    /// Merge application and proxy metrics. Default true.
    pub enable_prometheus_merge: bool,
    /// Settings of host groups.
    pub service_settings: Vec<ServiceSettings>,
    /// Defaults of every proxy.
    pub default_config: ProxyConfig,
    /// Everything else that Istio knows and this version does not act on, kept as written.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: OtherFields,
}

impl Default for MeshConfig {
    fn default() -> MeshConfig {
        let everyone = || vec!["*".to_owned()];
        MeshConfig {
            proxy_listen_port: 15001,
            proxy_inbound_listen_port: 15006,
            proxy_http_port: 0,
            connect_timeout: Duration::from_secs(10),
            protocol_detection_timeout: Duration::ZERO,
            tcp_keepalive: None,
            ingress_controller_mode: "STRICT".into(),
            ingress_class: "istio".into(),
            ingress_service: "istio-ingressgateway".into(),
            enable_tracing: true,
            access_log_file: String::new(),
            access_log_format: String::new(),
            access_log_encoding: AccessLogEncoding::Text,
            disable_envoy_listener_log: false,
            root_namespace: "istio-system".into(),
            trust_domain: "cluster.local".into(),
            trust_domain_aliases: Vec::new(),
            enable_auto_mtls: true,
            mesh_mtls: None,
            tls_defaults: None,
            outbound_traffic_policy: OutboundTrafficPolicy {
                mode: super::sidecar::OutboundMode::AllowAny,
                egress_proxy: None,
            },
            inbound_traffic_policy: InboundTrafficPolicy::default(),
            default_service_export_to: everyone(),
            default_virtual_service_export_to: everyone(),
            default_destination_rule_export_to: everyone(),
            dns_refresh_rate: Duration::from_secs(60),
            h2_upgrade_policy: H2UpgradePolicy::DoNotUpgrade,
            inbound_cluster_stat_name: String::new(),
            outbound_cluster_stat_name: String::new(),
            locality_lb_setting: Some(LocalityLoadBalancerSetting::on()),
            zone_aware_lb_setting: None,
            default_http_retry_policy: None,
            default_inbound_http_retry_policy: None,
            default_traffic_policy: None,
            path_normalization: PathNormalization::default(),
            enable_prometheus_merge: true,
            service_settings: Vec::new(),
            default_config: ProxyConfig::default(),
            other: OtherFields::default(),
        }
    }
}

impl MeshConfig {
    /// Trust domains whose workloads belong to the mesh: its own first, as it is spelt in identities, then its aliases and those that
    /// `caCertificates` speak for; each once, none empty.
    pub fn trust_domains(&self) -> Vec<String> {
        let authorities = self.other.0.get("caCertificates");
        let authorities = authorities.and_then(serde_json::Value::as_array);
        let spoken_for = authorities
            .into_iter()
            .flatten()
            .filter_map(|authority| authority.get("trustDomains")?.as_array())
            .flatten()
            .filter_map(serde_json::Value::as_str);
        let own = self.trust_domain.replace('@', ".");
        let all = std::iter::once(own)
            .chain(self.trust_domain_aliases.iter().cloned())
            .chain(spoken_for.map(str::to_owned));
        let mut out: Vec<String> = Vec::new();
        for domain in all.filter(|domain| !domain.is_empty()) {
            if !out.contains(&domain) {
                out.push(domain);
            }
        }
        out
    }
}

/// Versions and algorithms of TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsConfig {
    /// Least version. Default TLS 1.2.
    pub min_protocol_version: MinTlsProtocol,
    /// Curves of key exchange, most wanted first; empty takes Envoy's. Only in `tlsDefaults`.
    pub ecdh_curves: Vec<String>,
    /// Cipher suites up to TLS 1.2, most wanted first; empty takes the default.
    pub cipher_suites: Vec<String>,
}

/// Least version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MinTlsProtocol {
    /// The default, TLS 1.2.
    #[default]
    #[serde(rename = "TLS_AUTO")]
    Auto,
    /// TLS 1.2.
    #[serde(rename = "TLSV1_2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "TLSV1_3")]
    V1_3,
}

/// Fields kept as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OtherFields(pub BTreeMap<String, serde_json::Value>);

impl std::hash::Hash for OtherFields {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        mesh_types::version_of_json(&self.0).hash(state);
    }
}

/// Encoding of access logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccessLogEncoding {
    /// One line of text.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// How inbound traffic reaches the application.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct InboundTrafficPolicy {
    /// Mode.
    pub mode: InboundMode,
}

/// How inbound traffic reaches the application.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InboundMode {
    /// At the address the client dialled.
    #[default]
    Passthrough,
    /// At 127.0.0.1.
    Localhost,
}

/// Traffic policy where a DestinationRule has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshTrafficPolicy {
    /// Connection limits.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// Ejection of failing endpoints.
    pub outlier_detection: Option<OutlierDetection>,
}

/// How paths are normalized before routing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PathNormalization {
    /// Kind.
    pub normalization: NormalizationType,
}

/// Kind of path normalization.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NormalizationType {
    /// As BASE.
    #[default]
    Default,
    /// None.
    None,
    /// RFC 3986.
    Base,
    /// BASE, and slashes merged.
    MergeSlashes,
    /// MERGE_SLASHES, and escaped slashes decoded.
    DecodeAndMergeSlashes,
}

/// Settings of a group of hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSettings {
    /// Settings.
    pub settings: ServiceSettingsValues,
    /// Hosts, wildcards allowed.
    pub hosts: Vec<String>,
}

/// Settings of a group of hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSettingsValues {
    /// Only endpoints of the caller's own cluster.
    pub cluster_local: bool,
}

/// Settings of one proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// Address of the control plane.
    pub discovery_address: String,
    /// Admin port. Default 15000.
    pub proxy_admin_port: i32,
    /// Status port. Default 15020.
    pub status_port: i32,
    /// Longest statistics name. Default 189.
    pub stat_name_length: i32,
    /// Tracing.
    pub tracing: Option<Tracing>,
    /// Gateway topology.
    pub gateway_topology: Option<GatewayTopology>,
    /// Everything else, kept as written.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: OtherFields,
}

impl Default for ProxyConfig {
    fn default() -> ProxyConfig {
        ProxyConfig {
            discovery_address: "istiod.istio-system.svc:15012".into(),
            proxy_admin_port: 15000,
            status_port: 15020,
            stat_name_length: 189,
            tracing: None,
            gateway_topology: None,
            other: OtherFields::default(),
        }
    }
}

/// Tracing of one proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Tracing {
    /// Share of requests traced, in percent; 0 and unset mean 1.0.
    pub sampling: Double,
    /// Everything else, kept as written.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: OtherFields,
}

/// What stands in front of a gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayTopology {
    /// Trusted proxies that append to x-forwarded-for.
    pub num_trusted_proxies: u32,
    /// What becomes of x-forwarded-client-cert.
    #[schemars(extend("enum" = FORWARD_CLIENT_CERT))]
    pub forward_client_cert_details: Option<String>,
    /// Expect the PROXY protocol.
    #[schemars(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<OtherFields>,
}
