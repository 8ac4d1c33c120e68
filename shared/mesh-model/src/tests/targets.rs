//! What services a proxy is an instance of, and what the mesh knows of it.

use crate::testing::{World, proxy};

fn targets(world: &World, namespace: &str, app: &str) -> Vec<String> {
    let found = world
        .mesh
        .service_targets(&proxy("sidecar", namespace, app));
    found
        .iter()
        .map(|t| format!("{} {}>{}", t.service.name, t.port.name, t.target_port))
        .collect()
}

#[test]
fn endpoints_at_the_proxys_address_in_its_namespace() {
    let world = World::new(
        "svc b.n http:80 tcp:90\nsvc a.n http:80\nsvc a.m http:80\n\
         ep a.n 10.0.0.1:8081/http-80\nep b.n 10.0.0.1:8080/http-80 10.0.0.2:9/tcp-90\nep a.m 10.0.0.1:1/http-80",
    );
    assert_eq!(
        targets(&world, "n", "none"),
        ["b http-80>8080", "a http-80>8081"],
        "oldest service first"
    );
}

#[test]
fn a_selector_counts_before_there_are_endpoints() {
    let world = World::new(
        "svc a.n http:80>8080 http:81>8080 tcp:90 udp:53>53 app=p\nsvc other.n http:80>1 app=q",
    );
    assert_eq!(
        targets(&world, "n", "p"),
        ["a http-80>8080"],
        "no UDP, no unknown port, no target twice"
    );
    let mut named = proxy("sidecar", "n", "p");
    named.pod_ports.insert("tcp-90".into(), 9090);
    let found = world.mesh.service_targets(&named);
    assert_eq!(
        found.iter().map(|t| t.target_port).collect::<Vec<_>>(),
        [8080, 9090]
    );
}

#[test]
fn a_workload_is_found_by_pod_name_and_else_by_address() {
    let world = World::new(
        "wl p.n 10.0.0.9 app=by-name\nwl x.n 10.0.0.1 app=by-address\nwl y.m 10.0.0.1 app=elsewhere",
    );
    let app = |app: &str| {
        let mut proxy = proxy("sidecar", "n", app);
        world.mesh.complete(&mut proxy);
        proxy.labels.get("app").unwrap_or_default().to_owned()
    };
    assert_eq!(
        (app("p"), app("unknown")),
        ("by-name".to_owned(), "by-address".to_owned())
    );
}

#[test]
fn only_labels_that_something_reads_tell_classes_apart() {
    let mut world = World::new("svc a.n http:80");
    let key = |world: &World, kind: &str, namespace: &str, app: &str| {
        world.mesh.view_key(&proxy(kind, namespace, app))
    };
    assert_eq!(
        key(&world, "sidecar", "n", "p"),
        key(&world, "sidecar", "n", "q")
    );
    let delta = world.apply("Sidecar n/s\nworkloadSelector: {labels: {app: p}}");
    assert!(delta.selectors);
    assert_ne!(
        key(&world, "sidecar", "n", "p"),
        key(&world, "sidecar", "n", "q")
    );
    assert_eq!(
        key(&world, "sidecar", "n", "q"),
        key(&world, "sidecar", "n", "r"),
        "only compared values matter"
    );
    assert_eq!(
        key(&world, "sidecar", "m", "p"),
        key(&world, "sidecar", "m", "q")
    );
    assert!(world.delete(mesh_types::Kind::Sidecar, "n", "s").selectors);
    assert_eq!(
        key(&world, "sidecar", "n", "p"),
        key(&world, "sidecar", "n", "q")
    );
    world.apply("Gateway n/g\nselector: {app: p}\nservers: [{port: {number: 80, protocol: HTTP, name: x}, hosts: ['*']}]");
    assert_eq!(
        key(&world, "sidecar", "n", "p"),
        key(&world, "sidecar", "n", "q")
    );
    assert_ne!(
        key(&world, "router", "n", "p"),
        key(&world, "router", "n", "q")
    );
}
