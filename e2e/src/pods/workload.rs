//! What a pod is to be, and how the mesh's configuration says it.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::Identity;

/// What speaks on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Http,
    Tcp,
    /// HTTP, at a port that does not say so.
    Unsaid,
    /// HTTP, at a port that says TCP.
    HttpAsTcp,
}

impl Speaks {
    fn name(self) -> &'static str {
        match self {
            Speaks::Http => "http",
            Speaks::Tcp | Speaks::HttpAsTcp => "tcp",
            Speaks::Unsaid => "any",
        }
    }
}

/// A port of a service and of the application behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Port {
    pub service: u16,
    pub application: u16,
    pub speaks: Speaks,
}

/// A pod before it is made.
#[derive(Debug, Clone)]
pub struct Workload {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) account: String,
    pub(super) node: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) metadata: Value,
    pub(super) variables: Vec<(String, String)>,
    pub(super) ports: Vec<Port>,
    pub(super) hidden: Vec<Port>,
    pub(super) capture: Option<String>,
    pub(super) proxy_uid: u32,
}

impl Workload {
    /// A pod in namespace `default` with a service of the same name if it has ports, a service account of the same name, label
    /// `app: NAME`, and a sidecar that gets everything.
    pub fn new(name: &str) -> Workload {
        Workload {
            name: name.into(),
            namespace: "default".into(),
            account: name.into(),
            node: "node-1".into(),
            labels: vec![("app".into(), name.into())],
            metadata: json!({}),
            variables: Vec::new(),
            ports: Vec::new(),
            hidden: Vec::new(),
            capture: Some("-b * -i * -d 15020,15021,15090".into()),
            proxy_uid: super::PROXY,
        }
    }

    /// In another namespace.
    pub fn namespace(mut self, namespace: &str) -> Workload {
        self.namespace = namespace.into();
        self
    }

    /// With another service account.
    pub fn account(mut self, account: &str) -> Workload {
        self.account = account.into();
        self
    }

    /// On another node than `node-1`.
    pub fn node(mut self, node: &str) -> Workload {
        self.node = node.into();
        self
    }

    /// With another label.
    pub fn label(mut self, key: &str, value: &str) -> Workload {
        self.labels.push((key.into(), value.into()));
        self
    }

    /// With more metadata of its proxy, an object.
    pub fn metadata(mut self, metadata: Value) -> Workload {
        self.metadata = metadata;
        self
    }

    /// With a variable of its agent, such as `SECRET_TTL`.
    pub fn variable(mut self, name: &str, value: &str) -> Workload {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// With an HTTP server, at a port of the service and one of the application.
    pub fn http(self, service: u16, application: u16) -> Workload {
        self.port(service, application, Speaks::Http)
    }

    /// With a TCP server that greets and echoes lines ([`crate::Backend::tcp`]).
    pub fn tcp(self, service: u16, application: u16) -> Workload {
        self.port(service, application, Speaks::Tcp)
    }

    /// With an HTTP server at a port whose protocol the service does not say.
    pub fn unsaid(self, service: u16, application: u16) -> Workload {
        self.port(service, application, Speaks::Unsaid)
    }

    /// With an HTTP server at a port that the service calls TCP.
    pub fn http_as_tcp(self, service: u16, application: u16) -> Workload {
        self.port(service, application, Speaks::HttpAsTcp)
    }

    fn port(mut self, service: u16, application: u16, speaks: Speaks) -> Workload {
        self.ports.push(Port {
            service,
            application,
            speaks,
        });
        self
    }

    /// With an HTTP server at a port that no service has.
    pub fn unknown_http(mut self, application: u16) -> Workload {
        self.hidden.push(Port {
            service: application,
            application,
            speaks: Speaks::Http,
        });
        self
    }

    /// With other flags of `agent capture`.
    pub fn capture(mut self, flags: &str) -> Workload {
        self.capture = Some(flags.into());
        self
    }

    /// With TPROXY for inbound connections, for which the proxy runs as root.
    pub fn tproxy(mut self) -> Workload {
        self.capture = Some("-m TPROXY -b * -i * -u 0 -d 15020,15021,15090".into());
        self.proxy_uid = 0;
        self
    }

    /// Without proxy and rules.
    pub fn bare(mut self) -> Workload {
        self.capture = None;
        self
    }

    /// The same, told to take mutual TLS if it has a proxy.
    pub(super) fn certified(self) -> Workload {
        match self.capture {
            Some(_) => self.label("security.istio.io/tlsMode", "istio"),
            None => self,
        }
    }

    /// Who it is by its certificate.
    pub(super) fn spiffe_id(&self) -> String {
        let (namespace, account) = (&self.namespace, &self.account);
        format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
    }

    /// What its agent tells Pilot beyond names, labels and addresses.
    pub(super) fn node_metadata(&self) -> Value {
        let capture = if self.proxy_uid == 0 {
            "TPROXY"
        } else {
            "REDIRECT"
        };
        let mut metadata = json!({
            "INTERCEPTION_MODE": capture,
            "CLUSTER_ID": "Kubernetes",
            "MESH_ID": "cluster.local",
            "WORKLOAD_NAME": self.name,
        });
        merge(&mut metadata, &self.metadata);
        metadata
    }

    pub(super) fn identity(&self) -> Identity {
        let mut metadata = json!({ "SERVICE_ACCOUNT": self.account });
        if self.proxy_uid == 0 {
            metadata["INTERCEPTION_MODE"] = "TPROXY".into();
        }
        merge(&mut metadata, &self.metadata);
        Identity {
            namespace: self.namespace.clone(),
            labels: self.labels.clone(),
            ..Identity::sidecar(&self.name, 0).captured()
        }
        .with_metadata(metadata)
    }

    /// The pod, and its service with one endpoint.
    pub(super) fn config(&self, ip: IpAddr, service_ip: IpAddr) -> String {
        let Workload {
            name, namespace, ..
        } = self;
        let (account, node) = (&self.account, &self.node);
        let mut labels = String::new();
        for (key, value) in &self.labels {
            let _ = write!(labels, "\n    {key}: {value:?}");
        }
        let mut out = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  labels:{labels}\n\
             spec:\n  nodeName: {node}\n  serviceAccountName: {account}\nstatus:\n  phase: Running\n  podIP: {ip}\n"
        );
        if self.ports.is_empty() {
            return out;
        }
        let (mut ports, mut endpoints) = (String::new(), String::new());
        for port in &self.ports {
            let (service, target, kind) = (port.service, port.application, port.speaks.name());
            let _ = write!(
                ports,
                "\n    - {{ name: {kind}-{service}, port: {service}, targetPort: {target} }}"
            );
            let _ = write!(
                endpoints,
                "\n  - {{ name: {kind}-{service}, port: {target} }}"
            );
        }
        let _ = write!(
            out,
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
             spec:\n  clusterIP: {service_ip}\n  selector:{labels}\n  ports:{ports}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-1\n  namespace: {namespace}\n  \
             labels:\n    kubernetes.io/service-name: {name}\naddressType: IPv4\nports:{endpoints}\n\
             endpoints:\n  - addresses: [{ip}]\n    conditions: {{ ready: true }}\n    \
             targetRef: {{ kind: Pod, name: {name}, namespace: {namespace} }}\n"
        );
        out
    }
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}
