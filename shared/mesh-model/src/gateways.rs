//! Gateways in the order that decides conflicts.

use std::sync::Arc;

use imbl::OrdMap;
use mesh_config::Object;
use mesh_config::resource::gateway as gw;
use mesh_types::{Labels, Selector};

use crate::Gateway;
use crate::destination_rules::labels;
use crate::order::Order;

/// Gateways of the mesh.
#[derive(Debug, Clone, Default)]
pub(crate) struct GatewayIndex {
    all: OrdMap<Order, Arc<Gateway>>,
}

impl GatewayIndex {
    pub(crate) fn insert(&mut self, object: &Object, spec: &Arc<gw::Gateway>) {
        let gateway = Gateway {
            key: object.meta.key.clone(),
            version: object.version,
            created_us: object.meta.created_us,
            selector: Selector(labels(&spec.selector)),
            spec: spec.clone(),
        };
        self.all.insert(Order::of(&object.meta), Arc::new(gateway));
    }

    pub(crate) fn remove(&mut self, object: &Object) {
        self.all.remove(&Order::of(&object.meta));
    }

    /// Every Gateway, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Gateway>> {
        self.all.values()
    }

    /// The Gateways that a router with these labels serves, oldest first (XDS-TRAFFIC 9.1).
    pub(crate) fn of(&self, router: &Labels) -> impl Iterator<Item = &Arc<Gateway>> {
        self.all
            .values()
            .filter(move |gateway| gateway.selector.matches(router))
    }
}
