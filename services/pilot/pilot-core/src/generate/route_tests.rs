//! Routes after changes: what is made anew, and that nothing else would have had to be.

use expect_test::{Expect, expect};
use mesh_model::{Delta, Proxy};
use mesh_types::Kind;
use proptest::prelude::*;
use xds_core::Set;

use super::changes::Changes;
use super::{ClassSets, Generator};
use crate::testing::{World, json, router, sidecar};

fn object(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: {kind}, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{{spec}}}}}\n"
    )
}

fn service(name: &str, ports: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: default}}, spec: {{clusterIP: 10.96.0.{}, ports: [{ports}]}}}}\n",
        name.len()
    )
}

/// Three services on several ports, rules between them, and a gateway with two servers.
fn mesh() -> String {
    let rules = "hosts: [a], http: [{match: [{uri: {prefix: /b}}], route: [{destination: {host: bb}}]}, {route: [{destination: {host: a}}]}]";
    let gateway = "selector: {app: p}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}, {port: {number: 81, name: other, protocol: HTTP}, hosts: ['*']}]";
    service("a", "{name: http, port: 8080}")
        + &service("bb", "{name: http, port: 8081}")
        + &service("ccc", "{name: auto, port: 8082}, {name: http, port: 8083}")
        + &object("VirtualService", "default", "v", rules)
        + &object("Gateway", "default", "g", gateway)
        + &object(
            "VirtualService",
            "default",
            "w",
            "hosts: [x.example], gateways: [g], http: [{match: [{port: 81}], route: [{destination: {host: bb}}]}]",
        )
}

/// The names of the RouteConfigurations that a change makes anew.
fn made_anew(proxy: &Proxy, change: impl FnOnce(&mut World) -> Delta) -> String {
    let mut world = World::new(&mesh());
    let (view, key) = world.class(proxy);
    let old = Generator::default().outbound(&view, &key);
    let delta = change(&mut world);
    let (view, _) = world.class(proxy);
    let Some(changes) = Changes::between(&old.view, &view, &delta) else {
        return "everything".into();
    };
    let names = old
        .rds
        .items()
        .iter()
        .map(|e| e.name())
        .filter(|name| changes.route(name));
    names
        .map(|name| name.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

#[track_caller]
fn check(yaml: &str, want: Expect) {
    let made = |proxy| made_anew(&proxy, |world| world.apply(yaml));
    want.assert_eq(&format!(
        "sidecar: {}\nrouter: {}\n",
        made(sidecar("default")),
        made(router("default"))
    ));
}

#[test]
fn rules_reach_the_ports_of_their_hosts() {
    check(
        &object(
            "VirtualService",
            "default",
            "v",
            "hosts: [bb], http: [{route: [{destination: {host: a}}]}]",
        ),
        expect![[r#"
            sidecar: 8080 8081
            router: 
        "#]],
    );
    check(
        &object(
            "VirtualService",
            "default",
            "u",
            "hosts: [ccc], http: [{route: [{destination: {host: a}}]}]",
        ),
        expect![[r#"
            sidecar: 8083 ccc.default.svc.cluster.local:8082
            router: 
        "#]],
    );
    check(
        &object(
            "VirtualService",
            "default",
            "w",
            "hosts: [x.example], gateways: [g], http: [{match: [{port: 81}], redirect: {uri: /}}]",
        ),
        expect![[r#"
            sidecar: 
            router: http.80 http.81
        "#]],
    );
}

#[test]
fn a_service_reaches_its_ports_and_the_rules_that_lead_to_it() {
    check(
        &service("bb", "{name: http, port: 8084}"),
        expect![[r#"
        sidecar: 8080 8081
        router: http.80 http.81
    "#]],
    );
    check(
        &service("ccc", "{name: auto, port: 8082}"),
        expect![[r#"
        sidecar: 8083 ccc.default.svc.cluster.local:8082
        router: 
    "#]],
    );
    check(
        &service("dddd", "{name: http, port: 8083}"),
        expect![[r#"
        sidecar: 8083
        router: 
    "#]],
    );
}

#[test]
fn only_policies_that_hash_reach_routes() {
    let rule = |policy: &str| {
        object(
            "DestinationRule",
            "default",
            "r",
            &format!("host: bb, trafficPolicy: {{loadBalancer: {{{policy}}}}}"),
        )
    };
    check(
        &rule("simple: RANDOM"),
        expect![[r#"
        sidecar: 
        router: 
    "#]],
    );
    check(
        &rule("consistentHash: {httpHeaderName: x}"),
        expect![[r#"
        sidecar: 8080 8081
        router: http.80 http.81
    "#]],
    );
}

#[test]
fn a_server_reaches_its_own_routes() {
    check(
        &object(
            "Gateway",
            "default",
            "g",
            "selector: {app: p}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}, {port: {number: 81, name: other, protocol: HTTP}, hosts: [x.example]}]",
        ),
        expect![[r#"
            sidecar: 
            router: http.81
        "#]],
    );
}

#[test]
fn classes_that_come_to_the_same_share_one_encoding() {
    let world = World::new(&mesh());
    let generator = Generator::default();
    let made = |namespace: &str| {
        let (view, key) = world.class(&sidecar(namespace));
        generator.outbound(&view, &key)
    };
    let (one, other, home) = (made("one"), made("other"), made("default"));
    let get = |sets: &ClassSets| sets.rds.get("8080").unwrap().clone();
    assert!(std::sync::Arc::ptr_eq(&get(&one), &get(&other)));
    // In its own namespace a service has one name more, so the whole is another; the routes in it are the same ones.
    assert!(!std::sync::Arc::ptr_eq(&get(&one), &get(&home)));
    let stats = generator.memos().stats();
    let routes = stats.iter().find(|(name, _)| *name == "routes").unwrap().1;
    assert_eq!((routes.misses, routes.hits), (4, 8));
}

fn edit() -> impl Strategy<Value = Edit> {
    let name = || prop::sample::select(vec!["a", "bb", "ccc"]);
    let ports = prop::sample::select(vec![
        "{name: http, port: 80}",
        "{name: http, port: 80}, {name: http-2, port: 8080}",
        "{name: auto, port: 80}, {name: http, port: 8080}",
        "{name: auto, port: 8082}",
        "{name: tcp, port: 80}",
    ]);
    let host = || {
        prop::sample::select(vec![
            "a",
            "bb",
            "'*.default.svc.cluster.local'",
            "'*.svc.cluster.local'",
            "x.example",
            "'*.example'",
            "alias.default.svc.cluster.local",
        ])
    };
    let rules = prop::sample::select(vec![
        "http: [{route: [{destination: {host: a}}]}]",
        "http: [{route: [{destination: {host: ccc, subset: v1}}, {destination: {host: bb}, weight: 1}], retries: {attempts: 1}}]",
        "http: [{match: [{port: 8080}], route: [{destination: {host: alias}}]}]",
        "http: [{match: [{sourceLabels: {app: p}, uri: {prefix: /x}}, {sourceNamespace: elsewhere}], route: [{destination: {host: x.example}}], mirror: {host: bb}}]",
        "http: [{match: [{gateways: [g]}], redirect: {uri: /}}, {match: [{uri: {exact: /y}}], directResponse: {status: 418}}]",
        "exportTo: ['.'], http: [{route: [{destination: {host: bb, port: {number: 80}}}], fault: {abort: {httpStatus: 500, percentage: {value: 1}}}}]",
    ]);
    let gateways = prop::sample::select(vec!["", "gateways: [g], ", "gateways: [g, mesh], "]);
    let policy = prop::sample::select(vec![
        "trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}",
        "trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {consistentHash: {useSourceIp: true}}}]}",
        "subsets: [{name: v1, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 1s}}}}}]",
        "trafficPolicy: {loadBalancer: {simple: RANDOM}}",
    ]);
    let servers = prop::sample::select(vec![
        "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}",
        "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example'], tls: {httpsRedirect: true}}",
        "{port: {number: 80, name: http, protocol: HTTP}, hosts: [x.example]}, {port: {number: 8080, name: http2, protocol: HTTP}, hosts: ['default/*']}",
    ]);
    let egress = prop::sample::select(vec![
        "{hosts: ['*/*']}",
        "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*/a.default.svc.cluster.local']}, {hosts: ['*/*']}",
        "{port: {number: 8888, name: proxy, protocol: HTTP_PROXY}, bind: 127.0.0.1, hosts: ['*/*']}, {hosts: ['./*']}",
        "{port: {number: 0, name: socket, protocol: HTTP}, bind: 'unix:///tmp/x', hosts: ['*/*']}, {hosts: ['./bb.default.svc.cluster.local']}",
    ]);
    let settings = prop::sample::select(vec![
        "proxyHttpPort: 15002",
        "outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
        "defaultHttpRetryPolicy: {attempts: 0}",
    ]);
    let gone = prop::sample::select(vec![
        (Kind::VirtualService, "a"),
        (Kind::VirtualService, "bb"),
        (Kind::DestinationRule, "a"),
        (Kind::Service, "a"),
        (Kind::Service, "bb"),
        (Kind::Service, "alias"),
        (Kind::ServiceEntry, "x"),
        (Kind::Sidecar, "s"),
    ]);
    let entry = prop::sample::select(vec!["x.example", "a.default", "'*.example'"]);
    prop_oneof![
        4 => (name(), host(), gateways, rules).prop_map(|(n, h, g, r)| Edit::Apply(object("VirtualService", "default", n, &format!("hosts: [{h}], {g}{r}")))),
        3 => (name(), ports).prop_map(|(n, p)| Edit::Apply(service(n, p))),
        2 => (name(), name(), policy).prop_map(|(n, h, p)| Edit::Apply(object("DestinationRule", "default", n, &format!("host: {h}, {p}")))),
        1 => name().prop_map(|of| Edit::Apply(format!("---\n{{apiVersion: v1, kind: Service, metadata: {{name: alias, namespace: default}}, spec: {{type: ExternalName, externalName: {of}.default.svc.cluster.local}}}}\n"))),
        1 => servers.prop_map(|s| Edit::Apply(object("Gateway", "default", "g", &format!("selector: {{app: p}}, servers: [{s}]")))),
        1 => egress.prop_map(|e| Edit::Apply(object("Sidecar", "default", "s", &format!("egress: [{e}]")))),
        1 => entry.prop_map(|h| Edit::Apply(object("ServiceEntry", "default", "x", &format!("hosts: [{h}], addresses: [10.9.0.1], resolution: NONE, ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 9000, name: auto}}]")))),
        1 => settings.prop_map(|s| Edit::Apply(format!("---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, data: {{mesh: '{{{s}}}'}}}}\n"))),
        2 => gone.prop_map(|(kind, name)| Edit::Delete(kind, name)),
    ]
}

#[derive(Debug, Clone)]
enum Edit {
    Apply(String),
    Delete(Kind, &'static str),
}

/// Every domain once, every name once: what Envoy insists on.
fn acceptable(set: &Set) -> Result<(), TestCaseError> {
    for config in set.items() {
        let config = json(config);
        let hosts = config["virtualHosts"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let of = |key: &str| -> Vec<String> {
            hosts
                .iter()
                .flat_map(|h| {
                    h[key]
                        .as_array()
                        .cloned()
                        .unwrap_or_else(|| vec![h[key].clone()])
                })
                .map(|v| v.to_string())
                .collect()
        };
        for mut texts in [of("name"), of("domains")] {
            let all = texts.len();
            texts.sort();
            texts.dedup();
            prop_assert_eq!(texts.len(), all, "twice in {}", config);
        }
        prop_assert!(
            hosts
                .iter()
                .all(|h| h["domains"].as_array().is_some_and(|d| !d.is_empty()))
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever changes, updating gives the routes that starting over gives, and Envoy can take them.
    #[test]
    fn updated_routes_are_those_of_a_fresh_start(edits in prop::collection::vec(edit(), 1..10)) {
        let mut world = World::new(&mesh());
        let generator = Generator::default();
        let proxies = [sidecar("default"), sidecar("elsewhere"), router("default")];
        let mut had: Vec<_> = proxies.iter().map(|proxy| {
            let (view, key) = world.class(proxy);
            (key.clone(), generator.outbound(&view, &key))
        }).collect();
        for edit in edits {
            let delta = match &edit {
                Edit::Apply(yaml) => world.apply(yaml),
                Edit::Delete(kind, name) => world.delete(*kind, "default", name),
            };
            for (proxy, (old_key, old)) in proxies.iter().zip(&mut had) {
                let (view, key) = world.class(proxy);
                let new = if key == *old_key {
                    generator.outbound_update(old, &view, &key, &delta)
                } else {
                    generator.outbound(&view, &key)
                };
                let fresh = Generator::default().outbound(&view, &key);
                let versions = |set: &Set| set.items().iter().map(|e| (e.name().clone(), e.version())).collect::<Vec<_>>();
                prop_assert_eq!(versions(&new.rds), versions(&fresh.rds), "after {:?} for {:?}", edit, proxy.kind);
                acceptable(&new.rds)?;
                (*old_key, *old) = (key, new);
            }
        }
    }
}
