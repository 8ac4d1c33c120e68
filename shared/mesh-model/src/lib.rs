//! What the mesh is, resolved from configuration objects, and what one proxy may see of it.
//!
//! [`Mesh::apply`] takes a change set and gives the next mesh and a [`Delta`]; [`Mesh::view`] scopes it to a class of proxies. The crate must
//! never know what an Envoy message looks like, nor who asks.
//!
//! Start reading at [`Mesh`], then [`View`].

mod delta;
mod destination_rules;
mod endpoints;
mod findings;
mod gateways;
mod label_use;
mod mesh;
mod node;
mod order;
mod policies;
mod proxy;
mod resolved;
mod scope;
mod security;
mod servers;
mod services;
mod sidecars;
mod targets;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod view;
mod virtual_services;
mod workloads;

pub use delta::{Change, Delta};
pub use endpoints::ScopedEndpoints;
pub use mesh::Mesh;
pub use policies::{Attachment, Policies, PolicySettings};
pub use proxy::{CertificateFiles, Interception, Node, Proxy, ProxyError, ProxyKind};
pub use resolved::{
    AuthorizationPolicy, DestinationRule, Endpoints, Gateway, RequestAuthentication, Service,
    Sidecar, VirtualService,
};
pub use scope::touch::Touch;
pub use security::identities::{EndpointPeers, service_identities};
pub use security::peer::{PeerMode, PeerModes};
pub use security::secrets::{SecretRef, Secrets};
pub use view::{
    EgressListener, GatewayServer, IngressListener, MergedServer, ServiceTarget, View, ViewKey,
};
