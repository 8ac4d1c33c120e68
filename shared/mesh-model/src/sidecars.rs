//! Sidecars by namespace (XDS-TRAFFIC 10.1).

use std::sync::Arc;

use imbl::OrdMap;
use mesh_config::Object;
use mesh_config::resource::sidecar as sc;
use mesh_types::{Labels, Selector};

use crate::Sidecar;
use crate::destination_rules::labels;
use crate::order::Order;

/// The Sidecars of a namespace, in the order in which they are tried.
type InOrder = OrdMap<(bool, Order), Arc<Sidecar>>;

/// Sidecars of the mesh: per namespace those with a selector first, then by age.
#[derive(Debug, Clone, Default)]
pub(crate) struct SidecarIndex {
    by_namespace: OrdMap<Arc<str>, InOrder>,
}

/// The workloads a Sidecar is for.
pub(crate) fn selector_of(spec: &sc::Sidecar) -> Selector {
    spec.workload_selector
        .as_ref()
        .map(|s| Selector(labels(&s.labels)))
        .unwrap_or_default()
}

fn place(object: &Object, spec: &sc::Sidecar) -> (bool, Order) {
    (selector_of(spec).is_empty(), Order::of(&object.meta))
}

impl SidecarIndex {
    pub(crate) fn insert(&mut self, object: &Object, spec: &Arc<sc::Sidecar>) {
        let sidecar = Sidecar {
            key: object.meta.key.clone(),
            version: object.version,
            created_us: object.meta.created_us,
            selector: selector_of(spec),
            spec: spec.clone(),
        };
        let namespace = object.meta.key.namespace.clone();
        self.by_namespace
            .entry(namespace)
            .or_default()
            .insert(place(object, spec), Arc::new(sidecar));
    }

    pub(crate) fn remove(&mut self, object: &Object, spec: &sc::Sidecar) {
        let namespace = &object.meta.key.namespace;
        if let Some(sidecars) = self.by_namespace.get_mut(namespace) {
            sidecars.remove(&place(object, spec));
            if sidecars.is_empty() {
                self.by_namespace.remove(namespace);
            }
        }
    }

    /// The Sidecars of each namespace, in the order in which they are tried.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = impl Iterator<Item = &Arc<Sidecar>>> {
        self.by_namespace.values().map(OrdMap::values)
    }

    /// The Sidecar of a proxy: selected by its labels, else its namespace's, else the root namespace's; those two without a selector.
    pub(crate) fn of(&self, namespace: &str, root: &str, proxy: &Labels) -> Option<&Arc<Sidecar>> {
        let own = self
            .by_namespace
            .get(namespace)
            .into_iter()
            .flat_map(OrdMap::values);
        own.into_iter()
            .find(|sidecar| sidecar.selector.matches(proxy))
            .or_else(|| {
                let root = self
                    .by_namespace
                    .get(root)
                    .into_iter()
                    .flat_map(OrdMap::values);
                root.into_iter().find(|sidecar| sidecar.selector.is_empty())
            })
    }
}
