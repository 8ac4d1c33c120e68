//! CDS and EDS: made once for all classes whose clusters are made from the same, and taken a step further once for all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use mesh_model::View;
use mesh_types::Hostname;
use xds_core::Set;

use super::changes::Changes;
use super::sets::{Edits, Sets};
use crate::clusters::{self, Planner};
use crate::{Memos, endpoints};

/// Clusters and endpoints, and what they were made from.
pub struct ClusterSets {
    planner: Planner,
    /// Clusters.
    pub cds: Arc<Set>,
    /// Endpoints, one for each cluster that asks for them.
    pub eds: Arc<Set>,
}

impl ClusterSets {
    /// All of a class.
    pub(super) fn new(planner: Planner, sets: &Sets, memos: &Memos) -> ClusterSets {
        let (mut cds, mut eds) = (planner.specials(memos), Vec::new());
        planner.all(|mut planned| {
            let assignment = planned.assignment.take();
            cds.extend(clusters::cluster(planned, memos));
            eds.extend(assignment.map(|input| endpoints::encode(input, memos)));
        });
        ClusterSets {
            planner,
            cds: sets.of(cds),
            eds: sets.of(eds),
        }
    }

    /// The view of a class that has these clusters, with our allocations in it: views that share them are quickly compared.
    pub(super) fn lend(&self, view: &View) -> View {
        let mut view = view.clone();
        self.planner.lend(&mut view);
        view
    }

    /// The same as [`ClusterSets::new`], by making anew what belongs to the hosts that changed.
    pub(super) fn updated(
        &self,
        planner: Planner,
        changes: &Changes,
        sets: &Sets,
        memos: &Memos,
    ) -> ClusterSets {
        let (mut cds, mut eds) = (Edits::default(), Edits::default());
        let plan = |host: &Hostname, with_clusters: bool, cds: &mut Edits, eds: &mut Edits| {
            planner.host(host, |mut planned| {
                let assignment = planned.assignment.take();
                eds.put
                    .extend(assignment.map(|input| endpoints::encode(input, memos)));
                if with_clusters || planned.has_inline_endpoints() {
                    let name = planned.name().to_string();
                    match clusters::cluster(planned, memos) {
                        Some(cluster) => cds.put.push(cluster),
                        None => cds.removed.push(name),
                    }
                }
            });
        };
        for host in &changes.cluster_hosts {
            // Names that vanished. What is put again below wins over its removal.
            self.planner.host(host, |planned| {
                let name = planned.name().to_string();
                cds.removed.push(name.clone());
                eds.removed.push(name);
            });
            plan(host, true, &mut cds, &mut eds);
        }
        for host in changes.endpoint_hosts.difference(&changes.cluster_hosts) {
            plan(host, false, &mut cds, &mut eds);
        }
        ClusterSets {
            cds: sets.edited(&self.cds, cds),
            eds: sets.edited(&self.eds, eds),
            planner,
        }
    }
}

/// All that are in use. Holds nothing.
#[derive(Default)]
pub(super) struct Known {
    by_digest: Mutex<HashMap<u64, Vec<Weak<ClusterSets>>>>,
}

impl Known {
    /// Those that were made from an equal planner, or what `make` makes of this one now.
    pub(super) fn get_or(
        &self,
        planner: Planner,
        make: impl FnOnce(Planner) -> ClusterSets,
    ) -> Arc<ClusterSets> {
        let digest = planner.digest();
        let mut table = self
            .by_digest
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // The last one first: siblings are updated one after the other.
        let alike = table.get(&digest).into_iter().flatten().rev();
        let found = alike
            .filter_map(Weak::upgrade)
            .find(|known| known.planner == planner);
        found.unwrap_or_else(|| {
            let made = Arc::new(make(planner));
            table.retain(|_, known| {
                known.retain(|known| known.strong_count() > 0);
                !known.is_empty()
            });
            table.entry(digest).or_default().push(Arc::downgrade(&made));
            made
        })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let table = self.by_digest.lock().unwrap();
        table.values().map(Vec::len).sum()
    }
}
