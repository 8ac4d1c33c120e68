use expect_test::{Expect, expect};
use mesh_types::Kind;
use serde_json::json;

use super::*;

/// Reads a spec of a kind and prints problems, then the value as it would be written.
#[track_caller]
fn check(kind: &str, spec: Value, want: Expect) {
    let document = json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec});
    let decoded = crate::decode_value(document, &Default::default());
    let mut out = String::new();
    for finding in &decoded.findings {
        out += &format!("{}: {} [{}]\n", finding.path, finding.message, finding.code);
    }
    for (object, _) in &decoded.objects {
        out += &format!("{}\n", serde_json::to_string(&object.body).unwrap());
    }
    want.assert_eq(&out);
}

#[test]
fn every_form_builds_and_enums_have_their_numbers() {
    for kind in Kind::ALL {
        let Some(form) = form(kind) else { continue };
        assert!(matches!(form.shape, Shape::Object(_)), "{kind}");
        let text = form.json.to_string();
        for word in [
            "anyOf",
            "oneOf",
            "allOf",
            "$ref",
            "nullable",
            "\"default\":",
            "Any",
        ] {
            assert!(
                !text.contains(&format!("{word}\"")) || word == "Any",
                "{kind}: {word}"
            );
        }
        assert!(form.validator.is_valid(&json!({})));
    }
    let mut shape = form(Kind::MeshConfig).unwrap().shape.clone();
    let Some(Shape::Enum(names)) = shape
        .fields_mut(&[])
        .unwrap()
        .known
        .remove("h2UpgradePolicy")
    else {
        panic!()
    };
    assert_eq!(names, ["DO_NOT_UPGRADE", "UPGRADE"]);
    assert!(matches!(
        shape.fields_mut(&[]).unwrap().known["connectTimeout"],
        Shape::Duration
    ));
}

#[test]
fn the_liberties_of_protobuf_json_are_taken() {
    check(
        "DestinationRule",
        json!({
            "host": "a", "export_to": ["*"], "subsets": null,
            "traffic_policy": {
                "load_balancer": {"simple": 4},
                "connection_pool": {"tcp": {"max_connections": "7", "connectTimeout": "1m30s"}, "http": {"http2_max_requests": 5.0, "useClientProtocol": "true"}},
                "outlier_detection": {"consecutive_5xx_errors": "3", "baseEjectionTime": null}
            }
        }),
        expect![[r#"
            {"host":"a","trafficPolicy":{"loadBalancer":{"simple":"ROUND_ROBIN"},"connectionPool":{"tcp":{"maxConnections":7,"connectTimeout":"90s"},"http":{"http2MaxRequests":5,"useClientProtocol":true}},"outlierDetection":{"consecutive5xxErrors":3}},"exportTo":["*"]}
        "#]],
    );
}

#[test]
fn every_problem_is_told_where_it_was_written() {
    check(
        "DestinationRule",
        json!({
            "host": "a", "hots": 1,
            "traffic_policy": {
                "load_balancer": {"simple": "ROUND_ROBBIN", "consistentHash": [1]},
                "connectionPool": {"tcp": {"connect_timeout": "5", "maxConnections": "0755"}, "http": {"maxRetries": 3000000000u32}},
                "outlierDetection": {"consecutive5xxErrors": -1, "zzz": {}}
            },
            "subsets": {"name": "v1"}
        }),
        expect![[r#"
            spec.hots: no such field; did you mean host? [unknown-field]
            spec.traffic_policy.connectionPool.tcp.connect_timeout: "5" is no duration; write for example 1.5s, 100ms or 1h [malformed]
            spec.traffic_policy.outlierDetection.zzz: no such field; there are baseEjectionTime, consecutive5xxErrors, consecutiveErrors, consecutiveGatewayErrors, consecutiveLocalOriginFailures, interval, maxEjectionPercent, minHealthPercent, splitExternalLocalOriginErrors [unknown-field]
            spec.traffic_policy.load_balancer.simple: "ROUND_ROBBIN" is none of UNSPECIFIED, LEAST_CONN, RANDOM, PASSTHROUGH, ROUND_ROBIN, LEAST_REQUEST; did you mean ROUND_ROBIN? [unknown-value]
            spec.traffic_policy.load_balancer.consistentHash: want fields with names, got a list of 1; leave out the dash [wrong-type]
            spec.traffic_policy.connectionPool.tcp.maxConnections: want a whole number, got "0755"; leave out the leading zero [wrong-type]
            spec.traffic_policy.connectionPool.http.maxRetries: 3000000000 is too large, want at most 2147483647 [out-of-range]
            spec.traffic_policy.outlierDetection.consecutive5xxErrors: -1 is too small, want at least 0 [out-of-range]
            spec.subsets: want a list, got fields with names; begin each item with a dash [wrong-type]
        "#]],
    );
}

#[test]
fn wrong_types_say_what_would_be_right() {
    check(
        "VirtualService",
        json!({"hosts": "a.com", "http": [{"match": {"uri": {}}, "route": [null], "timeout": 5, "retries": {"attempts": true}, "headers": {"request": {"set": {"a": 1, "80": false}}}}]}),
        expect![[r#"
            spec.http[0].timeout: 5 is no duration; write 5s if seconds are meant [malformed]
            spec.hosts: want a list, got "a.com" [wrong-type]
            spec.http[0].match: want a list, got fields with names; begin each item with a dash [wrong-type]
            spec.http[0].route[0]: want fields with names, got nothing [wrong-type]
            spec.http[0].retries.attempts: want a whole number, got true [wrong-type]
            spec.http[0].headers.request.set.a: want text, got 1; put it in quotes [wrong-type]
            spec.http[0].headers.request.set.80: want text, got false; put it in quotes [wrong-type]
        "#]],
    );
    check(
        "Sidecar",
        json!([1]),
        expect![[r#"
        spec: want fields with names, got a list of 1; leave out the dash [wrong-type]
    "#]],
    );
    check(
        "Gateway",
        json!({"servers": [{"tls": {"mode": 17}, "port": {"number": 4294967296u64}}]}),
        expect![[r#"
            spec.servers[0].tls.mode: 17 is the number of none of PASSTHROUGH, SIMPLE, MUTUAL, AUTO_PASSTHROUGH, ISTIO_MUTUAL, OPTIONAL_MUTUAL [unknown-value]
            spec.servers[0].port.number: 4294967296 is too large, want at most 4294967295 [out-of-range]
            spec.servers[0].hosts: must be set; * takes every host [required]
            spec.servers[0].port.name: must be set [required]
            spec.servers[0].port.protocol: must be set, for example to HTTP [required]
        "#]],
    );
}

#[test]
fn two_spellings_of_one_field_are_one_too_many() {
    check(
        "ServiceEntry",
        json!({"exportTo": ["*"], "export_to": ["."], "hosts": ["a.com"]}),
        expect![[r#"
        spec.export_to: exportTo is given twice, in two spellings; keep one [duplicate]
    "#]],
    );
}

#[test]
fn a_wrong_type_hides_nothing_else_and_makes_nothing_up() {
    check(
        "VirtualService",
        json!({
            "hosts": "a", "gateways": ["mesh", "b_"],
            "http": [
                {
                    "route": [{"destination": {"host": "a b", "port": {"number": "x"}}, "weight": true}, {"destination": {"host": "c"}, "weight": -1}],
                    "retries": {"attempts": "three", "retryOn": "5xxx", "perTryTimeout": 2},
                    "fault": {"abort": {"httpStatus": 99}}
                },
                {"redirect": {"uri": "/", "redirectCode": 200}}
            ]
        }),
        expect![[r#"
            spec.http[0].retries.perTryTimeout: 2 is no duration; write 2s if seconds are meant [malformed]
            spec.hosts: want a list, got "a" [wrong-type]
            spec.http[0].route[0].destination.port.number: want a whole number, got "x" [wrong-type]
            spec.http[0].route[0].weight: want a whole number, got true [wrong-type]
            spec.http[0].retries.attempts: want a whole number, got "three" [wrong-type]
            spec.gateways[1]: "b_" is no gateway; write NAMESPACE/NAME, NAME or mesh [malformed]
            spec.http[0].route[0].destination.host: "a b" is no host name such as a.example.com or *.example.com [malformed]
            spec.http[0].route[1].weight: -1 is negative, want 0 or more [out-of-range]
            spec.http[0].fault.abort.httpStatus: 99 is no status, want 200..=599 [out-of-range]
            spec.http[0].retries.retryOn: "5xxx" is no condition for a retry; did you mean 5xx? [unknown-value]
            spec.http[1].redirect.redirectCode: 200 is no redirect, want 301, 302, 303, 307 or 308 [out-of-range]
        "#]],
    );
}

/// `x-user:` with nothing behind it must not become a rule for everybody.
#[test]
fn a_key_without_value_is_told() {
    check(
        "VirtualService",
        json!({"hosts": ["a"], "http": [{"match": [{"headers": {"x-user": null}, "sourceLabels": {"app": null}}], "route": [{"destination": {"host": "a"}}]}]}),
        expect![[r#"
            spec.http[0].match[0].headers.x-user: want fields with names, got nothing [wrong-type]
            spec.http[0].match[0].sourceLabels.app: want text, got nothing [wrong-type]
        "#]],
    );
}
