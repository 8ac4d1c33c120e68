//! RouteConfigurations of routers.

use expect_test::expect;

use super::*;
use crate::testing::router;

fn gateway(name: &str, servers: &str) -> String {
    object(
        "Gateway",
        name,
        &format!("selector: {{app: p}}, servers: [{servers}]"),
    )
}

fn bound(name: &str, hosts: &str, rules: &str) -> String {
    bound_in("default", name, hosts, rules)
}

fn bound_in(namespace: &str, name: &str, hosts: &str, rules: &str) -> String {
    object_in(
        namespace,
        "VirtualService",
        name,
        &format!("hosts: [{hosts}], gateways: [default/g], http: [{rules}]"),
    )
}

/// A rule for one path, or for all.
fn at(path: &str) -> String {
    match path {
        "/" => "{route: [{destination: {host: a.default.svc.cluster.local}}]}".into(),
        path => format!(
            "{{match: [{{uri: {{prefix: {path}}}}}], route: [{{destination: {{host: a.default.svc.cluster.local}}}}]}}"
        ),
    }
}

#[track_caller]
fn check_router(yaml: &str, name: &str, want: Expect) {
    let yaml = service("a", "1", HTTP) + yaml;
    check_for(&router("default"), &yaml, name, want);
}

const ANY: &str = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}";

#[test]
fn c100_a_server_without_rules() {
    check_router(
        &gateway("g", ANY),
        "http.80",
        expect![[r#"
        blackhole:80: *
    "#]],
    );
    check_router(&gateway("g", ANY), "http.81", expect![[""]]);
}

#[test]
fn c101_rules_for_every_host() {
    check_router(
        &(gateway("g", ANY) + &bound("v", "'*'", &at("/productpage"))),
        "http.80",
        expect![[r#"
        *:80: *
          prefix /productpage -> outbound|80||a.default.svc.cluster.local
    "#]],
    );
}

#[test]
fn c102_plaintext_is_sent_to_https() {
    let redirecting = "{port: {number: 80, name: http, protocol: HTTP}, hosts: [default/x.example, '*/y.example'], tls: {httpsRedirect: true}}";
    let plain = "{port: {number: 80, name: http-2, protocol: HTTP}, hosts: [x.example, z.example]}";
    check_router(
        &gateway("g", redirecting),
        "http.80",
        expect![[r#"
        x.example:80 (https only): x.example y.example
    "#]],
    );
    let both = gateway("g", &format!("{redirecting}, {plain}"));
    check_router(
        &(both + &bound("v", "x.example, z.example", &at("/"))),
        "http.80",
        expect![[r#"
            x.example:80 (https only): x.example
              prefix / -> outbound|80||a.default.svc.cluster.local
            y.example:80 (https only): y.example
            z.example:80: z.example
              prefix / -> outbound|80||a.default.svc.cluster.local
        "#]],
    );
}

#[test]
fn c103_rules_match_the_port_of_the_server() {
    let entry = "---\n{apiVersion: v1, kind: Service, metadata: {name: gw, namespace: default}, spec: {clusterIP: 10.96.0.9, selector: {app: p}, ports: [{name: http, port: 80, targetPort: 8080}]}}\n";
    let rules = "{match: [{port: 80}], redirect: {uri: /here}}, {match: [{port: 8080}], redirect: {uri: /there}}";
    let yaml =
        service("a", "1", HTTP) + entry + &gateway("g", ANY) + &bound("v", "x.example", rules);
    check_for(
        &router("default"),
        &yaml,
        "http.8080",
        expect![[r#"
        x.example:80: x.example
          prefix / -> redirect {"pathRedirect":"/here"}
    "#]],
    );
}

#[test]
fn c104_each_https_server_has_its_own_routes() {
    let server = |name: &str, host: &str| {
        format!(
            "{{port: {{number: 443, name: {name}, protocol: HTTPS}}, hosts: [{host}], tls: {{mode: SIMPLE, credentialName: c}}}}"
        )
    };
    let yaml = gateway(
        "g",
        &format!("{}, {}", server("a", "a.example"), server("b", "b.example")),
    ) + &bound(
        "v",
        "a.example, b.example",
        "{redirect: {authority: c.example, port: 443}}",
    );
    check_router(
        &yaml,
        "https.443.a.g.default",
        expect![[r#"
        a.example:443: a.example
          prefix / -> redirect {"hostRedirect":"c.example"}
    "#]],
    );
    check_router(
        &yaml,
        "https.443.b.g.default",
        expect![[r#"
        b.example:443: b.example
          prefix / -> redirect {"hostRedirect":"c.example"}
    "#]],
    );
}

#[test]
fn c041_rules_for_one_host_are_joined_and_what_takes_everything_comes_last() {
    let old = bound("old", "x.example", &format!("{}, {}", at("/old"), at("/")));
    let yaml = gateway("g", ANY)
        + &old
        + &bound(
            "new",
            "x.example",
            &format!("{}, {{redirect: {{uri: /never}}}}", at("/new")),
        );
    check_router(
        &yaml,
        "http.80",
        expect![[r#"
        x.example:80: x.example
          prefix /old -> outbound|80||a.default.svc.cluster.local
          prefix /new -> outbound|80||a.default.svc.cluster.local
          prefix / -> outbound|80||a.default.svc.cluster.local
          prefix / -> redirect {"pathRedirect":"/never"}
    "#]],
    );
}

#[test]
fn c109_a_server_may_be_for_one_namespace() {
    let server = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['ns-1/*.example.com', './own.example']}";
    let yaml = gateway("g", server)
        + &bound_in("ns-1", "one", "a.example.com, own.example", &at("/one"))
        + &bound_in("ns-2", "two", "b.example.com", &at("/two"))
        + &bound("three", "own.example, c.example.com", &at("/three"));
    check_router(
        &yaml,
        "http.80",
        expect![[r#"
        a.example.com:80: a.example.com
          prefix /one -> outbound|80||a.default.svc.cluster.local
        own.example:80: own.example
          prefix /three -> outbound|80||a.default.svc.cluster.local
    "#]],
    );
}

#[test]
fn c110_hosts_with_the_same_rules_share_a_virtual_host() {
    let both = gateway("g", ANY) + &bound("v", "foo.example, bar.example", &at("/"));
    check_router(
        &both,
        "http.80",
        expect![[r#"
        bar.example:80: bar.example foo.example
          prefix / -> outbound|80||a.default.svc.cluster.local
    "#]],
    );
    check_router(
        &(both + &bound("w", "foo.example", &at("/foo"))),
        "http.80",
        expect![[r#"
        bar.example:80: bar.example
          prefix / -> outbound|80||a.default.svc.cluster.local
        foo.example:80: foo.example
          prefix /foo -> outbound|80||a.default.svc.cluster.local
          prefix / -> outbound|80||a.default.svc.cluster.local
    "#]],
    );
}

#[test]
fn servers_of_one_port_are_joined() {
    let other = object_in(
        "other",
        "Gateway",
        "g",
        "selector: {app: p}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [y.example]}]",
    );
    let theirs = object_in(
        "other",
        "VirtualService",
        "v",
        &format!(
            "hosts: [y.example], gateways: [g], http: [{}]",
            at("/theirs")
        ),
    );
    check_router(
        &(gateway("g", ANY) + &other + &bound("v", "x.example", &at("/ours")) + &theirs),
        "http.80",
        expect![[r#"
        x.example:80: x.example
          prefix /ours -> outbound|80||a.default.svc.cluster.local
        y.example:80: y.example
          prefix /theirs -> outbound|80||a.default.svc.cluster.local
    "#]],
    );
}

#[test]
fn the_narrower_of_two_overlapping_hosts_is_served() {
    let server =
        "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com', plain.example]}";
    check_router(
        &(gateway("g", server)
            + &bound(
                "v",
                "'*.a.example.com', plain.example, other.example",
                &at("/"),
            )),
        "http.80",
        expect![[r#"
            plain.example:80: plain.example *.a.example.com
              prefix / -> outbound|80||a.default.svc.cluster.local
        "#]],
    );
}

#[test]
fn a_match_may_be_for_one_gateway() {
    let rules = "{match: [{gateways: [g]}], redirect: {uri: /g}}, {match: [{gateways: [other]}], redirect: {uri: /other}}, {match: [{sourceLabels: {app: q}}], redirect: {uri: /q}}";
    check_router(
        &(gateway("g", ANY) + &bound("v", "x.example", rules)),
        "http.80",
        expect![[r#"
        x.example:80: x.example
          prefix / -> redirect {"pathRedirect":"/g"}
    "#]],
    );
}
