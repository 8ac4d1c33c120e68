//! TLS by conformance case: contexts as JSON, chains and clusters of real meshes, and what Envoy says of them.

mod inbound;
mod outbound;
mod server;

use mesh_model::Proxy;
use serde_json::Value;

use crate::testing::World;

/// A sidecar of namespace default with an agent.
fn agent() -> Proxy {
    with_agent(crate::testing::sidecar("default"))
}

fn with_agent(mut proxy: Proxy) -> Proxy {
    proxy.agent = true;
    proxy
}

/// A PeerAuthentication.
fn peer(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{{spec}}}}}\n"
    )
}

/// Service `a` of namespace default, with workloads at 10.0.0.1 (the proxy's own) and 10.0.0.3: ports tcp 70, http 80 -> 8080, auto 81.
fn three_ports() -> String {
    "---
{apiVersion: v1, kind: Service, metadata: {name: a, namespace: default}, spec: {clusterIP: 10.96.0.1, selector: {app: p},
  ports: [{name: tcp-x, port: 70, targetPort: 70}, {name: http-x, port: 80, targetPort: 8080}, {name: x, port: 81, targetPort: 81}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: default, labels: {app: p, security.istio.io/tlsMode: istio}},
  spec: {serviceAccountName: sa-p}, status: {phase: Running, podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: q, namespace: default, labels: {app: p}}, spec: {serviceAccountName: sa-q}, status: {phase: Running, podIP: 10.0.0.3}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a-1, namespace: default, labels: {kubernetes.io/service-name: a}},
  addressType: IPv4, ports: [{name: tcp-x, port: 70}, {name: http-x, port: 8080}, {name: x, port: 81}],
  endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: p}}, {addresses: [10.0.0.3], targetRef: {kind: Pod, name: q}}]}
"
    .into()
}

/// The configuration of a mesh.
fn mesh_config(config: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, data: {{mesh: '{{{config}}}'}}}}\n"
    )
}

/// The text at a pointer, compact; `-` if there is nothing.
fn at(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The names that a context takes in a peer's certificate, as `TYPE exact|prefix NAME`.
fn names(common: &Value) -> Vec<String> {
    let contexts = [
        "/combinedValidationContext/defaultValidationContext",
        "/validationContext",
    ];
    let matchers = contexts
        .iter()
        .find_map(|c| common.pointer(&format!("{c}/matchTypedSubjectAltNames")));
    let one = |m: &Value| {
        let (kind, name) = m["matcher"].as_object().unwrap().iter().next().unwrap();
        format!("{} {kind} {}", at(m, "/sanType"), name.as_str().unwrap())
    };
    let matchers = matchers.and_then(Value::as_array);
    matchers.into_iter().flatten().map(one).collect()
}

/// Case 40 to 43, C-050 to C-061: Envoy takes all of it, in every mode, as built by Istio's tools or by its own.
#[test]
fn envoy_accepts_every_mode() {
    let modes = ["DISABLE", "PERMISSIVE", "STRICT"];
    for (namespace, port) in modes.iter().flat_map(|a| modes.map(|b| (a, b))) {
        let yaml = three_ports()
            + &peer(
                "default",
                "default",
                &format!("mtls: {{mode: {namespace}}}"),
            )
            + &peer(
                "default",
                "p",
                &format!(
                    "selector: {{matchLabels: {{app: p}}}}, portLevelMtls: {{8080: {{mode: {port}}}, 9999: {{mode: {port}}}}}"
                ),
            );
        crate::listeners::accepted_by_envoy(&yaml, &agent());
    }
}

/// The world of a text.
#[track_caller]
fn world(yaml: &str) -> World {
    World::new(yaml)
}
