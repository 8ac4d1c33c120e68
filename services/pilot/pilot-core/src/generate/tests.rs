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
        part("cds", &old.cds, &new.cds),
        part("eds", &old.eds, &new.eds),
        part("lds", &old.lds, &new.lds),
        part("rds", &old.rds, &new.rds),
    ]
    .concat()
}

fn contents(sets: &ClassSets) -> BTreeMap<String, u64> {
    let all = [
        ("cds", &sets.cds),
        ("eds", &sets.eds),
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
        rds =
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
        rds =
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
        rds =
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
    assert!(
        Arc::ptr_eq(&a.cds, &b.cds) && Arc::ptr_eq(&a.eds, &b.eds) && Arc::ptr_eq(&a.lds, &b.lds)
    );
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
        "tcp: [{route: [{destination: {host: ccc, port: {number: 9000}}}]}]",
        "tls: [{match: [{sniHosts: [x.example], port: 443}], route: [{destination: {host: a, port: {number: 80}}}]}]",
    ]);
    let resolution = prop::sample::select(vec!["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN"]);
    let egress = prop::sample::select(vec!["./a.default.svc.cluster.local", "./*", "*/*", "~/*"]);
    let mode = prop::sample::select(vec!["ALLOW_ANY", "REGISTRY_ONLY"]);
    prop_oneof![
        3 => (name(), ports.clone()).prop_map(|(n, p)| Edit::Apply(service(n, p))),
        1 => name().prop_map(|n| Edit::Apply(service(n, HTTP).replace("clusterIP: 10.96.0", "clusterIP: None, x-was: 10.96.0").replace("x-was: 10.96.0.1, ", "").replace("x-was: 10.96.0.2, ", "").replace("x-was: 10.96.0.3, ", ""))),
        1 => (name(), name()).prop_map(|(n, of)| Edit::Apply(format!("---\n{{apiVersion: v1, kind: Service, metadata: {{name: {n}, namespace: default}}, spec: {{type: ExternalName, externalName: {of}.default.svc.cluster.local, ports: [{HTTP}]}}}}\n"))),
        3 => (name(), addresses).prop_map(|(n, a)| Edit::Apply(slice(n, a))),
        3 => (name(), host(), policy).prop_map(|(n, h, p)| Edit::Apply(rule(n, h, p))),
        3 => (name(), host(), route).prop_map(|(n, h, r)| Edit::Apply(virtual_service(n, h, r))),
        1 => (resolution, host()).prop_map(|(r, h)| {
            let h = if h.contains('.') { h } else { "x.example" };
            let r = if h.starts_with('*') { "NONE" } else { r };
            Edit::Apply(format!("---\n{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: x, namespace: default}}, spec: {{hosts: ['{h}'], resolution: {r}, ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 443, name: tls, protocol: TLS}}]}}}}\n"))
        }),
        1 => egress.prop_map(|e| Edit::Apply(format!("---\n{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{name: s, namespace: default}}, spec: {{egress: [{{hosts: ['{e}']}}]}}}}\n"))),
        1 => mode.prop_map(|m| Edit::Apply(format!("---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, data: {{mesh: '{{outboundTrafficPolicy: {{mode: {m}}}}}'}}}}\n"))),
        1 => Just(Edit::Apply("---\n{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: g, namespace: default}, spec: {selector: {app: p}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}}\n".into())),
        1 => (prop::sample::select(vec![Kind::Service, Kind::DestinationRule, Kind::VirtualService]), name()).prop_map(|(k, n)| Edit::Delete(k, n.into())),
        1 => prop::sample::select(vec![(Kind::Sidecar, "s"), (Kind::ServiceEntry, "x"), (Kind::Gateway, "g")]).prop_map(|(k, n)| Edit::Delete(k, n.into())),
        1 => name().prop_map(|n| Edit::Delete(Kind::EndpointSlice, format!("{n}-1"))),
    ]
}

#[derive(Debug, Clone)]
enum Edit {
    Apply(String),
    Delete(Kind, String),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever changes, updating gives what starting over gives.
    #[test]
    fn an_update_equals_a_fresh_start(edits in prop::collection::vec(edit(), 1..12)) {
        let mut world = World::new(&two_services());
        let generator = Generator::default();
        let proxies = [sidecar("default"), sidecar("elsewhere"), router("default")];
        let class = |world: &World, proxy: &Proxy| world.class(proxy);
        let mut had: Vec<_> = proxies.iter().map(|p| {
            let (view, key) = class(&world, p);
            (key.clone(), generator.outbound(&view, &key))
        }).collect();
        for edit in edits {
            let delta = match &edit {
                Edit::Apply(yaml) => world.apply(yaml),
                Edit::Delete(kind, name) => world.delete(*kind, "default", name),
            };
            for (proxy, (old_key, old)) in proxies.iter().zip(&mut had) {
                let (view, key) = class(&world, proxy);
                let new = if key == *old_key {
                    generator.outbound_update(old, &view, &key, &delta)
                } else {
                    generator.outbound(&view, &key)
                };
                let fresh = Generator::default().outbound(&view, &key);
                prop_assert_eq!(contents(&new), contents(&fresh), "after {:?} for {:?}", edit, proxy.kind);
                (*old_key, *old) = (key, new);
            }
        }
    }
}
