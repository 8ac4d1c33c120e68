//! ServiceEntry and WorkloadEntry as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{WorkloadSelector, resource};

resource! {
/// A service that the platform does not know.
pub struct ServiceEntry {
    /// Host names.
    pub hosts: Vec<String>,
    /// Virtual addresses or networks.
    pub addresses: Vec<String>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Outside (default) or inside the mesh.
    pub location: Location,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// Endpoints.
    pub endpoints: Vec<WorkloadEntry>,
    /// Workloads of the namespace that are endpoints; excludes `endpoints`.
    pub workload_selector: Option<WorkloadSelector>,
    /// Namespaces that see this object.
    pub export_to: Vec<String>,
    /// Names accepted in the service's certificates.
    pub subject_alt_names: Vec<String>,
}
}

resource! {
/// A port of a service.
pub struct ServicePort {
    /// Number, 1..=65535.
    pub number: u32,
    /// HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP, TLS, or empty for automatic.
    pub protocol: String,
    /// Name, unique in the service.
    pub name: String,
    /// Port of the endpoints; default the same.
    pub target_port: u32,
}
}

/// Whether a service belongs to the mesh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Location {
    /// Outside.
    #[default]
    MeshExternal,
    /// Inside.
    MeshInternal,
}

/// How endpoints of a service are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    /// The address the caller dialled.
    #[default]
    None,
    /// The endpoints given.
    Static,
    /// DNS, every address.
    Dns,
    /// DNS, one address at a time.
    DnsRoundRobin,
    /// DNS at request time, for wildcard hosts.
    DynamicDns,
}

resource! {
/// One workload outside the platform.
pub struct WorkloadEntry {
    /// IP address, host name (DNS resolution only), or `unix://` path.
    pub address: String,
    /// Port by service port name.
    pub ports: BTreeMap<String, u32>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Network.
    pub network: String,
    /// `region/zone/subzone`.
    pub locality: String,
    /// Load-balancing weight; 0 counts as 1.
    pub weight: u32,
    /// Service account.
    pub service_account: String,
}
}
