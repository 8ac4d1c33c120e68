//! A proxy as it introduced itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_config::resource::Duration;
use mesh_types::{Labels, Locality};
use serde_json::Value;

/// What kind of proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyKind {
    /// Beside a workload.
    Sidecar,
    /// A gateway.
    Router,
}

/// How a sidecar gets its traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interception {
    /// iptables REDIRECT.
    #[default]
    Redirect,
    /// iptables TPROXY.
    Tproxy,
    /// Not at all: applications dial the proxy.
    None,
}

/// The parts of xDS `Node` that matter, protocol-free.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// `<type>~<ip>~<id>~<domain>`.
    pub id: String,
    /// Node metadata as JSON.
    pub metadata: Value,
    /// Locality of the request; labels win over it.
    pub locality: Locality,
    /// Names of the extensions that the proxy was built with; empty when it did not say.
    pub extensions: Vec<String>,
}

/// A proxy, parsed from its node (XDS-TRAFFIC 1.1-1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// The whole node id.
    pub node_id: Arc<str>,
    /// Kind.
    pub kind: ProxyKind,
    /// Addresses, the first is the primary one.
    pub addresses: Vec<IpAddr>,
    /// Third part of the node id, usually `pod.namespace`.
    pub id: Arc<str>,
    /// Fourth part, for example `default.svc.cluster.local`.
    pub dns_domain: Arc<str>,
    /// Namespace whose configuration applies.
    pub namespace: Arc<str>,
    /// Labels: from metadata, replaced by the workload's when it is known, topology labels added.
    pub labels: Labels,
    /// Locality.
    pub locality: Locality,
    /// CLUSTER_ID.
    pub cluster_id: Arc<str>,
    /// NETWORK.
    pub network: Arc<str>,
    /// NODE_NAME.
    pub node_name: Arc<str>,
    /// SERVICE_ACCOUNT.
    pub service_account: Arc<str>,
    /// INTERCEPTION_MODE.
    pub interception: Interception,
    /// HTTP_PROXY_PORT; 0 means as the mesh says.
    pub http_proxy_port: u16,
    /// IDLE_TIMEOUT.
    pub idle_timeout: Option<Duration>,
    /// UNPRIVILEGED_POD: ports below 1024 cannot be bound.
    pub unprivileged: bool,
    /// Ports of the proxy itself that no listener may take: ENVOY_STATUS_PORT, ENVOY_PROMETHEUS_PORT and the secure metrics ports.
    pub reserved_ports: Vec<u16>,
    /// HTTP10 is "1".
    pub http10: bool,
    /// INBOUND_LISTENER_EXACT_BALANCE.
    pub inbound_exact_balance: bool,
    /// OUTBOUND_LISTENER_EXACT_BALANCE.
    pub outbound_exact_balance: bool,
    /// DNS_CAPTURE.
    pub dns_capture: bool,
    /// REQUESTED_NETWORK_VIEW; empty means every network.
    pub network_view: Vec<Arc<str>>,
    /// POD_PORTS: container port by name.
    pub pod_ports: BTreeMap<String, u16>,
    /// PROXY_CONFIG as JSON; null means the mesh default.
    pub proxy_config: Value,
    /// Istio version `major.minor.patch`; (65535, 65535, 65535) when unknown.
    pub istio_version: (u16, u16, u16),
    /// Whether the Envoy build lacks Istio's extensions (`istio.alpn`, `istio.metadata_exchange`, `istio.stats`), by its extension list.
    pub vanilla: bool,
    /// Whether an agent stands beside it and hands out certificates over SDS: ISTIO_VERSION is set, which every agent of Istio's kind
    /// writes. Without, the proxy can neither offer nor accept mutual TLS, since a listener or cluster that waits for a certificate would
    /// wait for ever.
    pub agent: bool,
    /// Whether its namespace is known to be its own: its certificate says so, or it came in plaintext over loopback. Decided by who takes the
    /// connection; [`Proxy::parse`] says no. Only then is it given credentials.
    pub verified: bool,
    /// TLS_SERVER_CERT_CHAIN, TLS_SERVER_KEY and TLS_SERVER_ROOT_CERT: what it accepts mutual TLS with instead of its own certificate.
    pub server_files: Option<CertificateFiles>,
    /// TLS_CLIENT_CERT_CHAIN, TLS_CLIENT_KEY and TLS_CLIENT_ROOT_CERT: what it offers instead of its own certificate.
    pub client_files: Option<CertificateFiles>,
}

/// A certificate in files beside the proxy, by path (BASE before relative ones).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// Certificate chain.
    pub chain: Arc<str>,
    /// Private key.
    pub key: Arc<str>,
    /// Roots that peers are verified by.
    pub root: Arc<str>,
}

/// Why a node is refused; the stream ends with InvalidArgument.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// No node or no id.
    #[error("missing node information: the first request must carry node.id")]
    MissingNode,
    /// Not four parts.
    #[error("node id {0:?} must be <type>~<ip>~<id>~<dns domain>")]
    MalformedId(String),
    /// Unknown type.
    #[error("node type {0:?} is none of sidecar, router")]
    UnknownType(String),
    /// No address.
    #[error("no valid IP address, neither in INSTANCE_IPS nor in node id {0:?}")]
    NoAddress(String),
}
