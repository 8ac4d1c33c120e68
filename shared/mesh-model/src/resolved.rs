//! Objects with every name resolved: what the mesh and the views hold.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use mesh_config::resource::normal::{MeshEndpoints, MeshService};
use mesh_config::resource::{
    authorization_policy as ap, destination_rule as dr, gateway as gw,
    request_authentication as ra, sidecar as sc, virtual_service as vs,
};
use mesh_types::{Hostname, Key, Selector, Version};

use crate::{Attachment, EndpointPeers};

/// Objects that are compared and hashed by their content version: cheap cache keys.
macro_rules! by_version {
    ($($name:ident),*) => {$(
        impl PartialEq for $name {
            fn eq(&self, other: &$name) -> bool {
                self.version == other.version && self.key == other.key
            }
        }
        impl Eq for $name {}
        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.version.hash(state);
            }
        }
    )*};
}

by_version!(
    Service,
    Endpoints,
    VirtualService,
    DestinationRule,
    Gateway,
    Sidecar,
    AuthorizationPolicy,
    RequestAuthentication
);

/// A service of the mesh.
#[derive(Debug, Clone)]
pub struct Service {
    /// Identity: its namespace, and its host as name.
    pub key: Key,
    /// Content version.
    pub version: Version,
    /// Creation time in microseconds since 1970; older services win conflicts.
    pub created_us: i64,
    /// Everything else. Deref'd for convenience.
    pub spec: Arc<MeshService>,
}

impl std::ops::Deref for Service {
    type Target = MeshService;
    fn deref(&self) -> &MeshService {
        &self.spec
    }
}

/// The endpoints of one service.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// Identity: the service's namespace, and its host as name.
    pub key: Key,
    /// Content version, `peers` included.
    pub version: Version,
    /// The endpoints.
    pub spec: Arc<MeshEndpoints>,
    /// What clients must know to speak mutual TLS with them.
    pub peers: EndpointPeers,
}

/// A VirtualService with short names resolved, delegates merged in, and gateways in `namespace/name` form (or `mesh`).
#[derive(Debug, Clone)]
pub struct VirtualService {
    /// Identity.
    pub key: Key,
    /// Content version, delegates included.
    pub version: Version,
    /// Creation time in microseconds since 1970.
    pub created_us: i64,
    /// Hosts, resolved, lower case.
    pub hosts: Vec<Hostname>,
    /// Made from a Gateway API route (annotation `internal.istio.io/route-semantics: gateway`): it binds tighter to its namespace.
    pub gateway_semantics: bool,
    /// The rules. `hosts`, every destination and mirror host, `gateways` and `match.gateways` are resolved; `http[].delegate` is gone.
    pub spec: Arc<vs::VirtualService>,
}

/// A DestinationRule, merged with others of the same pool and host, its host resolved.
#[derive(Debug, Clone)]
pub struct DestinationRule {
    /// Identity of the first rule merged.
    pub key: Key,
    /// Content version of all of them.
    pub version: Version,
    /// Host, resolved.
    pub host: Hostname,
    /// Every rule merged, oldest first.
    pub sources: Vec<Key>,
    /// The merged rule.
    pub spec: Arc<dr::DestinationRule>,
}

impl DestinationRule {
    /// Every TLS block: of subsets, then of the rule, each with those of its ports.
    pub fn client_tls(&self) -> impl Iterator<Item = &dr::ClientTlsSettings> {
        let subsets = self.spec.subsets.iter();
        let policies = subsets
            .filter_map(|subset| subset.traffic_policy.as_ref())
            .chain(&self.spec.traffic_policy);
        policies.flat_map(|policy| {
            let ports = policy.port_level_settings.iter();
            policy
                .tls
                .iter()
                .chain(ports.filter_map(|port| port.tls.as_ref()))
        })
    }
}

/// A Gateway.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Identity.
    pub key: Key,
    /// Content version.
    pub version: Version,
    /// Creation time in microseconds since 1970.
    pub created_us: i64,
    /// Which routers open its ports.
    pub selector: Selector,
    /// The servers.
    pub spec: Arc<gw::Gateway>,
}

/// A Sidecar.
#[derive(Debug, Clone)]
pub struct Sidecar {
    /// Identity.
    pub key: Key,
    /// Content version.
    pub version: Version,
    /// Creation time in microseconds since 1970.
    pub created_us: i64,
    /// Which workloads it is for; empty means the whole namespace.
    pub selector: Selector,
    /// What it says.
    pub spec: Arc<sc::Sidecar>,
}

/// An AuthorizationPolicy.
#[derive(Debug, Clone)]
pub struct AuthorizationPolicy {
    /// Identity.
    pub key: Key,
    /// Content version.
    pub version: Version,
    /// Which workloads it is for.
    pub attachment: Attachment,
    /// Whether it is only counted what it would do.
    pub dry_run: bool,
    /// What it says.
    pub spec: Arc<ap::AuthorizationPolicy>,
}

/// A RequestAuthentication.
#[derive(Debug, Clone)]
pub struct RequestAuthentication {
    /// Identity.
    pub key: Key,
    /// Content version.
    pub version: Version,
    /// Which workloads it is for.
    pub attachment: Attachment,
    /// What it says.
    pub spec: Arc<ra::RequestAuthentication>,
}
