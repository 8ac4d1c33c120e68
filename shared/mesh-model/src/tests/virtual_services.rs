//! VirtualServices in views: order, audience, delegates, wildcards.

use expect_test::{Expect, expect};
use mesh_types::Kind;

use crate::testing::{World, listeners};

#[track_caller]
fn check(text: &str, namespace: &str, want: Expect) {
    want.assert_eq(&listeners(&World::new(text).sidecar(namespace)));
}

/// The names and first prefixes of the HTTP rules of the first VirtualService that a sidecar of `default` imports.
fn first_rules(world: &World) -> Vec<String> {
    let view = world.sidecar("default");
    let Some(item) = view.egress[0].virtual_services.first() else {
        return Vec::new();
    };
    let prefix = |m: &mesh_config::resource::virtual_service::HttpMatchRequest| {
        m.uri.as_ref().and_then(|u| u.prefix.clone())
    };
    item.spec
        .http
        .iter()
        .map(|r| {
            format!(
                "{} {:?}",
                r.name,
                r.matches.first().and_then(prefix).unwrap_or_default()
            )
        })
        .collect()
}

const DELEGATES: &str = r#"
VirtualService default/root
hosts: [a]
http:
- name: root
  match: [{uri: {prefix: /r}}]
  delegate: {name: d, namespace: team}
- name: own
  route: [{destination: {host: a}}]
---
VirtualService team/d
http:
- name: in
  match: [{uri: {prefix: /r/a}}]
  route: [{destination: {host: b}}]
- match: [{uri: {prefix: /x}}]
  route: [{destination: {host: b}}]
"#;

#[test]
fn c_039_delegates_are_merged_under_their_root() {
    let mut world = World::new(DELEGATES);
    assert_eq!(first_rules(&world), [r#"root-in "/r/a""#, r#"own """#]);
    // Short names of a delegate belong to its namespace.
    let view = world.sidecar("default");
    let destination = view.egress[0].virtual_services[0].spec.http[0].route[0]
        .destination
        .clone();
    assert_eq!(destination.unwrap().host, "b.team.svc.cluster.local");

    let delta = world
        .apply("VirtualService team/d\nhttp: [{name: other, route: [{destination: {host: c}}]}]");
    assert!(
        delta
            .virtual_services
            .iter()
            .any(|key| &*key.name == "root")
    );
    assert_eq!(first_rules(&world), [r#"root-other "/r""#, r#"own """#]);

    world.apply("VirtualService team/d\nexportTo: ['.']\nhttp: [{name: other, route: [{destination: {host: c}}]}]");
    assert_eq!(first_rules(&world), [r#"own """#]);
    world.apply("VirtualService team/d\nhosts: [c]\nhttp: [{name: other, route: [{destination: {host: c}}]}]");
    assert_eq!(
        world.sidecar("default").egress[0].virtual_services[0]
            .spec
            .http
            .len(),
        1,
        "a delegate has no hosts"
    );
    world.delete(Kind::VirtualService, "team", "d");
    assert_eq!(first_rules(&world), [r#"own """#]);
    world.apply("VirtualService team/d\nhttp: [{name: back, route: [{destination: {host: c}}]}]");
    assert_eq!(first_rules(&world), [r#"root-back "/r""#, r#"own """#]);
}

#[test]
fn c_040_the_exact_host_beats_an_older_wildcard() {
    check(
        "svc a.default http:80\nsvc b.default http:80\n---\n\
         VirtualService default/wild\nhosts: ['*.default.svc.cluster.local', '*.unknown']\n---\n\
         VirtualService default/exact\nhosts: [a]",
        "default",
        expect![[r#"
            *: services ["a.default", "b.default"] rules ["default/wild", "default/exact"] best ["a.default=default/exact", "b.default=default/wild"]
        "#]],
    );
}

#[test]
fn c_041_of_two_for_one_host_the_older_is_the_most_specific() {
    check(
        "svc a.default http:80\n---\nVirtualService default/z\nhosts: [a]\n---\nVirtualService default/b\nhosts: [a]\n---\n\
         VirtualService default/a created=1\nhosts: [a]",
        "default",
        expect![[r#"
            *: services ["a.default"] rules ["default/a", "default/z", "default/b"] best ["a.default=default/a"]
        "#]],
    );
}

#[test]
fn the_longest_wildcard_wins() {
    check(
        "svc a.x.y.com.n http:80 se\n---\nVirtualService n/short\nhosts: ['*.com']\n---\nVirtualService n/long\nhosts: ['*.y.com']",
        "n",
        expect![[r#"
            *: services ["a.x.y.com"] rules ["n/short", "n/long"] best ["a.x.y.com=n/long"]
        "#]],
    );
}

#[test]
fn c_043_export_to_decides_who_sees_it() {
    let text = "svc a.default http:80\n---\nVirtualService x/own\nexportTo: ['.']\nhosts: [a.default.svc.cluster.local]\n---\n\
                VirtualService x/given\nexportTo: [default]\nhosts: [a.default.svc.cluster.local]\n---\n\
                VirtualService x/hidden\nexportTo: [elsewhere]\nhosts: [a.default.svc.cluster.local]";
    check(
        text,
        "default",
        expect![[r#"
            *: services ["a.default"] rules ["x/given"] best ["a.default=x/given"]
        "#]],
    );
    check(
        text,
        "x",
        expect![[r#"
            *: services ["a.default"] rules ["x/own"] best ["a.default=x/own"]
        "#]],
    );
}

#[test]
fn private_ones_come_before_exported_and_public_ones() {
    check(
        "VirtualService x/public\nhosts: [a.com]\n---\nVirtualService x/exported\nexportTo: [n]\nhosts: [a.com]\n---\n\
         VirtualService n/private\nexportTo: ['.']\nhosts: [a.com]",
        "n",
        expect![[r#"
            *: services [] rules ["n/private", "x/exported", "x/public"] best []
        "#]],
    );
}

#[test]
fn c_044_gateway_api_routes_of_the_own_namespace_come_first() {
    check(
        "svc a.prod http:80\n---\nVirtualService prod/producer internal.istio.io/route-semantics=gateway\nhosts: [a]\n---\n\
         VirtualService n/consumer internal.istio.io/route-semantics=gateway\nhosts: [a.prod.svc.cluster.local]",
        "n",
        expect![[r#"
            *: services ["a.prod"] rules ["n/consumer", "prod/producer"] best ["a.prod=n/consumer"]
        "#]],
    );
}

#[test]
fn those_for_gateways_alone_are_none_of_a_sidecars_business() {
    check(
        "VirtualService n/gw\nhosts: [a.com]\ngateways: [gw]\n---\nVirtualService n/both\nhosts: [b.com]\ngateways: [gw, mesh]",
        "n",
        expect![[r#"
            *: services [] rules ["n/both"] best []
        "#]],
    );
}
