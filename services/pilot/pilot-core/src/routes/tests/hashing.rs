//! Balancing by hash, and what else proxies and the mesh say about routes.

use expect_test::expect;

use super::*;

fn hashing(policy: &str) -> String {
    object("DestinationRule", "d", &format!("host: a, {policy}"))
}

#[test]
fn c045_hashing_by_header_tries_no_other_endpoint() {
    let rule = hashing("trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}");
    let pointers = ["/route/hashPolicy", "/route/retryPolicy/retryHostPredicate"];
    check_fields(
        &format!("{{{TO_A}}}"),
        &rule,
        &pointers,
        expect![[r#"
        /route/hashPolicy [{"header":{"headerName":"x-user"}}]
        /route/retryPolicy/retryHostPredicate -
    "#]],
    );
    let yaml = service("a", "1", HTTP) + &rule;
    let config = rds(&yaml, &sidecar("default"), "80");
    assert_eq!(
        config
            .pointer("/virtualHosts/0/routes/0/route/hashPolicy/0/header/headerName")
            .unwrap(),
        "x-user"
    );
}

#[test]
fn c046_hashing_by_cookie() {
    let cookie = |ttl: &str| {
        hashing(&format!(
            "trafficPolicy: {{loadBalancer: {{consistentHash: {{httpCookie: {{name: c, path: /p, {ttl} attributes: [{{name: SameSite, value: Strict}}]}}}}}}}}"
        ))
    };
    check_fields(
        &format!("{{{TO_A}}}"),
        &cookie("ttl: 0s,"),
        &["/route/hashPolicy"],
        expect![[r#"
        /route/hashPolicy [{"cookie":{"name":"c","ttl":"0s","path":"/p","attributes":[{"name":"SameSite","value":"Strict"}]}}]
    "#]],
    );
    check_fields(
        &format!("{{{TO_A}}}"),
        &cookie(""),
        &["/route/hashPolicy"],
        expect![[r#"
        /route/hashPolicy [{"cookie":{"name":"c","path":"/p","attributes":[{"name":"SameSite","value":"Strict"}]}}]
    "#]],
    );
}

#[test]
fn the_narrowest_policy_decides_the_hash() {
    let by = |name: &str| format!("loadBalancer: {{consistentHash: {{httpHeaderName: {name}}}}}");
    let rule = hashing(&format!(
        "trafficPolicy: {{{}, portLevelSettings: [{{port: {{number: 80}}, {}}}]}}, subsets: [{{name: v1, trafficPolicy: {{{}, portLevelSettings: [{{port: {{number: 80}}, {}}}]}}}}, {{name: v2}}]",
        by("top"),
        by("port"),
        by("subset"),
        by("subset-port")
    ));
    let to = |n: u32, destination: &str| {
        format!(
            "{{match: [{{uri: {{exact: /{n}}}}}], route: [{{destination: {{host: a, {destination}}}}}]}}"
        )
    };
    let rules = [
        to(1, "subset: v1, port: {number: 80}"),
        to(2, "subset: v1"),
        to(3, "subset: v2, port: {number: 80}"),
        to(4, "subset: v2"),
    ];
    check_fields(
        &rules.join(", "),
        &rule,
        &["/route/hashPolicy/0/header/headerName"],
        expect![[r#"
        /route/hashPolicy/0/header/headerName "subset-port"
        /route/hashPolicy/0/header/headerName "subset"
        /route/hashPolicy/0/header/headerName "port"
        /route/hashPolicy/0/header/headerName "top"
    "#]],
    );
    let other = hashing(
        "trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}, subsets: [{name: v1, trafficPolicy: {loadBalancer: {consistentHash: {httpQueryParameterName: q}}}}]",
    );
    let rules = "{route: [{destination: {host: a}, weight: 1}, {destination: {host: a, subset: v1}, weight: 1}]}";
    check_fields(
        rules,
        &other,
        &[
            "/route/hashPolicy",
            "/route/retryPolicy/retryHostPredicate/0/name",
        ],
        expect![[r#"
        /route/hashPolicy [{"connectionProperties":{"sourceIp":true}},{"queryParameter":{"name":"q"}}]
        /route/retryPolicy/retryHostPredicate/0/name "envoy.retry_host_predicates.previous_hosts"
    "#]],
    );
}

#[test]
fn a_rewritten_authority_is_kept_if_the_proxy_says_so() {
    let on = mesh("defaultConfig: {proxyHeaders: {xForwardedHost: {enabled: true}}}");
    check_fields(
        &format!(
            "{{match: [{{uri: {{exact: /x}}}}], rewrite: {{authority: b.example}}, {TO_A}}}, {{{TO_A}}}"
        ),
        &on,
        &["/route/appendXForwardedHost"],
        expect![[r#"
        /route/appendXForwardedHost true
        /route/appendXForwardedHost -
    "#]],
    );
}
