//! The registry: objects in, normal form out, one namespace at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_config::resource::normal::MeshService;
use mesh_config::{Body, Object};
use mesh_types::{Key, Kind};

use crate::addresses::Addresses;
use crate::{entry, kubernetes, workload};

/// Changes by key: a new object, or `None` for one that is gone.
pub type ChangeSet = BTreeMap<Key, Option<Arc<Object>>>;

/// What normalization needs to know besides the objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Domain of Kubernetes services. Default `cluster.local`.
    pub domain: Arc<str>,
    /// Name of the cluster the objects come from. Default `Kubernetes`.
    pub cluster: Arc<str>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            domain: "cluster.local".into(),
            cluster: "Kubernetes".into(),
        }
    }
}

/// Objects of one namespace by kind and name, platform kinds only.
#[derive(Debug, Default)]
pub(crate) struct Namespace {
    pub(crate) objects: BTreeMap<(Kind, Arc<str>), Arc<Object>>,
}

impl Namespace {
    /// Objects of one kind, in name order.
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        self.objects
            .range((kind, "".into())..)
            .take_while(move |((k, _), _)| *k == kind)
            .map(|(_, object)| object)
    }
}

/// Everything one namespace is normalized from, besides its own objects.
pub(crate) struct Context<'a> {
    pub(crate) options: &'a Options,
    pub(crate) nodes: &'a BTreeMap<Arc<str>, Arc<Object>>,
}

/// Normalizes platform objects incrementally.
///
/// Feed it every change; what comes out is what changed for those behind it. Objects of kinds that need no normalizing pass through.
#[derive(Debug, Default)]
pub struct Registry {
    options: Options,
    namespaces: BTreeMap<Arc<str>, Namespace>,
    nodes: BTreeMap<Arc<str>, Arc<Object>>,
    /// What was handed out, by namespace.
    made: BTreeMap<Arc<str>, BTreeMap<Key, Arc<Object>>>,
    addresses: Addresses,
}

impl Registry {
    /// An empty registry.
    pub fn new(options: Options) -> Registry {
        Registry {
            options,
            ..Registry::default()
        }
    }

    /// Applies changes and returns what changed in normal form.
    pub fn apply(&mut self, changes: &ChangeSet) -> ChangeSet {
        let mut out = ChangeSet::new();
        let mut touched = BTreeSet::new();
        for (key, object) in changes {
            match key.kind {
                Kind::Node => {
                    set(&mut self.nodes, key.name.clone(), object);
                    touched.extend(self.namespaces.keys().cloned());
                }
                Kind::Service
                | Kind::EndpointSlice
                | Kind::Pod
                | Kind::ServiceEntry
                | Kind::WorkloadEntry => {
                    let namespace = self.namespaces.entry(key.namespace.clone()).or_default();
                    set(&mut namespace.objects, (key.kind, key.name.clone()), object);
                    touched.insert(key.namespace.clone());
                }
                Kind::MeshConfig
                | Kind::Namespace
                | Kind::Sidecar
                | Kind::Gateway
                | Kind::DestinationRule
                | Kind::VirtualService
                | Kind::PeerAuthentication
                | Kind::RequestAuthentication
                | Kind::AuthorizationPolicy
                | Kind::MeshService
                | Kind::MeshEndpoints
                | Kind::MeshWorkload
                | Kind::MeshTrust
                | Kind::MeshJwks => {
                    out.insert(key.clone(), object.clone());
                }
                // Of Secrets only those that gateways may show.
                Kind::Secret => {
                    let shown = object.clone().filter(|object| {
                        matches!(&object.body, Body::Secret(secret) if secret.is_credential())
                    });
                    out.insert(key.clone(), shown);
                }
                Kind::ConfigMap => {}
            }
        }
        for name in touched {
            self.normalize(name, &mut out);
        }
        self.allot(&mut out);
        out
    }

    /// Normalizes one namespace anew and adds to `out` what differs from last time.
    fn normalize(&mut self, name: Arc<str>, out: &mut ChangeSet) {
        let Some(namespace) = self.namespaces.get(&name) else {
            return;
        };
        let context = Context {
            options: &self.options,
            nodes: &self.nodes,
        };
        let mut objects = BTreeMap::new();
        for object in kubernetes::services(namespace, &context)
            .into_iter()
            .chain(entry::services(namespace, &context))
            .chain(workload::workloads(namespace, &context))
        {
            // First come first served: a Kubernetes Service wins over a ServiceEntry of the same host.
            objects.entry(object.meta.key.clone()).or_insert(object);
        }
        let old = self.made.remove(&name).unwrap_or_default();
        let mut made = BTreeMap::new();
        for (key, object) in objects {
            let object = match old.get(&key) {
                Some(before) if same_but_for_addresses(before, &object) => before.clone(),
                _ => {
                    let object = Arc::new(object);
                    out.insert(key.clone(), Some(object.clone()));
                    object
                }
            };
            made.insert(key, object);
        }
        for key in old.keys().filter(|key| !made.contains_key(*key)) {
            out.insert(key.clone(), None);
        }
        if namespace.objects.is_empty() {
            self.namespaces.remove(&name);
        }
        if !made.is_empty() {
            self.made.insert(name, made);
        }
    }

    /// Gives addresses to services that have none, and takes them from those that are gone.
    fn allot(&mut self, out: &mut ChangeSet) {
        let services = || out.iter().filter(|(key, _)| key.kind == Kind::MeshService);
        let wants =
            |object: &Option<Arc<Object>>| object.as_ref().is_some_and(|o| Addresses::wants(o));
        let moved = self
            .addresses
            .update(services().map(|(key, object)| (key, wants(object))));
        if moved.is_empty() && !out.keys().any(|key| key.kind == Kind::MeshService) {
            return;
        }
        let keys: BTreeSet<Key> = out
            .iter()
            .filter(|(k, o)| k.kind == Kind::MeshService && o.is_some())
            .map(|(k, _)| k.clone())
            .chain(moved)
            .collect();
        for key in keys {
            let Some(slot) = self
                .made
                .get_mut(&key.namespace)
                .and_then(|made| made.get_mut(&key))
            else {
                continue;
            };
            let Body::MeshService(service) = &slot.body else {
                continue;
            };
            let auto = self.addresses.of(&key);
            if service.auto_addresses != auto {
                let service = MeshService {
                    auto_addresses: auto,
                    ..(**service).clone()
                };
                let object = Arc::new(Object::new(slot.meta.clone(), service.into()));
                *slot = object.clone();
                out.insert(key, Some(object));
            }
        }
    }
}

fn set<K: Ord>(map: &mut BTreeMap<K, Arc<Object>>, key: K, object: &Option<Arc<Object>>) {
    match object {
        Some(object) => drop(map.insert(key, object.clone())),
        None => drop(map.remove(&key)),
    }
}

/// Whether a freshly normalized object says what the handed-out one said before addresses were allotted.
fn same_but_for_addresses(before: &Object, now: &Object) -> bool {
    match (&before.body, &now.body) {
        (Body::MeshService(old), Body::MeshService(new)) if !old.auto_addresses.is_empty() => {
            before.meta == now.meta
                && MeshService {
                    auto_addresses: Vec::new(),
                    ..(**old).clone()
                } == **new
                && Addresses::wants(now)
        }
        _ => before.version == now.version,
    }
}

#[cfg(test)]
mod tests {
    use mesh_config::Meta;
    use mesh_config::resource::normal::{Health, MeshEndpoints};
    use mesh_config::resource::platform as k8s;
    use mesh_config::resource::service_entry::{
        Resolution, ServiceEntry, ServicePort, WorkloadEntry,
    };
    use mesh_types::Labels;

    use super::*;

    fn object(
        kind: Kind,
        name: &str,
        labels: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> (Key, Option<Arc<Object>>) {
        let namespace = if kind == Kind::Node { "" } else { "default" };
        let meta = Meta {
            key: Key::new(kind, namespace, name),
            created_us: 1,
            labels: labels.iter().copied().collect(),
            annotations: Labels::default(),
        };
        (
            meta.key.clone(),
            Some(Arc::new(Object::new(meta, body.into()))),
        )
    }

    fn service() -> (Key, Option<Arc<Object>>) {
        let port = k8s::K8sServicePort {
            name: "http".into(),
            port: 80,
            ..Default::default()
        };
        let spec = k8s::ServiceSpec {
            cluster_ip: "10.96.0.1".into(),
            ports: vec![port],
            selector: [("app".to_owned(), "a".to_owned())].into(),
            ..Default::default()
        };
        object(
            Kind::Service,
            "a",
            &[],
            k8s::Service {
                spec,
                ..Default::default()
            },
        )
    }

    fn slice(pod: Option<&str>, ready: Option<bool>) -> (Key, Option<Arc<Object>>) {
        let target = pod.map(|name| k8s::TargetRef {
            kind: "Pod".into(),
            name: name.into(),
            namespace: "default".into(),
        });
        let endpoint = k8s::SliceEndpoint {
            addresses: vec!["10.0.0.2".into()],
            conditions: k8s::EndpointConditions {
                ready,
                ..Default::default()
            },
            target_ref: target,
            ..Default::default()
        };
        let port = k8s::SlicePort {
            name: Some("http".into()),
            port: Some(8080),
            ..Default::default()
        };
        let body = k8s::EndpointSlice {
            address_type: "IPv4".into(),
            endpoints: vec![endpoint],
            ports: vec![port],
        };
        object(
            Kind::EndpointSlice,
            "a-1",
            &[("kubernetes.io/service-name", "a")],
            body,
        )
    }

    fn pod() -> (Key, Option<Arc<Object>>) {
        let spec = k8s::PodSpec {
            node_name: "n1".into(),
            service_account_name: "sa".into(),
            ..Default::default()
        };
        let status = k8s::PodStatus {
            phase: "Running".into(),
            pod_ip: "10.0.0.2".into(),
            ..Default::default()
        };
        let labels = [
            ("app", "a"),
            ("pod-template-hash", "5f6"),
            ("security.istio.io/tlsMode", "istio"),
        ];
        object(Kind::Pod, "a-5f6-xyz", &labels, k8s::Pod { spec, status })
    }

    fn entry(name: &str, host: &str, addresses: &[&str]) -> (Key, Option<Arc<Object>>) {
        let port = ServicePort {
            number: 80,
            name: "http".into(),
            protocol: "HTTP".into(),
            target_port: 8080,
        };
        let endpoint = WorkloadEntry {
            address: "10.1.0.1".into(),
            ..Default::default()
        };
        let body = ServiceEntry {
            hosts: vec![host.into()],
            addresses: addresses.iter().map(|a| (*a).into()).collect(),
            ports: vec![port],
            resolution: Resolution::Static,
            endpoints: vec![endpoint],
            ..Default::default()
        };
        object(Kind::ServiceEntry, name, &[], body)
    }

    fn endpoints(changes: &ChangeSet) -> Vec<&MeshEndpoints> {
        changes
            .values()
            .flatten()
            .filter_map(|object| match &object.body {
                Body::MeshEndpoints(endpoints) => Some(&**endpoints),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn an_endpoint_takes_what_its_pod_and_node_tell() {
        let node = object(
            Kind::Node,
            "n1",
            &[("topology.kubernetes.io/region", "r1")],
            k8s::Node {},
        );
        let mut registry = Registry::default();
        registry.apply(&[service(), slice(Some("a-5f6-xyz"), None)].into());
        let changes = registry.apply(&[node, pod()].into());
        let [only] = endpoints(&changes)[..] else {
            panic!("{changes:?}")
        };
        let endpoint = &only.endpoints[0];
        assert_eq!(
            (
                &*endpoint.workload,
                &*endpoint.service_account,
                endpoint.mtls
            ),
            ("a", "sa", true)
        );
        assert_eq!(endpoint.locality.to_string(), "r1");
        assert!(
            !changes.keys().any(|key| key.kind == Kind::MeshService),
            "the service itself did not change"
        );
    }

    #[test]
    fn an_endpoint_that_is_not_ready_is_unhealthy() {
        let mut registry = Registry::default();
        let changes = registry.apply(&[service(), slice(None, Some(false))].into());
        assert_eq!(
            endpoints(&changes)[0].endpoints[0].health,
            Health::Unhealthy
        );
    }

    #[test]
    fn nothing_changed_gives_nothing() {
        let mut registry = Registry::default();
        assert!(
            !registry
                .apply(&[service(), slice(None, None), pod()].into())
                .is_empty()
        );
        assert!(
            registry
                .apply(&[service(), slice(None, None), pod()].into())
                .is_empty()
        );
    }

    #[test]
    fn what_is_gone_is_reported_gone() {
        let mut registry = Registry::default();
        registry.apply(&[entry("e", "x.example", &[])].into());
        let changes =
            registry.apply(&[(Key::new(Kind::ServiceEntry, "default", "e"), None)].into());
        assert_eq!(
            changes.values().filter(|object| object.is_none()).count(),
            2
        );
    }

    #[test]
    fn entries_of_one_host_are_one_service_and_get_one_address() {
        let mut registry = Registry::default();
        let changes =
            registry.apply(&[entry("e1", "x.example", &[]), entry("e2", "x.example", &[])].into());
        let services: Vec<_> = changes
            .values()
            .flatten()
            .filter_map(|object| match &object.body {
                Body::MeshService(service) => Some(service),
                _ => None,
            })
            .collect();
        assert_eq!(services.len(), 1);
        assert_eq!(
            (services[0].ports.len(), services[0].auto_addresses.len()),
            (1, 1)
        );
        assert!(
            registry
                .apply(&[entry("e1", "x.example", &[])].into())
                .is_empty()
        );
    }

    #[test]
    fn given_addresses_are_kept_and_single_networks_reduced() {
        let mut registry = Registry::default();
        let changes = registry.apply(
            &[entry(
                "e",
                "x.example",
                &["10.9.0.0/16", "10.8.0.1/32", "bogus"],
            )]
            .into(),
        );
        let service = changes
            .values()
            .flatten()
            .find_map(|object| match &object.body {
                Body::MeshService(service) => Some(service.clone()),
                _ => None,
            });
        let service = service.unwrap();
        assert_eq!(
            service.addresses.iter().map(|a| &**a).collect::<Vec<_>>(),
            ["10.9.0.0/16", "10.8.0.1"]
        );
        assert!(service.auto_addresses.is_empty());
    }
}
