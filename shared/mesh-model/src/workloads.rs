//! Workloads by name and by address.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use mesh_config::resource::normal::MeshWorkload;
use mesh_types::Key;

/// Workloads of the mesh.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkloadIndex {
    all: OrdMap<Key, Arc<MeshWorkload>>,
    by_address: OrdMap<IpAddr, BTreeSet<Key>>,
}

fn addresses(workload: &MeshWorkload) -> impl Iterator<Item = IpAddr> {
    workload
        .addresses
        .iter()
        .filter_map(|address| address.parse().ok())
}

impl WorkloadIndex {
    /// Adds a workload that is not there. Gives its addresses.
    pub(crate) fn insert(&mut self, key: &Key, workload: &Arc<MeshWorkload>) -> Vec<IpAddr> {
        for address in addresses(workload) {
            self.by_address
                .entry(address)
                .or_default()
                .insert(key.clone());
        }
        self.all.insert(key.clone(), workload.clone());
        addresses(workload).collect()
    }

    /// Removes a workload. Gives its addresses.
    pub(crate) fn remove(&mut self, key: &Key) -> Vec<IpAddr> {
        let Some(old) = self.all.remove(key) else {
            return Vec::new();
        };
        for address in addresses(&old) {
            if let Some(keys) = self.by_address.get_mut(&address) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_address.remove(&address);
                }
            }
        }
        addresses(&old).collect()
    }

    /// The workload with a key, together with that key.
    pub(crate) fn get(&self, key: &Key) -> Option<(&Key, &Arc<MeshWorkload>)> {
        self.all.get_key_value(key)
    }

    /// Workloads with an address, in key order.
    pub(crate) fn at(&self, address: &IpAddr) -> impl Iterator<Item = (&Key, &Arc<MeshWorkload>)> {
        self.by_address
            .get(address)
            .into_iter()
            .flatten()
            .filter_map(|key| Some((key, self.all.get(key)?)))
    }
}
