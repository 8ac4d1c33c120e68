//! The resolved mesh.

use std::sync::Arc;

use mesh_config::resource::mesh::MeshConfig;
use mesh_config::resource::normal::MeshWorkload;
use mesh_types::{Finding, Revision};

use crate::{Change, Delta, Proxy, ServiceTarget, View, ViewKey};

/// Every object of one revision, resolved and indexed. Cheap to clone: maps are persistent.
#[derive(Debug, Clone, Default)]
pub struct Mesh {
    revision: Revision,
    config: Arc<MeshConfig>,
}

impl Mesh {
    /// The next mesh: this one with a change set applied. Costs follow the change, not the mesh.
    pub fn apply(&self, revision: Revision, changes: &[Change]) -> (Mesh, Delta) {
        let _ = (revision, changes);
        (self.clone(), Delta::default())
    }

    /// The revision this mesh was built from.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Settings of the mesh.
    pub fn config(&self) -> &Arc<MeshConfig> {
        &self.config
    }

    /// Completes a proxy by what the mesh knows of its workload: labels and locality (XDS-TRAFFIC 1.3).
    pub fn complete(&self, proxy: &mut Proxy) {
        let _ = proxy;
    }

    /// The workload at a proxy, if known.
    pub fn workload(&self, proxy: &Proxy) -> Option<Arc<MeshWorkload>> {
        let _ = proxy;
        None
    }

    /// The class of a proxy as far as scoping goes.
    pub fn view_key(&self, proxy: &Proxy) -> ViewKey {
        ViewKey {
            kind: proxy.kind,
            namespace: proxy.namespace.clone(),
            labels: Default::default(),
            cluster_id: proxy.cluster_id.clone(),
            gateway_ports: Vec::new(),
        }
    }

    /// What proxies of a class may see.
    pub fn view(&self, key: &ViewKey) -> View {
        let _ = key;
        todo!()
    }

    /// The service ports a proxy is an instance of, oldest service first (XDS-TRAFFIC 1.4).
    pub fn service_targets(&self, proxy: &Proxy) -> Vec<ServiceTarget> {
        let _ = proxy;
        Vec::new()
    }

    /// Findings that need more than one object to see: shadowed objects, missing references, merges.
    pub fn findings(&self) -> Vec<Finding> {
        Vec::new()
    }
}
