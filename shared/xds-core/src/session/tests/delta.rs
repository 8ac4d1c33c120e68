//! Delta: subscriptions, removals, reconnects with versions.

use super::*;

#[test]
fn delta_names_dropped_before_the_first_answer_are_owed_in_spite_of_initial_versions() {
    let mut s = Stream::delta().has(Rds, "a1 b1");
    s.say(Rds, "+a +b a=1 b=1", "", "");
    s.say(Rds, "-b", "", "");
    s.say(Rds, "+b", "", "");
    s.sends(expect!["rds 1-1 b1"]);
}

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
