//! The table of types: which resources a class of proxies gets, and which of them a change makes anew.
//!
//! [`Generator::outbound`] makes everything of a class; [`Generator::outbound_update`] makes the same from what the class had before, by
//! looking at what differs between the two views (`changes`), and regenerating only that. Whatever is regenerated and comes out equal keeps
//! its pointer, so nobody is sent what they have.

mod changed_routes;
mod changes;
mod render;
#[cfg(test)]
mod route_tests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use mesh_model::{Delta, ProxyKind, View};
use mesh_types::Hostname;
use xds_core::{Change, Encoded, Set, SetInterner, Snapshot, TypeId};

use self::changes::Changes;
use crate::clusters::{self, Planner};
use crate::{InboundKey, Memos, OutboundKey, endpoints, listeners, routes};

pub use render::{Rendered, render};

/// Changes of sets that are remembered: those of a class's four types, and some.
const STEPS: usize = 8;

/// Makes resources. One per process: everything that classes can share is shared through it.
#[derive(Default)]
pub struct Generator {
    memos: Memos,
    sets: SetInterner,
    steps: Mutex<VecDeque<Step>>,
}

/// Everything that the proxies of one outbound class get, and what it was made from.
#[derive(Clone)]
pub struct ClassSets {
    /// The view the sets were made from.
    pub view: View,
    /// Clusters.
    pub cds: Arc<Set>,
    /// Endpoints, one for each cluster that asks for them.
    pub eds: Arc<Set>,
    /// Listeners.
    pub lds: Arc<Set>,
    /// RouteConfigurations that the listeners refer to.
    pub rds: Arc<Set>,
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
    /// The memos, for their statistics.
    pub fn memos(&self) -> &Memos {
        &self.memos
    }

    /// Everything of an outbound class.
    pub fn outbound(&self, view: &View, key: &OutboundKey) -> ClassSets {
        let (mut cds, mut eds) = (clusters::special(view, key, &self.memos), Vec::new());
        Planner::new(view, key, &self.memos).all(|mut planned| {
            let assignment = planned.assignment.take();
            cds.extend(clusters::cluster(planned, &self.memos));
            eds.extend(assignment.map(|input| endpoints::encode(input, &self.memos)));
        });
        let made = listeners(view, key, &self.memos);
        let rds = made
            .route_names
            .iter()
            .map(|name| route(view, key, name, &self.memos))
            .collect();
        let set = |items| self.sets.intern(Set::new(items));
        ClassSets {
            view: view.clone(),
            cds: set(cds),
            eds: set(eds),
            lds: set(made.resources),
            rds: set(rds),
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
            return self.replaced(old, self.outbound(view, key));
        };
        let mut new = ClassSets {
            view: view.clone(),
            ..old.clone()
        };
        if !changes.cluster_hosts.is_empty() || !changes.endpoint_hosts.is_empty() {
            self.update_clusters(&mut new, old, view, key, &changes);
        }
        if changes.listeners {
            let made = listeners(view, key, &self.memos);
            new.lds = self.exchanged(&old.lds, made.resources);
            let rds = made.route_names.iter().map(|name| match old.rds.get(name) {
                Some(known) if !changes.route(name) => known.clone(),
                Some(_) | None => route(view, key, name, &self.memos),
            });
            new.rds = self.exchanged(&old.rds, rds.collect());
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
            new.rds = self.sets.intern(old.rds.with_changes(put, []));
        }
        new
    }

    /// Clusters and endpoints of the hosts that changed.
    fn update_clusters(
        &self,
        new: &mut ClassSets,
        old: &ClassSets,
        view: &View,
        key: &OutboundKey,
        changes: &Changes,
    ) {
        let planner = Planner::new(view, key, &self.memos);
        let (mut cds, mut eds) = (Edits::default(), Edits::default());
        let plan = |host: &Hostname, with_clusters: bool, cds: &mut Edits, eds: &mut Edits| {
            planner.host(host, |mut planned| {
                let assignment = planned.assignment.take();
                eds.put
                    .extend(assignment.map(|input| endpoints::encode(input, &self.memos)));
                if with_clusters || planned.has_inline_endpoints() {
                    let name = planned.name().to_string();
                    match clusters::cluster(planned, &self.memos) {
                        Some(cluster) => cds.put.push(cluster),
                        None => cds.removed.push(name),
                    }
                }
            });
        };
        let before = Planner::new(&old.view, key, &self.memos);
        for host in &changes.cluster_hosts {
            // Names that vanished. What is put again below wins over its removal.
            before.host(host, |planned| {
                let name = planned.name().to_string();
                cds.removed.push(name.clone());
                eds.removed.push(name);
            });
            plan(host, true, &mut cds, &mut eds);
        }
        for host in changes.endpoint_hosts.difference(&changes.cluster_hosts) {
            plan(host, false, &mut cds, &mut eds);
        }
        new.cds = self.edited(&old.cds, cds);
        new.eds = self.edited(&old.eds, eds);
    }

    /// Everything of an inbound class.
    pub fn inbound(&self, view: &View, key: &InboundKey) -> InboundSets {
        let set = |items| self.sets.intern(Set::new(items));
        InboundSets {
            cds: set(clusters::inbound(view, key, &self.memos)),
            lds: set(listeners::inbound(view, key, &self.memos)),
        }
    }

    /// The new sets, or the old ones where nothing differs.
    fn replaced(&self, old: &ClassSets, new: ClassSets) -> ClassSets {
        let keep = |old: &Arc<Set>, new: Arc<Set>| self.exchanged(old, new.items().to_vec());
        ClassSets {
            cds: keep(&old.cds, new.cds),
            eds: keep(&old.eds, new.eds),
            lds: keep(&old.lds, new.lds),
            rds: keep(&old.rds, new.rds),
            view: new.view,
        }
    }

    /// The old set brought to these items. It remembers the step, so that streams need not compare the whole.
    fn exchanged(&self, old: &Arc<Set>, items: Vec<Arc<Encoded>>) -> Arc<Set> {
        let new = Arc::new(Set::new(items));
        let mut edits = Edits::default();
        old.diff(&new, |change| match change {
            Change::Put(e) => edits.put.push(e),
            Change::Removed(e) => edits.removed.push(e.name().to_string()),
        });
        self.edited(old, edits)
    }

    fn edited(&self, old: &Arc<Set>, edits: Edits) -> Arc<Set> {
        if edits.put.is_empty() && edits.removed.is_empty() {
            return old.clone();
        }
        // Classes that share a set nearly always see the same change of it, one after the other.
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let known = steps.iter().find(|step| step.is(old, &edits));
        if let Some(new) = known.and_then(|step| step.to.upgrade()) {
            return new;
        }
        let mut step = Step {
            from: Arc::downgrade(old),
            put: edits.put.iter().map(Arc::downgrade).collect(),
            removed: edits.removed.clone(),
            to: Weak::new(),
        };
        let removed = edits.removed.iter().map(String::as_str);
        let mut new = old.with_changes(edits.put, removed);
        if !Arc::ptr_eq(old, &new) {
            new = self.sets.intern(new);
        }
        step.to = Arc::downgrade(&new);
        steps.truncate(STEPS - 1);
        steps.push_front(step);
        new
    }
}

/// Changes of one set.
#[derive(Default)]
struct Edits {
    put: Vec<Arc<Encoded>>,
    removed: Vec<String>,
}

/// What became of a set. Holds nothing.
struct Step {
    from: Weak<Set>,
    put: Vec<Weak<Encoded>>,
    removed: Vec<String>,
    to: Weak<Set>,
}

impl Step {
    fn is(&self, from: &Arc<Set>, edits: &Edits) -> bool {
        let mut pairs = self.put.iter().zip(&edits.put);
        std::ptr::eq(self.from.as_ptr(), Arc::as_ptr(from))
            && self.removed == edits.removed
            && self.put.len() == edits.put.len()
            && pairs.all(|(a, b)| std::ptr::eq(a.as_ptr(), Arc::as_ptr(b)))
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
            .with(TypeId::Cds, layers(&self.cds, inbound.map(|i| &i.cds)))
            .with(TypeId::Eds, layers(&self.eds, None))
            .with(TypeId::Lds, layers(&self.lds, inbound.map(|i| &i.lds)))
            .with(TypeId::Rds, layers(&self.rds, None))
    }
}

/// What is answered for a name that nobody has: an empty resource for types whose clients wait for one, else nothing.
pub fn missing(type_id: TypeId, name: &str) -> Option<Arc<Encoded>> {
    match type_id {
        TypeId::Eds => Some(Arc::new(endpoints::empty(name))),
        TypeId::Rds => Some(Arc::new(routes::empty(name))),
        TypeId::Cds | TypeId::Lds | TypeId::Sds | TypeId::Ecds | TypeId::Nds | TypeId::Pcds => None,
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
