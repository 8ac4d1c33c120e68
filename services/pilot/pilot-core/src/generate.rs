//! The table of types: which resources a class of proxies gets, and which of them a change makes anew.
//!
//! [`Generator::outbound`] makes everything of a class; [`Generator::outbound_update`] makes the same from what the class had before, by
//! looking at what differs between the two views (`changes`), and regenerating only that. Whatever is regenerated and comes out equal keeps
//! its pointer, so nobody is sent what they have (`sets`). Classes that cannot differ in clusters and endpoints have them in common
//! (`cluster_sets`).

mod changed_routes;
mod changes;
mod cluster_sets;
mod render;
#[cfg(test)]
mod route_tests;
mod sets;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use mesh_model::{Delta, ProxyKind, View};
use xds_core::{Encoded, Set, Snapshot, TypeId};

use self::changes::Changes;
use self::cluster_sets::Known;
use self::sets::{Edits, Sets};
use crate::clusters::{self, Planner};
use crate::name_table::{follows_endpoints, name_table};
use crate::{InboundKey, Memos, Options, OutboundKey, endpoints, listeners, routes, secrets};

pub use cluster_sets::ClusterSets;
pub use render::{Rendered, render};

/// Makes resources. One per process: everything that classes can share is shared through it.
#[derive(Default)]
pub struct Generator {
    memos: Memos,
    sets: Sets,
    clusters: Known,
}

/// Everything that the proxies of one outbound class get, and what it was made from.
#[derive(Clone)]
pub struct ClassSets {
    /// The view the sets were made from.
    pub view: View,
    /// Clusters and endpoints.
    pub clusters: Arc<ClusterSets>,
    /// Listeners.
    pub lds: Arc<Set>,
    /// RouteConfigurations that the listeners refer to.
    pub rds: Arc<Set>,
    /// Table of names, for agents that answer DNS.
    pub nds: Arc<Set>,
    /// Credentials of a router.
    pub sds: Arc<Set>,
}

/// What sidecars of one inbound class get besides.
#[derive(Clone)]
pub struct InboundSets {
    /// Clusters.
    pub cds: Arc<Set>,
    /// Listeners.
    pub lds: Arc<Set>,
}

impl Generator {
    /// One with settings of the operator.
    pub fn new(options: Options) -> Generator {
        Generator {
            memos: Memos::new(options),
            ..Generator::default()
        }
    }

    /// The memos, for their statistics.
    pub fn memos(&self) -> &Memos {
        &self.memos
    }

    /// Everything of an outbound class.
    pub fn outbound(&self, view: &View, key: &OutboundKey) -> ClassSets {
        let planner = Planner::of(view, key, &self.memos);
        let clusters = self.clusters.get_or(planner, |planner| {
            ClusterSets::new(planner, &self.sets, &self.memos)
        });
        let made = listeners(view, key, &self.memos);
        let rds = made
            .route_names
            .iter()
            .map(|name| route(view, key, name, &self.memos))
            .collect();
        ClassSets {
            view: clusters.lend(view),
            clusters,
            lds: self.sets.of(made.resources),
            rds: self.sets.of(rds),
            nds: self.sets.of(name_table(view, key)),
            sds: self.sets.of(secrets::secrets(view, key, &self.memos)),
        }
    }

    /// Everything of an outbound class, from what it had before a change.
    ///
    /// `view` is the class's view after the change and `delta` what the change touched, for endpoints; whatever else differs is seen from
    /// the views themselves. The result is what [`Generator::outbound`] would give. Unchanged sets keep their pointer.
    pub fn outbound_update(
        &self,
        old: &ClassSets,
        view: &View,
        key: &OutboundKey,
        delta: &Delta,
    ) -> ClassSets {
        let Some(changes) = Changes::between(&old.view, view, delta) else {
            return self.outbound(view, key);
        };
        let mut new = ClassSets {
            view: view.clone(),
            ..old.clone()
        };
        if !changes.cluster_hosts.is_empty() || !changes.endpoint_hosts.is_empty() {
            let planner = Planner::of(view, key, &self.memos);
            new.clusters = self.clusters.get_or(planner, |planner| {
                old.clusters
                    .updated(planner, &changes, &self.sets, &self.memos)
            });
            new.view = new.clusters.lend(view);
        }
        if changes.secrets {
            let made = secrets::secrets(view, key, &self.memos);
            new.sds = self.sets.exchanged(&old.sds, made);
        }
        let mut moved = changes.endpoint_hosts.iter();
        if key.dns_capture
            && (changes.listeners
                || !changes.cluster_hosts.is_empty()
                || moved.any(|host| follows_endpoints(view, host)))
        {
            new.nds = self.sets.exchanged(&old.nds, name_table(view, key));
        }
        if changes.listeners {
            let made = listeners(view, key, &self.memos);
            new.lds = self.sets.exchanged(&old.lds, made.resources);
            let rds = made.route_names.iter().map(|name| match old.rds.get(name) {
                Some(known) if !changes.route(name) => known.clone(),
                Some(_) | None => route(view, key, name, &self.memos),
            });
            new.rds = self.sets.exchanged(&old.rds, rds.collect());
        } else if changes.routes_at_all() {
            let affected = old.rds.items().iter().filter(|e| changes.route(e.name()));
            let put: Vec<_> = affected
                .map(|known| match key.view.kind {
                    ProxyKind::Sidecar => {
                        routes::sidecar_update((&old.view, known), view, key, &self.memos)
                    }
                    ProxyKind::Router => routes::gateway(view, key, known.name(), &self.memos),
                })
                .collect();
            new.rds = self.sets.edited(&old.rds, Edits::put(put));
        }
        new
    }

    /// Everything of an inbound class.
    pub fn inbound(&self, view: &View, key: &InboundKey) -> InboundSets {
        InboundSets {
            cds: self.sets.of(clusters::inbound(view, key, &self.memos)),
            lds: self.sets.of(listeners::inbound(view, key, &self.memos)),
        }
    }
}

impl ClassSets {
    /// Everything that a proxy of this class and an inbound class should have at a revision.
    pub fn snapshot(&self, inbound: Option<&InboundSets>, revision: u64) -> Snapshot {
        use xds_core::Layers;
        let layers = |own: &Arc<Set>, inbound: Option<&Arc<Set>>| {
            Layers::new(std::iter::once(own).chain(inbound).cloned())
        };
        Snapshot::new(revision)
            .with(
                TypeId::Cds,
                layers(&self.clusters.cds, inbound.map(|i| &i.cds)),
            )
            .with(TypeId::Eds, layers(&self.clusters.eds, None))
            .with(TypeId::Lds, layers(&self.lds, inbound.map(|i| &i.lds)))
            .with(TypeId::Rds, layers(&self.rds, None))
            .with(TypeId::Nds, layers(&self.nds, None))
            .with(TypeId::Sds, layers(&self.sds, None))
    }
}

/// What is answered for a name that nobody has: an empty resource for types whose clients wait for one, else nothing.
pub fn missing(type_id: TypeId, name: &str) -> Option<Arc<Encoded>> {
    match type_id {
        TypeId::Eds => Some(Arc::new(endpoints::empty(name))),
        TypeId::Rds => Some(Arc::new(routes::empty(name))),
        TypeId::Cds
        | TypeId::Lds
        | TypeId::Sds
        | TypeId::Ecds
        | TypeId::Nds
        | TypeId::Pcds
        | TypeId::Trust => None,
    }
}

fn listeners(view: &View, key: &OutboundKey, memos: &Memos) -> listeners::Listeners {
    match key.view.kind {
        ProxyKind::Sidecar => listeners::outbound(view, key, memos),
        ProxyKind::Router => listeners::gateway(view, key, memos),
    }
}

fn route(view: &View, key: &OutboundKey, name: &str, memos: &Memos) -> Arc<Encoded> {
    match key.view.kind {
        ProxyKind::Sidecar => routes::sidecar(view, key, name, memos),
        ProxyKind::Router => routes::gateway(view, key, name, memos),
    }
}
