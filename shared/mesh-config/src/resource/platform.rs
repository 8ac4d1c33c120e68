//! Kubernetes objects as written, as far as the plane reads them; other fields are accepted and dropped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

macro_rules! platform {
    ($($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty),* $(,)?
    })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(skip_serializing_if = "crate::resource::common::is_unset")]
                pub $field: $type,
            )*
        }
    )*};
}

platform! {
    /// `v1/Service`.
    pub struct Service {
        /// What was asked for.
        pub spec: ServiceSpec,
        /// What was given.
        pub status: ServiceStatus,
    }

    /// Spec of a Service.
    pub struct ServiceSpec {
        /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
        #[serde(rename = "type")]
        pub service_type: String,
        /// First virtual address, `None` for headless.
        #[serde(rename = "clusterIP")]
        pub cluster_ip: String,
        /// Virtual addresses.
        #[serde(rename = "clusterIPs")]
        pub cluster_ips: Vec<String>,
        /// Target of an ExternalName.
        pub external_name: String,
        /// Ports.
        pub ports: Vec<K8sServicePort>,
        /// Labels of the pods behind it.
        pub selector: BTreeMap<String, String>,
        /// `Cluster` or `Local`.
        pub internal_traffic_policy: String,
        /// `PreferClose`, `PreferSameZone`, `PreferSameNode`.
        pub traffic_distribution: String,
        /// Addresses served from outside.
        #[serde(rename = "externalIPs")]
        pub external_ips: Vec<String>,
        /// Send to endpoints that are not ready.
        pub publish_not_ready_addresses: bool,
    }

    /// Status of a Service.
    pub struct ServiceStatus {
        /// Load balancer.
        pub load_balancer: LoadBalancerStatus,
    }

    /// Load balancer of a Service.
    pub struct LoadBalancerStatus {
        /// Addresses.
        pub ingress: Vec<LoadBalancerIngress>,
    }

    /// One address of a load balancer.
    pub struct LoadBalancerIngress {
        /// IP address.
        pub ip: String,
        /// Host name.
        pub hostname: String,
    }

    /// A port of a Service.
    pub struct K8sServicePort {
        /// Name.
        pub name: String,
        /// Number clients dial.
        pub port: u32,
        /// `TCP` (default), `UDP` or `SCTP`.
        pub protocol: String,
        /// Protocol hint.
        pub app_protocol: Option<String>,
        /// Number or name of the container port; default the same number.
        pub target_port: Option<IntOrString>,
        /// Port on every node.
        pub node_port: u32,
    }

    /// `discovery.k8s.io/v1/EndpointSlice`.
    pub struct EndpointSlice {
        /// `IPv4`, `IPv6` or `FQDN`.
        pub address_type: String,
        /// Endpoints.
        pub endpoints: Vec<SliceEndpoint>,
        /// Ports.
        pub ports: Vec<SlicePort>,
    }

    /// One endpoint of a slice.
    pub struct SliceEndpoint {
        /// Addresses.
        pub addresses: Vec<String>,
        /// Readiness.
        pub conditions: EndpointConditions,
        /// The pod behind it.
        pub target_ref: Option<TargetRef>,
        /// Node.
        pub node_name: Option<String>,
        /// Zone.
        pub zone: Option<String>,
        /// Host name.
        pub hostname: Option<String>,
    }

    /// Readiness of an endpoint; unset means ready.
    pub struct EndpointConditions {
        /// Takes traffic.
        pub ready: Option<bool>,
        /// Takes traffic, terminating or not.
        pub serving: Option<bool>,
        /// Going away.
        pub terminating: Option<bool>,
    }

    /// Reference to a pod.
    pub struct TargetRef {
        /// `Pod`.
        pub kind: String,
        /// Name.
        pub name: String,
        /// Namespace.
        pub namespace: String,
    }

    /// A port of a slice.
    pub struct SlicePort {
        /// Name of the service port.
        pub name: Option<String>,
        /// Number.
        pub port: Option<u32>,
        /// `TCP` or `UDP`.
        pub protocol: Option<String>,
        /// Protocol hint.
        pub app_protocol: Option<String>,
    }

    /// `v1/Pod`.
    pub struct Pod {
        /// What was asked for.
        pub spec: PodSpec,
        /// What is.
        pub status: PodStatus,
    }

    /// Spec of a Pod.
    pub struct PodSpec {
        /// Node.
        pub node_name: String,
        /// Service account.
        pub service_account_name: String,
        /// Uses the node's network.
        pub host_network: bool,
        /// Host name.
        pub hostname: String,
        /// Subdomain.
        pub subdomain: String,
        /// Containers.
        pub containers: Vec<Container>,
    }

    /// A container.
    pub struct Container {
        /// Name.
        pub name: String,
        /// Ports.
        pub ports: Vec<ContainerPort>,
    }

    /// A container port.
    pub struct ContainerPort {
        /// Name.
        pub name: String,
        /// Number.
        pub container_port: u32,
        /// `TCP` or `UDP`.
        pub protocol: String,
    }

    /// Status of a Pod.
    pub struct PodStatus {
        /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
        pub phase: String,
        /// First address.
        #[serde(rename = "podIP")]
        pub pod_ip: String,
        /// Addresses.
        #[serde(rename = "podIPs")]
        pub pod_ips: Vec<PodIp>,
    }

    /// An address of a Pod.
    pub struct PodIp {
        /// Address.
        pub ip: String,
    }

    /// `v1/Namespace`; its labels and annotations are all the plane reads.
    pub struct Namespace {}

    /// `v1/Node`; its labels are all the plane reads.
    pub struct Node {}

    /// `v1/ConfigMap`.
    pub struct ConfigMap {
        /// Texts.
        pub data: BTreeMap<String, String>,
    }
}

/// `v1/Secret`. Its content is never printed.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Secret {
    /// `kubernetes.io/tls`, `Opaque`, ..
    #[serde(rename = "type")]
    pub secret_type: String,
    /// Values in base64.
    pub data: BTreeMap<String, String>,
    /// Values as text.
    pub string_data: BTreeMap<String, String>,
}

impl Secret {
    /// The value of a key; `None` if there is none, or it is no base64.
    pub fn value(&self, key: &str) -> Option<Vec<u8>> {
        use base64::Engine as _;
        if let Some(text) = self.string_data.get(key) {
            return Some(text.clone().into_bytes());
        }
        let text: String = self.data.get(key)?.split_ascii_whitespace().collect();
        base64::engine::general_purpose::STANDARD.decode(text).ok()
    }

    /// Whether it has the keys of a credential of gateways: a certificate with its key, or a CA.
    pub fn is_credential(&self) -> bool {
        let has = |key: &str| self.data.contains_key(key) || self.string_data.contains_key(key);
        has("tls.crt") && has("tls.key")
            || has("cert") && has("key")
            || has("cacert")
            || has("ca.crt")
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret")
            .field("keys", &self.data.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// A number or a name, as Kubernetes writes target ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// Number.
    Int(u32),
    /// Name.
    String(String),
}
