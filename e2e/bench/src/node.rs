//! What a proxy says about itself: an Istio sidecar's node, as its agent writes it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bytes::Bytes;
use envoy_api::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_api::envoy::config::core::v3::{BuildVersion, Extension, Locality, Node};
use envoy_api::envoy::r#type::v3::SemanticVersion;
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::json;

use crate::workload::{PROBE_IP, PROBE_NAMESPACE, Place};

/// What all proxies of a run have in common.
#[derive(Debug, Clone)]
pub struct Common {
    /// ISTIO_VERSION.
    pub istio_version: String,
    /// CLUSTER_ID.
    pub cluster_id: String,
}

/// Some of the extensions an Istio build of Envoy lists, by category.
const EXTENSIONS: &[(&str, &[&str])] = &[
    (
        "envoy.access_loggers",
        &[
            "envoy.access_loggers.file",
            "envoy.access_loggers.http_grpc",
            "envoy.access_loggers.open_telemetry",
        ],
    ),
    (
        "envoy.clusters",
        &[
            "envoy.cluster.eds",
            "envoy.cluster.logical_dns",
            "envoy.cluster.original_dst",
            "envoy.cluster.static",
            "envoy.cluster.strict_dns",
        ],
    ),
    (
        "envoy.filters.http",
        &[
            "envoy.filters.http.cors",
            "envoy.filters.http.ext_authz",
            "envoy.filters.http.fault",
            "envoy.filters.http.grpc_stats",
            "envoy.filters.http.jwt_authn",
            "envoy.filters.http.local_ratelimit",
            "envoy.filters.http.rbac",
            "envoy.filters.http.router",
            "envoy.filters.http.wasm",
            "istio.alpn",
            "istio.stats",
            "istio_authn",
        ],
    ),
    (
        "envoy.filters.listener",
        &[
            "envoy.filters.listener.http_inspector",
            "envoy.filters.listener.original_dst",
            "envoy.filters.listener.tls_inspector",
        ],
    ),
    (
        "envoy.filters.network",
        &[
            "envoy.filters.network.http_connection_manager",
            "envoy.filters.network.metadata_exchange",
            "envoy.filters.network.rbac",
            "envoy.filters.network.sni_cluster",
            "envoy.filters.network.tcp_proxy",
        ],
    ),
    (
        "envoy.transport_sockets.upstream",
        &[
            "envoy.transport_sockets.internal_upstream",
            "envoy.transport_sockets.raw_buffer",
            "envoy.transport_sockets.tls",
        ],
    ),
    (
        "envoy.upstream_options",
        &["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"],
    ),
];

/// The encoded node of the proxy at a place. `number` makes its name differ from others' at the same place.
pub fn sidecar(common: &Common, place: &Place, number: usize) -> Bytes {
    node(
        common,
        &place.service,
        &place.namespace,
        place.ip,
        place.replica,
        number,
    )
}

/// The encoded node of the proxy that waits until everything is loaded.
pub fn probe(common: &Common) -> Bytes {
    node(common, "probe", PROBE_NAMESPACE, PROBE_IP, 0, 0)
}

fn node(
    common: &Common,
    service: &str,
    namespace: &str,
    ip: Ipv4Addr,
    replica: usize,
    number: usize,
) -> Bytes {
    let pod = format!("{service}-v1-6b7f9c5d4-{number:05}");
    let metadata = json!({
        "ANNOTATIONS": {"kubernetes.io/config.seen": "2025-01-01T00:00:00.000000000Z", "kubernetes.io/config.source": "api"},
        "APP_CONTAINERS": service,
        "CLUSTER_ID": common.cluster_id,
        "ENVOY_PROMETHEUS_PORT": 15090,
        "ENVOY_STATUS_PORT": 15021,
        "INSTANCE_IPS": ip.to_string(),
        "INTERCEPTION_MODE": "REDIRECT",
        "ISTIO_PROXY_SHA": "0d5b2a1a6f5d9b9f4ee1f0a9c9a1f2b7e1d3c4a5",
        "ISTIO_VERSION": common.istio_version,
        "LABELS": {
            "app": service,
            "pod-template-hash": "6b7f9c5d4",
            "security.istio.io/tlsMode": "istio",
            "service.istio.io/canonical-name": service,
            "service.istio.io/canonical-revision": "v1",
            "version": "v1",
        },
        "MESH_ID": "cluster.local",
        "NAME": pod,
        "NAMESPACE": namespace,
        "NODE_NAME": format!("node-{replica}"),
        "OWNER": format!("kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{service}-v1"),
        "PILOT_SAN": ["istiod.istio-system.svc"],
        "POD_PORTS": "[{\"containerPort\":8080,\"protocol\":\"TCP\"},{\"containerPort\":9090,\"protocol\":\"TCP\"}]",
        "PROXY_CONFIG": {
            "binaryPath": "/usr/local/bin/envoy",
            "concurrency": 2,
            "configPath": "./etc/istio/proxy",
            "controlPlaneAuthPolicy": "MUTUAL_TLS",
            "discoveryAddress": "istiod.istio-system.svc:15012",
            "drainDuration": "45s",
            "proxyAdminPort": 15000,
            "serviceCluster": "istio-proxy",
            "statNameLength": 189,
            "statusPort": 15020,
            "terminationDrainDuration": "5s",
        },
        "SERVICE_ACCOUNT": service,
        "WORKLOAD_NAME": format!("{service}-v1"),
    });
    let extensions = EXTENSIONS.iter().flat_map(|(category, names)| {
        names.iter().map(|name| Extension {
            name: (*name).to_owned(),
            category: (*category).to_owned(),
            ..Extension::default()
        })
    });
    let node = Node {
        id: format!("sidecar~{ip}~{pod}.{namespace}~{namespace}.svc.cluster.local"),
        cluster: format!("{service}.{namespace}"),
        metadata: Some(fields(metadata)),
        locality: Some(Locality {
            region: "region1".into(),
            zone: format!("zone{}", replica + 1),
            sub_zone: String::new(),
        }),
        user_agent_name: "envoy".into(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(BuildVersion {
            version: Some(SemanticVersion {
                major_number: 1,
                minor_number: 37,
                patch: 0,
            }),
            metadata: None,
        })),
        extensions: extensions.collect(),
        client_features: vec![
            "envoy.lb.does_not_support_overprovisioning".into(),
            "envoy.lrs.supports_send_all_clusters".into(),
        ],
        ..Node::default()
    };
    node.encode_to_vec().into()
}

fn fields(value: serde_json::Value) -> Struct {
    let fields: BTreeMap<_, _> = match value {
        serde_json::Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| (key, self::value(value)))
            .collect(),
        _ => BTreeMap::new(),
    };
    Struct { fields }
}

fn value(value: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        Json::String(value) => Kind::StringValue(value),
        Json::Array(values) => Kind::ListValue(ListValue {
            values: values.into_iter().map(self::value).collect(),
        }),
        object @ Json::Object(_) => Kind::StructValue(fields(object)),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Workload;

    #[test]
    fn a_node_says_where_its_proxy_stands() {
        let common = Common {
            istio_version: "1.29.6".into(),
            cluster_id: "Kubernetes".into(),
        };
        let place = Workload {
            services: 100,
            proxies: 200,
            scoped: false,
        }
        .place(101);
        let node = Node::decode(sidecar(&common, &place, 101)).unwrap();
        assert_eq!(
            node.id,
            "sidecar~10.2.0.2~svc-0001-v1-6b7f9c5d4-00101.ns-01~ns-01.svc.cluster.local"
        );
        let metadata = node.metadata.unwrap().fields;
        let text = |key: &str| match metadata.get(key).and_then(|value| value.kind.clone()) {
            Some(Kind::StringValue(text)) => text,
            _ => String::new(),
        };
        assert_eq!(text("NAMESPACE"), "ns-01");
        assert_eq!(text("SERVICE_ACCOUNT"), "svc-0001");
        assert_eq!(text("INSTANCE_IPS"), "10.2.0.2");
        assert_eq!(text("ISTIO_VERSION"), "1.29.6");
    }
}
