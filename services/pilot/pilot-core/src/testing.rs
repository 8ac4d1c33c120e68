//! A mesh from YAML, as tests of this crate need it: the real decoder, normalizer and model.

use std::sync::Arc;

use mesh_config::{Origin, decode_text};
use mesh_model::{Change, Delta, Interception, Mesh, Proxy, ProxyKind, View};
use mesh_registry::{ChangeSet, Registry};
use mesh_types::{Finding, Key, Kind, Revision};
use prost::Message;
use serde_json::Value;
use xds_core::Encoded;

use crate::{InboundKey, OutboundKey};

/// A mesh that grows by YAML.
#[derive(Default)]
pub(crate) struct World {
    registry: Registry,
    pub(crate) mesh: Mesh,
}

impl World {
    /// The mesh of these documents. Objects are created in their order, a second apart.
    #[track_caller]
    pub(crate) fn new(yaml: &str) -> World {
        let mut world = World::default();
        world.apply(yaml);
        world
    }

    /// Adds or replaces the objects of these documents.
    #[track_caller]
    pub(crate) fn apply(&mut self, yaml: &str) -> Delta {
        match self.try_apply(yaml) {
            Ok(delta) => delta,
            Err(findings) => panic!("{findings:#?}"),
        }
    }

    /// The same; what is wrong with the documents, if something is.
    pub(crate) fn try_apply(&mut self, yaml: &str) -> Result<Delta, Vec<Finding>> {
        let mut decoded = decode_text(yaml, &Origin::default());
        if decoded.has_errors() {
            decoded.findings.retain(Finding::is_error);
            return Err(decoded.findings);
        }
        let objects = decoded
            .objects
            .into_iter()
            .enumerate()
            .map(|(i, (mut object, _))| {
                if object.meta.created_us == 0 {
                    object.meta.created_us = (i as i64 + 1) * 1_000_000;
                }
                let object = mesh_config::Object::new(object.meta, object.body);
                (object.meta.key.clone(), Some(Arc::new(object)))
            });
        Ok(self.change(objects.collect()))
    }

    /// Removes an object as written.
    pub(crate) fn delete(&mut self, kind: Kind, namespace: &str, name: &str) -> Delta {
        self.change([(Key::new(kind, namespace, name), None)].into())
    }

    /// Adds or replaces a fact that is not configuration.
    pub(crate) fn fact(&mut self, key: Key, body: impl Into<mesh_config::Body>) -> Delta {
        let meta = mesh_config::Meta {
            key: key.clone(),
            created_us: 0,
            labels: Default::default(),
            annotations: Default::default(),
        };
        self.fact_object(mesh_config::Object::new(meta, body.into()))
    }

    /// Adds or replaces an object that nobody has checked.
    pub(crate) fn fact_object(&mut self, object: mesh_config::Object) -> Delta {
        let key = object.meta.key.clone();
        self.change([(key, Some(Arc::new(object)))].into())
    }

    fn change(&mut self, changes: ChangeSet) -> Delta {
        let normal = self.registry.apply(&changes);
        let changes: Vec<Change> = normal
            .into_iter()
            .map(|(key, object)| object.map_or(Change::Delete(key), Change::Upsert))
            .collect();
        let revision = Revision(self.mesh.revision().0 + 1);
        let (mesh, delta) = self.mesh.apply(revision, &changes);
        self.mesh = mesh;
        delta
    }

    /// What a proxy may see, and its class.
    pub(crate) fn class(&self, proxy: &Proxy) -> (View, OutboundKey) {
        let key = OutboundKey::of(&self.mesh, proxy);
        (self.mesh.view(&key.view), key)
    }

    /// The inbound class of a proxy, with its view.
    pub(crate) fn inbound(&self, proxy: &Proxy) -> (View, InboundKey) {
        let (view, _) = self.class(proxy);
        let key = InboundKey::of(&self.mesh, &view, proxy);
        (view, key)
    }
}

/// A sidecar at 10.0.0.1 of a namespace, labelled `app: p`.
pub(crate) fn sidecar(namespace: &str) -> Proxy {
    proxy(ProxyKind::Sidecar, namespace)
}

/// A router at 10.0.0.1 of a namespace, labelled `app: p`.
pub(crate) fn router(namespace: &str) -> Proxy {
    proxy(ProxyKind::Router, namespace)
}

fn proxy(kind: ProxyKind, namespace: &str) -> Proxy {
    Proxy {
        node_id: format!("sidecar~10.0.0.1~p.{namespace}~{namespace}.svc.cluster.local").into(),
        kind,
        addresses: vec![[10, 0, 0, 1].into()],
        id: format!("p.{namespace}").into(),
        dns_domain: format!("{namespace}.svc.cluster.local").into(),
        namespace: namespace.into(),
        labels: [("app", "p")].into_iter().collect(),
        locality: Default::default(),
        cluster_id: "Kubernetes".into(),
        network: "".into(),
        node_name: "".into(),
        service_account: "".into(),
        interception: Interception::Redirect,
        http_proxy_port: 0,
        idle_timeout: None,
        unprivileged: false,
        reserved_ports: Vec::new(),
        http10: false,
        inbound_exact_balance: false,
        outbound_exact_balance: false,
        dns_capture: false,
        network_view: Vec::new(),
        pod_ports: Default::default(),
        proxy_config: Value::Null,
        istio_version: (65535, 65535, 65535),
        vanilla: true,
        agent: false,
        verified: false,
        server_files: None,
        client_files: None,
    }
}

/// A resource as JSON, without `@type`s.
pub(crate) fn json(resource: &Encoded) -> Value {
    let any = envoy_api::any::Any::decode(resource.any()).unwrap();
    let mut value = envoy_api::json::to_json(&any.type_url, &any.value).unwrap();
    strip(&mut value);
    value
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("@type");
            members.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// A resource, one line per field, nested values as compact JSON.
pub(crate) fn lines(resource: &Encoded) -> String {
    let Value::Object(members) = json(resource) else {
        return String::new();
    };
    members
        .iter()
        .map(|(key, value)| format!("{key}: {value}\n"))
        .collect()
}

/// One field of a resource, by JSON pointer, as compact JSON; `-` if it is not there.
pub(crate) fn field(resource: &Encoded, pointer: &str) -> String {
    json(resource)
        .pointer(pointer)
        .map_or_else(|| "-".into(), Value::to_string)
}
