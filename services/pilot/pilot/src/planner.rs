//! The only owner of the mesh: takes change sets and proxies, decides what every proxy should have, and hands snapshots to streams.
//!
//! It runs on a thread of its own, since building is work and not waiting. Streams read snapshots from `watch` channels; a proxy whose
//! snapshot has not changed is not woken.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use mesh_model::{Change, Delta, Mesh, Proxy, ProxyKind, Touch, View};
use mesh_types::Revision;
use pilot_core::generate::{ClassSets, Generator, InboundSets};
use pilot_core::{InboundKey, OutboundKey};
use tokio::sync::{mpsc, oneshot, watch};
use xds_core::{Layers, Snapshot, TypeId};

use crate::metrics::Metrics;
use crate::roster::Roster;

/// A connected proxy, as the planner knows it.
pub type ConnectionId = u64;

/// What the planner is asked.
pub enum Command {
    /// A change set, whole.
    Apply {
        /// Its revision.
        revision: Revision,
        /// What changes.
        changes: Vec<Change>,
    },
    /// A proxy connected; the answer is where its snapshots appear.
    Connect {
        /// Its stream.
        id: ConnectionId,
        /// Who it is.
        proxy: Box<Proxy>,
        /// Where its snapshots appear.
        reply: oneshot::Sender<watch::Receiver<Arc<Snapshot>>>,
    },
    /// A proxy left.
    Disconnect(ConnectionId),
    /// Somebody wants the mesh as it is, for reading.
    Inspect(oneshot::Sender<Mesh>),
}

/// The way to the planner.
#[derive(Clone)]
pub struct Planner {
    commands: mpsc::UnboundedSender<Command>,
}

impl Planner {
    /// Starts the planner's thread. It ends when the last `Planner` is dropped.
    pub fn start(roster: Arc<Roster>, metrics: Metrics) -> std::io::Result<Planner> {
        // Unbounded, and bounded by its senders: each stream has at most two commands under way, ingestion one.
        let (commands, inbox) = mpsc::unbounded_channel();
        std::thread::Builder::new().name("planner".into()).spawn(move || State::new(roster, metrics).run(inbox))?;
        Ok(Planner { commands })
    }

    /// Sends a command; after the planner's end nothing happens, as the process is stopping.
    pub fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Registers a proxy and returns where its snapshots appear.
    pub async fn connect(&self, id: ConnectionId, proxy: Proxy) -> Option<watch::Receiver<Arc<Snapshot>>> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Connect { id, proxy: Box::new(proxy), reply });
        answer.await.ok()
    }

    /// The mesh as it is.
    pub async fn mesh(&self) -> Option<Mesh> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Inspect(reply));
        answer.await.ok()
    }
}

/// An outbound class: its view, and what was made from it.
struct Class {
    view: View,
    sets: ClassSets,
    members: usize,
}

struct Member {
    proxy: Box<Proxy>,
    outbound: Arc<OutboundKey>,
    inbound: Option<Arc<InboundKey>>,
    snapshots: watch::Sender<Arc<Snapshot>>,
}

struct State {
    mesh: Mesh,
    generator: Generator,
    classes: HashMap<Arc<OutboundKey>, Class>,
    inbound: HashMap<Arc<InboundKey>, (InboundSets, usize)>,
    members: HashMap<ConnectionId, Member>,
    by_address: HashMap<IpAddr, BTreeSet<ConnectionId>>,
    roster: Arc<Roster>,
    metrics: Metrics,
}

impl State {
    fn new(roster: Arc<Roster>, metrics: Metrics) -> State {
        State {
            mesh: Mesh::default(),
            generator: Generator::default(),
            classes: HashMap::new(),
            inbound: HashMap::new(),
            members: HashMap::new(),
            by_address: HashMap::new(),
            roster,
            metrics,
        }
    }

    fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        while let Some(command) = inbox.blocking_recv() {
            match command {
                Command::Apply { revision, changes } => self.apply(revision, &changes),
                Command::Connect { id, proxy, reply } => {
                    let _ = reply.send(self.connect(id, proxy));
                }
                Command::Disconnect(id) => self.disconnect(id),
                Command::Inspect(reply) => {
                    let _ = reply.send(self.mesh.clone());
                }
            }
        }
    }

    fn connect(&mut self, id: ConnectionId, mut proxy: Box<Proxy>) -> watch::Receiver<Arc<Snapshot>> {
        self.mesh.complete(&mut proxy);
        for address in &proxy.addresses {
            self.by_address.entry(*address).or_default().insert(id);
        }
        let (outbound, inbound) = self.join_classes(&proxy);
        let snapshot = self.snapshot(&outbound, inbound.as_ref());
        let (snapshots, receiver) = watch::channel(Arc::new(snapshot));
        self.members.insert(id, Member { proxy, outbound, inbound, snapshots });
        receiver
    }

    fn disconnect(&mut self, id: ConnectionId) {
        let Some(member) = self.members.remove(&id) else { return };
        for address in &member.proxy.addresses {
            if let Some(ids) = self.by_address.get_mut(address) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_address.remove(address);
                }
            }
        }
        self.leave_classes(&member.outbound, member.inbound.as_ref());
    }

    /// The classes of a proxy, made if it is the first of its kind.
    fn join_classes(&mut self, proxy: &Proxy) -> (Arc<OutboundKey>, Option<Arc<InboundKey>>) {
        let key = OutboundKey::of(&self.mesh, proxy);
        let key = match self.classes.get_key_value(&key) {
            Some((known, _)) => known.clone(),
            None => {
                let view = self.mesh.view(&key.view);
                let sets = self.generator.outbound(&view, &key);
                let key = Arc::new(key);
                self.classes.insert(key.clone(), Class { view, sets, members: 0 });
                key
            }
        };
        let Some(class) = self.classes.get_mut(&key) else { return (key, None) };
        class.members += 1;
        if proxy.kind == ProxyKind::Router {
            return (key, None);
        }
        let inbound = InboundKey::of(&self.mesh, &class.view, proxy);
        let inbound = match self.inbound.get_key_value(&inbound) {
            Some((known, _)) => known.clone(),
            None => {
                let sets = self.generator.inbound(&class.view, &inbound);
                let inbound = Arc::new(inbound);
                self.inbound.insert(inbound.clone(), (sets, 0));
                inbound
            }
        };
        if let Some((_, members)) = self.inbound.get_mut(&inbound) {
            *members += 1;
        }
        (key, Some(inbound))
    }

    fn leave_classes(&mut self, outbound: &Arc<OutboundKey>, inbound: Option<&Arc<InboundKey>>) {
        if let Some(class) = self.classes.get_mut(outbound) {
            class.members -= 1;
            if class.members == 0 {
                self.classes.remove(outbound);
            }
        }
        if let Some(inbound) = inbound
            && let Some((_, members)) = self.inbound.get_mut(inbound)
        {
            *members -= 1;
            if *members == 0 {
                self.inbound.remove(inbound);
            }
        }
    }

    fn snapshot(&self, outbound: &OutboundKey, inbound: Option<&Arc<InboundKey>>) -> Snapshot {
        let mut snapshot = Snapshot::new(self.mesh.revision().0);
        let Some(class) = self.classes.get(outbound) else { return snapshot };
        let own = inbound.and_then(|key| self.inbound.get(key)).map(|(sets, _)| sets);
        let with = |shared: &Arc<xds_core::Set>, own: Option<&Arc<xds_core::Set>>| {
            Layers::new(std::iter::once(shared.clone()).chain(own.cloned()))
        };
        snapshot.set(TypeId::Cds, with(&class.sets.cds, own.map(|sets| &sets.cds)));
        snapshot.set(TypeId::Eds, with(&class.sets.eds, None));
        snapshot.set(TypeId::Lds, with(&class.sets.lds, own.map(|sets| &sets.lds)));
        snapshot.set(TypeId::Rds, with(&class.sets.rds, None));
        snapshot
    }

    fn apply(&mut self, revision: Revision, changes: &[Change]) {
        let started = Instant::now();
        let (mesh, delta) = self.mesh.apply(revision, changes);
        self.mesh = mesh;
        let changed = self.update_classes(&delta);
        let moved = self.proxies_to_place_anew(&delta);
        let mut stale = BTreeSet::new();
        for (id, member) in &self.members {
            if changed.outbound.contains(&member.outbound) || member.inbound.as_ref().is_some_and(|key| changed.inbound.contains(key)) {
                stale.insert(*id);
            }
        }
        for id in moved {
            if self.place_anew(id) {
                stale.insert(id);
            }
        }
        for id in stale {
            let Some(member) = self.members.get(&id) else { continue };
            let snapshot = self.snapshot(&member.outbound, member.inbound.as_ref());
            member.snapshots.send_if_modified(|current| {
                let differs = !current.same_content(&snapshot);
                if differs {
                    *current = Arc::new(snapshot);
                }
                differs
            });
        }
        self.metrics.built(revision, started.elapsed(), self.classes.len());
        self.roster.built(revision);
    }

    /// Regenerates what a change touches, class by class.
    fn update_classes(&mut self, delta: &Delta) -> ChangedClasses {
        let mut changed = ChangedClasses::default();
        if delta.is_empty() {
            return changed;
        }
        for (key, class) in &mut self.classes {
            let touch = self.mesh.touch(&class.view, delta);
            if touch.is_none() {
                continue;
            }
            class.view = self.mesh.update_view(&class.view, &touch);
            let sets = self.generator.outbound_update(&class.sets, &class.view, key, &touch);
            if !sets.same(&class.sets) {
                changed.outbound.insert(key.clone());
            }
            class.sets = sets;
            if inbound_may_change(&touch) {
                for (inbound, (sets, _)) in self.inbound.iter_mut().filter(|(inbound, _)| inbound.view == key.view) {
                    let new = self.generator.inbound(&class.view, inbound);
                    if !new.same(sets) {
                        *sets = new;
                        changed.inbound.insert(inbound.clone());
                    }
                }
            }
        }
        changed
    }

    /// Proxies whose place (classes) a change may move: their workload, their services, or what selectors read changed.
    fn proxies_to_place_anew(&self, delta: &Delta) -> BTreeSet<ConnectionId> {
        if delta.mesh_config || delta.selectors || !delta.sidecars.is_empty() {
            return self.members.keys().copied().collect();
        }
        let mut ids = BTreeSet::new();
        for address in &delta.addresses {
            ids.extend(self.by_address.get(address).into_iter().flatten());
        }
        if !delta.services.is_empty() {
            for (id, member) in &self.members {
                let Some(inbound) = &member.inbound else { continue };
                let own = inbound.targets.iter().any(|target| {
                    delta.services.contains(&(target.service.key.namespace.clone(), target.service.hostname.clone()))
                });
                let may_gain = delta.services.iter().any(|(namespace, _)| *namespace == member.proxy.namespace);
                if own || may_gain {
                    ids.insert(*id);
                }
            }
        }
        ids
    }

    /// Puts a proxy into the classes it belongs to now; returns whether they are others than before.
    fn place_anew(&mut self, id: ConnectionId) -> bool {
        let Some(mut member) = self.members.remove(&id) else { return false };
        self.mesh.complete(&mut member.proxy);
        let (outbound, inbound) = self.join_classes(&member.proxy);
        self.leave_classes(&member.outbound, member.inbound.as_ref());
        let moved = outbound != member.outbound || inbound != member.inbound;
        (member.outbound, member.inbound) = (outbound, inbound);
        self.members.insert(id, member);
        moved
    }
}

#[derive(Default)]
struct ChangedClasses {
    outbound: std::collections::HashSet<Arc<OutboundKey>>,
    inbound: std::collections::HashSet<Arc<InboundKey>>,
}

/// Whether what a proxy accepts may follow from a change: endpoints of others never matter to it.
fn inbound_may_change(touch: &Touch) -> bool {
    touch.everything || touch.rules_changed() || touch.sidecar_changed()
}
