//! State of the world: lists of names, nonces, reconnects.

use super::*;

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
fn sotw_what_was_accepted_has_the_version_that_was_sent() {
    let mut s = Stream::sotw().has(Cds, "a1").has(Eds, "a1 b1");
    s.watch(Eds, "a");
    s.watch(Cds, "");
    while let Some(response) = s.session.poll(&s.snapshot, &missing) {
        s.sent.push(response);
    }
    let versions = |s: &Stream, t| {
        let status = s.session.status(t).unwrap();
        (status.sent_version, status.acked_version)
    };
    for t in [Cds, Eds] {
        let (sent, acked) = versions(&s, t);
        assert!(sent.is_some() && acked.is_none());
        s.ack(t, if t == Eds { "a" } else { "" });
        assert_eq!(versions(&s, t), (sent, sent));
    }
}
