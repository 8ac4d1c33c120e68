//! What a change costs, from the change set to the encoded resources of one class: apply, update of the view, generation.
//!
//! `cargo bench -p pilot-core`. Edits go to and fro between two versions, so each step encodes something. `all` is a class that sees the whole
//! mesh (every HTTP service in RouteConfiguration `8080`), `own` one that a Sidecar restricts to its namespace of 50 services. A `fleet` is 50 classes
//! that see everything, one for each of as many namespaces.
#![expect(clippy::unwrap_used, reason = "a benchmark has nobody to tell")]

use std::sync::Arc;

use divan::{Bencher, black_box};
use mesh_config::{Body, Meta, Object};
use mesh_model::{Change, Mesh, Node, Proxy, View};
use mesh_types::{Key, Kind, Labels, Revision};
use pilot_core::OutboundKey;
use pilot_core::generate::{ClassSets, Generator};
use serde_json::{Value, json};

const SIZES: [usize; 3] = [100, 1000, 5000];
const PER_NAMESPACE: usize = 50;
const CLASSES: usize = 50;

fn main() {
    divan::main();
}

fn object(kind: Kind, namespace: &str, name: &str, age: usize, body: Value) -> Change {
    let meta = Meta {
        key: Key::new(kind, namespace, name),
        created_us: age as i64,
        labels: Labels::default(),
        annotations: Labels::default(),
    };
    Change::Upsert(Arc::new(Object::new(
        meta,
        Body::from_json(kind, body).unwrap(),
    )))
}

fn host(n: usize) -> (String, String) {
    let namespace = format!("ns-{}", n / PER_NAMESPACE);
    (format!("svc-{n}.{namespace}.svc.cluster.local"), namespace)
}

fn service(n: usize) -> Change {
    let (host, namespace) = host(n);
    service_at(&host, &namespace, n)
}

fn service_at(host: &str, namespace: &str, n: usize) -> Change {
    let body = json!({
        "hostname": host, "name": host.split('.').next(), "registry": "kubernetes", "resolution": "clientSideLb",
        "addresses": [format!("10.{}.{}.{}", 96 + n / 65536, n / 256 % 256, n % 256)],
        "ports": [
            {"name": "http", "number": 8080, "protocol": "HTTP", "targetPort": 8080},
            {"name": "grpc", "number": 9090, "protocol": "GRPC", "targetPort": 9090},
        ],
    });
    object(Kind::MeshService, namespace, host, n, body)
}

/// Five endpoints of each port; `version` moves one of them.
fn endpoints(n: usize, version: u8) -> Change {
    let (host, namespace) = host(n);
    let one = |i: usize, port: u16, name: &str| {
        let last = if i == 0 { version as usize } else { i };
        json!({"addresses": [format!("10.{}.{}.{last}", n / 256, n % 256)], "port": port, "portName": name,
            "workload": format!("svc-{n}"), "namespace": namespace, "labels": {"app": format!("svc-{n}")}})
    };
    let all: Vec<Value> = (0..5)
        .flat_map(|i| [one(i, 8080, "http"), one(i, 9090, "grpc")])
        .collect();
    object(
        Kind::MeshEndpoints,
        &namespace,
        &host,
        n,
        json!({"hostname": host, "endpoints": all}),
    )
}

fn virtual_service(n: usize, version: u8) -> Change {
    let (host, namespace) = host(n);
    let body = json!({"hosts": [host], "http": [
        {"match": [{"uri": {"prefix": format!("/v{version}")}}], "timeout": "5s", "route": [{"destination": {"host": host, "port": {"number": 8080}}}]},
        {"route": [{"destination": {"host": host, "port": {"number": 8080}}}]},
    ]});
    object(
        Kind::VirtualService,
        &namespace,
        &format!("svc-{n}"),
        n,
        body,
    )
}

fn mesh(services: usize) -> Mesh {
    let mut changes = Vec::new();
    for n in 0..services {
        changes.extend([service(n), endpoints(n, 200)]);
        if n % 10 == 0 {
            changes.push(virtual_service(n, 1));
        }
    }
    let own = json!({"egress": [{"hosts": ["./*"]}]});
    changes.push(object(Kind::Sidecar, "ns-0", "own", 0, own));
    Mesh::new("cluster.local").apply(Revision(1), &changes).0
}

/// A sidecar of a namespace: `ns-0` has a Sidecar, `ns-1` none.
fn proxy(namespace: &str) -> Proxy {
    Proxy::parse(&Node {
        id: format!("sidecar~10.0.0.1~p.{namespace}~{namespace}.svc.cluster.local"),
        metadata: json!({"NAMESPACE": namespace}),
        ..Node::default()
    })
    .unwrap()
}

/// Classes that differ in nothing but their namespace.
struct Fleet {
    mesh: Mesh,
    keys: Vec<OutboundKey>,
    generator: Generator,
    sets: Vec<ClassSets>,
}

impl Fleet {
    fn new(services: usize) -> Fleet {
        let mesh = mesh(services);
        let namespaces = (1..=CLASSES).map(|n| format!("ns-{n}"));
        let keys: Vec<_> = namespaces
            .map(|namespace| OutboundKey::of(&mesh, &proxy(&namespace)))
            .collect();
        let generator = Generator::default();
        let sets = connect(&mesh, &keys, &generator);
        Fleet {
            mesh,
            keys,
            generator,
            sets,
        }
    }

    /// Measures these changes, one after the other, again and again.
    fn measure(mut self, bencher: Bencher, changes: [Change; 2]) {
        let mut at = 0;
        bencher.bench_local(|| {
            at ^= 1;
            let (mesh, delta) = self
                .mesh
                .apply(Revision(2), std::slice::from_ref(&changes[at]));
            for (sets, key) in self.sets.iter_mut().zip(&self.keys) {
                let view = mesh.update_view(&sets.view, &mesh.touch(&sets.view, &delta));
                *sets = self.generator.outbound_update(sets, &view, key, &delta);
            }
            self.mesh = mesh;
        });
    }
}

/// Everything of these classes, their views included.
fn connect(mesh: &Mesh, keys: &[OutboundKey], generator: &Generator) -> Vec<ClassSets> {
    keys.iter()
        .map(|key| generator.outbound(&mesh.view(&key.view), key))
        .collect()
}

/// One class that is kept up to date.
struct Class {
    mesh: Mesh,
    key: OutboundKey,
    generator: Generator,
    sets: ClassSets,
}

impl Class {
    fn new(services: usize, namespace: &str) -> Class {
        let mesh = mesh(services);
        let key = OutboundKey::of(&mesh, &proxy(namespace));
        let generator = Generator::default();
        let sets = generator.outbound(&mesh.view(&key.view), &key);
        Class {
            mesh,
            key,
            generator,
            sets,
        }
    }

    fn step(&mut self, change: &[Change]) {
        let (mesh, delta) = self.mesh.apply(Revision(2), change);
        let touch = mesh.touch(&self.sets.view, &delta);
        let view = mesh.update_view(&self.sets.view, &touch);
        self.sets = self
            .generator
            .outbound_update(&self.sets, &view, &self.key, &delta);
        self.mesh = mesh;
    }

    /// Measures these changes, one after the other, again and again.
    fn measure(mut self, bencher: Bencher, changes: [Change; 2]) {
        let mut at = 0;
        bencher.bench_local(|| {
            at ^= 1;
            self.step(std::slice::from_ref(&changes[at]));
            black_box(&self.sets);
        });
    }
}

/// Everything of a class that nobody had before: two ports of each service.
#[divan::bench(args = SIZES)]
fn cold_all(bencher: Bencher, services: usize) {
    let mesh = mesh(services);
    let key = OutboundKey::of(&mesh, &proxy("ns-1"));
    let view = mesh.view(&key.view);
    bencher
        .with_inputs(Generator::default)
        .bench_values(|generator| generator.outbound(&view, &key));
}

/// The same where another class has it already.
#[divan::bench(args = SIZES)]
fn second_class_all(bencher: Bencher, services: usize) {
    let first = Class::new(services, "ns-1");
    let key = OutboundKey::of(&first.mesh, &proxy("ns-2"));
    let view = first.mesh.view(&key.view);
    bencher.bench_local(|| first.generator.outbound(&view, &key));
}

/// A fleet that connects.
#[divan::bench(args = SIZES)]
fn cold_fleet(bencher: Bencher, services: usize) {
    let fleet = Fleet::new(services);
    bencher
        .with_inputs(Generator::default)
        .bench_values(|generator| connect(&fleet.mesh, &fleet.keys, &generator));
}

/// What views alone cost of that.
#[divan::bench(args = SIZES)]
fn views_of_fleet(bencher: Bencher, services: usize) {
    let fleet = Fleet::new(services);
    let views = || -> Vec<View> {
        let keys = fleet.keys.iter();
        keys.map(|key| fleet.mesh.view(&key.view)).collect()
    };
    bencher.bench_local(views);
}

#[divan::bench(args = SIZES)]
fn mesh_from_nothing(bencher: Bencher, services: usize) {
    bencher.bench_local(|| mesh(services));
}

#[divan::bench(args = SIZES)]
fn findings(bencher: Bencher, services: usize) {
    let mesh = mesh(services);
    bencher.bench_local(|| mesh.findings());
}

/// e1: one endpoint moves.
#[divan::bench(args = SIZES)]
fn e1_all(bencher: Bencher, services: usize) {
    Class::new(services, "ns-1").measure(bencher, [endpoints(7, 200), endpoints(7, 201)]);
}

#[divan::bench(args = SIZES)]
fn e1_fleet(bencher: Bencher, services: usize) {
    Fleet::new(services).measure(bencher, [endpoints(7, 200), endpoints(7, 201)]);
}

#[divan::bench(args = SIZES)]
fn e1_own(bencher: Bencher, services: usize) {
    Class::new(services, "ns-0").measure(bencher, [endpoints(7, 200), endpoints(7, 201)]);
}

/// e3: a VirtualService says something else.
#[divan::bench(args = SIZES)]
fn e3_all(bencher: Bencher, services: usize) {
    Class::new(services, "ns-1").measure(bencher, [virtual_service(10, 1), virtual_service(10, 2)]);
}

#[divan::bench(args = SIZES)]
fn e3_own(bencher: Bencher, services: usize) {
    Class::new(services, "ns-0").measure(bencher, [virtual_service(10, 1), virtual_service(10, 2)]);
}

/// e3 elsewhere: it is none of the class's business.
#[divan::bench(args = SIZES)]
fn e3_elsewhere(bencher: Bencher, services: usize) {
    Class::new(services, "ns-0").measure(bencher, [virtual_service(60, 1), virtual_service(60, 2)]);
}

/// e5: a service comes and goes.
#[divan::bench(args = SIZES)]
fn e5_all(bencher: Bencher, services: usize) {
    let class = Class::new(services, "ns-1");
    let changes = come_and_go(services);
    class.measure(bencher, changes);
}

#[divan::bench(args = SIZES)]
fn e5_fleet(bencher: Bencher, services: usize) {
    Fleet::new(services).measure(bencher, come_and_go(services));
}

#[divan::bench(args = SIZES)]
fn e5_own(bencher: Bencher, services: usize) {
    let class = Class::new(services, "ns-0");
    let (host, namespace) = ("new.ns-0.svc.cluster.local", "ns-0");
    let come = service_at(host, namespace, 65_000);
    let go = Change::Delete(Key::new(Kind::MeshService, namespace, host));
    class.measure(bencher, [go, come]);
}

fn come_and_go(n: usize) -> [Change; 2] {
    let (host, namespace) = host(n);
    [
        Change::Delete(Key::new(Kind::MeshService, namespace, host)),
        service(n),
    ]
}
