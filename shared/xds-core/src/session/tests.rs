//! One test per rule of the protocol, with the smallest input that shows it.

mod both;
mod delta;
mod rejected;
mod sotw;

use std::sync::Arc;

use bytes::Bytes;
use expect_test::{Expect, expect};
use prost::Message;

use crate::testing::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Status,
};
use crate::*;
use TypeId::{Cds, Ecds, Eds, Lds, Nds, Rds, Sds};

/// A stream and the snapshot it is served from.
struct Stream {
    session: Session,
    snapshot: Snapshot,
    sent: Vec<Response>,
}

/// `a1 b2`: resource a with content 1, b with 2. The message repeats the name, as it is not in a state-of-the-world response.
fn set(t: TypeId, text: &str) -> Arc<Set> {
    let resource = |w: &str| Arc::new(Encoded::new(&w[..1], t, w.as_bytes()));
    Arc::new(Set::new(text.split_whitespace().map(resource).collect()))
}

fn missing(t: TypeId, name: &str) -> Option<Arc<Encoded>> {
    matches!(t, Eds | Rds).then(|| Arc::new(Encoded::new(name, t, format!("{name}-").as_bytes())))
}

fn strings(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn show(delta: bool, r: &Response) -> String {
    let bytes = r.to_bytes().slice(5..);
    assert_eq!(bytes.len(), r.bytes);
    let (nonce, resources, removed) = if delta {
        let m = DeltaDiscoveryResponse::decode(bytes).unwrap();
        let names: Vec<_> = m.resources.iter().map(|r| r.name.clone()).collect();
        let values: Vec<_> = m
            .resources
            .into_iter()
            .map(|r| r.resource.unwrap().value)
            .collect();
        assert!(
            names
                .iter()
                .zip(&values)
                .all(|(n, v)| v.starts_with(n.as_bytes()))
        );
        assert_eq!(m.type_url, r.type_id.url());
        (m.nonce, values, m.removed_resources)
    } else {
        let m = DiscoveryResponse::decode(bytes).unwrap();
        assert_eq!(m.type_url, r.type_id.url());
        (
            m.nonce,
            m.resources.into_iter().map(|a| a.value).collect(),
            vec![],
        )
    };
    assert_eq!((resources.len(), removed.len()), (r.resources, r.removed));
    let mut words = vec![r.type_id.to_string(), nonce];
    words.extend(resources.into_iter().map(|v| String::from_utf8(v).unwrap()));
    words.extend(removed.into_iter().map(|n| format!("-{n}")));
    words.join(" ")
}

impl Stream {
    fn new(session: fn(Arc<Setup>) -> Session) -> Self {
        Self {
            session: session(Arc::default()),
            snapshot: Snapshot::new(1),
            sent: Vec::new(),
        }
    }

    fn sotw() -> Self {
        Self::new(Session::sotw)
    }

    fn delta() -> Self {
        Self::new(Session::delta)
    }

    /// Puts content into the next revision; nothing is sent.
    fn has(mut self, t: TypeId, text: &str) -> Self {
        self.snapshot.set(t, set(t, text));
        self
    }

    fn change(&mut self, t: TypeId, text: &str) {
        self.snapshot.revision += 1;
        self.snapshot.set(t, set(t, text));
    }

    /// Polls until nothing is due.
    #[track_caller]
    fn sends(&mut self, want: Expect) {
        let mut lines = Vec::new();
        while let Some(r) = self.session.poll(&self.snapshot, &missing) {
            lines.push(show(self.session.is_delta(), &r));
            self.sent.push(r);
            assert!(lines.len() < 100, "never ends");
        }
        want.assert_eq(&lines.join("\n"));
    }

    fn last(&self, t: TypeId) -> String {
        self.sent
            .iter()
            .rev()
            .find(|r| r.type_id == t)
            .map_or(String::new(), |r| r.nonce.to_string())
    }

    fn request(&mut self, bytes: Vec<u8>) -> Outcome {
        let request = self.session.parse(Bytes::from(bytes)).unwrap();
        self.session.on_request(request).unwrap()
    }

    fn ask(
        &mut self,
        t: TypeId,
        names: &str,
        nonce: &str,
        version: &str,
        error: &str,
    ) -> (Answer, InterestChange) {
        let m = DiscoveryRequest {
            version_info: version.into(),
            resource_names: strings(names),
            type_url: t.url().into(),
            response_nonce: nonce.into(),
            error_detail: (!error.is_empty()).then(|| Status {
                code: 13,
                message: error.into(),
            }),
            ..Default::default()
        };
        known(self.request(m.encode_to_vec()))
    }

    fn watch(&mut self, t: TypeId, names: &str) -> (Answer, InterestChange) {
        self.ask(t, names, "", "", "")
    }

    fn ack(&mut self, t: TypeId, names: &str) -> (Answer, InterestChange) {
        let nonce = self.last(t);
        self.ask(t, names, &nonce, "", "")
    }

    fn nack(&mut self, t: TypeId, names: &str, error: &str) -> (Answer, InterestChange) {
        let nonce = self.last(t);
        self.ask(t, names, &nonce, "", error)
    }

    /// `+a -b`: subscribe and unsubscribe; `a=1`: the client has content 1 of a.
    fn say(
        &mut self,
        t: TypeId,
        words: &str,
        nonce: &str,
        error: &str,
    ) -> (Answer, InterestChange) {
        let mut m = DeltaDiscoveryRequest {
            type_url: t.url().into(),
            response_nonce: nonce.into(),
            error_detail: (!error.is_empty()).then(|| Status {
                code: 13,
                message: error.into(),
            }),
            ..Default::default()
        };
        for word in words.split_whitespace() {
            if let Some(name) = word.strip_prefix('+') {
                m.resource_names_subscribe.push(name.into());
            } else if let Some(name) = word.strip_prefix('-') {
                m.resource_names_unsubscribe.push(name.into());
            } else if let Some((name, value)) = word.split_once('=') {
                let e = Encoded::new(name, t, format!("{name}{value}").as_bytes());
                m.initial_resource_versions
                    .insert(name.into(), format!("{:016x}", e.version()));
            }
        }
        known(self.request(m.encode_to_vec()))
    }

    fn dack(&mut self, t: TypeId) -> (Answer, InterestChange) {
        let nonce = self.last(t);
        self.say(t, "", &nonce, "")
    }

    fn dnack(&mut self, t: TypeId, error: &str) -> (Answer, InterestChange) {
        let nonce = self.last(t);
        self.say(t, "", &nonce, error)
    }

    fn synced(&self) -> bool {
        self.session.is_synced(&self.snapshot)
    }
}

fn known(outcome: Outcome) -> (Answer, InterestChange) {
    match outcome {
        Outcome::Known { answer, change, .. } => (answer, change),
        Outcome::UnknownType(url) => panic!("unknown type {url}"),
    }
}
