//! Who speaks for a host that several VirtualServices name.

use expect_test::expect;

use super::*;

fn to(name: &str, hosts: &str, to: &str) -> String {
    object(
        "VirtualService",
        name,
        &format!(
            "hosts: [{hosts}], http: [{{name: {name}, route: [{{destination: {{host: {to}}}}}]}}]"
        ),
    )
}

#[test]
fn c039_rules_of_a_delegate() {
    let root = "hosts: [a], http: [{name: root, match: [{uri: {prefix: /r}}], delegate: {name: d}}, {name: gone, match: [{uri: {prefix: /s}}], delegate: {name: hidden}}, {name: rest, route: [{destination: {host: a}}]}]";
    let leaf = "http: [{name: leaf, match: [{uri: {prefix: /r/a}}], route: [{destination: {host: a}}]}, {name: no, match: [{uri: {prefix: /x}}], route: [{destination: {host: a}}]}]";
    let yaml = service("a", "1", HTTP)
        + &object("VirtualService", "d", leaf)
        + &object(
            "VirtualService",
            "hidden",
            &format!("exportTo: [other], {leaf}"),
        )
        + &object("VirtualService", "v", root);
    check(
        &yaml,
        "80",
        expect![[r#"
            a.default.svc.cluster.local:80: a.default.svc.cluster.local a.default.svc.cluster.local. a a.default.svc a.default 10.96.0.1
              root-leaf: prefix /r/a -> outbound|80||a.default.svc.cluster.local
              rest: prefix / -> outbound|80||a.default.svc.cluster.local
            allow_any: *
              allow_any: prefix / -> PassthroughCluster
        "#]],
    );
}

#[test]
fn c040_an_exact_host_wins_whatever_its_age() {
    let yaml = service("a", "1", HTTP)
        + &service("b", "2", HTTP)
        + &to("wild", "'*.cluster.local'", "b")
        + &to("exact", "a", "a")
        + &to("nobody", "'*.unknown'", "a");
    check(
        &yaml,
        "80",
        expect![[r#"
        *.unknown:80: *.unknown
          nobody: prefix / -> outbound|80||a.default.svc.cluster.local
        a.default.svc.cluster.local:80: a.default.svc.cluster.local a.default.svc.cluster.local. a a.default.svc a.default 10.96.0.1
          exact: prefix / -> outbound|80||a.default.svc.cluster.local
        b.default.svc.cluster.local:80: b.default.svc.cluster.local b.default.svc.cluster.local. b b.default.svc b.default 10.96.0.2
          wild: prefix / -> outbound|80||b.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
    let elsewhere = yaml.replace("port: 80", "port: 8080");
    check(
        &elsewhere,
        "8080",
        expect![[r#"
        a.default.svc.cluster.local:8080: a.default.svc.cluster.local a.default.svc.cluster.local. a a.default.svc a.default 10.96.0.1
          exact: prefix / -> outbound|8080||a.default.svc.cluster.local
        b.default.svc.cluster.local:8080: b.default.svc.cluster.local b.default.svc.cluster.local. b b.default.svc b.default 10.96.0.2
          wild: prefix / -> outbound|8080||b.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
}

#[test]
fn c041_the_oldest_of_equals_wins_entirely() {
    let yaml = service("a", "1", HTTP)
        + &object(
            "VirtualService",
            "old",
            "hosts: [a], http: [{match: [{uri: {prefix: /old}}], route: [{destination: {host: a}}]}]",
        )
        + &to("new", "a", "a");
    check(
        &yaml,
        "80",
        expect![[r#"
        a.default.svc.cluster.local:80: a.default.svc.cluster.local a.default.svc.cluster.local. a a.default.svc a.default 10.96.0.1
          prefix /old -> outbound|80||a.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
}

#[test]
fn a_rule_without_match_ends_the_list() {
    let yaml = service("a", "1", HTTP)
        + &object(
            "VirtualService",
            "v",
            "hosts: [a], http: [{match: [{uri: {prefix: /x}}, {uri: {prefix: /}}, {uri: {prefix: /y}}], route: [{destination: {host: a}}]}, {redirect: {uri: /}}]",
        );
    check(
        &yaml,
        "80",
        expect![[r#"
        a.default.svc.cluster.local:80: a.default.svc.cluster.local a.default.svc.cluster.local. a a.default.svc a.default 10.96.0.1
          prefix /x -> outbound|80||a.default.svc.cluster.local
          prefix / -> outbound|80||a.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
}

#[test]
fn c042_hosts_that_are_no_services_are_known_on_port_80() {
    let yaml = service("a", "1", "{name: http, port: 8080}")
        + &object(
            "VirtualService",
            "v",
            "hosts: [Unknown.example], http: [{match: [{port: 8080}], redirect: {uri: /}}, {redirect: {uri: /x}}]",
        );
    check(
        &yaml,
        "80",
        expect![[r#"
        unknown.example:80: unknown.example
          prefix / -> redirect {"pathRedirect":"/x"}
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
    check(
        &yaml,
        "8080",
        expect![[r#"
        a.default.svc.cluster.local:8080: a.default.svc.cluster.local a.default.svc.cluster.local. a a.default.svc a.default 10.96.0.1
          default: prefix / -> outbound|8080||a.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
}

#[test]
fn c043_rules_reach_those_they_are_exported_to() {
    let exported = |to: &str| {
        service("a", "1", HTTP)
            + &object_in(
                "x",
                "VirtualService",
                "v",
                &format!(
                    "exportTo: ['{to}'], hosts: [a.default.svc.cluster.local], http: [{{redirect: {{uri: /}}}}]"
                ),
            )
    };
    check(
        &exported("."),
        "80",
        expect![[r#"
        a.default.svc.cluster.local:80: a.default.svc.cluster.local a.default.svc.cluster.local. a a.default.svc a.default 10.96.0.1
          default: prefix / -> outbound|80||a.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
    check(
        &exported("default"),
        "80",
        expect![[r#"
        a.default.svc.cluster.local:80: a.default.svc.cluster.local a.default.svc.cluster.local. a a.default.svc a.default 10.96.0.1
          prefix / -> redirect {"pathRedirect":"/"}
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
}

#[test]
fn c044_rules_of_gateway_api_routes_are_for_consumers_and_producers() {
    let route = |namespace: &str, uri: &str| {
        object_in(namespace, "VirtualService", "v", &format!("hosts: [a.default.svc.cluster.local], http: [{{match: [{{uri: {{prefix: {uri}}}}}], rewrite: {{uri: /}}, route: [{{destination: {{host: a.default.svc.cluster.local}}}}]}}]"))
            .replace("metadata: {", "metadata: {annotations: {internal.istio.io/route-semantics: gateway}, ")
    };
    let yaml = service("a", "1", HTTP)
        + &route("elsewhere", "/arbitrary")
        + &route("default", "/producer.x/")
        + &route("client", "/consumer");
    check(
        &yaml,
        "80",
        expect![[r#"
        a.default.svc.cluster.local:80: a.default.svc.cluster.local a.default.svc.cluster.local. a a.default.svc a.default 10.96.0.1
          pathSeparatedPrefix /producer.x -> outbound|80||a.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
    check_for(
        &sidecar("client"),
        &yaml,
        "80",
        expect![[r#"
        a.default.svc.cluster.local:80: a.default.svc.cluster.local a.default.svc.cluster.local. a.default a.default.svc 10.96.0.1
          pathSeparatedPrefix /consumer -> outbound|80||a.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
    let config = rds(&yaml, &sidecar("default"), "80");
    let action = config.pointer("/virtualHosts/0/routes/0/route").unwrap();
    assert_eq!(
        action["clusterNotFoundResponseCode"],
        "INTERNAL_SERVER_ERROR"
    );
    assert_eq!(
        action["regexRewrite"]["pattern"]["regex"],
        r"^/producer\.x(/?)(.*)"
    );
}
