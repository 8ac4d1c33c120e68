//! What holds in both protocols: order, bounds, and when a client counts as up to date.

use super::*;

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
    use crate::session::watch::{Outstanding, Watch};
    let four_types = size_of::<Session>() + 4 * size_of::<Watch>();
    assert!(four_types < 2048, "{four_types}");
    expect!["session 144, watch 272, unanswered response 120"].assert_eq(&format!(
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
