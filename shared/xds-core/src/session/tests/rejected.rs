//! NACKs: what is blamed, what is held back, what goes out all the same.

use super::*;

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
fn sotw_a_rejection_may_stand_for_responses_that_were_never_answered() {
    let mut s = Stream::sotw().has(Cds, "a0 c9");
    s.watch(Cds, "");
    while let Some(response) = s.session.poll(&s.snapshot, &missing) {
        s.sent.push(response);
    }
    // Not answered yet: Envoy is busy with a. Its next answer is about this one, and names what was bad in the first one already.
    s.change(Cds, "a1 c9");
    while let Some(response) = s.session.poll(&s.snapshot, &missing) {
        s.sent.push(response);
    }
    s.nack(Cds, "", "bad cluster c");
    let blamed = |s: &Stream| -> Vec<String> {
        let nack = s.session.status(Cds).unwrap().nack.unwrap();
        nack.resources.iter().map(|name| name.to_string()).collect()
    };
    assert_eq!(blamed(&s), ["c"]);
    s.change(Cds, "a1 b0 c9");
    let response = s.session.poll(&s.snapshot, &missing).unwrap();
    assert_eq!(response.resources, 2);
    s.sent.push(response);
    s.ack(Cds, "");
    assert_eq!(blamed(&s), ["c"]);
    s.change(Cds, "a1 b0");
    let response = s.session.poll(&s.snapshot, &missing).unwrap();
    s.sent.push(response);
    s.ack(Cds, "");
    assert!(!s.session.status(Cds).unwrap().rejecting);
}
