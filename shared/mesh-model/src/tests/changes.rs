//! What a change set says it changed, and what of it concerns a view.

use expect_test::{Expect, expect};
use mesh_types::Kind;

use crate::testing::World;
use crate::{Delta, Touch, View};

/// The parts of a touch that are not empty.
fn show(touch: &Touch) -> String {
    let mut out = Vec::new();
    let mut add = |name: &str, items: Vec<String>| {
        if !items.is_empty() {
            out.push(format!("{name} {}", items.join(",")));
        }
    };
    add(
        "everything",
        touch.everything.then(String::new).into_iter().collect(),
    );
    add(
        "sidecar",
        touch.sidecar.then(String::new).into_iter().collect(),
    );
    add(
        "services",
        touch.services.iter().map(ToString::to_string).collect(),
    );
    add(
        "endpoints",
        touch.endpoints.iter().map(ToString::to_string).collect(),
    );
    add(
        "virtual services",
        touch.virtual_services.iter().map(|k| k.path()).collect(),
    );
    add(
        "rules",
        touch.rules.iter().map(ToString::to_string).collect(),
    );
    add(
        "gateways",
        touch.gateways.iter().map(|k| k.path()).collect(),
    );
    out.join("; ")
}

#[track_caller]
fn check(world: &World, view: &View, delta: &Delta, want: Expect) {
    want.assert_eq(&show(&world.mesh.touch(view, delta)));
}

const SHOP: &str =
    "svc a.n http:80\nsvc b.n http:80\nsvc c.m http:80 export=m\nep a.n 10.0.0.1:80/http-80";

#[test]
fn an_equal_version_changes_nothing() {
    let mut world = World::new(SHOP);
    let again: Vec<_> = world
        .mesh
        .objects()
        .cloned()
        .map(crate::Change::Upsert)
        .collect();
    assert!(world.change(&again).is_empty());
    assert!(world.delete(Kind::VirtualService, "n", "none").is_empty());
}

#[test]
fn what_comes_and_goes_in_one_set_changes_nothing() {
    let mut world = World::new(SHOP);
    let object = world.objects("VirtualService n/v\nhosts: [a]").remove(0);
    let key = object.meta.key.clone();
    assert!(
        world
            .change(&[crate::Change::Upsert(object), crate::Change::Delete(key)])
            .is_empty()
    );
}

#[test]
fn new_endpoints_touch_nothing_else_and_share_the_rest() {
    let mut world = World::new(SHOP);
    let view = world.sidecar("n");
    let delta = world.apply("ep a.n 10.0.0.1:80/http-80 10.0.0.2:80/http-80");
    assert!(delta.services.is_empty());
    assert_eq!(
        delta
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["10.0.0.2"]
    );
    check(
        &world,
        &view,
        &delta,
        expect!["endpoints a.n.svc.cluster.local"],
    );
    let touch = world.mesh.touch(&view, &delta);
    assert!(touch.only_endpoints());
    let next = world.mesh.update_view(&view, &touch);
    assert!(
        std::sync::Arc::ptr_eq(&view.services, &next.services)
            && std::sync::Arc::ptr_eq(&view.egress, &next.egress)
    );
    let count = |view: &View| {
        view.endpoints
            .iter()
            .map(|(_, e)| e.spec.endpoints.len())
            .sum::<usize>()
    };
    assert_eq!((count(&view), count(&next)), (1, 2));
}

#[test]
fn only_what_is_in_the_view_or_would_be_counts() {
    let mut world = World::new(&format!(
        "{SHOP}\n---\nSidecar n/s\negress: [{{hosts: ['./a.n.svc.cluster.local']}}]"
    ));
    let (scoped, all) = (world.sidecar("n"), world.sidecar("x"));
    let delta = world.apply("svc b.n http:81");
    check(&world, &scoped, &delta, expect![""]);
    check(
        &world,
        &all,
        &delta,
        expect!["services b.n.svc.cluster.local"],
    );
    let delta = world.apply("svc c.m http:81 export=m");
    check(&world, &all, &delta, expect![""]);
    let delta = world.apply("VirtualService n/v\nhosts: [b]");
    check(&world, &scoped, &delta, expect![""]);
    check(&world, &all, &delta, expect!["virtual services n/v"]);
    let delta = world.apply("VirtualService n/w\nhosts: [a]");
    check(&world, &scoped, &delta, expect!["virtual services n/w"]);
    let delta = world.apply("DestinationRule n/d\nhost: b");
    check(&world, &scoped, &delta, expect![""]);
    check(&world, &all, &delta, expect!["rules b.n.svc.cluster.local"]);
    let delta = world.apply("DestinationRule m/d\nhost: a.n.svc.cluster.local");
    check(&world, &scoped, &delta, expect![""]);
    check(&world, &world.sidecar("m"), &delta, expect![""]);
    let delta = world.apply(
        "Gateway n/g\nservers: [{port: {number: 80, protocol: HTTP, name: x}, hosts: ['*']}]",
    );
    check(&world, &scoped, &delta, expect![""]);
}

#[test]
fn a_sidecar_concerns_those_it_applies_to() {
    let mut world = World::new(SHOP);
    let (own, other) = (world.sidecar("n"), world.sidecar("m"));
    let delta = world.apply("Sidecar n/s\negress: [{hosts: ['./*']}]");
    check(&world, &own, &delta, expect!["sidecar "]);
    check(&world, &other, &delta, expect![""]);
}

#[test]
fn settings_concern_everyone_and_defaults_of_export_apply_anew() {
    let mut world = World::new(SHOP);
    let view = world.sidecar("x");
    let delta = world.apply("MeshConfig /mesh\n\"defaultServiceExportTo\": [\".\"]");
    assert!(delta.mesh_config);
    check(&world, &view, &delta, expect!["everything "]);
    assert_eq!(
        (view.services.len(), world.sidecar("x").services.len()),
        (2, 0)
    );
}
