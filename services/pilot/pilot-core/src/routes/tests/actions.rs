//! What becomes of requests that a rule takes.

use expect_test::expect;

use super::*;

#[test]
fn c026_weights() {
    let two = |a: i32, b: i32| {
        format!(
            "{{route: [{{destination: {{host: a, subset: v1}}, weight: {a}}}, {{destination: {{host: a, subset: v2, port: {{number: 8080}}}}, weight: {b}}}]}}"
        )
    };
    check_fields(
        &two(80, 20),
        "",
        &["/route/weightedClusters", "/decorator/operation"],
        expect![[r#"
        /route/weightedClusters {"clusters":[{"name":"outbound|80|v1|a.default.svc.cluster.local","weight":80},{"name":"outbound|8080|v2|a.default.svc.cluster.local","weight":20}]}
        /decorator/operation "v:80/*"
    "#]],
    );
    check_fields(
        &two(100, 0),
        "",
        &["/route/weightedClusters"],
        expect![[r#"
        /route/weightedClusters {"clusters":[{"name":"outbound|80|v1|a.default.svc.cluster.local","weight":100}]}
    "#]],
    );
    check_fields(
        "{route: [{destination: {host: a}, weight: 0}]}",
        "",
        &["/route/cluster"],
        expect![[r#"
        /route/cluster "outbound|80||a.default.svc.cluster.local"
    "#]],
    );
}

#[test]
fn a_destination_without_port_is_asked_at_its_only_one() {
    let more = service("b", "2", "{name: http, port: 9080}")
        + &service("c", "3", "{name: http, port: 70}, {name: http-2, port: 71}");
    let to = |host: &str| {
        format!(
            "{{match: [{{uri: {{exact: /{host}}}}}], route: [{{destination: {{host: {host}}}}}]}}"
        )
    };
    let rules = [to("b"), to("c"), to("unknown.example")].join(", ");
    check_fields(
        &rules,
        &more,
        &["/route/cluster"],
        expect![[r#"
        /route/cluster "outbound|9080||b.default.svc.cluster.local"
        /route/cluster "outbound|80||c.default.svc.cluster.local"
        /route/cluster "outbound|80||unknown.example"
    "#]],
    );
}

#[test]
fn c027_redirects() {
    let pointers = ["/redirect"];
    check_fields(
        "{redirect: {authority: b.example, uri: /p, redirectCode: 302, scheme: https, port: 443}}",
        "",
        &pointers,
        expect![[r#"
        /redirect {"hostRedirect":"b.example","pathRedirect":"/p","responseCode":"FOUND","schemeRedirect":"https"}
    "#]],
    );
    check_fields(
        "{redirect: {prefixRewrite: /p, redirectCode: 308, port: 8443}}",
        "",
        &pointers,
        expect![[r#"
        /redirect {"responseCode":"PERMANENT_REDIRECT","prefixRewrite":"/p","portRedirect":8443}
    "#]],
    );
    check_fields(
        "{redirect: {authority: b.example, derivePort: FROM_PROTOCOL_DEFAULT, redirectCode: 307}}",
        "",
        &pointers,
        expect![[r#"
        /redirect {"hostRedirect":"b.example","responseCode":"TEMPORARY_REDIRECT"}
    "#]],
    );
}

#[test]
fn c028_a_redirect_may_keep_the_port_that_was_asked() {
    let rules = "http: [{redirect: {authority: b.example, derivePort: FROM_REQUEST_PORT}}]";
    let yaml = service(
        "a",
        "1",
        "{name: http, port: 80}, {name: http-alt, port: 8080}",
    ) + &object("VirtualService", "v", &format!("hosts: [a], {rules}"));
    let redirect = |name: &str| {
        rds(&yaml, &sidecar("default"), name)
            .pointer("/virtualHosts/0/routes/0/redirect")
            .unwrap()
            .to_string()
    };
    expect![[r#"
        {"hostRedirect":"b.example"}
        {"hostRedirect":"b.example","portRedirect":8080}
    "#]]
    .assert_eq(&format!("{}\n{}\n", redirect("80"), redirect("8080")));
}

#[test]
fn c029_fixed_answers() {
    check_fields(
        "{directResponse: {status: 418, body: {string: teapot}}}",
        "",
        &["/directResponse"],
        expect![[r#"
        /directResponse {"status":418,"body":{"inlineString":"teapot"}}
    "#]],
    );
    check_fields(
        "{directResponse: {status: 503, body: {bytes: _-8}}}",
        "",
        &["/directResponse"],
        expect![[r#"
        /directResponse {"status":503,"body":{"inlineBytes":"/+8="}}
    "#]],
    );
    check_fields(
        "{directResponse: {status: 204}, headers: {response: {set: {x: y}}}}",
        "",
        &["/directResponse", "/responseHeadersToAdd"],
        expect![[r#"
        /directResponse {"status":204}
        /responseHeadersToAdd [{"header":{"key":"x","value":"y"},"appendAction":"OVERWRITE_IF_EXISTS_OR_ADD"}]
    "#]],
    );
}

#[test]
fn c030_c031_rewrites() {
    let pointers = [
        "/route/prefixRewrite",
        "/route/regexRewrite",
        "/route/hostRewriteLiteral",
    ];
    check_fields(
        &format!("{{match: [{{uri: {{prefix: /api/}}}}], rewrite: {{uri: /}}, {TO_A}}}"),
        "",
        &pointers,
        expect![[r#"
        /route/prefixRewrite "/"
        /route/regexRewrite -
        /route/hostRewriteLiteral -
    "#]],
    );
    check_fields(
        &format!(
            "{{match: [{{uri: {{prefix: /service/}}}}], rewrite: {{authority: b.example, uriRegexRewrite: {{match: '^/service/([^/]+)(/.*)$', rewrite: '\\2/instance/\\1'}}}}, {TO_A}}}"
        ),
        "",
        &pointers,
        expect![[r#"
            /route/prefixRewrite -
            /route/regexRewrite {"pattern":{"regex":"^/service/([^/]+)(/.*)$"},"substitution":"\\2/instance/\\1"}
            /route/hostRewriteLiteral "b.example"
        "#]],
    );
}

#[test]
fn c032_headers_and_the_authority() {
    let pointers = [
        "/requestHeadersToAdd",
        "/requestHeadersToRemove",
        "/responseHeadersToAdd",
        "/responseHeadersToRemove",
        "/route/hostRewriteLiteral",
    ];
    let headers = "headers: {request: {set: {x-b: '1', Host: set.example, x-a: '2'}, add: {y: '3'}, remove: [z]}, response: {add: {r: '4'}, remove: [server]}}";
    check_fields(
        &format!("{{{headers}, {TO_A}}}"),
        "",
        &pointers,
        expect![[r#"
        /requestHeadersToAdd [{"header":{"key":"x-a","value":"2"},"appendAction":"OVERWRITE_IF_EXISTS_OR_ADD"},{"header":{"key":"x-b","value":"1"},"appendAction":"OVERWRITE_IF_EXISTS_OR_ADD"},{"header":{"key":"y","value":"3"}}]
        /requestHeadersToRemove ["z"]
        /responseHeadersToAdd [{"header":{"key":"r","value":"4"}}]
        /responseHeadersToRemove ["server"]
        /route/hostRewriteLiteral "set.example"
    "#]],
    );
    check_fields(
        "{headers: {request: {set: {x: '1'}}}, route: [{destination: {host: a}, headers: {request: {set: {':authority': own.example, y: '2'}}, response: {remove: [q]}}}]}",
        "",
        &pointers,
        expect![[r#"
            /requestHeadersToAdd [{"header":{"key":"x","value":"1"},"appendAction":"OVERWRITE_IF_EXISTS_OR_ADD"},{"header":{"key":"y","value":"2"},"appendAction":"OVERWRITE_IF_EXISTS_OR_ADD"}]
            /requestHeadersToRemove -
            /responseHeadersToAdd -
            /responseHeadersToRemove ["q"]
            /route/hostRewriteLiteral "own.example"
        "#]],
    );
}

#[test]
fn headers_of_weighted_destinations_are_their_own() {
    let rules = "{headers: {request: {set: {x: '1'}}}, route: [{destination: {host: a, subset: v1}, weight: 1, headers: {request: {set: {Host: b.example}, add: {y: '2'}}, response: {remove: [q]}}}, {destination: {host: a}, weight: 2}]}";
    check_fields(
        rules,
        "",
        &["/requestHeadersToAdd", "/route/weightedClusters/clusters"],
        expect![[r#"
        /requestHeadersToAdd [{"header":{"key":"x","value":"1"},"appendAction":"OVERWRITE_IF_EXISTS_OR_ADD"}]
        /route/weightedClusters/clusters [{"name":"outbound|80|v1|a.default.svc.cluster.local","weight":1,"requestHeadersToAdd":[{"header":{"key":"y","value":"2"}}],"responseHeadersToRemove":["q"],"hostRewriteLiteral":"b.example"},{"name":"outbound|80||a.default.svc.cluster.local","weight":2}]
    "#]],
    );
}

#[test]
fn c033_timeouts() {
    let pointers = ["/route/timeout", "/route/maxGrpcTimeout"];
    check_fields(
        &format!("{{timeout: 1.5s, {TO_A}}}"),
        "",
        &pointers,
        expect![[r#"
        /route/timeout "1.500s"
        /route/maxGrpcTimeout "1.500s"
    "#]],
    );
    check_fields(
        &format!("{{{TO_A}}}"),
        "",
        &pointers,
        expect![[r#"
        /route/timeout "0s"
        /route/maxGrpcTimeout "0s"
    "#]],
    );
}

#[test]
fn c034_c035_retries() {
    let pointers = ["/route/retryPolicy"];
    check_fields(
        &format!("{{{TO_A}}}"),
        "",
        &pointers,
        expect![[r#"
        /route/retryPolicy {"retryOn":"connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes","numRetries":2,"retryHostPredicate":[{"name":"envoy.retry_host_predicates.previous_hosts","typedConfig":{}}],"hostSelectionRetryMaxAttempts":"5"}
    "#]],
    );
    check_fields(
        &format!(
            "{{retries: {{attempts: 3, retryOn: '503,gateway-error', perTryTimeout: 200ms}}, {TO_A}}}"
        ),
        "",
        &pointers,
        expect![[r#"
        /route/retryPolicy {"retryOn":"gateway-error,retriable-status-codes","numRetries":3,"perTryTimeout":"0.200s","retryHostPredicate":[{"name":"envoy.retry_host_predicates.previous_hosts","typedConfig":{}}],"hostSelectionRetryMaxAttempts":"5","retriableStatusCodes":[503]}
    "#]],
    );
    check_fields(
        &format!("{{retries: {{attempts: 0}}, {TO_A}}}"),
        "",
        &pointers,
        expect![[r#"
        /route/retryPolicy -
    "#]],
    );
    check_fields(
        &format!(
            "{{retries: {{attempts: 1, retryRemoteLocalities: true, retryIgnorePreviousHosts: false, backoff: 50ms}}, {TO_A}}}"
        ),
        "",
        &pointers,
        expect![[r#"
            /route/retryPolicy {"retryOn":"connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes","numRetries":1,"retryPriority":{"name":"envoy.retry_priorities.previous_priorities","typedConfig":{"updateFrequency":2}},"hostSelectionRetryMaxAttempts":"5","retryBackOff":{"baseInterval":"0.050s"}}
        "#]],
    );
    check_fields(
        &format!("{{{TO_A}}}"),
        &mesh("defaultHttpRetryPolicy: {attempts: 7, retryOn: reset}"),
        &pointers,
        expect![[r#"
        /route/retryPolicy {"retryOn":"reset","numRetries":7,"retryHostPredicate":[{"name":"envoy.retry_host_predicates.previous_hosts","typedConfig":{}}],"hostSelectionRetryMaxAttempts":"5"}
    "#]],
    );
}

#[test]
fn c036_faults() {
    let pointers = ["/typedPerFilterConfig"];
    check_fields(
        &format!(
            "{{match: [{{uri: {{prefix: /x}}}}], fault: {{delay: {{percentage: {{value: 100}}, fixedDelay: 2s}}, abort: {{httpStatus: 503, percentage: {{value: 0.5}}}}}}, {TO_A}}}, {{{TO_A}}}"
        ),
        "",
        &pointers,
        expect![[r#"
            /typedPerFilterConfig {"envoy.filters.http.fault":{"abort":{"httpStatus":503,"percentage":{"numerator":5000,"denominator":"MILLION"}},"delay":{"fixedDelay":"2s","percentage":{"numerator":1000000,"denominator":"MILLION"}}}}
            /typedPerFilterConfig -
        "#]],
    );
    check_fields(
        &format!(
            "{{fault: {{delay: {{percent: 10, fixedDelay: 1s}}, abort: {{grpcStatus: UNAVAILABLE}}}}, {TO_A}}}"
        ),
        "",
        &pointers,
        expect![[r#"
        /typedPerFilterConfig {"envoy.filters.http.fault":{"abort":{"grpcStatus":14},"delay":{"fixedDelay":"1s","percentage":{"numerator":10}}}}
    "#]],
    );
}

#[test]
fn c037_mirrors() {
    let pointers = ["/route/requestMirrorPolicies"];
    let mirror = |more: &str| format!("{{mirror: {{host: b, subset: v2}}, {more} {TO_A}}}");
    let b = service("b", "2", "{name: http, port: 8080}");
    check_fields(
        &mirror("mirrorPercentage: {value: 100},"),
        &b,
        &pointers,
        expect![[r#"
        /route/requestMirrorPolicies [{"cluster":"outbound|8080|v2|b.default.svc.cluster.local","runtimeFraction":{"defaultValue":{"numerator":1000000,"denominator":"MILLION"}},"traceSampled":false,"disableShadowHostSuffixAppend":true}]
    "#]],
    );
    check_fields(
        &mirror("mirrorPercentage: {value: 0},"),
        &b,
        &pointers,
        expect![[r#"
        /route/requestMirrorPolicies -
    "#]],
    );
    check_fields(
        &mirror("mirrorPercent: 7,"),
        &b,
        &pointers,
        expect![[r#"
        /route/requestMirrorPolicies [{"cluster":"outbound|8080|v2|b.default.svc.cluster.local","runtimeFraction":{"defaultValue":{"numerator":7}},"traceSampled":false,"disableShadowHostSuffixAppend":true}]
    "#]],
    );
    check_fields(
        &mirror(""),
        &b,
        &pointers,
        expect![[r#"
        /route/requestMirrorPolicies [{"cluster":"outbound|8080|v2|b.default.svc.cluster.local","runtimeFraction":{"defaultValue":{"numerator":100}},"traceSampled":false,"disableShadowHostSuffixAppend":true}]
    "#]],
    );
    check_fields(
        &format!(
            "{{mirrors: [{{destination: {{host: b}}}}, {{destination: {{host: a}}, percentage: {{value: 2.5}}}}], {TO_A}}}"
        ),
        &b,
        &pointers,
        expect![[r#"
        /route/requestMirrorPolicies [{"cluster":"outbound|8080||b.default.svc.cluster.local","runtimeFraction":{"defaultValue":{"numerator":100}},"traceSampled":false,"disableShadowHostSuffixAppend":true},{"cluster":"outbound|80||a.default.svc.cluster.local","runtimeFraction":{"defaultValue":{"numerator":25000,"denominator":"MILLION"}},"traceSampled":false,"disableShadowHostSuffixAppend":true}]
    "#]],
    );
}

#[test]
fn c038_cross_origin_policies() {
    let pointers = ["/typedPerFilterConfig"];
    check_fields(
        &format!(
            "{{corsPolicy: {{allowOrigins: [{{exact: 'https://x.example'}}, {{regex: '.*y'}}], allowMethods: [GET, PUT], allowHeaders: [x-a, x-b], exposeHeaders: [x-c], maxAge: 24h, allowCredentials: true}}, {TO_A}}}"
        ),
        "",
        &pointers,
        expect![[r#"
            /typedPerFilterConfig {"envoy.filters.http.cors":{"forwardNotMatchingPreflights":true,"allowOriginStringMatch":[{"exact":"https://x.example"},{"safeRegex":{"regex":".*y"}}],"allowMethods":"GET,PUT","allowHeaders":"x-a,x-b","exposeHeaders":"x-c","maxAge":"86400","allowCredentials":true,"filterEnabled":{"defaultValue":{"numerator":100}}}}
        "#]],
    );
    check_fields(
        &format!(
            "{{corsPolicy: {{allowOrigin: ['https://old.example'], unmatchedPreflights: IGNORE}}, {TO_A}}}"
        ),
        "",
        &pointers,
        expect![[r#"
        /typedPerFilterConfig {"envoy.filters.http.cors":{"forwardNotMatchingPreflights":false,"allowOriginStringMatch":[{"exact":"https://old.example"}],"filterEnabled":{"defaultValue":{"numerator":100}}}}
    "#]],
    );
}
