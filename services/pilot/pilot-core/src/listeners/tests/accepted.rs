//! Real Envoy takes what we make: `envoy --mode validate` over everything that a rich mesh gives.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use mesh_model::{Interception, Proxy};
use prost::Message;
use serde_json::{Value, json};
use xds_core::Encoded;

use crate::generate::render;
use crate::testing::{World, router, sidecar};

const MESH: &str = include_str!("accepted.yaml");
const SIDECAR: &str = include_str!("sidecar.yaml");

fn envoy() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../.cache/bin/envoy");
    assert!(
        path.exists(),
        "{} is missing: run e2e/tools/setup.sh",
        path.display()
    );
    path
}

/// Resources as a bootstrap writes them: without the `@type` of the outermost message.
fn printed(resources: &[Arc<Encoded>]) -> Vec<Value> {
    let one = |resource: &Arc<Encoded>| {
        let any = envoy_api::any::Any::decode(resource.any()).unwrap();
        let mut value = envoy_api::json::to_json(&any.type_url, &any.value).unwrap();
        value.as_object_mut().unwrap().remove("@type");
        value
    };
    resources.iter().map(one).collect()
}

/// A bootstrap with everything the proxy gets; what it would ask the server for stays asked for.
fn bootstrap(yaml: &str, proxy: &Proxy) -> Value {
    let rendered = render(&World::new(yaml).mesh, proxy);
    let mut clusters = printed(&rendered.clusters);
    clusters.push(json!({
        "name": "ads", "type": "STATIC", "connectTimeout": "1s",
        "loadAssignment": {"clusterName": "ads", "endpoints": [{"lbEndpoints": [
            {"endpoint": {"address": {"socketAddress": {"address": "127.0.0.1", "portValue": 1}}}}]}]},
        "typedExtensionProtocolOptions": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicitHttpConfig": {"http2ProtocolOptions": {}}}},
    }));
    // Where agents hand out certificates.
    let mut agent = clusters.last().cloned().unwrap_or_default();
    agent["name"] = "sds-grpc".into();
    agent["loadAssignment"]["clusterName"] = "sds-grpc".into();
    clusters.push(agent);
    json!({
        "node": {"id": "n", "cluster": "c"},
        "dynamicResources": {"adsConfig": {"apiType": "GRPC", "transportApiVersion": "V3",
            "grpcServices": [{"envoyGrpc": {"clusterName": "ads"}}]}},
        "staticResources": {"clusters": clusters, "listeners": printed(&rendered.listeners)},
    })
}

#[track_caller]
pub(crate) fn check(yaml: &str, proxy: &Proxy) {
    let bootstrap = bootstrap(yaml, proxy);
    let made = &bootstrap["staticResources"];
    assert!(made["listeners"].as_array().unwrap().len() > 1, "{made:#}");
    let mut file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    file.write_all(bootstrap.to_string().as_bytes()).unwrap();
    let run = Command::new(envoy())
        .args(["--mode", "validate", "--log-level", "error", "-c"])
        .arg(file.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(
        run.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&run.stdout)
    );
    for complaint in ["deprecated", "unknown field"] {
        assert!(!said.contains(complaint), "{said}");
    }
}

fn changed(mut proxy: Proxy, change: impl FnOnce(&mut Proxy)) -> Proxy {
    change(&mut proxy);
    proxy
}

#[test]
fn captured_traffic() {
    check(MESH, &sidecar("default"));
}

#[test]
fn another_namespace_with_http_1_0() {
    let proxy = changed(sidecar("elsewhere"), |p| {
        p.http10 = true;
        p.interception = Interception::Tproxy;
        p.inbound_exact_balance = true;
        p.outbound_exact_balance = true;
        p.idle_timeout = mesh_config::resource::Duration::parse("7s");
    });
    check(MESH, &proxy);
}

/// Nobody checks what a proxy brings along, and one value that Envoy refuses would cost the proxy all of its listeners.
#[test]
fn settings_of_a_proxy_that_envoy_would_refuse() {
    for (number, time) in [
        (json!(0), "0s"),
        (json!(1), "1ns"),
        (json!(u32::MAX), "315576000000s"),
    ] {
        let settings = json!({
            "connectionSettings": {
                "listenerPerConnectionBufferLimitBytes": number, "httpMaxConcurrentStreams": number,
                "http2InitialStreamWindowSize": number, "http2InitialConnectionWindowSize": number,
                "httpIdleTimeout": time, "httpMaxConnectionDuration": time, "httpMaxStreamDuration": time,
                "httpStreamIdleTimeout": time, "httpRequestTimeout": time, "httpRequestHeadersTimeout": time, "httpDrainTimeout": time,
            },
            "proxyHeaders": {"server": {"value": "two\nlines"}},
            "tracing": {"maxPathTagLength": number},
        });
        for proxy in [sidecar("default"), router("default")] {
            let proxy = changed(proxy, |p| {
                p.proxy_config = settings.clone();
                p.idle_timeout = mesh_config::resource::Duration::parse(time);
            });
            check(MESH, &proxy);
        }
    }
}

#[test]
fn nothing_captured() {
    let proxy = changed(sidecar("default"), |p| p.interception = Interception::None);
    check(MESH, &proxy);
}

#[test]
fn ipv6_only() {
    let proxy = changed(sidecar("default"), |p| {
        p.addresses = vec!["fd00::1".parse().unwrap()];
    });
    check(MESH, &proxy);
}

#[test]
fn sidecar_listeners_captured_and_not() {
    let yaml = format!("{MESH}---\n{SIDECAR}");
    check(&yaml, &sidecar("default"));
    let proxy = changed(sidecar("default"), |p| p.interception = Interception::None);
    check(&yaml, &proxy);
}

#[test]
fn closed_mesh_with_localhost_applications() {
    let yaml = MESH.replace(
        "accessLogFile: /dev/stdout",
        "accessLogFile: /dev/stdout\n    accessLogEncoding: JSON\n    outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n    \
         inboundTrafficPolicy: {mode: LOCALHOST}\n    h2UpgradePolicy: UPGRADE\n    enableTracing: false",
    );
    assert_ne!(yaml, MESH);
    check(&yaml, &sidecar("default"));
}

#[test]
fn gateway() {
    check(MESH, &router("default"));
    check(MESH, &changed(router("default"), |p| p.unprivileged = true));
}
