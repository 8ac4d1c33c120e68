//! A small mesh, and a proxy in it.

use std::net::IpAddr;
use std::sync::Arc;

use envoy_api::envoy::config::listener::v3::Listener;
use mesh_config::{Body, Meta, Object};
use mesh_model::{Change, Interception, Mesh, Proxy, ProxyKind, View};
use mesh_types::{Hostname, Key, Kind, Labels, Protocol};
use prost::Message;
use serde_json::{Value, json};
use xds_core::Encoded;

use crate::listeners::{self, Listeners};
use crate::{InboundKey, Memos, OutboundKey};

/// Objects, oldest first, and a proxy at 10.0.0.1 in namespace default with label app=p.
pub struct World {
    objects: Vec<Object>,
    /// The proxy.
    pub proxy: Proxy,
}

impl World {
    /// A sidecar in an empty mesh.
    pub fn new() -> World {
        let proxy = Proxy {
            node_id: "sidecar~10.0.0.1~p.default~default.svc.cluster.local".into(),
            kind: ProxyKind::Sidecar,
            addresses: vec![IpAddr::from([10, 0, 0, 1])],
            id: "p.default".into(),
            dns_domain: "default.svc.cluster.local".into(),
            namespace: "default".into(),
            labels: Labels::from_iter([("app", "p")]),
            locality: Default::default(),
            cluster_id: "Kubernetes".into(),
            network: "".into(),
            node_name: "".into(),
            service_account: "".into(),
            interception: Interception::Redirect,
            http_proxy_port: 0,
            idle_timeout: None,
            unprivileged: false,
            reserved_ports: vec![15021, 15090],
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
        };
        World {
            objects: Vec::new(),
            proxy,
        }
    }

    /// A router instead.
    pub fn router() -> World {
        let mut world = World::new();
        world.proxy.kind = ProxyKind::Router;
        world
    }

    /// Changes the proxy.
    pub fn proxy(mut self, change: impl FnOnce(&mut Proxy)) -> World {
        change(&mut self.proxy);
        self
    }

    /// Adds an object; later ones are younger.
    pub fn object(mut self, kind: Kind, namespace: &str, name: &str, body: Value) -> World {
        let meta = Meta {
            key: Key::new(kind, namespace, name),
            created_us: 1 + self.objects.len() as i64,
            labels: Labels::default(),
            annotations: Labels::default(),
        };
        self.objects
            .push(Object::new(meta, Body::from_json(kind, body).unwrap()));
        self
    }

    /// Settings of the mesh.
    pub fn mesh(self, config: Value) -> World {
        self.object(Kind::MeshConfig, "", "default", config)
    }

    /// A service: `host addresses ports`, for example `a.default 10.96.0.1 80:http,81:auto`; `-` for no address. A host of two labels is a
    /// Kubernetes service, anything else a ServiceEntry.
    pub fn service(self, text: &str) -> World {
        self.service_with(text, json!({}))
    }

    /// As [`World::service`], with more fields.
    pub fn service_with(self, text: &str, more: Value) -> World {
        let parts: Vec<&str> = text.split(' ').collect();
        let [host, addresses, ports] = parts[..] else {
            panic!("{text:?}")
        };
        let kubernetes = host.split('.').count() == 2 && !host.ends_with("example");
        let (namespace, host) = match host.split_once('.') {
            Some((_, namespace)) if kubernetes => (namespace, format!("{host}.svc.cluster.local")),
            _ => ("default", host.to_owned()),
        };
        let ports: Vec<Value> = ports
            .split(',')
            .map(|port| {
                let (number, protocol) = port.split_once(':').unwrap();
                let number: u16 = number.parse().unwrap();
                let protocol = Protocol::parse(protocol).unwrap_or(Protocol::Auto);
                json!({"name": format!("p{number}"), "number": number, "protocol": protocol, "targetPort": number})
            })
            .collect();
        let mut body = json!({
            "hostname": host, "name": host.split('.').next(), "registry": if kubernetes { "kubernetes" } else { "external" },
            "resolution": "clientSideLb", "external": !kubernetes, "ports": ports,
            "addresses": addresses.split(',').filter(|a| *a != "-").collect::<Vec<_>>(),
        });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.object(Kind::MeshService, namespace, &host, body)
    }

    /// Endpoints of a service's port.
    pub fn endpoints(self, namespace: &str, host: &str, port: u16, addresses: &[&str]) -> World {
        let endpoints: Vec<Value> = addresses
            .iter()
            .map(|ip| json!({"addresses": [ip], "port": port, "portName": format!("p{port}")}))
            .collect();
        self.object(
            Kind::MeshEndpoints,
            namespace,
            host,
            json!({"hostname": host, "endpoints": endpoints}),
        )
    }

    fn view(&self) -> (Mesh, View) {
        let changes: Vec<Change> = self
            .objects
            .iter()
            .cloned()
            .map(|o| Change::Upsert(Arc::new(o)))
            .collect();
        let (mesh, _) = Mesh::new("cluster.local").apply(Default::default(), &changes);
        let view = mesh.view(&mesh.view_key(&self.proxy));
        (mesh, view)
    }

    /// The outbound or gateway listeners of the proxy.
    pub fn made(&self) -> Listeners {
        self.made_with(&Memos::default())
    }

    /// The same, sharing encodings with whoever has the memos.
    pub fn made_with(&self, memos: &Memos) -> Listeners {
        let (mesh, view) = self.view();
        let key = OutboundKey::of(&mesh, &self.proxy);
        match self.proxy.kind {
            ProxyKind::Sidecar => listeners::outbound(&view, &key, memos),
            ProxyKind::Router => listeners::gateway(&view, &key, memos),
        }
    }

    /// The outbound or gateway listeners of the proxy as messages.
    pub fn outbound(&self) -> Vec<Listener> {
        self.made().resources.iter().map(|e| decode(e)).collect()
    }

    /// The inbound listeners of the proxy; its services are the ones given, as `host port target`, in order.
    pub fn inbound(&self, targets: &[(&str, u16, u16)]) -> Vec<Listener> {
        let (mesh, view) = self.view();
        let mut key = InboundKey::of(&mesh, &view, &self.proxy);
        if view.ingress.is_empty() {
            key.targets = targets
                .iter()
                .map(|(host, port, target)| service_target(&view, host, *port, *target))
                .collect();
        }
        listeners::inbound(&view, &key, &Memos::default())
            .iter()
            .map(|e| decode(e))
            .collect()
    }
}

fn service_target(
    view: &View,
    host: &str,
    port: u16,
    target_port: u16,
) -> mesh_model::ServiceTarget {
    let host = Hostname::resolve(host, "default", "cluster.local").unwrap();
    let service = view
        .services
        .get(&host)
        .unwrap_or_else(|| panic!("no service {host}"));
    mesh_model::ServiceTarget {
        service: service.clone(),
        port: service
            .ports
            .iter()
            .find(|p| p.number == port)
            .unwrap()
            .clone(),
        target_port,
    }
}

fn decode(encoded: &Encoded) -> Listener {
    let any = envoy_api::any::Any::decode(encoded.any()).unwrap();
    Listener::decode(any.value.as_slice()).unwrap()
}
