//! What the planner's thread owns: the mesh, the classes of proxies, and who is in them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use mesh_config::resource::normal::JwksSource;
use mesh_model::{Change, Delta, Mesh, PolicySettings, Proxy, ProxyKind, Touch};
use mesh_types::{Kind, Revision};
use pilot_core::generate::{ClassSets, Generator, InboundSets};
use pilot_core::{InboundKey, Options, OutboundKey};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use xds_core::Snapshot;

use super::{Command, ConnectionId};
use crate::metrics::Metrics;
use crate::roster::Roster;
use crate::trust::ServedTrust;

/// An outbound class: what was made for it, and who is in it.
struct Class {
    sets: ClassSets,
    members: HashSet<ConnectionId>,
}

/// An inbound class.
struct Inbound {
    sets: InboundSets,
    members: HashSet<ConnectionId>,
}

struct Member {
    proxy: Box<Proxy>,
    outbound: Arc<OutboundKey>,
    inbound: Option<Arc<InboundKey>>,
    snapshots: watch::Sender<Arc<Snapshot>>,
}

pub(super) struct State {
    mesh: Mesh,
    generator: Generator,
    classes: HashMap<Arc<OutboundKey>, Class>,
    inbound: HashMap<Arc<InboundKey>, Inbound>,
    members: HashMap<ConnectionId, Member>,
    by_address: HashMap<IpAddr, BTreeSet<ConnectionId>>,
    trust: Option<Arc<ServedTrust>>,
    wants: watch::Sender<Arc<BTreeSet<JwksSource>>>,
    roster: Arc<Roster>,
    metrics: Metrics,
}

impl State {
    pub(super) fn new(
        roster: Arc<Roster>,
        metrics: Metrics,
        (options, policies): (Options, PolicySettings),
        wants: watch::Sender<Arc<BTreeSet<JwksSource>>>,
    ) -> State {
        State {
            mesh: Mesh::default().with_policies(policies),
            generator: Generator::new(options),
            classes: HashMap::new(),
            inbound: HashMap::new(),
            members: HashMap::new(),
            by_address: HashMap::new(),
            trust: None,
            wants,
            roster,
            metrics,
        }
    }

    pub(super) fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        while let Some(command) = inbox.blocking_recv() {
            match command {
                Command::Apply {
                    revision,
                    changes,
                    arrived,
                    done,
                } => {
                    self.metrics.applying(revision, &changes, arrived);
                    self.apply(revision, &changes);
                    let _ = done.send(());
                }
                Command::Facts(changes) => self.apply(self.mesh.revision(), &changes),
                Command::Trust(trust) => self.serve_trust(trust),
                Command::Connect { id, proxy, reply } => {
                    let _ = reply.send(self.connect(id, proxy));
                }
                Command::Disconnect(id) => self.disconnect(id),
                Command::Inspect(reply) => {
                    let _ = reply.send(self.mesh.clone());
                }
                Command::Unprotected(reply) => {
                    let proxies = self.members.values().filter_map(|member| {
                        let class = self.classes.get(&member.outbound)?;
                        Some((&*member.proxy, &*class.sets.view.peers))
                    });
                    let _ = reply.send(crate::unprotected::findings(&self.mesh, proxies));
                }
            }
        }
    }

    fn connect(
        &mut self,
        id: ConnectionId,
        mut proxy: Box<Proxy>,
    ) -> watch::Receiver<Arc<Snapshot>> {
        self.mesh.complete(&mut proxy);
        for address in &proxy.addresses {
            self.by_address.entry(*address).or_default().insert(id);
        }
        let (outbound, inbound) = self.join_classes(id, &proxy);
        let snapshot = self.snapshot(&outbound, inbound.as_ref());
        let (snapshots, receiver) = watch::channel(Arc::new(snapshot));
        let member = Member {
            proxy,
            outbound,
            inbound,
            snapshots,
        };
        self.members.insert(id, member);
        receiver
    }

    fn disconnect(&mut self, id: ConnectionId) {
        let Some(member) = self.members.remove(&id) else {
            return;
        };
        for address in &member.proxy.addresses {
            if let Some(ids) = self.by_address.get_mut(address) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_address.remove(address);
                }
            }
        }
        self.leave_outbound(id, &member.outbound);
        if let Some(inbound) = &member.inbound {
            self.leave_inbound(id, inbound);
        }
    }

    /// Puts a proxy into its classes, which are made if it is the first of its kind.
    fn join_classes(
        &mut self,
        id: ConnectionId,
        proxy: &Proxy,
    ) -> (Arc<OutboundKey>, Option<Arc<InboundKey>>) {
        let key = OutboundKey::of(&self.mesh, proxy);
        let key = match self.classes.get_key_value(&key) {
            Some((known, _)) => known.clone(),
            None => Arc::new(key),
        };
        let class = self.classes.entry(key.clone()).or_insert_with(|| {
            let view = self.mesh.view(&key.view);
            Class {
                sets: self.generator.outbound(&view, &key),
                members: HashSet::new(),
            }
        });
        class.members.insert(id);
        if proxy.kind == ProxyKind::Router {
            return (key, None);
        }
        let view = &class.sets.view;
        let inbound = InboundKey::of(&self.mesh, view, proxy);
        let inbound = match self.inbound.get_key_value(&inbound) {
            Some((known, _)) => known.clone(),
            None => Arc::new(inbound),
        };
        let class = self
            .inbound
            .entry(inbound.clone())
            .or_insert_with(|| Inbound {
                sets: self.generator.inbound(view, &inbound),
                members: HashSet::new(),
            });
        class.members.insert(id);
        (key, Some(inbound))
    }

    fn leave_outbound(&mut self, id: ConnectionId, key: &Arc<OutboundKey>) {
        if let Some(class) = self.classes.get_mut(key) {
            class.members.remove(&id);
            if class.members.is_empty() {
                self.classes.remove(key);
            }
        }
    }

    fn leave_inbound(&mut self, id: ConnectionId, key: &Arc<InboundKey>) {
        if let Some(class) = self.inbound.get_mut(key) {
            class.members.remove(&id);
            if class.members.is_empty() {
                self.inbound.remove(key);
            }
        }
    }

    fn snapshot(&self, outbound: &OutboundKey, inbound: Option<&Arc<InboundKey>>) -> Snapshot {
        let revision = self.mesh.revision().0;
        let own = inbound
            .and_then(|key| self.inbound.get(key))
            .map(|class| &class.sets);
        let snapshot = match self.classes.get(outbound) {
            Some(class) => class.sets.snapshot(own, revision),
            None => Snapshot::new(revision),
        };
        match &self.trust {
            Some(trust) => trust.add_to(snapshot),
            None => snapshot,
        }
    }

    fn apply(&mut self, revision: Revision, changes: &[Change]) {
        let started = Instant::now();
        let (mesh, delta) = self.mesh.apply(revision, changes);
        self.mesh = mesh;
        let mut stale = self.update_classes(&delta);
        for id in self.misplaced(&delta) {
            if self.place_anew(id) {
                stale.insert(id);
            }
        }
        for id in &stale {
            self.send_snapshot(id);
        }
        self.metrics
            .built(revision, started.elapsed(), self.classes.len());
        self.count(changes);
        self.roster.built(revision);
    }

    /// Hands a proxy what it should have now, if that is something else than before.
    fn send_snapshot(&self, id: &ConnectionId) {
        let Some(member) = self.members.get(id) else {
            return;
        };
        let snapshot = self.snapshot(&member.outbound, member.inbound.as_ref());
        member.snapshots.send_if_modified(|current| {
            let differs = !current.same_content(&snapshot);
            if differs {
                *current = Arc::new(snapshot);
            }
            differs
        });
    }

    /// Every proxy is offered the bundle, and refuses whom it denies.
    fn serve_trust(&mut self, trust: Arc<ServedTrust>) {
        let denied = trust.denied();
        self.trust = Some(trust);
        self.apply(self.mesh.revision(), &[denied]);
        for id in self.members.keys() {
            self.send_snapshot(id);
        }
        self.roster.tell();
    }

    /// Sizes of the mesh and what it wants fetched, looked at only when that may have changed.
    fn count(&self, changes: &[Change]) {
        let concerns = |kind: Kind| {
            changes.iter().any(|change| match change {
                Change::Upsert(object) => object.meta.key.kind == kind,
                Change::Delete(key) => key.kind == kind,
            })
        };
        if concerns(Kind::RequestAuthentication) {
            let wanted = Arc::new(self.mesh.wanted_keys());
            self.wants.send_if_modified(|known| {
                let differs = *known != wanted;
                if differs {
                    *known = wanted;
                }
                differs
            });
        }
        if concerns(Kind::MeshService) {
            self.metrics.services(self.mesh.services().count());
        }
        if concerns(Kind::VirtualService) {
            let objects = self.mesh.objects();
            let rules = objects.filter(|o| o.meta.key.kind == Kind::VirtualService);
            self.metrics.virtual_services(rules.count());
        }
    }

    /// Makes anew what a change touches, class by class; returns whose resources are others now.
    fn update_classes(&mut self, delta: &Delta) -> HashSet<ConnectionId> {
        let mut stale = HashSet::new();
        if delta.is_empty() {
            return stale;
        }
        for (key, class) in &mut self.classes {
            let touch = self.mesh.touch(&class.sets.view, delta);
            if touch.is_none() {
                continue;
            }
            let view = self.mesh.update_view(&class.sets.view, &touch);
            let sets = self
                .generator
                .outbound_update(&class.sets, &view, key, delta);
            if !same_outbound(&sets, &class.sets) {
                stale.extend(&class.members);
            }
            class.sets = sets;
            if !inbound_may_change(&touch) {
                continue;
            }
            let siblings = self
                .inbound
                .iter_mut()
                .filter(|(inbound, _)| inbound.view == key.view);
            for (inbound, own) in siblings {
                let sets = self.generator.inbound(&class.sets.view, inbound);
                if !same_inbound(&sets, &own.sets) {
                    stale.extend(&own.members);
                }
                own.sets = sets;
            }
        }
        stale
    }

    /// Proxies that may belong to other classes now: their workload, their services, or what selectors read changed.
    fn misplaced(&self, delta: &Delta) -> BTreeSet<ConnectionId> {
        if delta.mesh_config || delta.selectors || !delta.sidecars.is_empty() {
            return self.members.keys().copied().collect();
        }
        let addresses = delta.addresses.iter();
        let mut ids: BTreeSet<_> = addresses
            .filter_map(|address| self.by_address.get(address))
            .flatten()
            .copied()
            .collect();
        if !delta.services.is_empty() {
            let in_namespace =
                |namespace: &str| delta.services.iter().any(|(n, _)| **n == *namespace);
            for (id, member) in &self.members {
                let targets = member.inbound.iter().flat_map(|key| &key.targets);
                let mut services = targets.map(|target| &target.service.key.namespace);
                if in_namespace(&member.proxy.namespace) || services.any(|n| in_namespace(n)) {
                    ids.insert(*id);
                }
            }
        }
        ids
    }

    /// Puts a proxy into the classes it belongs to now; returns whether they are others than before.
    fn place_anew(&mut self, id: ConnectionId) -> bool {
        let Some(mut member) = self.members.remove(&id) else {
            return false;
        };
        self.mesh.complete(&mut member.proxy);
        let (outbound, inbound) = self.join_classes(id, &member.proxy);
        let moved_out = outbound != member.outbound;
        let moved_in = inbound != member.inbound;
        if moved_out {
            self.leave_outbound(id, &member.outbound);
        }
        if let (true, Some(old)) = (moved_in, &member.inbound) {
            self.leave_inbound(id, old);
        }
        (member.outbound, member.inbound) = (outbound, inbound);
        self.members.insert(id, member);
        moved_out || moved_in
    }
}

/// Whether what a proxy accepts may follow from a change: endpoints and routes of others never matter to it.
fn inbound_may_change(touch: &Touch) -> bool {
    touch.everything || touch.sidecar || touch.peers || touch.policies || touch.rules_changed()
}

/// Unchanged sets keep their pointer.
fn same_outbound(a: &ClassSets, b: &ClassSets) -> bool {
    let pairs = [
        (&a.clusters.cds, &b.clusters.cds),
        (&a.clusters.eds, &b.clusters.eds),
        (&a.lds, &b.lds),
        (&a.rds, &b.rds),
        (&a.sds, &b.sds),
        (&a.nds, &b.nds),
    ];
    pairs.into_iter().all(|(a, b)| Arc::ptr_eq(a, b))
}

fn same_inbound(a: &InboundSets, b: &InboundSets) -> bool {
    Arc::ptr_eq(&a.cds, &b.cds) && Arc::ptr_eq(&a.lds, &b.lds)
}
