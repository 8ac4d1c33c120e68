//! What a change makes anew, and that this is all there is to make.

use std::collections::BTreeMap;
use std::sync::Arc;

use expect_test::{Expect, expect};
use mesh_model::{Delta, Proxy};
use mesh_types::Kind;
use proptest::prelude::*;
use xds_core::{Change, Set};

use super::{ClassSets, Generator};
use crate::testing::{World, router, sidecar};

fn service(name: &str, ports: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: default}}, spec: {{clusterIP: 10.96.0.{}, ports: [{ports}]}}}}\n",
        name.len()
    )
}

fn slice(name: &str, addresses: &str) -> String {
    let endpoints: Vec<String> = addresses
        .split_whitespace()
        .map(|a| format!("{{addresses: [{a}]}}"))
        .collect();
    format!(
        "---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}-1, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}, \
         addressType: IPv4, ports: [{{name: http, port: 8080}}, {{name: tcp, port: 8081}}], endpoints: [{}]}}\n",
        endpoints.join(", ")
    )
}

fn rule(name: &str, host: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: {name}, namespace: default}}, spec: {{host: '{host}', {spec}}}}}\n"
    )
}

fn virtual_service(name: &str, host: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: {name}, namespace: default}}, spec: {{hosts: ['{host}'], {spec}}}}}\n"
    )
}

const HTTP: &str = "{name: http, port: 80, targetPort: 8080}";
const HTTP_AND_TCP: &str = "{name: http, port: 80}, {name: tcp, port: 9000}";

/// What changed from one class's sets to another's, as `+name` and `-name` by type; `=` for a set that kept its pointer.
fn changed(old: &ClassSets, new: &ClassSets) -> String {
    let part = |label: &str, old: &Arc<Set>, new: &Arc<Set>| {
        if Arc::ptr_eq(old, new) {
            return format!("{label} =\n");
        }
        let mut text = label.to_owned();
        old.diff(new, |change| match change {
            Change::Put(e) => text += &format!(" +{}", e.name()),
            Change::Removed(e) => text += &format!(" -{}", e.name()),
        });
        text + "\n"
    };
    [
        part("cds", &old.clusters.cds, &new.clusters.cds),
        part("eds", &old.clusters.eds, &new.clusters.eds),
        part("lds", &old.lds, &new.lds),
        part("rds", &old.rds, &new.rds),
    ]
    .concat()
}

fn contents(sets: &ClassSets) -> BTreeMap<String, u64> {
    let all = [
        ("cds", &sets.clusters.cds),
        ("eds", &sets.clusters.eds),
        ("lds", &sets.lds),
        ("rds", &sets.rds),
    ];
    all.iter()
        .flat_map(|(t, set)| {
            set.items()
                .iter()
                .map(move |e| (format!("{t} {}", e.name()), e.version()))
        })
        .collect()
}

/// Applies a change to a class of a world, checks that the update says the same as starting over, and shows it.
#[track_caller]
fn step(world: &mut World, proxy: &Proxy, change: impl FnOnce(&mut World) -> Delta) -> String {
    let generator = Generator::default();
    let (view, key) = world.class(proxy);
    let old = generator.outbound(&view, &key);
    let delta = change(world);
    let (view, key) = world.class(proxy);
    let new = generator.outbound_update(&old, &view, &key, &delta);
    assert_eq!(
        contents(&new),
        contents(&Generator::default().outbound(&view, &key))
    );
    changed(&old, &new)
}

#[track_caller]
fn check(before: &str, change: &str, want: Expect) {
    want.assert_eq(&step(&mut World::new(before), &sidecar("default"), |w| {
        w.apply(change)
    }));
}

fn two_services() -> String {
    service("a", HTTP)
        + &slice("a", "10.0.0.2")
        + &service("bb", HTTP_AND_TCP)
        + &slice("bb", "10.0.0.3")
}

#[test]
fn an_endpoint_change_makes_endpoints_only() {
    check(
        &two_services(),
        &slice("a", "10.0.0.2 10.0.0.9"),
        expect![[r#"
        cds =
        eds +outbound|80||a.default.svc.cluster.local
        lds =
        rds =
    "#]],
    );
}

#[test]
fn a_change_without_effect_keeps_every_pointer() {
    check(
        &two_services(),
        &rule(
            "r",
            "nobody.example",
            "trafficPolicy: {loadBalancer: {simple: RANDOM}}",
        ),
        expect![[r#"
        cds =
        eds =
        lds =
        rds =
    "#]],
    );
    check(
        &two_services(),
        &rule(
            "r",
            "a",
            "trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}",
        ),
        expect![[r#"
        cds +outbound|80||a.default.svc.cluster.local
        eds =
        lds =
        rds =
    "#]],
    );
}

#[test]
fn a_rule_makes_clusters_of_its_host() {
    check(
        &two_services(),
        &rule("r", "bb", "subsets: [{name: v1, labels: {version: v1}}]"),
        expect![[r#"
        cds +outbound|80|v1|bb.default.svc.cluster.local +outbound|80||bb.default.svc.cluster.local +outbound|9000|v1|bb.default.svc.cluster.local +outbound|9000||bb.default.svc.cluster.local
        eds +outbound|80|v1|bb.default.svc.cluster.local +outbound|9000|v1|bb.default.svc.cluster.local
        lds =
        rds =
    "#]],
    );
    let hash = "trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}";
    check(
        &two_services(),
        &rule("r", "a", hash),
        expect![[r#"
            cds +outbound|80||a.default.svc.cluster.local
            eds =
            lds =
            rds +80
        "#]],
    );
}

#[test]
fn a_virtual_service_makes_routes_of_its_ports() {
    let route = "http: [{route: [{destination: {host: bb}}]}]";
    check(
        &two_services(),
        &virtual_service("v", "a", route),
        expect![[r#"
            cds =
            eds =
            lds =
            rds +80
        "#]],
    );
    check(
        &two_services(),
        &virtual_service(
            "v",
            "bb",
            "tcp: [{route: [{destination: {host: a, port: {number: 80}}}]}]",
        ),
        expect![[r#"
        cds =
        eds =
        lds +10.96.0.2_9000
        rds =
    "#]],
    );
}

#[test]
fn a_service_that_goes_takes_its_resources_along() {
    let mut world = World::new(&two_services());
    let got = step(&mut world, &sidecar("default"), |w| {
        w.delete(Kind::Service, "default", "bb")
    });
    expect![[r#"
        cds -outbound|80||bb.default.svc.cluster.local -outbound|9000||bb.default.svc.cluster.local
        eds -outbound|80||bb.default.svc.cluster.local -outbound|9000||bb.default.svc.cluster.local
        lds -10.96.0.2_9000
        rds +80
    "#]]
    .assert_eq(&got);
}

#[test]
fn equal_classes_share_sets() {
    let world = World::new(&two_services());
    let generator = Generator::default();
    let (view, key) = world.class(&sidecar("default"));
    let (other_view, other) = world.class(&sidecar("elsewhere"));
    let (a, b) = (
        generator.outbound(&view, &key),
        generator.outbound(&other_view, &other),
    );
    assert!(Arc::ptr_eq(&a.clusters, &b.clusters) && Arc::ptr_eq(&a.lds, &b.lds));
}

#[test]
fn classes_that_see_the_same_take_a_step_of_clusters_together() {
    let mut world = World::new(&two_services());
    let generator = Generator::default();
    let proxies = [sidecar("default"), sidecar("elsewhere"), sidecar("third")];
    let class = |world: &World, proxy: &Proxy| {
        let (view, key) = world.class(proxy);
        (generator.outbound(&view, &key), key)
    };
    let old: Vec<_> = proxies.iter().map(|p| class(&world, p)).collect();
    let delta = world.apply(&slice("a", "10.0.0.2 10.0.0.9"));
    let new: Vec<_> = old
        .iter()
        .map(|(old, key)| {
            let view = world
                .mesh
                .update_view(&old.view, &world.mesh.touch(&old.view, &delta));
            generator.outbound_update(old, &view, key, &delta)
        })
        .collect();
    for later in &new[1..] {
        assert!(Arc::ptr_eq(&new[0].clusters, &later.clusters));
        // So that the next comparison is short.
        assert!(Arc::ptr_eq(&new[0].view.services, &later.view.services));
    }
    // Somebody who comes now has them too, and what nobody has is forgotten.
    let late = class(&world, &sidecar("fourth")).0;
    assert!(Arc::ptr_eq(&new[0].clusters, &late.clusters));
    drop(old);
    class(&world, &router("default"));
    assert_eq!(generator.clusters.len(), 2);
}

#[test]
fn only_types_whose_clients_wait_are_answered_empty() {
    use xds_core::TypeId;
    let answered: Vec<_> = TypeId::ALL
        .into_iter()
        .filter(|t| super::missing(*t, "x").is_some())
        .collect();
    assert_eq!(answered, [TypeId::Eds, TypeId::Rds]);
}

/// One change of a small mesh, whose parts meet often.
fn edit() -> impl Strategy<Value = Edit> {
    let name = || prop::sample::select(vec!["a", "bb", "ccc"]);
    let host = || {
        prop::sample::select(vec![
            "a",
            "bb",
            "ccc",
            "*.default.svc.cluster.local",
            "x.example",
            "*.example",
        ])
    };
    let ports = prop::sample::select(vec![
        HTTP,
        HTTP_AND_TCP,
        "{name: http, port: 8080}",
        "{name: auto, port: 80}",
        "{name: tcp, port: 80}",
    ]);
    let addresses = prop::sample::select(vec!["", "10.0.0.2", "10.0.0.3 10.0.0.4", "10.0.0.1"]);
    let policy = prop::sample::select(vec![
        "subsets: [{name: v1, labels: {version: v1}}]",
        "trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}",
        "trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}",
        "trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}, connectionPool: {tcp: {idleTimeout: 7s}}}",
        "trafficPolicy: {outlierDetection: {minHealthPercent: 50}}",
    ]);
    let route = prop::sample::select(vec![
        "http: [{route: [{destination: {host: bb}}]}]",
        "http: [{match: [{sourceLabels: {app: p}}], route: [{destination: {host: a, subset: v1}}]}]",
        "http: [{route: [{destination: {host: a}}], mirrors: [{destination: {host: ccc}}]}]",
        "http: [{delegate: {name: leaf}}, {route: [{destination: {host: bb, port: {number: 80}}}]}]",
        "tcp: [{route: [{destination: {host: ccc, port: {number: 9000}}}]}]",
        "gateways: [g, mesh], tcp: [{match: [{gateways: [g]}], route: [{destination: {host: a, port: {number: 80}}}]}]",
        "gateways: [g], http: [{route: [{destination: {host: bb}}]}]",
        "exportTo: ['.'], http: [{route: [{destination: {host: ccc}}]}]",
    ]);
    let by_name = prop::sample::select(vec![
        "gateways: [mesh, g], tls: [{match: [{sniHosts: [x.example], port: 443}], route: [{destination: {host: a, port: {number: 80}}}]}]",
        "tls: [{match: [{sniHosts: [x.example]}], route: [{destination: {host: bb, port: {number: 80}}}]}]",
    ]);
    let leaf = prop::sample::select(vec![
        "http: [{match: [{uri: {prefix: /x}}], route: [{destination: {host: ccc}}]}]",
        "http: [{route: [{destination: {host: bb}}]}]",
        "exportTo: [elsewhere], http: [{route: [{destination: {host: bb}}]}]",
    ]);
    let resolution = prop::sample::select(vec!["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN"]);
    let reach = prop::sample::select(vec![
        "",
        "endpoints: [{address: 10.0.0.7, labels: {version: v1}}]",
        "workloadSelector: {labels: {app: w}}",
        "exportTo: ['.']",
        "addresses: [10.1.0.0/16, 10.2.0.1]",
    ]);
    let egress = prop::sample::select(vec![
        "{hosts: ['./a.default.svc.cluster.local']}",
        "{hosts: ['./*']}",
        "{hosts: ['*/*']}",
        "{hosts: ['~/*']}",
        "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['./*']}, {hosts: ['*/x.example']}",
        "{port: {number: 9000, name: tcp, protocol: TCP}, captureMode: NONE, hosts: ['*/*']}, {hosts: ['*/*', '~default/bb.default.svc.cluster.local']}",
        "{port: {number: 8888, name: proxy, protocol: HTTP_PROXY}, bind: 127.0.0.1, hosts: ['*/*']}",
    ]);
    let mesh = prop::sample::select(vec![
        "outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
        "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}",
        "proxyHttpPort: 15002",
        "defaultTrafficPolicy: {outlierDetection: {minHealthPercent: 50}}",
        "defaultServiceExportTo: ['.']",
        "defaultDestinationRuleExportTo: ['.']",
        "accessLogFile: /dev/stdout",
        "rootNamespace: default",
        "serviceSettings: [{hosts: ['a.default.svc.cluster.local'], settings: {clusterLocal: true}}]",
    ]);
    let servers = prop::sample::select(vec![
        "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}",
        "{port: {number: 80, name: tcp, protocol: TCP}, hosts: ['default/*']}",
        "{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.example'], tls: {mode: PASSTHROUGH}}, {port: {number: 80, name: http, protocol: HTTP}, hosts: ['a.example']}",
    ]);
    let namespace = || prop::sample::select(vec!["default", "elsewhere", "istio-system"]);
    let export = prop::sample::select(vec![
        "",
        "exportTo: ['.'], ",
        "exportTo: [default], ",
        "workloadSelector: {matchLabels: {app: p}}, ",
    ]);
    let deleted = prop::sample::select(vec![
        (Kind::Sidecar, "s"),
        (Kind::ServiceEntry, "x"),
        (Kind::Gateway, "g"),
        (Kind::VirtualService, "leaf"),
        (Kind::WorkloadEntry, "w"),
        (Kind::ConfigMap, "istio"),
    ]);
    let object = |kind: &str, namespace: &str, name: &str, spec: String| {
        Edit::Apply(format!(
            "---\n{{apiVersion: networking.istio.io/v1, kind: {kind}, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{{spec}}}}}\n"
        ))
    };
    prop_oneof![
        3 => (name(), ports.clone()).prop_map(|(n, p)| Edit::Apply(service(n, p))),
        1 => (name(), ports).prop_map(|(n, p)| Edit::Apply(service(n, p).replace(&format!("clusterIP: 10.96.0.{}", n.len()), "clusterIP: None"))),
        1 => name().prop_map(|n| Edit::Apply(service(n, HTTP).replace("clusterIP", "internalTrafficPolicy: Local, clusterIP"))),
        1 => (name(), name()).prop_map(|(n, of)| Edit::Apply(format!("---\n{{apiVersion: v1, kind: Service, metadata: {{name: {n}, namespace: default}}, spec: {{type: ExternalName, externalName: {of}.default.svc.cluster.local, ports: [{HTTP}]}}}}\n"))),
        3 => (name(), addresses).prop_map(|(n, a)| Edit::Apply(slice(n, a))),
        3 => (name(), host(), policy, export, namespace()).prop_map(move |(n, h, p, e, ns)| object("DestinationRule", ns, n, format!("host: '{}', {e}{p}", if ns == "default" || h.contains('.') { h.to_owned() } else { format!("{h}.default.svc.cluster.local") }))),
        3 => (name(), host(), route).prop_map(|(n, h, r)| Edit::Apply(virtual_service(n, h, r))),
        1 => (name(), by_name).prop_map(|(n, r)| Edit::Apply(virtual_service(n, "x.example", r))),
        1 => leaf.prop_map(move |l| object("VirtualService", "default", "leaf", l.into())),
        2 => (resolution, host(), reach).prop_map(move |(r, h, more)| {
            let h = if h.contains('.') { h } else { "x.example" };
            let r = if h.starts_with('*') { "NONE" } else { r };
            let more = if r != "STATIC" && (more.contains("endpoints") || more.contains("Selector")) { "" } else { more };
            object("ServiceEntry", "default", "x", format!("hosts: ['{h}'], resolution: {r}, ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 443, name: tls, protocol: TLS}}], {more}"))
        }),
        1 => prop::sample::select(vec!["10.0.0.8", "10.0.0.1"]).prop_map(move |a| object("WorkloadEntry", "default", "w", format!("address: {a}, labels: {{app: w, version: v1}}, serviceAccount: s"))),
        1 => (egress, namespace()).prop_map(move |(e, ns)| object("Sidecar", ns, "s", format!("egress: [{e}]"))),
        1 => mesh.prop_map(|m| Edit::Apply(format!("---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, data: {{mesh: \"{m}\"}}}}\n"))),
        1 => servers.prop_map(move |s| object("Gateway", "default", "g", format!("selector: {{app: p}}, servers: [{s}]"))),
        1 => (prop::sample::select(vec![Kind::Service, Kind::DestinationRule, Kind::VirtualService]), name()).prop_map(|(k, n)| Edit::Delete(k, "default", n.into())),
        1 => name().prop_map(|n| Edit::Delete(Kind::DestinationRule, "elsewhere", n.into())),
        2 => (deleted, namespace()).prop_map(|((k, n), ns)| Edit::Delete(k, if k == Kind::ConfigMap { "istio-system" } else if k == Kind::Sidecar { ns } else { "default" }, n.into())),
        1 => name().prop_map(|n| Edit::Delete(Kind::EndpointSlice, "default", format!("{n}-1"))),
    ]
}

#[derive(Debug, Clone)]
enum Edit {
    Apply(String),
    Delete(Kind, &'static str, String),
}

/// A proxy that differs in one fact from `sidecar("default")`; one that clusters or endpoints read, most of the time.
fn variant() -> impl Strategy<Value = Proxy> {
    let changes: Vec<fn(&mut Proxy)> = vec![
        |p| p.dns_domain = "default.svc.other.example".into(),
        |p| p.cluster_id = "remote".into(),
        |p| p.node_name = "node".into(),
        |p| p.network_view = vec!["net".into()],
        |p| p.dns_capture = true,
        |p| p.addresses.push(std::net::Ipv6Addr::LOCALHOST.into()),
        |p| p.labels = [("app", "other")].into_iter().collect(),
        |p| p.vanilla = false,
    ];
    prop::sample::select(changes).prop_map(|change| {
        let mut proxy = sidecar("default");
        change(&mut proxy);
        proxy
    })
}

/// Proxies whose classes have something in common.
fn fleet(variant: Proxy) -> Vec<Proxy> {
    let others = ["default", "elsewhere", "istio-system"].map(sidecar);
    others
        .into_iter()
        .chain([router("default"), variant])
        .collect()
}

/// Makes a change; `None` if it is refused, as some combinations are for users.
fn apply(world: &mut World, edit: &Edit) -> Option<Delta> {
    match edit {
        Edit::Apply(yaml) => world.try_apply(yaml).ok(),
        Edit::Delete(kind, namespace, name) => Some(world.delete(*kind, namespace, name)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever changes, updating gives what starting over gives.
    #[test]
    fn an_update_equals_a_fresh_start(edits in prop::collection::vec(edit(), 1..12), variant in variant()) {
        let mut world = World::new(&two_services());
        let generator = Generator::default();
        let proxies = fleet(variant);
        let mut had: Vec<_> = proxies.iter().map(|p| {
            let (view, key) = world.class(p);
            (key.clone(), generator.outbound(&view, &key))
        }).collect();
        for edit in edits {
            let Some(delta) = apply(&mut world, &edit) else {
                continue;
            };
            for (proxy, (old_key, old)) in proxies.iter().zip(&mut had) {
                let (view, key) = world.class(proxy);
                let fresh = Generator::default().outbound(&view, &key);
                if key != *old_key {
                    (*old_key, *old) = (key.clone(), generator.outbound(&view, &key));
                } else {
                    let touch = world.mesh.touch(&old.view, &delta);
                    if !touch.is_none() {
                        let view = world.mesh.update_view(&old.view, &touch);
                        *old = generator.outbound_update(old, &view, &key, &delta);
                    }
                }
                prop_assert_eq!(contents(old), contents(&fresh), "after {:?} for {:?}", edit, key);
            }
        }
    }

    /// What classes have in common is what each would get alone, whoever comes first.
    #[test]
    fn a_class_among_others_gets_what_it_gets_alone(
        edits in prop::collection::vec(edit(), 1..12),
        proxies in variant().prop_map(fleet).prop_shuffle(),
    ) {
        let mut world = World::new(&two_services());
        for edit in &edits {
            apply(&mut world, edit);
        }
        let together = Generator::default();
        let classes = proxies.iter().map(|proxy| world.class(proxy));
        let joined: Vec<_> = classes.map(|(view, key)| (together.outbound(&view, &key), view, key)).collect();
        for (sets, view, key) in &joined {
            let alone = Generator::default().outbound(view, key);
            prop_assert_eq!(contents(sets), contents(&alone), "{:?}", key);
        }
    }
}
