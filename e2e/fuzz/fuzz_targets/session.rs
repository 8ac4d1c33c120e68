//! A client that sends anything, and snapshots that come and go: the session never panics, always comes to rest, and a client that
//! accepts what it is sent ends up with all of it.
//!
//! The input is a program, so that the corpus can be read: `D` or `S` (which protocol), then steps, see [`Step`].
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use xds_core::{Encoded, Limits, Nonce, Outcome, Response, Session, Set, Setup, Snapshot, TypeId};

const NAMES: [&str; 8] = ["a", "b", "c", "outbound|80||x", "*", "", "e.f", "~\u{fc}"];

/// More responses than one snapshot can make due: one per type, and one more of endpoints.
const MOST: usize = 2 * TypeId::COUNT;

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self, len: usize) -> &[u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }
}

/// What the client has, and what it has yet to answer.
#[derive(Default)]
struct Client {
    unanswered: Vec<(TypeId, Nonce)>,
    seen: Vec<(TypeId, Nonce)>,
}

struct World {
    session: Session,
    delta: bool,
    content: [BTreeMap<&'static str, u8>; TypeId::COUNT],
    snapshot: Snapshot,
    client: Client,
}

fn missing(type_id: TypeId, name: &str) -> Option<Arc<Encoded>> {
    matches!(type_id, TypeId::Eds | TypeId::Rds)
        .then(|| Arc::new(Encoded::new(name, type_id, b"none")))
}

impl World {
    fn poll(&mut self) -> bool {
        let Some(response) = self.session.poll(&self.snapshot, &missing) else {
            return false;
        };
        self.look(&response);
        self.client
            .unanswered
            .push((response.type_id, response.nonce));
        self.client.seen.push((response.type_id, response.nonce));
        true
    }

    fn rest(&mut self) {
        for _ in 0..MOST {
            if !self.poll() {
                return;
            }
        }
        assert!(!self.poll(), "the session does not come to rest");
    }

    /// A response is what it says it is.
    fn look(&self, response: &Response) {
        let wire = response.to_bytes();
        assert_eq!(wire.len(), 5 + response.bytes);
        assert_eq!(wire[1..5], (response.bytes as u32).to_be_bytes());
        assert_eq!(response.nonce.revision, self.snapshot.revision);
        let (mut resources, mut removed, mut nonce) = (0, BTreeSet::new(), Vec::new());
        for (field, value) in fields(&wire[5..]) {
            match field {
                2 => resources += 1,
                4 => assert_eq!(value, response.type_id.url().as_bytes()),
                5 => nonce = value.to_vec(),
                6 if self.delta => assert!(removed.insert(value.to_vec()), "removed twice"),
                1 => {}
                other => panic!("field {other}"),
            }
        }
        assert_eq!(
            (resources, removed.len()),
            (response.resources, response.removed)
        );
        assert_eq!(Nonce::parse(&nonce), Some(response.nonce));
    }

    fn send(&mut self, message: Vec<u8>) {
        // A refused message must leave the session usable, so the stream goes on here.
        if let Ok(request) = self.session.parse(Bytes::from(message)) {
            let _ = self.session.on_request(request);
        }
    }

    /// Accepts everything there is to accept, as long as something comes.
    fn accept_all(&mut self) {
        for _ in 0..64 {
            let waiting = std::mem::take(&mut self.client.unanswered);
            for (type_id, nonce) in waiting {
                self.answer(type_id, nonce);
            }
            self.rest();
            if self.client.unanswered.is_empty() {
                return;
            }
        }
        panic!("a client that accepts everything is sent more and more");
    }

    fn answer(&mut self, type_id: TypeId, nonce: Nonce) {
        let mut message = Message::new(self.delta);
        message.type_url(type_id.url());
        message.nonce(nonce.to_string().as_bytes());
        if !self.delta {
            // An ACK lists what is subscribed. Here: what the client last asked for, which it is not our business to know. Everything.
            for name in NAMES {
                message.name(name);
            }
        }
        self.send(message.0);
    }

    fn change(&mut self, type_id: TypeId, edit: impl FnOnce(&mut BTreeMap<&'static str, u8>)) {
        let content = &mut self.content[type_id.index()];
        edit(content);
        let resources = content
            .iter()
            .map(|(name, body)| Arc::new(Encoded::new(*name, type_id, &[8, *body])));
        self.snapshot.revision += 1;
        self.snapshot
            .set(type_id, Arc::new(Set::new(resources.collect())));
    }
}

/// A request, field by field, with the numbers of its protocol.
struct Message(Vec<u8>, bool);

impl Message {
    fn new(delta: bool) -> Message {
        Message(Vec::new(), delta)
    }
    fn put(&mut self, field: (u8, u8), value: &[u8]) {
        let number = if self.1 { field.1 } else { field.0 };
        if number > 0 {
            put(number, value, &mut self.0);
        }
    }
    fn type_url(&mut self, url: &str) {
        self.put((4, 2), url.as_bytes());
    }
    fn nonce(&mut self, nonce: &[u8]) {
        self.put((5, 6), nonce);
    }
    fn name(&mut self, name: &str) {
        self.put((3, 3), name.as_bytes());
    }
    fn unsubscribe(&mut self, name: &str) {
        self.put((0, 4), name.as_bytes());
    }
    fn had(&mut self, name: &str, version: &str) {
        let mut entry = Vec::new();
        put(1, name.as_bytes(), &mut entry);
        put(2, version.as_bytes(), &mut entry);
        self.put((0, 5), &entry);
    }
    fn version(&mut self, version: &str) {
        self.put((1, 0), version.as_bytes());
    }
    fn error(&mut self, text: &str) {
        let mut status = vec![8, 3];
        put(2, text.as_bytes(), &mut status);
        self.put((6, 7), &status);
    }
}

fn put(field: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(field << 3 | 2);
    let mut len = value.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(value);
}

fn fields(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut out = Vec::new();
    while let Some((key, rest)) = bytes.split_first() {
        assert_eq!(key & 7, 2);
        let (mut len, mut shift, mut at) = (0usize, 0, 0);
        loop {
            len |= usize::from(rest[at] & 0x7f) << shift;
            (shift, at) = (shift + 7, at + 1);
            if rest[at - 1] < 0x80 {
                break;
            }
        }
        out.push((key >> 3, &rest[at..at + len]));
        bytes = &rest[at + len..];
    }
    out
}

/// One step; digits and letters of the corpus stand for their byte modulo 8.
fn step(world: &mut World, input: &mut Input<'_>) -> Option<()> {
    match input.byte()? % 8 {
        // 0 LEN BYTES: these bytes as a request
        0 => {
            let len = usize::from(input.byte()?);
            let message = input.bytes(len).to_vec();
            world.send(message);
        }
        // 1 TYPE NAMES UNSUBSCRIBE ANSWER ERROR HAD: a request
        1 => {
            let type_id = TypeId::ALL[usize::from(input.byte()?) % TypeId::COUNT];
            let (names, unsubscribe) = (input.byte()?, input.byte()?);
            let (answer, error, had) = (input.byte()?, input.byte()?, input.byte()?);
            let mut message = Message::new(world.delta);
            message.type_url(type_id.url());
            let chosen = |mask: u8| {
                NAMES
                    .iter()
                    .enumerate()
                    .filter(move |(i, _)| mask >> i & 1 == 1)
                    .map(|(_, name)| *name)
            };
            chosen(names).for_each(|name| message.name(name));
            chosen(unsubscribe).for_each(|name| message.unsubscribe(name));
            let of_type = |list: &[(TypeId, Nonce)], back: usize| {
                list.iter()
                    .rev()
                    .filter(|(t, _)| *t == type_id)
                    .map(|(_, nonce)| nonce.to_string())
                    .nth(back)
            };
            match answer % 4 {
                0 => {}
                1 => message.nonce(
                    of_type(&world.client.seen, 0)
                        .unwrap_or_default()
                        .as_bytes(),
                ),
                2 => message.nonce(
                    of_type(&world.client.seen, 1)
                        .unwrap_or_default()
                        .as_bytes(),
                ),
                _ => message.nonce(b"99-1"),
            }
            match error % 4 {
                0 | 1 => {}
                2 => message.error("no"),
                _ => message.error(&format!("bad {}: no", NAMES[usize::from(error >> 2) % 8])),
            }
            for name in chosen(had) {
                let version = world
                    .snapshot
                    .layers(type_id)
                    .get(name)
                    .map_or(0, |e| e.version());
                message.had(name, &format!("{version:016x}"));
            }
            if had & 1 == 1 {
                message.version(&format!(
                    "{:016x}",
                    world.snapshot.layers(type_id).version()
                ));
            }
            world.send(message.0);
        }
        // 2 TYPE NAME BODY: a resource is put
        2 => {
            let type_id = TypeId::ALL[usize::from(input.byte()?) % TypeId::COUNT];
            let (name, body) = (NAMES[usize::from(input.byte()?) % 8], input.byte()?);
            world.change(type_id, |content| {
                content.insert(name, body % 4);
            });
        }
        // 3 TYPE NAME: a resource is removed
        3 => {
            let type_id = TypeId::ALL[usize::from(input.byte()?) % TypeId::COUNT];
            let name = NAMES[usize::from(input.byte()?) % 8];
            world.change(type_id, |content| {
                content.remove(name);
            });
        }
        4 => world.rest(),
        5 => drop(world.poll()),
        6 => world.accept_all(),
        // 7 WHICH: one response is accepted, perhaps not the oldest
        _ => {
            let which = usize::from(input.byte()?);
            if !world.client.unanswered.is_empty() {
                let (type_id, nonce) = world
                    .client
                    .unanswered
                    .remove(which % world.client.unanswered.len());
                world.answer(type_id, nonce);
            }
        }
    }
    Some(())
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let Some(first) = input.byte() else { return };
    let delta = first % 2 == 0;
    let limits = Limits {
        names: 64,
        message: 4096,
        ..Limits::default()
    };
    let setup = Arc::new(Setup {
        limits,
        ..Setup::default()
    });
    let mut world = World {
        session: if delta {
            Session::delta(setup)
        } else {
            Session::sotw(setup)
        },
        delta,
        content: Default::default(),
        snapshot: Snapshot::new(1),
        client: Client::default(),
    };
    for _ in 0..256 {
        if step(&mut world, &mut input).is_none() {
            break;
        }
    }
    world.accept_all();
    for type_id in TypeId::ALL {
        let Some(status) = world.session.status(type_id) else {
            continue;
        };
        assert!(
            status.rejecting || world.session.is_type_synced(type_id, &world.snapshot),
            "{type_id}"
        );
        // At rest, and so it stays.
        assert!(world.session.poll(&world.snapshot, &missing).is_none());
    }
    let unknown = Message::new(delta);
    if let Ok(request) = world.session.parse(Bytes::from(unknown.0)) {
        assert!(matches!(
            world.session.on_request(request),
            Ok(Outcome::UnknownType(_))
        ));
    }
});
