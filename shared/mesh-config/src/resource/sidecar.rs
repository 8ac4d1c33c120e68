//! Sidecar as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{WorkloadSelector, resource};
use super::destination_rule::ConnectionPoolSettings;
use super::gateway::{ServerPort, ServerTlsSettings};
use super::virtual_service::Destination;

resource! {
/// What the sidecars of a namespace may see and accept.
pub struct Sidecar {
    /// Workloads the object is for; unset means the whole namespace.
    pub workload_selector: Option<WorkloadSelector>,
    /// Inbound listeners; empty derives them from services.
    pub ingress: Vec<IstioIngressListener>,
    /// Outbound listeners and what they import; empty imports everything.
    pub egress: Vec<IstioEgressListener>,
    /// Connection limits of inbound traffic.
    pub inbound_connection_pool: Option<ConnectionPoolSettings>,
    /// What happens to traffic for unknown destinations.
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}
}

resource! {
/// One inbound listener.
pub struct IstioIngressListener {
    /// The port.
    pub port: Option<ServerPort>,
    /// Address to bind; default the workload's own.
    pub bind: String,
    /// How traffic is captured.
    pub capture_mode: CaptureMode,
    /// Where the application listens: `127.0.0.1:port`, `0.0.0.0:port` or `unix:///path`.
    pub default_endpoint: String,
    /// TLS of the port.
    pub tls: Option<ServerTlsSettings>,
    /// Connection limits.
    pub connection_pool: Option<ConnectionPoolSettings>,
}
}

resource! {
/// One outbound listener.
pub struct IstioEgressListener {
    /// The port; unset makes this the catch-all, which must come last.
    pub port: Option<ServerPort>,
    /// Address or `unix://` path to bind.
    pub bind: String,
    /// How traffic is captured.
    pub capture_mode: CaptureMode,
    /// What is imported, each `namespace/host`.
    pub hosts: Vec<String>,
}
}

/// How a listener gets its traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CaptureMode {
    /// As the proxy's interception mode says.
    #[default]
    Default,
    /// Captured by iptables.
    Iptables,
    /// Not captured: the listener binds its port.
    None,
}

resource! {
/// What happens to traffic for unknown destinations.
pub struct OutboundTrafficPolicy {
    /// Mode.
    pub mode: OutboundMode,
    /// Service that takes such traffic instead.
    pub egress_proxy: Option<Destination>,
}
}

/// What happens to traffic for unknown destinations.
///
/// The order is that of protobuf: REGISTRY_ONLY is 0, and what an empty policy in a Sidecar means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundMode {
    /// Refused.
    #[default]
    RegistryOnly,
    /// Passed through.
    AllowAny,
    /// Resolved by DNS at request time.
    AllowAnyDynamicDns,
}
