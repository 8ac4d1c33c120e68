//! What changed between two meshes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_config::Object;
use mesh_types::{Hostname, Key};

/// One change of a change set.
#[derive(Debug, Clone)]
pub enum Change {
    /// The object is new or has new content.
    Upsert(Arc<Object>),
    /// The object is gone.
    Delete(Key),
}

/// What a change set touched, resolved: enough to tell which classes of proxies need which resources anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// MeshConfig changed: everything may.
    pub mesh_config: bool,
    /// Services that came, went or changed, as (namespace, host).
    pub services: BTreeSet<(Arc<str>, Hostname)>,
    /// Services whose endpoints changed and that did not change otherwise, as (namespace, host).
    pub endpoints: BTreeSet<(Arc<str>, Hostname)>,
    /// VirtualServices that came, went or changed (through a delegate too).
    pub virtual_services: BTreeSet<Key>,
    /// Hosts of those VirtualServices before and after.
    pub virtual_service_hosts: BTreeSet<Hostname>,
    /// DestinationRules that came, went or changed.
    pub destination_rules: BTreeSet<Key>,
    /// Hosts of those rules before and after.
    pub destination_rule_hosts: BTreeSet<Hostname>,
    /// Sidecars that came, went or changed.
    pub sidecars: BTreeSet<Key>,
    /// Gateways that came, went or changed.
    pub gateways: BTreeSet<Key>,
    /// Secrets that came, went or changed.
    pub secrets: BTreeSet<Key>,
    /// PeerAuthentications that came, went or changed.
    pub peer_authentications: BTreeSet<Key>,
    /// AuthorizationPolicies, RequestAuthentications and fetched keys that came, went or changed.
    pub policies: BTreeSet<Key>,
    /// Which identities are taken back changed.
    pub denied: bool,
    /// Workloads that came, went or changed: labels and locality of proxies may.
    pub workloads: BTreeSet<Key>,
    /// Addresses whose workload is another or says something else, and addresses where endpoints came, went, or serve another port: what
    /// the mesh knows of proxies there, and what services they are instances of, may be different.
    pub addresses: BTreeSet<IpAddr>,
    /// What labels the mesh's selectors read changed: [`crate::Mesh::view_key`] of any proxy may.
    pub selectors: bool,
}

impl Delta {
    /// Whether nothing at all changed.
    pub fn is_empty(&self) -> bool {
        *self == Delta::default()
    }
}
