//! CDS: clusters of a class of proxies.
//!
//! Start at [`outbound()`]: [`plan`] says which clusters there are and how each finds its endpoints, `build` makes the message of one,
//! and `policy`, `pool`, `outlier`, `balance` translate one block of a DestinationRule each.

mod balance;
mod build;
mod inbound;
mod metadata;
mod outlier;
mod plan;
mod policy;
mod pool;
mod secure;
mod settings;
mod special;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use envoy_api::envoy::config::cluster::v3::Cluster;
use mesh_model::View;
use prost::Message;
use xds_core::{Encoded, TypeId};

use crate::memo::Stats;
use crate::{InboundKey, Memo, Memos, OutboundKey};

pub(crate) use plan::{Planned, Planner};
pub use policy::Policy;

/// Memos of this module.
#[derive(Default)]
pub struct ClusterMemos {
    outbound: Memo<plan::ClusterInput>,
    inbound: Memo<inbound::InboundInput>,
    special: Memo<special::SpecialInput>,
    settings: Memo<settings::Settings, settings::Settings>,
}

impl ClusterMemos {
    /// Adds how each memo did, with its name.
    pub fn stats(&self, out: &mut Vec<(&'static str, Stats)>) {
        out.push(("clusters", self.outbound.stats()));
        out.push(("inbound_clusters", self.inbound.stats()));
    }
}

/// Outbound clusters of a sidecar or router, in no particular order.
pub fn outbound(view: &View, key: &OutboundKey, memo: &Memos) -> Vec<Arc<Encoded>> {
    let planner = Planner::of(view, key, memo);
    let mut out = planner.specials(memo);
    planner.all(|planned| out.extend(cluster(planned, memo)));
    out
}

/// The cluster of a plan; `None` if it would have no endpoint and could not get any.
pub(crate) fn cluster(planned: Planned, memo: &Memos) -> Option<Arc<Encoded>> {
    if planned.input.lacks_endpoints() {
        return None;
    }
    Some(memo.clusters.outbound.get_or(planned.input, build::encode))
}

/// Inbound clusters of a sidecar, in no particular order.
pub fn inbound(view: &View, key: &InboundKey, memo: &Memos) -> Vec<Arc<Encoded>> {
    inbound::clusters(view, key, memo)
}

fn encoded(cluster: &Cluster) -> Encoded {
    Encoded::new(cluster.name.as_str(), TypeId::Cds, &cluster.encode_to_vec())
}
