//! Gateway as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::resource;

resource! {
/// Ports that gateway proxies open.
pub struct Gateway {
    /// The servers.
    pub servers: Vec<Server>,
    /// Labels of the gateway workloads; empty means every one.
    pub selector: BTreeMap<String, String>,
}
}

resource! {
/// One port with the hosts it serves.
pub struct Server {
    /// The port.
    pub port: Option<ServerPort>,
    /// Address to bind; empty means every one.
    pub bind: String,
    /// Hosts, each `[namespace/]name`.
    pub hosts: Vec<String>,
    /// TLS of the port.
    pub tls: Option<ServerTlsSettings>,
    /// Deprecated and without effect.
    pub default_endpoint: String,
    /// Name, used in statistics.
    pub name: String,
}
}

resource! {
/// A named port.
pub struct ServerPort {
    /// Number, 1..=65535.
    pub number: u32,
    /// HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP or TLS.
    pub protocol: String,
    /// Name.
    pub name: String,
    /// Deprecated and without effect.
    pub target_port: u32,
}
}

/// TLS of a gateway port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServerTlsMode {
    /// Route by SNI without terminating.
    #[default]
    Passthrough,
    /// Terminate with a server certificate.
    Simple,
    /// Terminate and require a client certificate.
    Mutual,
    /// Route by SNI straight to the service named in it.
    AutoPassthrough,
    /// Terminate with the mesh's own certificates.
    IstioMutual,
    /// Terminate and accept a client certificate.
    OptionalMutual,
}

/// TLS protocol version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TlsProtocol {
    /// Envoy's default.
    #[default]
    #[serde(rename = "TLS_AUTO")]
    Auto,
    /// TLS 1.0.
    #[serde(rename = "TLSV1_0")]
    V1_0,
    /// TLS 1.1.
    #[serde(rename = "TLSV1_1")]
    V1_1,
    /// TLS 1.2.
    #[serde(rename = "TLSV1_2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "TLSV1_3")]
    V1_3,
}

resource! {
/// TLS of a gateway port.
pub struct ServerTlsSettings {
    /// Answer plaintext HTTP with a redirect to HTTPS.
    pub https_redirect: bool,
    /// Mode.
    pub mode: ServerTlsMode,
    /// File of the server certificate.
    pub server_certificate: String,
    /// File of its private key.
    pub private_key: String,
    /// File of the CA for client certificates.
    pub ca_certificates: String,
    /// File of a revocation list.
    pub ca_crl: String,
    /// Secret that holds key and certificate.
    pub credential_name: String,
    /// Several secrets, for several key types.
    pub credential_names: Vec<String>,
    /// Secret that holds the CA for client certificates.
    pub ca_cert_credential_name: String,
    /// Several certificate files.
    pub tls_certificates: Vec<TlsCertificate>,
    /// Names accepted in client certificates.
    pub subject_alt_names: Vec<String>,
    /// SHA-256 of accepted client public keys.
    pub verify_certificate_spki: Vec<String>,
    /// SHA-256 of accepted client certificates.
    pub verify_certificate_hash: Vec<String>,
    /// Least TLS version.
    pub min_protocol_version: TlsProtocol,
    /// Highest TLS version.
    pub max_protocol_version: TlsProtocol,
    /// Cipher suites.
    pub cipher_suites: Vec<String>,
    /// Accept any client certificate.
    pub insecure_skip_verify: Option<bool>,
}
}

resource! {
/// A certificate in files.
pub struct TlsCertificate {
    /// Certificate chain.
    pub server_certificate: String,
    /// Private key.
    pub private_key: String,
    /// CA for client certificates.
    pub ca_certificates: String,
}
}
