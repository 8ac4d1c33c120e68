//! The plane's own normal form of services, endpoints and workloads.
//!
//! Galley makes these from Kubernetes Services, EndpointSlices, Pods and Nodes and from ServiceEntries and WorkloadEntries; Pilot
//! reads nothing else about the platform.

use std::sync::Arc;

use mesh_types::{Hostname, Key, Kind, Labels, Locality, Protocol, Selector};
use serde::{Deserialize, Serialize};

/// Where a service was declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Registry {
    /// A Kubernetes Service.
    Kubernetes,
    /// A ServiceEntry.
    External,
}

/// How a client finds the endpoints of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ServiceResolution {
    /// From the endpoints that the plane knows.
    ClientSideLb,
    /// By DNS, every address.
    DnsLb,
    /// By DNS, one address at a time.
    DnsRoundRobinLb,
    /// The address the client dialled (headless services, ServiceEntry NONE).
    Passthrough,
    /// By DNS at request time.
    DynamicDns,
    /// Another name of a service (Kubernetes ExternalName).
    Alias,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshPort {
    /// Name, unique in the service.
    pub name: Arc<str>,
    /// Number clients dial.
    pub number: u16,
    /// What is spoken.
    pub protocol: Protocol,
    /// Port of the endpoints when it is the same for all of them; 0 when unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub target_port: u16,
}

fn is_zero(n: &u16) -> bool {
    *n == 0
}

/// A service, whatever it was declared as. One object per (namespace, hostname); its `Meta` has the namespace, the hostname as
/// name, and the creation time of the declaration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshService {
    /// The fully qualified host.
    pub hostname: Hostname,
    /// Short name: the Kubernetes Service's name, or the host.
    pub name: Arc<str>,
    /// Where it was declared.
    pub registry: Registry,
    /// Name of the ServiceEntry that declares it, of the oldest if there are several; empty for a Kubernetes Service.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub entry: Arc<str>,
    /// How endpoints are found.
    pub resolution: ServiceResolution,
    /// Whether it lies outside the mesh.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
    /// Virtual addresses and networks (`10.96.0.7`, `10.10.0.0/16`); empty means none (`0.0.0.0`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Arc<str>>,
    /// Addresses allotted by the plane to a ServiceEntry without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auto_addresses: Vec<Arc<str>>,
    /// Ports.
    pub ports: Vec<MeshPort>,
    /// Namespaces that see it; empty takes the mesh default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub export_to: Vec<Arc<str>>,
    /// Labels of the declaration.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Selector of a Kubernetes Service.
    #[serde(default, skip_serializing_if = "Selector::is_empty")]
    pub selector: Selector,
    /// Target host of an alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_of: Option<Hostname>,
    /// Names given in the declaration that its servers may have in their certificates: SPIFFE identities, or others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<Arc<str>>,
    /// Service accounts of the service's namespace that the declaration says its servers run as.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_accounts: Vec<Arc<str>>,
    /// Whether only endpoints of the caller's node may be used (`internalTrafficPolicy: Local`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub node_local: bool,
    /// DNS service whose first address to connect wins (`istio.io/connect-strategy: RACE_FIRST_TCP_CONNECT`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub race_first_connect: bool,
    /// Whether its endpoints are told apart by a ServiceEntry `workloadSelector`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub selects_workloads: bool,
}

/// Whether an endpoint takes traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// Ready.
    #[default]
    Healthy,
    /// Not ready.
    Unhealthy,
    /// Finishing what it has.
    Draining,
    /// Going away: never sent.
    Terminating,
}

/// One endpoint of one service port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshEndpoint {
    /// Addresses, the first is the primary one: IP, host name (DNS services), or `unix://` path.
    pub addresses: Vec<Arc<str>>,
    /// Port; 0 for a `unix://` address.
    pub port: u16,
    /// Name of the service port it serves.
    pub port_name: Arc<str>,
    /// Labels of the workload.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Load-balancing weight; 0 counts as 1.
    #[serde(default)]
    pub weight: u32,
    /// Network.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub network: Arc<str>,
    /// Locality.
    #[serde(default, skip_serializing_if = "Locality::is_empty")]
    pub locality: Locality,
    /// Cluster it runs in.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub cluster: Arc<str>,
    /// Service account name.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub service_account: Arc<str>,
    /// Whether a sidecar terminates mTLS there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mtls: bool,
    /// Workload (owner) name.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub workload: Arc<str>,
    /// Namespace of the workload.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub namespace: Arc<str>,
    /// Node it runs on.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub node: Arc<str>,
    /// Health.
    #[serde(default)]
    pub health: Health,
}

/// Every endpoint of one service. Same namespace and name in its `Meta` as the [`MeshService`] it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshEndpoints {
    /// Host of the service.
    pub hostname: Hostname,
    /// Endpoints in a stable order: by port name, address, port.
    pub endpoints: Vec<MeshEndpoint>,
}

/// A workload a proxy may run beside: a pod or a WorkloadEntry. `Meta` has its namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshWorkload {
    /// Addresses, the first is the primary one.
    pub addresses: Vec<Arc<str>>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Locality.
    #[serde(default, skip_serializing_if = "Locality::is_empty")]
    pub locality: Locality,
    /// Network.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub network: Arc<str>,
    /// Cluster.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub cluster: Arc<str>,
    /// Service account name.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub service_account: Arc<str>,
    /// Node.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub node: Arc<str>,
    /// Owner name.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub workload: Arc<str>,
}

/// Identities that are taken back: every proxy refuses their connections, whatever their certificates say. One object, named by
/// [`MeshTrust::key`]; absent, nothing is taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshTrust {
    /// SPIFFE IDs, `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, in any order.
    pub denied: Vec<Arc<str>>,
}

impl MeshTrust {
    /// The key of a mesh's one object.
    pub fn key() -> Key {
        Key::new(Kind::MeshTrust, "", "default")
    }
}

/// Where the keys of an issuer of tokens are fetched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JwksSource {
    /// At this URI.
    Uri(Arc<str>),
    /// Where OpenID discovery at this issuer says: member `jwks_uri` of `<issuer>/.well-known/openid-configuration`.
    Discovery(Arc<str>),
}

impl JwksSource {
    /// The key of the [`MeshJwks`] with what was fetched there.
    pub fn key(&self) -> Key {
        let name = match self {
            JwksSource::Uri(uri) => format!("uri:{uri}"),
            JwksSource::Discovery(issuer) => format!("issuer:{issuer}"),
        };
        Key::new(Kind::MeshJwks, "", name)
    }
}

/// What was fetched at one place; its `Meta` has the key of [`JwksSource::key`]. Absent, nothing has been fetched yet, which counts as failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshJwks {
    /// Where.
    pub source: JwksSource,
    /// The JSON Web Key Set as text, checked to be one; `None` if it cannot be had: every token of the issuer is then refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Arc<str>>,
}
