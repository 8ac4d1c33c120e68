//! One test per rule of the protocol, with the smallest input that shows it.

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

// Both protocols

#[test]
fn push_order_is_cds_eds_lds_rds_then_the_rest() {
    let mut s = Stream::sotw()
        .has(Cds, "a1")
        .has(Eds, "a1")
        .has(Lds, "l1")
        .has(Rds, "r1")
        .has(Sds, "s1")
        .has(Nds, "n1");
    for (t, names) in [
        (Nds, ""),
        (Sds, "s"),
        (Rds, "r"),
        (Lds, ""),
        (Eds, "a"),
        (Cds, ""),
    ] {
        s.watch(t, names);
    }
    s.sends(expect![[r#"
        cds 1-1 a1
        eds 1-2 a1
        lds 1-3 l1
        rds 1-4 r1
        sds 1-5 s1
        nds 1-6 n1"#]]);
}

#[test]
fn an_unknown_type_is_recorded_and_answered_with_nothing() {
    let mut s = Stream::sotw();
    let health = DiscoveryRequest {
        type_url: "istio.v1.HealthInformation".into(),
        ..Default::default()
    };
    assert_eq!(
        s.request(health.encode_to_vec()),
        Outcome::UnknownType("istio.v1.HealthInformation".into())
    );
    assert_eq!(
        s.session.unknown_types(),
        (1, Some("istio.v1.HealthInformation"))
    );
    s.sends(expect![""]);
}

#[test]
fn a_request_of_the_other_protocol_is_refused() {
    let request = Stream::delta().session.parse(Bytes::new()).unwrap();
    assert_eq!(
        Stream::sotw().session.on_request(request),
        Err(Refusal::WrongProtocol)
    );
}

#[test]
fn same_bytes_are_not_pushed() {
    for mut s in [Stream::sotw(), Stream::delta()] {
        s = s.has(Cds, "a1").has(Eds, "a1");
        if s.session.is_delta() {
            s.say(Cds, "", "", "");
        } else {
            s.watch(Cds, "");
        }
        s.sends(expect!["cds 1-1 a1"]);
        s.change(Cds, "a1");
        s.sends(expect![""]);
    }
}

#[test]
fn a_slow_client_skips_versions() {
    let mut s = Stream::sotw().has(Cds, "a1");
    s.watch(Cds, "");
    s.sends(expect!["cds 1-1 a1"]);
    s.change(Cds, "a2");
    s.change(Cds, "a3");
    s.sends(expect!["cds 3-2 a3"]);
}

#[test]
fn the_next_push_does_not_wait_for_the_ack() {
    let mut s = Stream::sotw().has(Cds, "a1");
    s.watch(Cds, "");
    s.sends(expect!["cds 1-1 a1"]);
    s.change(Cds, "a2");
    s.sends(expect!["cds 2-2 a2"]);
    // The first is answered after the second was sent: progress, but not in sync.
    assert_eq!(
        s.ask(Cds, "", "1-1", "", "").0,
        Answer::Ack(Nonce {
            revision: 1,
            counter: 1
        })
    );
    assert!(!s.session.status(Cds).unwrap().synced);
    assert_eq!(
        s.ask(Cds, "", "2-2", "", "").0,
        Answer::Ack(Nonce {
            revision: 2,
            counter: 2
        })
    );
    assert!(s.session.status(Cds).unwrap().synced);
}

#[test]
fn unanswered_responses_are_bounded() {
    let mut s = Stream::sotw().has(Cds, "a0");
    s.watch(Cds, "");
    for i in 1..30 {
        s.change(Cds, &format!("a{i}"));
        assert!(s.session.poll(&s.snapshot, &missing).is_some());
    }
    assert_eq!(s.session.status(Cds).unwrap().unanswered, 8);
    s.ask(Cds, "", "30-1d", "", "");
    assert!(s.session.status(Cds).unwrap().synced);
}

#[test]
fn a_revision_that_changes_nothing_is_live_at_once() {
    let mut s = Stream::sotw().has(Cds, "a1").has(Lds, "l1").has(Eds, "a1");
    for (t, names) in [(Cds, ""), (Lds, ""), (Eds, "a")] {
        s.watch(t, names);
    }
    s.sends(expect![[r#"
        cds 1-1 a1
        eds 1-2 a1
        lds 1-3 l1"#]]);
    for (t, names) in [(Cds, ""), (Lds, ""), (Eds, "a")] {
        assert!(!s.synced());
        s.ack(t, names);
    }
    assert!(s.synced());
    s.change(Cds, "a1"); // rebuilt, equal
    s.change(Eds, "a1 b1"); // not subscribed
    assert!(s.synced());
    s.change(Eds, "a2 b1");
    assert!(!s.synced());
}

#[test]
fn a_proxy_without_listeners_subscribed_is_not_synced() {
    let mut s = Stream::sotw();
    s.watch(Cds, "");
    s.sends(expect!["cds 1-1"]);
    s.ack(Cds, "");
    assert!(!s.synced());
}

#[test]
fn a_response_over_the_limit_is_recorded_not_sent() {
    let setup = Setup {
        limits: Limits {
            response: 200,
            ..Limits::default()
        },
        ..Setup::default()
    };
    let mut s = Stream {
        session: Session::sotw(Arc::new(setup)),
        ..Stream::sotw()
    }
    .has(Cds, "a1 b1 c1");
    s.watch(Cds, "");
    s.sends(expect![""]);
    let status = s.session.status(Cds).unwrap();
    assert!(status.rejecting && status.nack.unwrap().text.starts_with("not sent"));
    s.change(Cds, "a1");
    s.sends(expect!["cds 2-1 a1"]);
    s.ack(Cds, "");
    assert!(s.session.status(Cds).unwrap().nack.is_none());
}

// State of the world

#[test]
fn sotw_wildcard_responses_are_full() {
    let mut s = Stream::sotw().has(Cds, "a1 b1");
    s.watch(Cds, "");
    s.sends(expect!["cds 1-1 a1 b1"]);
    s.change(Cds, "a1 b2");
    s.sends(expect!["cds 2-2 a1 b2"]);
    s.change(Cds, "a1");
    s.sends(expect!["cds 3-3 a1"]);
}

#[test]
fn sotw_an_empty_listener_set_is_answered() {
    let mut s = Stream::sotw();
    s.watch(Lds, "");
    s.sends(expect!["lds 1-1"]);
}

#[test]
fn sotw_ack_is_not_answered() {
    let mut s = Stream::sotw().has(Rds, "r1");
    s.watch(Rds, "r");
    s.sends(expect!["rds 1-1 r1"]);
    assert_eq!(
        s.ack(Rds, "r"),
        (
            Answer::Ack(Nonce {
                revision: 1,
                counter: 1
            }),
            InterestChange::Same
        )
    );
    s.sends(expect![""]);
}

#[test]
fn sotw_stale_nonce_is_ignored() {
    let mut s = Stream::sotw().has(Rds, "r1 q1");
    s.watch(Rds, "r");
    s.sends(expect!["rds 1-1 r1"]);
    assert_eq!(
        s.ask(Rds, "r q", "other", "", ""),
        (Answer::Stale, InterestChange::Same)
    );
    s.sends(expect![""]);
}

#[test]
fn sotw_added_names_are_answered_alone_and_removed_ones_not_at_all() {
    let mut s = Stream::sotw().has(Rds, "a1 b1");
    s.watch(Rds, "a");
    s.sends(expect!["rds 1-1 a1"]);
    assert_eq!(s.ack(Rds, "b a").1, InterestChange::Changed);
    s.sends(expect!["rds 1-2 b1"]);
    assert_eq!(s.ack(Rds, "b").1, InterestChange::Changed);
    s.sends(expect![""]);
    // what was dropped and comes back is owed again
    s.ack(Rds, "b a");
    s.sends(expect!["rds 1-3 a1"]);
}

#[test]
fn sotw_names_dropped_and_readded_between_polls_are_owed() {
    let mut s = Stream::sotw().has(Rds, "a1 b1");
    s.watch(Rds, "a b");
    s.sends(expect!["rds 1-1 a1 b1"]);
    s.ack(Rds, "a");
    s.ack(Rds, "a b");
    s.sends(expect!["rds 1-2 b1"]);
}

#[test]
fn sotw_order_of_names_does_not_matter() {
    let mut s = Stream::sotw().has(Rds, "a1 b1");
    s.watch(Rds, "a b");
    s.sends(expect!["rds 1-1 a1 b1"]);
    assert_eq!(s.ack(Rds, "b a").1, InterestChange::Same);
    s.sends(expect![""]);
}

#[test]
fn sotw_no_eds_names_unsubscribes() {
    let mut s = Stream::sotw().has(Eds, "a1");
    s.watch(Eds, "a");
    s.sends(expect!["eds 1-1 a1"]);
    assert_eq!(s.ack(Eds, "").1, InterestChange::Closed);
    s.change(Eds, "a2");
    s.sends(expect![""]);
    assert!(s.session.status(Eds).is_none());
    s.ack(Eds, "a"); // with the nonce of old
    s.sends(expect!["eds 2-2 a2"]);
}

#[test]
fn sotw_unsubscribing_counts_with_a_stale_nonce_too() {
    let mut s = Stream::sotw().has(Eds, "a1");
    s.watch(Eds, "a");
    s.sends(expect!["eds 1-1 a1"]);
    s.change(Eds, "a2");
    s.sends(expect!["eds 2-2 a2"]);
    assert_eq!(s.ask(Eds, "", "1-1", "", "").1, InterestChange::Closed);
    assert!(s.session.status(Eds).is_none());
}

#[test]
fn sotw_a_resource_rejected_twice_is_blamed_twice() {
    let mut s = Stream::sotw().has(Cds, "b9");
    s.watch(Cds, "");
    s.sends(expect!["cds 1-1 b9"]);
    s.change(Cds, "a1 b9");
    s.sends(expect!["cds 2-2 a1 b9"]);
    s.ask(Cds, "", "1-1", "", "b");
    s.ask(Cds, "", "2-2", "", "b");
    assert_eq!(
        &*s.session.status(Cds).unwrap().nack.unwrap().resources,
        &["b".into()]
    );
}

#[test]
fn delta_names_dropped_before_the_first_answer_are_owed_in_spite_of_initial_versions() {
    let mut s = Stream::delta().has(Rds, "a1 b1");
    s.say(Rds, "+a +b a=1 b=1", "", "");
    s.say(Rds, "-b", "", "");
    s.say(Rds, "+b", "", "");
    s.sends(expect!["rds 1-1 b1"]);
}

#[test]
fn sotw_names_dropped_in_a_stale_request_are_owed_when_they_come_back() {
    let mut s = Stream::sotw().has(Rds, "a1 b1");
    s.watch(Rds, "a b");
    s.sends(expect!["rds 1-1 a1 b1"]);
    s.change(Rds, "a2 b1");
    s.sends(expect!["rds 2-2 a2"]);
    s.ask(Rds, "a", "1-1", "", "");
    s.ask(Rds, "a b", "1-1", "", "");
    s.sends(expect![""]);
    s.ack(Rds, "a b");
    s.sends(expect!["rds 2-3 b1"]);
}

#[test]
fn sotw_named_listeners_are_not_a_wildcard_and_dropping_them_ends_the_watch() {
    let mut s = Stream::sotw().has(Lds, "a1 b1");
    s.watch(Lds, "a");
    s.sends(expect!["lds 1-1 a1"]);
    s.change(Lds, "a1 b2");
    s.sends(expect![""]);
    s.ack(Lds, "a b");
    s.sends(expect!["lds 2-2 a1 b2"]);
    assert_eq!(s.ack(Lds, "").1, InterestChange::Closed);
    s.change(Lds, "a3 b3");
    s.sends(expect![""]);
}

#[test]
fn sotw_star_is_the_wildcard() {
    let mut s = Stream::sotw().has(Cds, "a1 b1");
    s.watch(Cds, "*");
    s.sends(expect!["cds 1-1 a1 b1"]);
    assert!(s.session.status(Cds).unwrap().wildcard);
}

#[test]
fn sotw_empty_nonce_starts_over() {
    let mut s = Stream::sotw().has(Rds, "r1");
    s.watch(Rds, "r");
    s.sends(expect!["rds 1-1 r1"]);
    assert_eq!(s.watch(Rds, "r").1, InterestChange::Opened);
    s.sends(expect!["rds 1-2 r1"]);
}

#[test]
fn sotw_eds_and_rds_pushes_are_partial() {
    let mut s = Stream::sotw().has(Eds, "a1 b1 c1");
    s.watch(Eds, "a b");
    s.sends(expect!["eds 1-1 a1 b1"]);
    s.change(Eds, "a1 b2 c2");
    s.sends(expect!["eds 2-2 b2"]);
}

#[test]
fn sotw_unknown_names_are_answered_with_an_empty_object() {
    let mut s = Stream::sotw().has(Eds, "a1");
    s.watch(Eds, "a x");
    s.watch(Rds, "r");
    s.sends(expect![[r#"
        eds 1-1 a1 x-
        rds 1-2 r-"#]]);
    s.change(Eds, "x1");
    s.sends(expect!["eds 2-3 a- x1"]);
}

#[test]
fn sotw_a_missing_secret_is_not_answered() {
    let mut s = Stream::sotw();
    s.watch(Sds, "s");
    s.sends(expect![""]);
    s.change(Sds, "s1");
    s.sends(expect!["sds 2-1 s1"]);
}

#[test]
fn sotw_reconnect_with_the_current_version_transfers_nothing() {
    let mut s = Stream::sotw().has(Cds, "a1").has(Lds, "l1");
    let current = |t| {
        format!(
            "{:016x}",
            Layers::from(set(t, if t == Cds { "a1" } else { "l1" })).version()
        )
    };
    s.ask(Cds, "", "99-1", &current(Cds), "");
    s.ask(Lds, "", "99-2", &current(Lds), "");
    s.sends(expect![""]);
    assert!(s.synced());
    s.change(Cds, "a2");
    s.sends(expect!["cds 2-1 a2"]);
}

#[test]
fn sotw_reconnect_with_another_version_is_answered_in_full() {
    let mut s = Stream::sotw().has(Cds, "a1 b1");
    s.ask(Cds, "", "99-1", "0000000000000000", "");
    s.sends(expect!["cds 1-1 a1 b1"]);
}

#[test]
fn sotw_reconnect_of_named_types_is_answered_in_full() {
    let mut s = Stream::sotw().has(Eds, "a1");
    let version = format!("{:016x}", Layers::from(set(Eds, "a1")).version());
    s.ask(Eds, "a", "99-1", &version, "");
    s.sends(expect!["eds 1-1 a1"]);
}

#[test]
fn sotw_eds_before_cds_is_answered_twice() {
    let mut s = Stream::sotw().has(Cds, "a1").has(Eds, "a1");
    s.ask(Eds, "a", "99-1", "", "");
    s.sends(expect!["eds 1-1 a1"]);
    s.watch(Cds, "");
    s.sends(expect![[r#"
        cds 1-2 a1
        eds 1-3 a1"#]]);
    s.ack(Eds, "a");
    s.sends(expect![""]);
}

#[test]
fn sotw_a_changed_cluster_gets_its_endpoints_again() {
    let mut s = Stream::sotw().has(Cds, "a1 b1").has(Eds, "a1 b1");
    s.watch(Cds, "");
    s.watch(Eds, "a b");
    s.sends(expect![[r#"
        cds 1-1 a1 b1
        eds 1-2 a1 b1"#]]);
    s.change(Cds, "a1 b2");
    s.sends(expect![[r#"
        cds 2-3 a1 b2
        eds 2-4 b1"#]]);
}

#[test]
fn sotw_nack_is_recorded_not_resent_and_a_change_goes_out() {
    let mut s = Stream::sotw().has(Lds, "a1 b1");
    s.watch(Lds, "");
    s.sends(expect!["lds 1-1 a1 b1"]);
    s.ack(Lds, "");
    s.change(Lds, "a1 b2");
    s.sends(expect!["lds 2-2 a1 b2"]);
    let nonce = Nonce {
        revision: 2,
        counter: 2,
    };
    assert_eq!(
        s.nack(Lds, "", "Error adding/updating listener(s) b: no").0,
        Answer::Nack(Some(nonce))
    );
    s.sends(expect![""]);
    let status = s.session.status(Lds).unwrap();
    let nack = status.nack.unwrap();
    assert_eq!(
        (nack.nonce, nack.code, &*nack.resources),
        (Some(nonce), 13, &["b".into()][..])
    );
    assert!(status.rejecting && !status.synced);
    s.change(Lds, "a1 b3");
    s.sends(expect!["lds 3-3 a1 b3"]);
    s.ack(Lds, "");
    assert!(s.session.status(Lds).unwrap().nack.is_none());
}

#[test]
fn sotw_good_changes_go_out_past_a_rejected_listener() {
    let mut s = Stream::sotw().has(Lds, "a1 b1");
    s.watch(Lds, "");
    s.sends(expect!["lds 1-1 a1 b1"]);
    s.ack(Lds, "");
    s.change(Lds, "a1 b2 n1");
    s.sends(expect!["lds 2-2 a1 b2 n1"]);
    s.nack(Lds, "", "b: no, n: no");
    s.change(Lds, "a2 b2 n1");
    s.sends(expect!["lds 3-3 a2 b1"]); // b as it was, n not at all
    s.ack(Lds, "");
    assert!(s.session.status(Lds).unwrap().rejecting);
    s.change(Lds, "a2 b1");
    s.sends(expect!["lds 4-4 a2 b1"]); // taken back
    s.ack(Lds, "");
    assert!(s.session.status(Lds).unwrap().synced);
}

#[test]
fn sotw_two_bad_versions_in_a_row_fall_back_to_the_good_one() {
    let mut s = Stream::sotw().has(Lds, "a1 b1");
    s.watch(Lds, "");
    s.sends(expect!["lds 1-1 a1 b1"]);
    s.ack(Lds, "");
    s.change(Lds, "a1 b2");
    s.sends(expect!["lds 2-2 a1 b2"]);
    s.nack(Lds, "", "b");
    s.change(Lds, "a1 b3");
    s.sends(expect!["lds 3-3 a1 b3"]);
    s.nack(Lds, "", "b");
    s.change(Lds, "a2 b3");
    s.sends(expect!["lds 4-4 a2 b1"]);
}

#[test]
fn sotw_a_nack_that_names_nothing_blames_what_was_new() {
    let mut s = Stream::sotw().has(Cds, "a1 b1");
    s.watch(Cds, "");
    s.sends(expect!["cds 1-1 a1 b1"]);
    s.ack(Cds, "");
    s.change(Cds, "a1 b2");
    s.sends(expect!["cds 2-2 a1 b2"]);
    s.nack(Cds, "", "validation failed");
    assert_eq!(
        &*s.session.status(Cds).unwrap().nack.unwrap().resources,
        &["b".into()]
    );
    s.change(Cds, "a2 b2");
    s.sends(expect!["cds 3-3 a2 b1"]);
}

#[test]
fn sotw_a_late_nack_is_blamed_on_the_right_response() {
    let mut s = Stream::sotw().has(Cds, "a1 b1");
    s.watch(Cds, "");
    s.sends(expect!["cds 1-1 a1 b1"]);
    s.ack(Cds, "");
    s.change(Cds, "a1 b2");
    s.sends(expect!["cds 2-2 a1 b2"]);
    s.change(Cds, "a2 b2");
    s.sends(expect!["cds 3-3 a2 b2"]);
    let nonce = Nonce {
        revision: 2,
        counter: 2,
    };
    assert_eq!(
        s.ask(Cds, "", "2-2", "", "failed").0,
        Answer::Nack(Some(nonce))
    );
    assert_eq!(
        &*s.session.status(Cds).unwrap().nack.unwrap().resources,
        &["b".into()]
    );
    // the second holds b too and is rejected alike; then b stays as it was
    s.ask(Cds, "", "3-3", "", "b failed");
    s.change(Cds, "a3 b2");
    s.sends(expect!["cds 4-4 a3 b1"]);
}

#[test]
fn a_version_with_rejected_parts_left_out_does_not_pass_for_the_complete_one() {
    let mut s = Stream::sotw().has(Lds, "a1 b1");
    s.watch(Lds, "");
    s.sends(expect!["lds 1-1 a1 b1"]);
    s.nack(Lds, "", "b");
    s.change(Lds, "a2 b1");
    s.sends(expect!["lds 2-2 a2"]);
    s.ack(Lds, "");
    assert_ne!(
        s.session.status(Lds).unwrap().acked_version,
        Some(s.snapshot.layers(Lds).version())
    );
}

#[test]
fn sotw_names_added_with_a_nack_are_answered() {
    let mut s = Stream::sotw().has(Rds, "a1 b1");
    s.watch(Rds, "a");
    s.sends(expect!["rds 1-1 a1"]);
    s.nack(Rds, "a b", "no");
    s.sends(expect!["rds 1-2 b1"]);
    s.ack(Rds, "a b");
    assert!(s.session.status(Rds).unwrap().rejecting);
    s.change(Rds, "a2 b1");
    s.sends(expect!["rds 2-3 a2"]);
    s.ack(Rds, "a b");
    assert!(s.session.status(Rds).unwrap().synced);
}

#[test]
fn a_nack_of_an_unknown_nonce_is_recorded() {
    let mut s = Stream::sotw().has(Rds, "a1");
    s.watch(Rds, "a");
    s.sends(expect!["rds 1-1 a1"]);
    assert_eq!(s.ask(Rds, "a", "9-9", "", "what").0, Answer::Nack(None));
    assert_eq!(&*s.session.status(Rds).unwrap().nack.unwrap().text, "what");
    s.sends(expect![""]);
}

// Delta

#[test]
fn delta_first_request_is_always_answered() {
    let mut s = Stream::delta();
    s.say(Cds, "", "", "");
    s.say(Sds, "+s", "", "");
    s.sends(expect![[r#"
        cds 1-1
        sds 1-2"#]]);
}

#[test]
fn delta_pushes_what_changed_and_what_vanished() {
    let mut s = Stream::delta().has(Cds, "a1 b1 c1");
    s.say(Cds, "", "", "");
    s.sends(expect!["cds 1-1 a1 b1 c1"]);
    s.dack(Cds);
    s.sends(expect![""]);
    s.change(Cds, "a1 b2 d1");
    s.sends(expect!["cds 2-2 b2 d1 -c"]);
}

#[test]
fn delta_reconnect_transfers_the_difference() {
    let mut s = Stream::delta().has(Cds, "a1 b2 d1");
    s.say(Cds, "a=1 b=1 c=1", "", "");
    s.sends(expect!["cds 1-1 b2 d1 -c"]);
    let mut s = Stream::delta().has(Cds, "a1").has(Eds, "a1");
    s.say(Cds, "+* a=1", "", "");
    s.sends(expect!["cds 1-1"]);
    s.say(Eds, "+a +x a=1 x=-", "", "");
    s.sends(expect!["eds 1-2"]);
    s.dack(Cds);
    s.dack(Eds);
    assert!(
        s.session.is_type_synced(Cds, &s.snapshot) && s.session.is_type_synced(Eds, &s.snapshot)
    );
}

#[test]
fn delta_reconnect_sends_endpoints_of_clusters_that_changed_meanwhile() {
    let mut s = Stream::delta().has(Cds, "a1 b2").has(Eds, "a1 b1");
    s.say(Cds, "a=1 b=1", "", "");
    s.sends(expect!["cds 1-1 b2"]);
    s.say(Eds, "+a +b a=1 b=1", "", "");
    s.sends(expect!["eds 1-2 b1"]);
}

#[test]
fn delta_reconnect_that_asks_endpoints_first_may_be_warming_and_gets_them_all() {
    let mut s = Stream::delta().has(Cds, "a1 b1").has(Eds, "a1 b1");
    s.say(Eds, "+a +b a=1 b=1 z=1", "", "");
    s.sends(expect!["eds 1-1 a1 b1 z-"]);
    s.say(Cds, "a=1 b=1", "", "");
    s.sends(expect!["cds 1-2"]);
}

#[test]
fn delta_a_vanished_secret_is_removed_on_reconnect() {
    let mut s = Stream::delta();
    s.say(Sds, "+s s=1", "", "");
    s.sends(expect!["sds 1-1 -s"]);
}

#[test]
fn delta_filter_configurations_are_never_removed() {
    let mut s = Stream::delta().has(Ecds, "f1 g1");
    s.say(Ecds, "+f +g", "", "");
    s.sends(expect!["ecds 1-1 f1 g1"]);
    s.change(Ecds, "f1");
    s.sends(expect![""]);
    let mut s = Stream::delta();
    s.say(Ecds, "+f f=1", "", "");
    s.sends(expect!["ecds 1-1"]);
}

#[test]
fn delta_subscribe_answers_the_added_and_unsubscribe_nothing() {
    let mut s = Stream::delta().has(Eds, "a1 b1");
    s.say(Eds, "+a", "", "");
    s.sends(expect!["eds 1-1 a1"]);
    s.say(Eds, "+b", "", "");
    s.sends(expect!["eds 1-2 b1"]);
    assert_eq!(s.say(Eds, "-a", "", "").1, InterestChange::Changed);
    s.sends(expect![""]);
    s.change(Eds, "a2 b2");
    s.sends(expect!["eds 2-3 b2"]);
    assert_eq!(s.say(Eds, "-b", "", "").1, InterestChange::Closed);
    s.change(Eds, "a3 b3");
    s.sends(expect![""]);
    s.say(Eds, "+a", "", "");
    s.sends(expect!["eds 3-4 a3"]);
}

#[test]
fn delta_subscribing_again_is_answered_again() {
    let mut s = Stream::delta().has(Eds, "a1 b1");
    s.say(Eds, "+a +b", "", "");
    s.sends(expect!["eds 1-1 a1 b1"]);
    s.say(Eds, "+a", "", "");
    s.sends(expect!["eds 1-2 a1"]);
}

#[test]
fn delta_names_with_a_stale_nonce_count() {
    let mut s = Stream::delta().has(Eds, "a1 b1");
    s.say(Eds, "+a", "", "");
    s.sends(expect!["eds 1-1 a1"]);
    assert_eq!(
        s.say(Eds, "+b", "9-9", ""),
        (Answer::Stale, InterestChange::Changed)
    );
    s.sends(expect!["eds 1-2 b1"]);
}

#[test]
fn delta_unknown_names() {
    let mut s = Stream::delta();
    s.say(Eds, "+x", "", "");
    s.say(Lds, "+l", "", ""); // by name: told that there is none
    s.sends(expect![[r#"
        eds 1-1 x-
        lds 1-2 -l"#]]);
    s.change(Eds, "x1");
    s.sends(expect!["eds 2-3 x1"]);
    s.change(Eds, "");
    s.sends(expect!["eds 3-4 x-"]);
}

#[test]
fn delta_wildcard_and_names_mix() {
    let mut s = Stream::delta().has(Lds, "a1 b1");
    s.say(Lds, "+* +a +x", "", "");
    s.sends(expect!["lds 1-1 a1 b1 -x"]);
    // no longer by name, still by wildcard: the client is told what is true of it
    s.say(Lds, "-a -x", "", "");
    s.sends(expect!["lds 1-2 a1 -x"]);
    s.say(Lds, "+b", "", "");
    s.sends(expect!["lds 1-3 b1"]);
    s.say(Lds, "-*", "", "");
    s.sends(expect![""]);
    s.change(Lds, "a2 b2");
    s.sends(expect!["lds 2-4 b2"]);
    s.say(Lds, "+*", "", "");
    s.sends(expect!["lds 2-5 a2 b2"]);
}

#[test]
fn delta_legacy_wildcard_outlives_named_subscriptions() {
    let mut s = Stream::delta().has(Cds, "a1 b1");
    s.say(Cds, "", "", "");
    s.sends(expect!["cds 1-1 a1 b1"]);
    s.say(Cds, "+a", "", "");
    s.sends(expect!["cds 1-2 a1"]);
    s.change(Cds, "a1 b2");
    s.sends(expect!["cds 2-3 b2"]);
    s.say(Cds, "-*", "", "");
    s.change(Cds, "a2 b3");
    s.sends(expect!["cds 3-4 a2"]);
}

#[test]
fn delta_a_changed_cluster_gets_its_endpoints_again() {
    let mut s = Stream::delta().has(Cds, "a1 b1").has(Eds, "a1 b1");
    s.say(Cds, "", "", "");
    s.sends(expect!["cds 1-1 a1 b1"]);
    s.say(Eds, "+a +b", "", "");
    s.sends(expect!["eds 1-2 a1 b1"]);
    s.change(Cds, "a1 b2 c1");
    s.sends(expect![[r#"
        cds 2-3 b2 c1
        eds 2-4 b1"#]]);
}

#[test]
fn delta_nack_is_not_resent_and_other_changes_go_out() {
    let mut s = Stream::delta().has(Lds, "a1 b1");
    s.say(Lds, "", "", "");
    s.sends(expect!["lds 1-1 a1 b1"]);
    s.dack(Lds);
    s.change(Lds, "a2 b2");
    s.sends(expect!["lds 2-2 a2 b2"]);
    s.dnack(Lds, "Error adding/updating listener(s) b: no");
    s.sends(expect![""]);
    s.change(Lds, "a3 b2");
    s.sends(expect!["lds 3-3 a3"]);
    s.dack(Lds);
    let status = s.session.status(Lds).unwrap();
    assert!(status.rejecting && !status.synced);
    s.change(Lds, "a3 b3");
    s.sends(expect!["lds 4-4 b3"]);
    s.dack(Lds);
    assert!(s.session.status(Lds).unwrap().synced);
}

#[test]
fn delta_a_rejected_resource_that_goes_away_no_longer_counts() {
    let mut s = Stream::delta().has(Lds, "a1");
    s.say(Lds, "", "", "");
    s.sends(expect!["lds 1-1 a1"]);
    s.dnack(Lds, "a");
    s.change(Lds, "");
    s.sends(expect!["lds 2-2 -a"]);
    s.dack(Lds);
    assert!(s.session.status(Lds).unwrap().synced);
}

#[test]
fn a_rejection_of_too_much_brings_everything_with_the_next_change() {
    let many = |n: usize, first: &str| {
        let e = |i| {
            Arc::new(Encoded::new(
                format!("r{i:04}"),
                Cds,
                if i == 0 { first.as_bytes() } else { b"1" },
            ))
        };
        Arc::new(Set::new((0..n).map(e).collect()))
    };
    let mut s = Stream::delta();
    s.snapshot.set(Cds, many(300, "1"));
    s.say(Cds, "", "", "");
    assert_eq!(
        s.session.poll(&s.snapshot, &missing).unwrap().resources,
        300
    );
    s.say(Cds, "", "1-1", "no idea");
    assert!(s.session.poll(&s.snapshot, &missing).is_none());
    s.snapshot.set(Cds, many(300, "2"));
    assert_eq!(
        s.session.poll(&s.snapshot, &missing).unwrap().resources,
        300
    );
    s.say(Cds, "", "1-2", "");
    assert!(s.session.status(Cds).unwrap().synced);
}

#[test]
fn too_many_names_over_several_requests_are_refused() {
    let setup = Setup {
        limits: Limits {
            names: 3,
            ..Limits::default()
        },
        ..Setup::default()
    };
    let mut s = Session::delta(Arc::new(setup));
    let say = |names: &str| DeltaDiscoveryRequest {
        type_url: Eds.url().into(),
        resource_names_subscribe: strings(names),
        ..Default::default()
    };
    let first = s.parse(say("a b").encode_to_vec().into()).unwrap();
    s.on_request(first).unwrap();
    let second = s.parse(say("c d").encode_to_vec().into()).unwrap();
    assert_eq!(
        s.on_request(second),
        Err(Refusal::TooManyNames { limit: 3 })
    );
    assert_eq!(s.status(Eds).unwrap().names, 2);
}

#[test]
fn a_revision_is_in_the_version_and_the_nonce() {
    let mut s = Stream::delta().has(Cds, "a1");
    s.say(Cds, "", "", "");
    let r = s.session.poll(&s.snapshot, &missing).unwrap();
    let m = DeltaDiscoveryResponse::decode(r.to_bytes().slice(5..)).unwrap();
    assert_eq!(
        (m.system_version_info.as_str(), m.nonce.as_str()),
        ("1", "1-1")
    );
}

// Size

#[test]
fn a_session_is_small() {
    use super::watch::{Outstanding, Watch};
    let four_types = size_of::<Session>() + 4 * size_of::<Watch>();
    assert!(four_types < 2048, "{four_types}");
    expect!["session 136, watch 248, unanswered response 120"].assert_eq(&format!(
        "session {}, watch {}, unanswered response {}",
        size_of::<Session>(),
        size_of::<Watch>(),
        size_of::<Outstanding>()
    ));
}

#[test]
fn proxies_of_a_class_share_names() {
    let setup = Arc::new(Setup::default());
    let names = (0..100)
        .map(|i| format!("outbound|80||s{i}"))
        .collect::<Vec<_>>()
        .join(" ");
    let mut streams: Vec<_> = (0..2)
        .map(|_| Stream {
            session: Session::sotw(setup.clone()),
            ..Stream::sotw()
        })
        .collect();
    streams.iter_mut().for_each(|s| {
        s.watch(Eds, &names);
    });
    let ptr = |s: &Stream| {
        Arc::as_ptr(
            s.session.watches[Eds.index()]
                .as_ref()
                .unwrap()
                .interest
                .names
                .as_ref()
                .unwrap(),
        )
    };
    assert_eq!(ptr(&streams[0]), ptr(&streams[1]));
}
