//! A real Envoy with a bootstrap as Istio's agent would write it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};

use crate::capture;
use crate::client::Client;
use crate::net::Network;
use crate::pilot::ok;
use crate::process::{Process, fetched};
use crate::wait::eventually;

/// Variant of the xDS protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Every response holds all resources of its type.
    StateOfTheWorld,
    /// Responses hold what changed.
    Delta,
}

/// Who a proxy is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `sidecar` or `router`.
    pub kind: &'static str,
    /// Pod.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Last number of its address.
    pub host: u8,
    /// Labels of its workload.
    pub labels: Vec<(String, String)>,
    /// More metadata, over what the harness writes.
    pub metadata: Value,
    /// Whether redirected connections are taken ([`crate::capture`]); its listeners do not open ports then.
    pub captured: bool,
}

impl Identity {
    /// A sidecar without interception in namespace `default`, labelled `app: NAME`.
    pub fn sidecar(name: &str, host: u8) -> Identity {
        Identity {
            kind: "sidecar",
            name: name.into(),
            namespace: "default".into(),
            host,
            labels: vec![("app".into(), name.into())],
            metadata: json!({}),
            captured: false,
        }
    }

    /// A gateway in namespace `default`, labelled `istio: NAME`.
    pub fn gateway(name: &str, host: u8) -> Identity {
        Identity {
            kind: "router",
            labels: vec![("istio".into(), name.into())],
            ..Identity::sidecar(name, host)
        }
    }

    /// The same, with connections captured as by NAT rules.
    pub fn captured(mut self) -> Identity {
        self.captured = true;
        self
    }

    /// The same with more metadata, an object.
    pub fn with_metadata(mut self, metadata: Value) -> Identity {
        self.metadata = metadata;
        self
    }

    pub(crate) fn node(&self, ip: IpAddr) -> Value {
        let Identity {
            kind,
            name,
            namespace,
            ..
        } = self;
        let labels: serde_json::Map<String, Value> = self
            .labels
            .iter()
            .map(|(key, value)| (key.clone(), value.clone().into()))
            .collect();
        let mut metadata = json!({
            "NAME": name,
            "NAMESPACE": namespace,
            "WORKLOAD_NAME": name,
            "CLUSTER_ID": "Kubernetes",
            "MESH_ID": "cluster.local",
            "SERVICE_ACCOUNT": name,
            "INSTANCE_IPS": ip.to_string(),
            "INTERCEPTION_MODE": if self.captured { "REDIRECT" } else { "NONE" },
            "LABELS": labels,
        });
        for (key, value) in self.metadata.as_object().into_iter().flatten() {
            metadata[key] = value.clone();
        }
        json!({
            "id": format!("{kind}~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local"),
            "cluster": format!("{name}.{namespace}"),
            "metadata": metadata,
        })
    }
}

/// An Envoy, started or not.
#[derive(Debug)]
pub struct Envoy {
    /// The process: start, kill, log.
    pub process: Process,
    /// Who it is.
    pub identity: Identity,
    /// Its address.
    pub ip: IpAddr,
    /// Address of its admin interface.
    pub admin: SocketAddr,
    /// Where it takes captured connections, if it does.
    pub capture: SocketAddr,
}

/// Port of admin interfaces.
const ADMIN_PORT: u16 = 15_000;
/// Port of captured connections.
const CAPTURE_PORT: u16 = 15_101;

impl Envoy {
    /// An Envoy that asks the xDS servers at `pilots` (the first that answers, others when it is gone), not started. Its bootstrap and
    /// log go below `dir`.
    ///
    /// # Panics
    /// If the bootstrap cannot be written.
    pub fn new(
        identity: Identity,
        net: &Network,
        pilots: &[SocketAddr],
        protocol: Protocol,
        dir: &Path,
    ) -> Envoy {
        let ip = net.ip(identity.host);
        let (admin, capture) = (
            SocketAddr::new(ip, ADMIN_PORT),
            SocketAddr::new(ip, CAPTURE_PORT),
        );
        let listeners = identity.captured.then(|| capture::listener(capture));
        let bootstrap = bootstrap(&identity.node(ip), admin, pilots, protocol, listeners);
        let file = dir.join(format!("{}.bootstrap.json", identity.name));
        std::fs::write(&file, format!("{bootstrap:#}")).expect("a bootstrap file");
        let args = flags(&file.display().to_string())
            .map(str::to_owned)
            .to_vec();
        Envoy {
            process: Process::new(&identity.name, fetched("envoy"), args, dir),
            identity,
            ip,
            admin,
            capture,
        }
    }

    /// Starts it and waits until it has its first listeners.
    ///
    /// # Panics
    /// If it is not ready in time.
    pub async fn start(&mut self) {
        self.process.start();
        self.ready().await;
    }

    /// Waits until it has its first listeners.
    ///
    /// # Panics
    /// If it is not ready in time, or ends.
    pub async fn ready(&mut self) {
        let client = Client::to(self.admin);
        eventually(&format!("{} is ready", self.identity.name), async || {
            self.process.check_running();
            ok(&client, "/ready").await.map(|_| ())
        })
        .await;
    }

    /// A client of the port `port` on its address.
    pub fn client(&self, port: u16) -> Client {
        Client::to(SocketAddr::new(self.ip, port))
    }

    /// A client whose connections to `destination` are redirected to this proxy.
    ///
    /// # Panics
    /// If it captures nothing.
    pub fn captured(&self, destination: SocketAddr) -> Client {
        assert!(self.identity.captured, "{:?}", self.identity);
        Client::to(self.capture).captured(destination)
    }

    /// A page of its admin interface.
    ///
    /// # Errors
    /// No answer, or another status than 200.
    pub async fn admin(&self, path: &str) -> Result<String, String> {
        ok(&Client::to(self.admin), path).await
    }

    /// A counter or gauge; 0 if it does not exist.
    ///
    /// # Panics
    /// If the admin interface does not answer.
    pub async fn stat(&self, name: &str) -> u64 {
        // A name is a path of words; the filter is an expression, so what it finds is compared again.
        let filter: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '.' })
            .collect();
        let page = self.admin(&format!("/stats?filter=^{filter}$")).await;
        let page = page.unwrap_or_else(|error| panic!("{error}"));
        page.lines()
            .filter_map(|line| line.rsplit_once(": "))
            .find(|(found, _)| *found == name)
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or_default()
    }
}

/// Arguments of an Envoy with this bootstrap.
pub(crate) fn flags(bootstrap: &str) -> [&str; 11] {
    [
        "--config-path",
        bootstrap,
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "warning",
        // Names the resource in what is logged about it.
        "--component-log-level",
        "upstream:warning,config:warning",
        "--drain-time-s",
        "5",
    ]
}

pub(crate) fn bootstrap(
    node: &Value,
    admin: SocketAddr,
    pilots: &[SocketAddr],
    protocol: Protocol,
    listener: Option<Value>,
) -> Value {
    let address = |address: &SocketAddr| json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } });
    // One priority per Pilot: the next is asked when the one before does not take connections.
    let endpoints: Vec<Value> = (0..)
        .zip(pilots)
        .map(|(priority, pilot): (u32, _)| json!({ "priority": priority, "lb_endpoints": [{ "endpoint": { "address": address(pilot) } }] }))
        .collect();
    let connects = json!({ "timeout": "1s", "interval": "1s", "no_traffic_interval": "1s", "unhealthy_threshold": 1, "healthy_threshold": 1, "tcp_health_check": {} });
    let health_checks = Vec::from_iter((pilots.len() > 1).then_some(connects));
    let api_type = match protocol {
        Protocol::StateOfTheWorld => "GRPC",
        Protocol::Delta => "DELTA_GRPC",
    };
    // A first answer is awaited as long as it takes: no proxy is ready without one.
    let source = json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" });
    json!({
        "node": node,
        "admin": { "address": address(&admin) },
        "dynamic_resources": {
            "ads_config": {
                "api_type": api_type,
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{
                    "envoy_grpc": { "cluster_name": "xds-grpc", "retry_policy": { "retry_back_off": { "base_interval": "0.05s", "max_interval": "0.5s" } } },
                }],
            },
            "cds_config": source,
            "lds_config": source,
        },
        "static_resources": {
            "listeners": listener.into_iter().collect::<Vec<_>>(),
            "clusters": [{
                "name": "xds-grpc",
                "type": "STATIC",
                "connect_timeout": "1s",
                "typed_extension_protocol_options": {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": { "http2_protocol_options": {} },
                    },
                },
                "load_assignment": { "cluster_name": "xds-grpc", "endpoints": endpoints },
                "health_checks": health_checks,
            }],
        },
        // Without a limit Envoy warns at every start.
        "overload_manager": { "resource_monitors": [{
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                "max_active_downstream_connections": 50_000,
            },
        }] },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_written_as_istio_writes_it() {
        let identity =
            Identity::gateway("ingress", 5).with_metadata(json!({ "CLUSTER_ID": "east" }));
        let node = identity.node("127.9.9.5".parse().unwrap());
        assert_eq!(
            node["id"],
            "router~127.9.9.5~ingress.default~default.svc.cluster.local"
        );
        assert_eq!(node["metadata"]["LABELS"], json!({ "istio": "ingress" }));
        assert_eq!(node["metadata"]["CLUSTER_ID"], "east");
    }
}
