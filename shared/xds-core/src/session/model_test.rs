//! Random schedules of changes, requests, losses and rejections against a client that behaves like Envoy: whatever happens, the client ends up with
//! the snapshot, nothing waits for ever, and nothing is sent twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use prost::Message;

use super::{InterestChange, Outcome, Session, Setup};
use crate::testing::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Status,
};
use crate::{Encoded, Layers, Response, Set, Snapshot, TypeId};
use TypeId::{Cds, Eds, Rds};

const TYPES: [TypeId; 3] = [Cds, Eds, Rds];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Op {
    /// A resource gets a value or goes.
    Change(usize, usize, Option<u8>),
    /// The client wants these routes.
    Routes(u8),
    Poll,
    ServerReads,
    ClientReads,
    Reconnect,
}

fn ops(bad: bool) -> impl Strategy<Value = Vec<Op>> {
    let value =
        prop_oneof![3 => (0u8..3).prop_map(Some), 1 => Just(None), u32::from(bad) => Just(Some(9))];
    let op = prop_oneof![
        4 => (0usize..3, 0usize..4, value).prop_map(|(t, n, v)| Op::Change(t, n, v)),
        1 => (0u8..16).prop_map(Op::Routes),
        4 => Just(Op::Poll),
        4 => Just(Op::ServerReads),
        4 => Just(Op::ClientReads),
        1 => Just(Op::Reconnect),
    ];
    proptest::collection::vec(op, 0..80)
}

/// Which rejections a client makes.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Temper {
    /// Takes what is good and names what is bad.
    Precise,
    /// Takes all or nothing and does not say why.
    Vague,
}

enum Message_ {
    Sotw(DiscoveryRequest),
    Delta(DeltaDiscoveryRequest),
}

/// A client of either protocol, with Envoy's habits: endpoints are subscribed for the clusters it has, a changed cluster warms until its endpoints
/// come, and requests for clusters are held back while any warms.
struct Client {
    delta: bool,
    temper: Temper,
    state: BTreeMap<TypeId, BTreeMap<String, String>>,
    wants: BTreeMap<TypeId, BTreeSet<String>>,
    version: BTreeMap<TypeId, String>,
    nonce: BTreeMap<TypeId, String>,
    asked: BTreeSet<TypeId>,
    warming: BTreeSet<String>,
    held_back: Vec<(String, Option<String>)>,
    outbox: VecDeque<Message_>,
}

fn encoded(t: TypeId, value: &str) -> Encoded {
    Encoded::new(&value[..1], t, value.as_bytes())
}

fn missing(t: TypeId, name: &str) -> Option<Arc<Encoded>> {
    matches!(t, Eds | Rds).then(|| Arc::new(encoded(t, &format!("{name}-"))))
}

impl Client {
    fn have(&mut self, t: TypeId) -> &mut BTreeMap<String, String> {
        self.state.entry(t).or_default()
    }

    fn connect(&mut self) {
        self.outbox.clear();
        self.nonce.clear();
        self.asked.clear();
        self.held_back.clear();
        if self.warming.is_empty() {
            self.send(Cds, None, &[], &[]);
        } else {
            self.held_back.push((String::new(), None));
        }
        for t in [Eds, Rds] {
            let names: Vec<String> = self.wants.entry(t).or_default().iter().cloned().collect();
            if !names.is_empty() {
                self.send(t, None, &names, &[]);
            }
        }
    }

    /// Sends a request: an ACK or NACK of `answer`, or none.
    fn send(
        &mut self,
        t: TypeId,
        answer: Option<(String, Option<String>)>,
        add: &[String],
        drop: &[String],
    ) {
        let first = self.asked.insert(t);
        let (nonce, error) = answer.unwrap_or_default();
        let error_detail = error.map(|message| Status { code: 13, message });
        let type_url = t.url().to_owned();
        if self.delta {
            let versions = |(n, v): (&String, &String)| {
                (n.clone(), format!("{:016x}", encoded(t, v).version()))
            };
            let initial_resource_versions = if first {
                self.have(t).iter().map(versions).collect()
            } else {
                BTreeMap::new()
            };
            self.outbox
                .push_back(Message_::Delta(DeltaDiscoveryRequest {
                    node: None,
                    type_url,
                    resource_names_subscribe: add.to_vec(),
                    resource_names_unsubscribe: drop.to_vec(),
                    initial_resource_versions,
                    response_nonce: nonce,
                    error_detail,
                }));
        } else {
            let response_nonce = self.nonce.get(&t).cloned().unwrap_or_default();
            let resource_names = self
                .wants
                .get(&t)
                .map(|w| w.iter().cloned().collect())
                .unwrap_or_default();
            self.outbox.push_back(Message_::Sotw(DiscoveryRequest {
                version_info: self.version.get(&t).cloned().unwrap_or_default(),
                node: None,
                resource_names,
                type_url,
                response_nonce,
                error_detail,
            }));
        }
    }

    fn want(&mut self, t: TypeId, names: BTreeSet<String>, again: bool) {
        let old = self.wants.insert(t, names.clone()).unwrap_or_default();
        let add: Vec<_> = names.difference(&old).cloned().collect();
        let drop: Vec<_> = old.difference(&names).cloned().collect();
        self.have(t).retain(|n, _| names.contains(n));
        if !add.is_empty() || !drop.is_empty() || (again && !self.delta && !names.is_empty()) {
            self.send(t, None, &add, &drop);
        }
    }

    fn receive(&mut self, r: &Response) {
        let t = r.type_id;
        let bytes = r.to_bytes().slice(5..);
        let (nonce, version, values, removed) = if self.delta {
            let m = DeltaDiscoveryResponse::decode(bytes).unwrap();
            let values = m
                .resources
                .into_iter()
                .map(|r| r.resource.unwrap().value)
                .collect::<Vec<_>>();
            (m.nonce, m.system_version_info, values, m.removed_resources)
        } else {
            let m = DiscoveryResponse::decode(bytes).unwrap();
            (
                m.nonce,
                m.version_info,
                m.resources.into_iter().map(|a| a.value).collect(),
                vec![],
            )
        };
        let values: Vec<String> = values
            .into_iter()
            .map(|v| String::from_utf8(v).unwrap())
            .collect();
        let names: BTreeSet<String> = values.iter().map(|v| v[..1].to_owned()).collect();
        assert_eq!(
            names.len(),
            values.len(),
            "duplicate names are an error to Envoy"
        );
        self.nonce.insert(t, nonce.clone());

        let bad: Vec<&str> = values
            .iter()
            .filter(|v| v.ends_with('9'))
            .map(|v| &v[..1])
            .collect();
        let error = (!bad.is_empty()).then(|| match self.temper {
            Temper::Precise => format!("rejected: {}", bad.join(", ")),
            Temper::Vague => "validation failed".to_owned(),
        });
        let mut clusters_changed = false;
        if error.is_none() || self.temper == Temper::Precise {
            for v in values.iter().filter(|v| !v.ends_with('9')) {
                let name = v[..1].to_owned();
                if t != Cds && !self.wants.get(&t).is_some_and(|w| w.contains(&name)) {
                    continue;
                }
                let old = self.have(t).insert(name.clone(), v.clone());
                match t {
                    Cds if old.as_ref() != Some(v) => {
                        clusters_changed = true;
                        self.warming.insert(name);
                    }
                    Eds => {
                        self.warming.remove(&name);
                    }
                    _ => {}
                }
            }
            if t == Cds {
                let full = !self.delta;
                self.have(t)
                    .retain(|n, _| !removed.contains(n) && (!full || names.contains(n)));
                let clusters: BTreeSet<String> = self.have(t).keys().cloned().collect();
                self.warming.retain(|n| clusters.contains(n));
                self.want(Eds, clusters, clusters_changed);
            } else {
                removed.iter().for_each(|n| {
                    self.have(t).remove(n);
                });
            }
        }
        if error.is_none() {
            self.version.insert(t, version);
        }
        if t == Cds {
            if !self.delta {
                self.held_back.clear(); // one answer for all
            }
            self.held_back.push((nonce, error));
        } else if !self.wants.get(&t).is_some_and(BTreeSet::is_empty) || self.delta {
            self.send(t, Some((nonce, error)), &[], &[]);
        }
        if self.warming.is_empty() {
            for answer in std::mem::take(&mut self.held_back) {
                self.send(Cds, Some(answer), &[], &[]);
            }
        }
    }
}

struct World {
    client: Client,
    setup: Arc<Setup>,
    session: Session,
    snapshot: Snapshot,
    values: BTreeMap<TypeId, BTreeMap<String, String>>,
    inbox: VecDeque<Response>,
    /// What the server knows the client to have: of types where nothing forces a repetition, it must not be sent again.
    known: BTreeMap<TypeId, BTreeMap<String, u64>>,
    check_repeats: bool,
}

impl World {
    fn new(delta: bool, temper: Temper, check_repeats: bool) -> Self {
        let client = Client {
            delta,
            temper,
            state: BTreeMap::new(),
            wants: BTreeMap::new(),
            version: BTreeMap::new(),
            nonce: BTreeMap::new(),
            asked: BTreeSet::new(),
            warming: BTreeSet::new(),
            held_back: Vec::new(),
            outbox: VecDeque::new(),
        };
        let setup = Arc::new(Setup {
            expects: [Cds].into(),
            ..Setup::default()
        });
        let session = Self::open(delta, &setup);
        let mut world = Self {
            client,
            setup,
            session,
            snapshot: Snapshot::new(1),
            values: BTreeMap::new(),
            inbox: VecDeque::new(),
            known: BTreeMap::new(),
            check_repeats,
        };
        world.client.connect();
        world
    }

    fn open(delta: bool, setup: &Arc<Setup>) -> Session {
        if delta {
            Session::delta(setup.clone())
        } else {
            Session::sotw(setup.clone())
        }
    }

    fn change(&mut self, t: TypeId, name: &str, value: Option<u8>) {
        let values = self.values.entry(t).or_default();
        match value {
            Some(v) => values.insert(name.into(), format!("{name}{v}")),
            None => values.remove(name),
        };
        // Two layers, the way proxies get them, and now and then a set made from the one before.
        let part = |low: bool| -> Vec<Arc<Encoded>> {
            let of = |(_, v): &(&String, &String)| (v.as_str() < "c") == low;
            values
                .iter()
                .filter(of)
                .map(|(_, v)| Arc::new(encoded(t, v)))
                .collect()
        };
        let old = self
            .snapshot
            .layers(t)
            .sets()
            .first()
            .cloned()
            .unwrap_or_else(|| Arc::new(Set::empty()));
        let gone: Vec<_> = old
            .items()
            .iter()
            .map(|e| e.name().clone())
            .filter(|n| !values.contains_key(&**n) || &**n >= "c")
            .collect();
        let first = old.with_changes(part(true), gone.iter().map(|n| &**n));
        self.snapshot.revision += 1;
        self.snapshot.set(
            t,
            Layers::new([first, Arc::new(Set::from_sorted(part(false)))]),
        );
    }

    fn poll(&mut self) -> bool {
        let Some(r) = self.session.poll(&self.snapshot, &missing) else {
            return false;
        };
        let t = r.type_id;
        let m = r.to_bytes().slice(5..);
        let sent: Vec<Vec<u8>> = if self.client.delta {
            let m = DeltaDiscoveryResponse::decode(m).unwrap();
            for name in &m.removed_resources {
                self.known.entry(t).or_default().remove(name);
            }
            m.resources
                .into_iter()
                .map(|r| r.resource.unwrap().value)
                .collect()
        } else {
            DiscoveryResponse::decode(m)
                .unwrap()
                .resources
                .into_iter()
                .map(|a| a.value)
                .collect()
        };
        let repeats_allowed = !self.check_repeats || t == Eds || (t == Cds && !self.client.delta);
        for value in sent {
            let e = encoded(t, std::str::from_utf8(&value).unwrap());
            let old = self
                .known
                .entry(t)
                .or_default()
                .insert(e.name().to_string(), e.version());
            assert!(
                repeats_allowed || old != Some(e.version()),
                "{t} {e:?} sent again"
            );
        }
        self.inbox.push_back(r);
        true
    }

    fn server_reads(&mut self) -> bool {
        let Some(m) = self.client.outbox.pop_front() else {
            return false;
        };
        let (bytes, add, initial) = match m {
            Message_::Sotw(m) => (m.encode_to_vec(), vec![], BTreeMap::new()),
            Message_::Delta(m) => (
                m.encode_to_vec(),
                m.resource_names_subscribe,
                m.initial_resource_versions,
            ),
        };
        let request = self.session.parse(bytes.into()).unwrap();
        let Outcome::Known {
            type_id: t, change, ..
        } = self.session.on_request(request).unwrap()
        else {
            panic!("known types only")
        };
        let known = self.known.entry(t).or_default();
        if change == InterestChange::Opened {
            *known = initial
                .iter()
                .map(|(n, v)| (n.clone(), u64::from_str_radix(v, 16).unwrap()))
                .collect();
        } else {
            known.retain(|n, _| !add.contains(n));
        }
        let watch = &self.session.watches[t.index()];
        known.retain(|n, _| {
            watch
                .as_ref()
                .is_some_and(|w| w.interest.covers(n.as_bytes()))
        });
        true
    }

    fn client_reads(&mut self) -> bool {
        self.inbox.pop_front().is_some_and(|r| {
            self.client.receive(&r);
            true
        })
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Change(t, n, v) => {
                // endpoints are never bad: rejections are about clusters and routes
                let v = v.map(|v| if TYPES[*t] == Eds { v % 3 } else { v });
                self.change(TYPES[*t], NAMES[*n], v);
            }
            Op::Routes(mask) => {
                let names = NAMES.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1);
                self.client
                    .want(Rds, names.map(|(_, n)| n.to_string()).collect(), false);
            }
            Op::Poll => drop(self.poll()),
            Op::ServerReads => drop(self.server_reads()),
            Op::ClientReads => drop(self.client_reads()),
            Op::Reconnect => {
                self.session = Self::open(self.client.delta, &self.setup);
                self.inbox.clear();
                self.known.clear();
                self.client.connect();
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            let mut moved = false;
            while self.server_reads() || self.poll() {
                moved = true;
            }
            while self.client_reads() {
                moved = true;
            }
            if !moved {
                return;
            }
        }
        panic!("never comes to rest");
    }

    /// Compares the client with the snapshot; `bad` values may be missing.
    fn check(&self, strict: bool) {
        let empty = BTreeMap::new();
        for t in TYPES {
            let have = self.client.state.get(&t).unwrap_or(&empty);
            let values = self.values.get(&t).unwrap_or(&empty);
            let want: BTreeMap<String, String> = match t {
                Cds => values.clone(),
                _ => {
                    let names = self.client.wants.get(&t).into_iter().flatten();
                    names
                        .map(|n| {
                            (
                                n.clone(),
                                values.get(n).cloned().unwrap_or_else(|| format!("{n}-")),
                            )
                        })
                        .collect()
                }
            };
            for name in NAMES {
                match (have.get(name), want.get(name)) {
                    (have, Some(want)) if want.ends_with('9') => {
                        assert!(
                            !strict && have.is_none_or(|v| !v.ends_with('9')),
                            "{t} {name}: {have:?}"
                        );
                    }
                    (have, want) => assert_eq!(have, want, "{t} {name}"),
                }
            }
        }
        assert!(
            self.client.warming.is_empty(),
            "{:?} wait for endpoints",
            self.client.warming
        );
        if strict {
            assert!(
                self.session.is_synced(&self.snapshot),
                "{:?}",
                self.session.statuses().collect::<Vec<_>>()
            );
        }
    }
}

fn good(delta: bool, ops: &[Op]) {
    let mut world = World::new(delta, Temper::Precise, true);
    ops.iter().for_each(|op| world.run(op));
    world.settle();
    world.check(true);
    assert!(world.session.poll(&world.snapshot, &missing).is_none());
}

fn bad(delta: bool, temper: Temper, ops: &[Op]) {
    let mut world = World::new(delta, temper, false);
    ops.iter().for_each(|op| world.run(op));
    world.settle();
    if temper == Temper::Precise {
        world.check(false);
    }
    for t in TYPES {
        for name in NAMES {
            world.change(t, name, Some(7));
        }
    }
    world.settle();
    world.check(true);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn sotw_converges(ops in ops(false)) { good(false, &ops); }

    #[test]
    fn delta_converges(ops in ops(false)) { good(true, &ops); }

    #[test]
    fn sotw_converges_around_rejections(ops in ops(true)) { bad(false, Temper::Precise, &ops); }

    #[test]
    fn delta_converges_around_rejections(ops in ops(true)) { bad(true, Temper::Precise, &ops); }

    #[test]
    fn sotw_recovers_from_vague_rejections(ops in ops(true)) { bad(false, Temper::Vague, &ops); }

    #[test]
    fn delta_recovers_from_vague_rejections(ops in ops(true)) { bad(true, Temper::Vague, &ops); }

    #[test]
    fn arbitrary_requests_never_panic(
        messages in proptest::collection::vec((0usize..9, "[a-c*]{0,2}", "[a-c*]{0,2}", 0usize..4, any::<bool>()), 0..30),
        delta in any::<bool>(),
    ) {
        let mut session = World::open(delta, &Arc::default());
        let set = Set::new(["a1", "b1"].map(|v| Arc::new(encoded(Cds, v))).into());
        let snapshot = Snapshot::new(1).with(Cds, Arc::new(set));
        let mut nonces = vec![String::new(), "1-1".into()];
        for (t, add, drop, nonce, error) in messages {
            let chars = |s: &str| s.chars().map(String::from).collect::<Vec<_>>();
            let type_url = TypeId::ALL.get(t).map_or("other", |t| t.url()).to_owned();
            let response_nonce = nonces[nonce % nonces.len()].clone();
            let error_detail = error.then(|| Status { code: 1, message: add.clone() });
            let bytes = if delta {
                DeltaDiscoveryRequest {
                    resource_names_subscribe: chars(&add), resource_names_unsubscribe: chars(&drop), type_url, response_nonce, error_detail,
                    ..Default::default()
                }.encode_to_vec()
            } else {
                DiscoveryRequest { resource_names: chars(&add), type_url, response_nonce, error_detail, ..Default::default() }.encode_to_vec()
            };
            let request = session.parse(bytes.into()).unwrap();
            session.on_request(request).unwrap();
            for _ in 0..20 {
                let Some(r) = session.poll(&snapshot, &missing) else { break };
                nonces.push(r.nonce.to_string());
            }
            prop_assert!(session.poll(&snapshot, &missing).is_none());
        }
    }
}
