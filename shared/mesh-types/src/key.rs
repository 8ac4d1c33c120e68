//! The identity of a configuration object.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Every kind of object that the plane reads or makes.
///
/// The order of the variants is the order in which kinds are applied and printed: platform facts first, then policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Mesh-wide settings (Istio's MeshConfig), as a file or inside a ConfigMap.
    MeshConfig,
    /// Kubernetes `v1/Namespace`.
    Namespace,
    /// Kubernetes `v1/Node`.
    Node,
    /// Kubernetes `v1/Service`.
    Service,
    /// Kubernetes `discovery.k8s.io/v1/EndpointSlice`.
    EndpointSlice,
    /// Kubernetes `v1/Pod`.
    Pod,
    /// Kubernetes `v1/Secret`.
    Secret,
    /// Kubernetes `v1/ConfigMap`.
    ConfigMap,
    /// `networking.istio.io/ServiceEntry`.
    ServiceEntry,
    /// `networking.istio.io/WorkloadEntry`.
    WorkloadEntry,
    /// `networking.istio.io/Sidecar`.
    Sidecar,
    /// `networking.istio.io/Gateway`.
    Gateway,
    /// `networking.istio.io/DestinationRule`.
    DestinationRule,
    /// `networking.istio.io/VirtualService`.
    VirtualService,
    /// `security.istio.io/PeerAuthentication`.
    PeerAuthentication,
    /// `security.istio.io/RequestAuthentication`.
    RequestAuthentication,
    /// `security.istio.io/AuthorizationPolicy`.
    AuthorizationPolicy,
    /// A service in the plane's own normal form, whatever it was written as.
    MeshService,
    /// The endpoints of one service in the plane's own normal form.
    MeshEndpoints,
    /// A workload (pod or WorkloadEntry) in the plane's own normal form.
    MeshWorkload,
    /// Identities that are taken back, as Citadel tells them. Not configuration: no revision has it.
    MeshTrust,
    /// Keys of an issuer of tokens, as Pilot has fetched them. Not configuration: no revision has it.
    MeshJwks,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Kind; 22] = [
        Kind::MeshConfig,
        Kind::Namespace,
        Kind::Node,
        Kind::Service,
        Kind::EndpointSlice,
        Kind::Pod,
        Kind::Secret,
        Kind::ConfigMap,
        Kind::ServiceEntry,
        Kind::WorkloadEntry,
        Kind::Sidecar,
        Kind::Gateway,
        Kind::DestinationRule,
        Kind::VirtualService,
        Kind::PeerAuthentication,
        Kind::RequestAuthentication,
        Kind::AuthorizationPolicy,
        Kind::MeshService,
        Kind::MeshEndpoints,
        Kind::MeshWorkload,
        Kind::MeshTrust,
        Kind::MeshJwks,
    ];

    /// The kind's name as users write it in `kind:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::MeshConfig => "MeshConfig",
            Kind::Namespace => "Namespace",
            Kind::Node => "Node",
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Pod => "Pod",
            Kind::Secret => "Secret",
            Kind::ConfigMap => "ConfigMap",
            Kind::ServiceEntry => "ServiceEntry",
            Kind::WorkloadEntry => "WorkloadEntry",
            Kind::Sidecar => "Sidecar",
            Kind::Gateway => "Gateway",
            Kind::DestinationRule => "DestinationRule",
            Kind::VirtualService => "VirtualService",
            Kind::PeerAuthentication => "PeerAuthentication",
            Kind::RequestAuthentication => "RequestAuthentication",
            Kind::AuthorizationPolicy => "AuthorizationPolicy",
            Kind::MeshService => "MeshService",
            Kind::MeshEndpoints => "MeshEndpoints",
            Kind::MeshWorkload => "MeshWorkload",
            Kind::MeshTrust => "MeshTrust",
            Kind::MeshJwks => "MeshJwks",
        }
    }

    /// The API group, empty for Kubernetes' core group.
    pub fn group(self) -> &'static str {
        match self {
            Kind::Namespace
            | Kind::Node
            | Kind::Service
            | Kind::Pod
            | Kind::Secret
            | Kind::ConfigMap => "",
            Kind::EndpointSlice => "discovery.k8s.io",
            Kind::ServiceEntry
            | Kind::WorkloadEntry
            | Kind::Sidecar
            | Kind::Gateway
            | Kind::DestinationRule
            | Kind::VirtualService => "networking.istio.io",
            Kind::MeshConfig => "mesh.istio.io",
            Kind::PeerAuthentication | Kind::RequestAuthentication | Kind::AuthorizationPolicy => {
                "security.istio.io"
            }
            Kind::MeshService
            | Kind::MeshEndpoints
            | Kind::MeshWorkload
            | Kind::MeshTrust
            | Kind::MeshJwks => "mesh.flotilla.io",
        }
    }

    /// The kind of that name, in any group.
    pub fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.as_str() == name)
    }

    /// The collection type URL used between Galley and Pilot: `type.googleapis.com/<group>/<Kind>`, `core` for the core group.
    pub fn type_url(self) -> String {
        let group = if self.group().is_empty() {
            "core"
        } else {
            self.group()
        };
        format!("type.googleapis.com/{group}/{}", self.as_str())
    }

    /// The kind with that collection type URL.
    pub fn from_type_url(url: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.type_url() == url)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The identity of a configuration object: kind, namespace and name.
///
/// Cluster-wide objects (Namespace, Node, MeshConfig) have an empty namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// What the object is.
    pub kind: Kind,
    /// The namespace it lives in; empty for cluster-wide kinds.
    pub namespace: Arc<str>,
    /// Its name, unique within kind and namespace.
    pub name: Arc<str>,
}

impl Key {
    /// A key from its parts.
    pub fn new(kind: Kind, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Key {
        Key {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// `namespace/name`, or the bare name of a cluster-wide object.
    pub fn path(&self) -> String {
        if self.namespace.is_empty() {
            self.name.to_string()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.path())
    }
}
