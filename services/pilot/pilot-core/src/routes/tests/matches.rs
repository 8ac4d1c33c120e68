//! Which requests a rule takes.

use expect_test::expect;

use super::*;

#[test]
fn c020_paths() {
    let rules = format!(
        "{{match: [{{uri: {{exact: /x}}}}], {TO_A}}}, {{match: [{{uri: {{prefix: /y}}}}], {TO_A}}}, {{match: [{{uri: {{regex: '/z[0-9]+'}}}}], {TO_A}}}"
    );
    check_fields(
        &rules,
        "",
        &["/match", "/decorator/operation"],
        expect![[r#"
        /match {"path":"/x","caseSensitive":true}
        /decorator/operation "a.default.svc.cluster.local:80/x"
        /match {"prefix":"/y","caseSensitive":true}
        /decorator/operation "a.default.svc.cluster.local:80/y*"
        /match {"caseSensitive":true,"safeRegex":{"regex":"/z[0-9]+"}}
        /decorator/operation "a.default.svc.cluster.local:80/z[0-9]+"
    "#]],
    );
}

#[test]
fn c021_paths_regardless_of_case() {
    let rules = format!("{{match: [{{uri: {{prefix: /Foo}}, ignoreUriCase: true}}], {TO_A}}}");
    check_fields(
        &rules,
        "",
        &["/match"],
        expect![[r#"
        /match {"prefix":"/Foo","caseSensitive":false}
    "#]],
    );
}

#[test]
fn c022_headers_wanted_and_not() {
    let rules = format!(
        "{{match: [{{headers: {{end-user: {{exact: jason}}, cookie: {{regex: '.*x.*'}}, z: {{}}, y: {{prefix: p}}}}, \
         withoutHeaders: {{x-debug: {{}}, a-value: {{exact: v}}}}}}], {TO_A}}}"
    );
    let route = &routes_of(&rules, "")[0];
    let lines: Vec<String> = route["match"]["headers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| format!("{h}\n"))
        .collect();
    expect![[r#"
        {"name":"a-value","invertMatch":true,"stringMatch":{"exact":"v"},"treatMissingHeaderAsEmpty":true}
        {"name":"cookie","stringMatch":{"safeRegex":{"regex":".*x.*"}}}
        {"name":"end-user","stringMatch":{"exact":"jason"}}
        {"name":"x-debug","presentMatch":true,"invertMatch":true}
        {"name":"y","stringMatch":{"prefix":"p"}}
        {"name":"z","presentMatch":true}
    "#]].assert_eq(&lines.concat());
}

#[test]
fn c023_query_parameters() {
    let rules = format!(
        "{{match: [{{queryParams: {{debug: {{exact: 'true'}}, any: {{}}, re: {{regex: 'a+'}}, pre: {{prefix: p}}}}}}], {TO_A}}}"
    );
    check_fields(
        &rules,
        "",
        &["/match/queryParameters"],
        expect![[r#"
        /match/queryParameters [{"name":"any","presentMatch":true},{"name":"debug","stringMatch":{"exact":"true"}},{"name":"pre","stringMatch":{"prefix":"p"}},{"name":"re","stringMatch":{"safeRegex":{"regex":"a+"}}}]
    "#]],
    );
}

#[test]
fn c024_pseudo_headers_come_last() {
    let rules = format!(
        "{{match: [{{headers: {{z: {{}}}}, scheme: {{exact: http}}, method: {{exact: GET}}, authority: {{prefix: a}}}}], {TO_A}}}"
    );
    check_fields(
        &rules,
        "",
        &["/match/headers"],
        expect![[r#"
        /match/headers [{"name":"z","presentMatch":true},{"name":":method","stringMatch":{"exact":"GET"}},{"name":":authority","stringMatch":{"prefix":"a"}},{"name":":scheme","stringMatch":{"exact":"http"}}]
    "#]],
    );
}

#[test]
fn claims_are_looked_up_in_the_metadata_of_the_token_filter() {
    let rules = format!(
        "{{match: [{{headers: {{'@request.auth.claims.group': {{exact: admin}}}}, withoutHeaders: {{'@request.auth.claims[a][b.c]': {{}}}}}}], {TO_A}}}"
    );
    let gateway = object(
        "Gateway",
        "g",
        "selector: {app: p}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]",
    );
    let yaml = gateway
        + &service("a", "1", HTTP)
        + &object(
            "VirtualService",
            "v",
            &format!("hosts: [x.example], gateways: [g], http: [{rules}]"),
        );
    let config = rds(&yaml, &crate::testing::router("default"), "http.80");
    let found = config.pointer("/virtualHosts/0/routes/0/match").unwrap();
    expect![[r#"
        {
          "prefix": "/",
          "caseSensitive": true,
          "dynamicMetadata": [
            {
              "filter": "envoy.filters.http.jwt_authn",
              "path": [
                {
                  "key": "payload"
                },
                {
                  "key": "group"
                }
              ],
              "value": {
                "orMatch": {
                  "valueMatchers": [
                    {
                      "stringMatch": {
                        "exact": "admin"
                      }
                    },
                    {
                      "listMatch": {
                        "oneOf": {
                          "stringMatch": {
                            "exact": "admin"
                          }
                        }
                      }
                    }
                  ]
                }
              }
            },
            {
              "filter": "envoy.filters.http.jwt_authn",
              "path": [
                {
                  "key": "payload"
                },
                {
                  "key": "a"
                },
                {
                  "key": "b.c"
                }
              ],
              "value": {
                "presentMatch": true
              },
              "invert": true
            }
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(found).unwrap());
}

#[test]
fn c025_static_conditions() {
    let case = |condition: &str| {
        let rules = format!("{{match: [{{{condition}}}], redirect: {{uri: /matched}}}}");
        let yaml = service("a", "1", HTTP)
            + &object(
                "VirtualService",
                "v",
                &format!("hosts: [a], http: [{rules}]"),
            );
        let text = summary(&rds(&yaml, &sidecar("default"), "80"));
        format!(
            "{condition}: {}\n",
            if text.contains("/matched") {
                "holds"
            } else {
                "never"
            }
        )
    };
    let cases = [
        "port: 8080",
        "port: 80",
        "sourceLabels: {app: q}",
        "sourceLabels: {app: p}",
        "sourceNamespace: other",
        "sourceNamespace: default",
        "gateways: [mesh], sourceLabels: {app: q}",
        "gateways: [g]",
    ];
    expect![[r#"
        port: 8080: never
        port: 80: holds
        sourceLabels: {app: q}: never
        sourceLabels: {app: p}: holds
        sourceNamespace: other: never
        sourceNamespace: default: holds
        gateways: [mesh], sourceLabels: {app: q}: holds
        gateways: [g]: never
    "#]]
    .assert_eq(&cases.map(case).concat());
}

#[test]
fn names_of_rules_and_matches_are_joined() {
    let rules = format!(
        "{{name: r, match: [{{name: m, uri: {{exact: /x}}, statPrefix: stats}}, {{uri: {{exact: /y}}}}], {TO_A}}}, {{{TO_A}}}"
    );
    check_fields(
        &rules,
        "",
        &["/name", "/statPrefix", "/metadata"],
        expect![[r#"
        /name "r.m"
        /statPrefix "stats"
        /metadata {"filterMetadata":{"istio":{"config":"/apis/networking.istio.io/v1/namespaces/default/virtual-service/v"}}}
        /name "r"
        /statPrefix -
        /metadata {"filterMetadata":{"istio":{"config":"/apis/networking.istio.io/v1/namespaces/default/virtual-service/v"}}}
        /name -
        /statPrefix -
        /metadata {"filterMetadata":{"istio":{"config":"/apis/networking.istio.io/v1/namespaces/default/virtual-service/v"}}}
    "#]],
    );
}
