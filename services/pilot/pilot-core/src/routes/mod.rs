//! RDS.

use std::sync::Arc;

use mesh_model::View;
use xds_core::{Encoded, TypeId};

use crate::memo::Stats;
use crate::{Memos, OutboundKey};

/// Memos of this module.
#[derive(Default)]
pub struct RouteMemos {}

impl RouteMemos {
    /// Adds how each memo did, with its name.
    pub fn stats(&self, out: &mut Vec<(&'static str, Stats)>) {
        let _ = out;
    }
}

/// The RouteConfiguration of a sidecar; an unknown name gives one without virtual hosts.
pub fn sidecar(view: &View, key: &OutboundKey, route_name: &str, memo: &Memos) -> Arc<Encoded> {
    let _ = (view, key, memo);
    Arc::new(Encoded::new(route_name, TypeId::Rds, &[]))
}

/// The RouteConfiguration of a router; an unknown name gives one without virtual hosts.
pub fn gateway(view: &View, key: &OutboundKey, route_name: &str, memo: &Memos) -> Arc<Encoded> {
    let _ = (view, key, memo);
    Arc::new(Encoded::new(route_name, TypeId::Rds, &[]))
}
