//! CDS: clusters of a class of proxies.

use std::sync::Arc;

use mesh_model::View;
use xds_core::Encoded;

use crate::memo::Stats;
use crate::{InboundKey, Memos, OutboundKey};

/// Memos of this module.
#[derive(Default)]
pub struct ClusterMemos {}

impl ClusterMemos {
    /// Adds how each memo did, with its name.
    pub fn stats(&self, out: &mut Vec<(&'static str, Stats)>) {
        let _ = out;
    }
}

/// Outbound clusters of a sidecar or router.
pub fn outbound(view: &View, key: &OutboundKey, memo: &Memos) -> Vec<Arc<Encoded>> {
    let _ = (view, key, memo);
    Vec::new()
}

/// Inbound clusters of a sidecar.
pub fn inbound(view: &View, key: &InboundKey, memo: &Memos) -> Vec<Arc<Encoded>> {
    let _ = (view, key, memo);
    Vec::new()
}
