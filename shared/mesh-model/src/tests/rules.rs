//! Which DestinationRule a service gets.

use expect_test::{Expect, expect};

use crate::testing::{World, labelled, rules};

#[track_caller]
fn check(text: &str, namespace: &str, want: Expect) {
    want.assert_eq(&rules(&World::new(text).sidecar(namespace)));
}

/// Rules of the same host in three namespaces, each with a subset named after its own.
const EVERYWHERE: &str = "svc a.prod http:80\n---\n\
    DestinationRule istio-system/root\nhost: a.prod.svc.cluster.local\nsubsets: [{name: root}]\n---\n\
    DestinationRule prod/server\nhost: a\nsubsets: [{name: server}]\n---\n\
    DestinationRule client/client\nhost: a.prod.svc.cluster.local\nexportTo: ['.']\nsubsets: [{name: client}]";

#[test]
fn c_073_client_namespace_beats_service_namespace_beats_root() {
    check(
        EVERYWHERE,
        "client",
        expect!["a.prod=client/client[client]"],
    );
    check(EVERYWHERE, "other", expect!["a.prod=prod/server[server]"]);
    check(EVERYWHERE, "prod", expect!["a.prod=prod/server[server]"]);
    let without = EVERYWHERE.replace("host: a\n", "host: a\nexportTo: ['.']\n");
    check(&without, "other", expect!["a.prod=istio-system/root[root]"]);
    check(&without, "prod", expect!["a.prod=prod/server[server]"]);
}

#[test]
fn the_root_namespace_uses_its_private_rules_only() {
    let text = "svc a.prod http:80\n---\nDestinationRule istio-system/all\nhost: '*.local'\nsubsets: [{name: all}]\n---\n\
                DestinationRule prod/server\nhost: a\nsubsets: [{name: server}]";
    check(text, "istio-system", expect!["a.prod=prod/server[server]"]);
    let private = format!(
        "{text}\n---\nDestinationRule istio-system/own\nhost: a.prod.svc.cluster.local\nexportTo: ['.']"
    );
    check(
        &private,
        "istio-system",
        expect!["a.prod=istio-system/own[]"],
    );
    check(&private, "other", expect!["a.prod=prod/server[server]"]);
}

#[test]
fn c_074_rules_of_one_host_and_namespace_merge() {
    let text = "svc a.n http:80\n---\n\
        DestinationRule n/first\nhost: a\nsubsets: [{name: v1}]\n---\n\
        DestinationRule n/second\nhost: a.n.svc.cluster.local\ntrafficPolicy: {connectionPool: {tcp: {maxConnections: 2}}}\nsubsets: [{name: v1}, {name: v2}]\n---\n\
        DestinationRule n/third\nhost: a\ntrafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}\nsubsets: [{name: v3}]";
    check(text, "n", expect!["a.n=n/first+n/second+n/third[v1,v2,v3]"]);
    let view = World::new(text).sidecar("other");
    let rule = view.destination_rules.values().next().unwrap();
    let pool = rule
        .spec
        .traffic_policy
        .as_ref()
        .and_then(|p| p.connection_pool.as_ref())
        .and_then(|p| p.tcp.as_ref());
    assert_eq!(
        pool.map(|tcp| tcp.max_connections),
        Some(2),
        "the first policy wins whole"
    );
}

#[test]
fn a_wider_rule_merges_into_a_narrower_and_stands_alone_for_the_rest() {
    let text = "svc a.n http:80\n---\nDestinationRule n/narrow\nhost: a\nexportTo: [x]\nsubsets: [{name: narrow}]\n---\n\
                DestinationRule n/wide\nhost: a\nsubsets: [{name: wide}]";
    check(text, "x", expect!["a.n=n/narrow+n/wide[narrow,wide]"]);
    check(text, "y", expect!["a.n=n/wide[wide]"]);
}

#[test]
fn c_075_a_clients_wildcard_beats_the_servers_exact_rule() {
    check(
        "svc a.default http:80\n---\nDestinationRule client/wild\nhost: '*.default.svc.cluster.local'\n---\n\
         DestinationRule default/exact\nhost: a",
        "client",
        expect!["a.default=client/wild[]"],
    );
}

#[test]
fn c_076_a_selected_rule_is_for_its_workloads_only() {
    let text = "svc a.default http:80\n---\n\
        DestinationRule client/selected\nhost: a.default.svc.cluster.local\nworkloadSelector: {matchLabels: {app: p}}\nsubsets: [{name: s}]\n---\n\
        DestinationRule client/plain\nhost: a.default.svc.cluster.local\nsubsets: [{name: t}]";
    let world = World::new(text);
    let view = world.sidecar("client");
    expect!["a.default=client/selected[s]"].assert_eq(&rules(&view));
    expect!["a.default=client/plain[t]"]
        .assert_eq(&rules(&world.mesh.view(&labelled(&view.key, "q"))));
    expect![""].assert_eq(
        &rules(&world.sidecar("other")).replace("a.default=client/plain[t]", "exported"),
    );
    let host = view.services.keys().next().unwrap();
    let inbound = view
        .inbound_destination_rule(host)
        .map(|rule| rule.key.path());
    assert_eq!(
        inbound.as_deref(),
        Some("client/plain"),
        "the server side knows no client"
    );
}
