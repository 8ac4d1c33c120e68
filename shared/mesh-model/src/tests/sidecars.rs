//! Scopes: what a Sidecar imports.

use expect_test::{Expect, expect};

use crate::testing::{World, labelled, listeners, rules, services};

const SHOP: &str = "svc a.default http:80\nsvc b.default http:9080\nsvc a.prod http:80 http:9080\nsvc hidden.prod http:80 export=prod\n";

#[track_caller]
fn check(sidecar: &str, want: Expect) {
    let world = World::new(&format!("{SHOP}---\nSidecar default/s\n{sidecar}"));
    let view = world.sidecar("default");
    want.assert_eq(&format!("{}{}\n", listeners(&view), services(&view)));
}

#[test]
fn without_sidecar_everything_visible_is_in_scope() {
    let world = World::new(SHOP);
    expect!["a.default:80 b.default:9080 a.prod:80,9080"]
        .assert_eq(&services(&world.sidecar("default")));
    expect!["hidden.prod:80 a.default:80 b.default:9080 a.prod:80,9080"]
        .assert_eq(&services(&world.sidecar("prod")));
}

#[test]
fn c_120_own_namespace_only_or_nothing_at_all() {
    check(
        "egress: [{hosts: ['./*']}]",
        expect![[r#"
            *: services ["a.default", "b.default"] rules [] best []
            a.default:80 b.default:9080
        "#]],
    );
    check(
        "egress: [{hosts: ['~/*']}]",
        expect![[r#"
            *: services [] rules [] best []

        "#]],
    );
}

#[test]
fn c_121_a_listener_with_a_port_imports_that_port() {
    check(
        "egress:\n- {port: {number: 9080, protocol: HTTP, name: x}, hosts: ['prod/*']}\n- {hosts: ['./*']}",
        expect![[r#"
            9080: services ["a.prod"] rules [] best []
            *: services ["a.default", "b.default"] rules [] best []
            a.prod:9080 a.default:80 b.default:9080
        "#]],
    );
}

#[test]
fn ports_of_one_service_in_two_listeners_add_up() {
    check(
        "egress:\n- {port: {number: 9080, protocol: HTTP, name: x}, hosts: ['prod/*']}\n- {port: {number: 80, protocol: HTTP, name: y}, hosts: ['prod/*']}",
        expect![[r#"
            9080: services ["a.prod"] rules [] best []
            80: services ["a.prod"] rules [] best []
            a.prod:80,9080
        "#]],
    );
}

#[test]
fn c_122_bind_and_capture_mode_are_kept() {
    let world = World::new(
        "Sidecar n/s\negress: [{port: {number: 9000, protocol: TCP, name: x}, bind: 127.0.0.1, captureMode: NONE, hosts: ['*/*']}]",
    );
    let listener = &world.sidecar("n").egress[0];
    assert_eq!(
        (&*listener.bind, format!("{:?}", listener.capture_mode)),
        ("127.0.0.1", "None".to_owned())
    );
}

#[test]
fn c_123_destinations_of_imported_rules_come_along() {
    let world = World::new(&format!(
        "{SHOP}---\nSidecar default/s\negress: [{{hosts: ['./a.default.svc.cluster.local']}}]\n---\n\
         VirtualService default/v\nhosts: [a]\nhttp:\n- route: [{{destination: {{host: a.prod.svc.cluster.local, port: {{number: 9080}}}}}}]\n\
         - match: [{{sourceNamespace: other}}]\n  route: [{{destination: {{host: b}}}}]"
    ));
    let view = world.sidecar("default");
    expect!["a.default:80 a.prod:9080"].assert_eq(&services(&view));
    expect![[r#"
        *: services ["a.default"] rules ["default/v"] best ["a.default=default/v"]
    "#]]
    .assert_eq(&listeners(&view));
}

#[test]
fn c_124_the_sidecars_policy_overrides_the_meshs() {
    let mode = |text: &str| format!("{:?}", World::new(text).sidecar("n").outbound_policy.mode);
    assert_eq!(mode(""), "AllowAny");
    assert_eq!(
        mode("Sidecar n/s\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}"),
        "RegistryOnly"
    );
    assert_eq!(
        mode("MeshConfig /mesh\n\"outboundTrafficPolicy\": {\"mode\": \"REGISTRY_ONLY\"}"),
        "RegistryOnly"
    );
    let world = World::new(
        "Sidecar n/s\noutboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: proxy, port: {number: 80}}}",
    );
    let proxy = world
        .sidecar("n")
        .outbound_policy
        .egress_proxy
        .map(|d| d.host);
    assert_eq!(proxy.as_deref(), Some("proxy.n.svc.cluster.local"));
}

#[test]
fn c_125_of_one_host_in_several_namespaces_the_own_then_kubernetes_then_the_first() {
    let owner = |text: &str| {
        World::new(text)
            .sidecar("n")
            .services
            .values()
            .map(|s| s.key.namespace.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        owner("svc a.com.x http:80 se\nsvc a.com.n http:80 se"),
        ["n"]
    );
    assert_eq!(
        owner("svc a.com.x http:80 se\nsvc a.y http:80 host=a.com\nsvc a.com.z http:80 se"),
        ["y"]
    );
    assert_eq!(
        owner("svc a.com.x http:80 se\nsvc a.com.y http:80 se"),
        ["x"]
    );
}

#[test]
fn c_126_selected_then_namespace_then_root() {
    let world = World::new(
        "svc a.n http:80\n---\nSidecar istio-system/default\negress: [{hosts: ['~/*']}]\n---\nSidecar n/plain\negress: [{hosts: ['./*']}]\n---\n\
         Sidecar n/selected\nworkloadSelector: {labels: {app: p}}\negress: [{hosts: ['*/*']}]\n---\n\
         Sidecar istio-system/not-for-others\nworkloadSelector: {labels: {app: p}}\negress: [{hosts: ['*/*']}]",
    );
    let name = |view: &crate::View| view.sidecar.as_ref().map(|s| s.key.path());
    let view = world.sidecar("n");
    assert_eq!(name(&view).as_deref(), Some("n/selected"));
    assert_eq!(
        name(&world.mesh.view(&labelled(&view.key, "q"))).as_deref(),
        Some("n/plain")
    );
    assert_eq!(
        name(&world.sidecar("other")).as_deref(),
        Some("istio-system/default")
    );
    assert_eq!(
        name(&world.sidecar("istio-system")).as_deref(),
        Some("istio-system/not-for-others")
    );
    assert_eq!(name(&world.router("n")), None);
}

#[test]
fn c_127_a_plain_import_takes_wildcard_rules_but_not_those_of_the_gateway_api() {
    let world = World::new(
        "Sidecar n/s\negress: [{hosts: ['ns/a.com']}]\n---\nVirtualService ns/classic\nhosts: ['*.com']\n---\n\
         VirtualService ns/api internal.istio.io/route-semantics=gateway\nhosts: ['*.com']\n---\nVirtualService other/elsewhere\nhosts: [a.com]",
    );
    expect![[r#"
        *: services [] rules ["ns/classic"] best []
    "#]]
    .assert_eq(&listeners(&world.sidecar("n")));
    check(
        "egress: [{hosts: ['*/*', '~default/b.default.svc.cluster.local', '~prod/*']}]",
        expect![[r#"
            *: services ["a.default"] rules [] best []
            a.default:80
        "#]],
    );
}

#[test]
fn a_rule_imported_for_one_host_brings_all_of_them() {
    let world = World::new(
        "Sidecar n/s\negress: [{hosts: ['*/a.com']}]\n---\nVirtualService n/v\nhosts: [a.com, b.com]",
    );
    assert_eq!(
        world.sidecar("n").egress[0].virtual_services[0].hosts.len(),
        2
    );
}

#[test]
fn aliases_are_other_names_of_what_is_in_scope() {
    let text = "svc a.n http:80\nsvc b.n alias=a.n.svc.cluster.local\nsvc c.n alias=b.n.svc.cluster.local\nsvc loop.n alias=loop.n.svc.cluster.local";
    let aliases = |view: &crate::View| {
        view.aliases
            .iter()
            .map(|(h, a)| format!("{h}: {a:?}"))
            .collect::<Vec<_>>()
    };
    let all = aliases(&World::new(text).sidecar("n"));
    assert_eq!(all.len(), 1);
    assert!(
        all[0].starts_with("a.n.svc.cluster.local")
            && all[0].contains("b.n.svc")
            && all[0].contains("c.n.svc"),
        "{all:?}"
    );
    let scoped = World::new(&format!(
        "{text}\n---\nSidecar n/s\negress: [{{hosts: ['./a.n.svc.cluster.local', './c.n.svc.cluster.local']}}]"
    ));
    let some = aliases(&scoped.sidecar("n"));
    assert!(
        some[0].contains("c.n.svc") && !some[0].contains("b.n.svc"),
        "{some:?}"
    );
}

#[test]
fn every_service_of_a_scope_has_its_rule() {
    let world = World::new(&format!(
        "{SHOP}---\nSidecar default/s\negress: [{{hosts: ['./*']}}]\n---\nDestinationRule default/d\nhost: '*.local'\n"
    ));
    expect!["a.default=default/d[] b.default=default/d[]"]
        .assert_eq(&rules(&world.sidecar("default")));
}
