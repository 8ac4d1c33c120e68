//! However changes arrive, the mesh is the same; and however a view came to be, it is what the mesh says.

use std::sync::Arc;

use mesh_config::resource::normal::{JwksSource, MeshJwks, MeshTrust};
use mesh_config::{Body, Meta, Object};
use mesh_types::{Key, Labels, Revision};
use proptest::prelude::*;

use crate::scope::imports::Imports;
use crate::scope::services;
use crate::testing::{World, everything};
use crate::{Change, Mesh};

/// How many objects are in [`POOL`].
const POOLED: usize = 70;
/// Objects that bear on one another in every way the mesh knows, several versions of each.
const POOL: &str = "svc a.n http:80
svc a.n http:80 http:81
svc a.n http:80 export=n
svc a.m http:80
svc a.m tcp:90 export=n
svc shared.com.n http:80 se
svc shared.com.m http:80 se
svc z.m http:80 host=shared.com
svc alias.n alias=a.n.svc.cluster.local
svc alias2.m alias=alias.n.svc.cluster.local
svc alias.n alias=a.m.svc.cluster.local export=m
ep a.n 10.0.0.1:80/http-80
ep a.n 10.0.0.2:80/http-80
ep shared.com.m 10.0.0.1:8080/http-80 se
wl p.n 10.0.0.1 app=p
---
VirtualService n/v created=1
hosts: [a]
http: [{route: [{destination: {host: a.m.svc.cluster.local}}]}]
---
VirtualService n/v created=1
hosts: ['*.com', a]
exportTo: ['.']
---
VirtualService m/v
hosts: [a.n.svc.cluster.local]
gateways: [mesh, n/gw]
---
VirtualService m/root
hosts: [shared.com]
http: [{delegate: {name: d}}, {route: [{destination: {host: a, port: {number: 90}}}]}]
---
VirtualService m/d
http: [{match: [{uri: {prefix: /x}}], route: [{destination: {host: a.n.svc.cluster.local}}]}]
---
VirtualService m/d
http: [{name: y, redirect: {uri: /}}]
exportTo: [n]
---
VirtualService n/api internal.istio.io/route-semantics=gateway
hosts: [shared.com]
---
DestinationRule n/d
host: a
subsets: [{name: v1}]
---
DestinationRule n/d
host: '*.local'
exportTo: ['.']
---
DestinationRule n/e
host: a
trafficPolicy: {loadBalancer: {simple: RANDOM}}
---
DestinationRule m/d
host: a
workloadSelector: {matchLabels: {app: p}}
---
DestinationRule istio-system/d
host: '*'
---
Sidecar n/s
workloadSelector: {labels: {app: p}}
egress: [{hosts: ['./*', '*/shared.com']}]
---
Sidecar n/s
egress: [{port: {number: 80, protocol: HTTP, name: x}, hosts: ['*/*']}, {hosts: ['m/*', '~m/shared.com']}]
---
Sidecar istio-system/s
egress: [{hosts: ['*/*']}]
---
Gateway n/gw
selector: {app: p}
servers: [{port: {number: 80, protocol: HTTP, name: x}, hosts: ['*']}]
---
Gateway n/gw
servers: [{port: {number: 80, protocol: TCP, name: x}, hosts: ['*']}]
---
Gateway m/gw
servers: [{port: {number: 80, protocol: HTTP, name: x}, hosts: ['*']}]
---
MeshConfig /mesh
\"defaultServiceExportTo\": [\".\"]
---
MeshConfig /mesh
\"rootNamespace\": \"m\"
---
MeshConfig /mesh
\"defaultDestinationRuleExportTo\": [\".\"], \"defaultVirtualServiceExportTo\": [\"~\"]
---
svc gw.n http:80>8080 tcp:443>8443 app=p
ep gw.n 10.0.0.1:8081/http-80
wl p.n 10.0.0.1 app=q
svc *.wild.com.n http:80 se
---
DestinationRule n/f
host: a
exportTo: [m]
subsets: [{name: v2}]
---
DestinationRule m/g
host: a.n.svc.cluster.local
exportTo: ['.', n]
---
DestinationRule m/g
host: '*.wild.com'
trafficPolicy: {loadBalancer: {localityLbSetting: {failoverPriority: [app]}}}
---
VirtualService n/labels
hosts: [a, '*.wild.com']
tcp: [{match: [{sourceLabels: {app: q}}], route: [{destination: {host: shared.com}}]}]
---
VirtualService m/root
hosts: [a.n.svc.cluster.local]
gateways: [gw, n/gw, mesh]
http: [{delegate: {name: d}}, {delegate: {name: e, namespace: n}}]
---
VirtualService n/e
http: [{route: [{destination: {host: x.wild.com}}], mirror: {host: a}}]
---
Sidecar m/s
outboundTrafficPolicy: {mode: REGISTRY_ONLY}
egress: [{port: {number: 90, protocol: TCP, name: t}, bind: 127.0.0.1, captureMode: NONE, hosts: ['./*']}, {hosts: ['n/a.n.svc.cluster.local', '*/*.wild.com']}]
ingress: [{port: {number: 80, protocol: HTTP, name: x}, defaultEndpoint: '127.0.0.1:1'}]
---
Sidecar istio-system/t created=1
workloadSelector: {labels: {app: q}}
egress: [{hosts: ['~/*']}]
---
Gateway m/gw
selector: {app: q}
servers: [{port: {number: 443, protocol: TLS, name: y}, hosts: ['n/*'], tls: {mode: PASSTHROUGH}}, {port: {number: 80, protocol: HTTP, name: x}, hosts: ['./a.com', '*/b.com']}]
---
PeerAuthentication istio-system/default
mtls: {mode: STRICT}
---
PeerAuthentication istio-system/default
mtls: {mode: DISABLE}
---
PeerAuthentication n/default created=7
mtls: {mode: DISABLE}
---
PeerAuthentication n/newer created=9
mtls: {mode: PERMISSIVE}
---
PeerAuthentication n/p
selector: {matchLabels: {app: p}}
mtls: {mode: STRICT}
portLevelMtls: {80: {mode: DISABLE}}
---
PeerAuthentication m/default
mtls: {mode: UNSET}
---
ep a.n 10.0.0.2:80/http-80 10.0.0.3:81/http-80 mtls sa=a app=p
ep a.m 10.0.0.2:80/http-80 mtls sa=b
---
AuthorizationPolicy n/a
rules: [{}]
---
AuthorizationPolicy n/a
selector: {matchLabels: {app: p}}
---
AuthorizationPolicy n/ask
action: CUSTOM
provider: {name: x}
rules: [{}]
---
AuthorizationPolicy istio-system/a created=5
selector: {matchLabels: {app: q}}
---
AuthorizationPolicy m/tried istio.io/dry-run=true
action: DENY
rules: [{}]
---
RequestAuthentication n/t
jwtRules: [{issuer: i, jwksUri: 'https://k'}]
---
RequestAuthentication istio-system/t
selector: {matchLabels: {app: p}}
jwtRules: [{issuer: j}]
---
RequestAuthentication m/gateway
targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: g}
---
MeshConfig /mesh
\"extensionProviders\": [{\"name\": \"x\", \"envoyExtAuthzGrpc\": {\"service\": \"m/shared.com\", \"port\": 80}}]";

/// Every object of the pool, and facts that are not configuration.
fn pool() -> Vec<Arc<Object>> {
    let mut out = World::default().objects(POOL);
    let source = JwksSource::Uri("https://k".into());
    let jwks = |keys: Option<&str>| MeshJwks {
        source: source.clone(),
        keys: keys.map(Into::into),
    };
    let denied = |ids: &[&str]| MeshTrust {
        denied: ids.iter().map(|id| Arc::from(*id)).collect(),
    };
    let facts: [(Key, Body); 4] = [
        (source.key(), jwks(Some("keys")).into()),
        (source.key(), jwks(None).into()),
        (MeshTrust::key(), denied(&["b", "a", "a"]).into()),
        (MeshTrust::key(), denied(&[]).into()),
    ];
    out.extend(facts.map(|(key, body)| {
        let meta = Meta {
            key,
            created_us: 0,
            labels: Labels::default(),
            annotations: Labels::default(),
        };
        Arc::new(Object::new(meta, body))
    }));
    out
}

/// Host entries of Sidecars.
const ENTRIES: &[&str] = &[
    "./*",
    "n/*",
    "m/*.wild.com",
    "*/shared.com",
    "*/a.n.svc.cluster.local",
    "n/a.n.svc.cluster.local",
    "./shared.com",
    "~m/*",
    "~/shared.com",
    "x/*",
];

#[derive(Debug, Clone)]
enum Step {
    Put(usize),
    Remove(usize),
}

fn steps(pool: usize) -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = (0..pool, 0..4u8).prop_map(|(i, what)| {
        if what == 0 {
            Step::Remove(i)
        } else {
            Step::Put(i)
        }
    });
    prop::collection::vec(prop::collection::vec(step, 1..4), 1..16)
}

fn changes(pool: &[Arc<Object>], steps: &[Step]) -> Vec<Change> {
    let one = |step: &Step| match step {
        Step::Put(i) => Change::Upsert(pool[*i].clone()),
        Step::Remove(i) => Change::Delete(pool[*i].meta.key.clone()),
    };
    steps.iter().map(one).collect()
}

fn proxies() -> Vec<crate::Proxy> {
    let of = |kind, namespace, app| crate::testing::proxy(kind, namespace, app);
    vec![
        of("sidecar", "n", "p"),
        of("sidecar", "n", "q"),
        of("sidecar", "m", "p"),
        of("sidecar", "x", "p"),
        of("sidecar", "istio-system", "q"),
        of("router", "n", "p"),
        of("router", "m", "q"),
    ]
}

fn views(mesh: &Mesh) -> Vec<String> {
    proxies()
        .iter()
        .map(|proxy| everything(&mesh.view(&mesh.view_key(proxy))))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_by_one_equals_at_once_equals_from_scratch(sets in steps(POOLED)) {
        let pool = pool();
        prop_assert_eq!(pool.len(), POOLED);
        let mut mesh = Mesh::default();
        for set in &sets {
            mesh = mesh.apply(Revision(1), &changes(&pool, set)).0;
        }
        let at_once: Vec<_> = sets.iter().flat_map(|set| changes(&pool, set)).collect();
        let at_once = Mesh::default().apply(Revision(1), &at_once).0;
        let scratch: Vec<_> = mesh.objects().cloned().map(Change::Upsert).collect();
        let scratch = Mesh::default().apply(Revision(1), &scratch).0;
        prop_assert_eq!(views(&mesh), views(&at_once));
        prop_assert_eq!(views(&mesh), views(&scratch));
        prop_assert_eq!(&mesh.label_use, &scratch.label_use);
        prop_assert_eq!(mesh.findings(), scratch.findings());
        for proxy in proxies() {
            prop_assert_eq!(mesh.service_targets(&proxy), scratch.service_targets(&proxy));
        }
        let everything_gone: Vec<_> = mesh.objects().map(|o| Change::Delete(o.meta.key.clone())).collect();
        let empty = mesh.apply(Revision(2), &everything_gone).0;
        prop_assert_eq!(views(&empty), views(&Mesh::default()));
    }

    /// Looking up what a Sidecar names finds what looking at everything finds.
    #[test]
    fn what_is_named_is_found_by_name(sets in steps(POOLED), entries in prop::collection::vec(prop::sample::select(ENTRIES), 1..4)) {
        let pool = pool();
        let at_once: Vec<_> = sets.iter().flat_map(|set| changes(&pool, set)).collect();
        let mesh = Mesh::default().apply(Revision(1), &at_once).0;
        let entries: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
        for namespace in ["n", "m", "x"] {
            let imports = Imports::read(&entries, &namespace.into());
            if !imports.names_all() {
                continue;
            }
            let paths = |found: Vec<Arc<crate::Service>>| found.iter().map(|s| s.key.path()).collect::<Vec<_>>();
            let (named, scanned) = (services::named(&mesh, namespace, &imports), services::scanned(&mesh, namespace, &imports));
            prop_assert_eq!(paths(named), paths(scanned));
            let all = &mesh.virtual_services;
            let candidates = all.naming(imports.any_plain()).chain(all.of_namespaces(imports.namespaces().map(|(n, _)| n)));
            let asked = |mut found: Vec<Arc<crate::VirtualService>>| {
                found.retain(|item| imports.virtual_service(item));
                found.iter().map(|item| item.key.path()).collect::<Vec<_>>()
            };
            let named = all.visible_among(candidates, "mesh", namespace, mesh.config());
            prop_assert_eq!(asked(named), asked(all.visible("mesh", namespace)));
        }
    }

    #[test]
    fn an_updated_view_is_the_view_of_the_new_mesh(sets in steps(POOLED)) {
        let pool = pool();
        let mut mesh = Mesh::default();
        let keys: Vec<_> = proxies().iter().map(|proxy| mesh.view_key(proxy)).collect();
        let mut keys = keys;
        // Classes that need the labels besides those that the empty mesh tells apart.
        keys.extend(keys.clone().iter().map(|key| crate::testing::labelled(key, "p")));
        let mut views: Vec<_> = keys.iter().map(|key| mesh.view(key)).collect();
        for set in &sets {
            let (next, delta) = mesh.apply(Revision(1), &changes(&pool, set));
            let mut touched_keys: Vec<&Key> = delta.virtual_services.iter().collect();
            touched_keys.sort();
            for view in &mut views {
                let touch = next.touch(view, &delta);
                let updated = next.update_view(view, &touch);
                let fresh = next.view(&view.key);
                prop_assert_eq!(everything(&updated), everything(&fresh), "{:?} {:?}", &view.key, &touch);
                if touch.is_none() {
                    prop_assert_eq!(everything(view), everything(&fresh), "{:?} {:?}", &view.key, &delta);
                }
                *view = updated;
            }
            mesh = next;
        }
    }
}
