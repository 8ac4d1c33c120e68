//! RouteConfigurations by conformance case (XDS-TRAFFIC 13.1, 13.2, 13.5).

mod accepted;
mod actions;
mod gateways;
mod hashing;
mod hosts;
mod matches;
mod patches;
mod precedence;

use expect_test::Expect;
use mesh_model::{Proxy, ProxyKind};
use prost::Message;
use serde_json::Value;

use crate::testing::{World, json, sidecar};
use crate::{Memos, routes};

/// A Kubernetes Service in namespace default; `address` is the last part of its virtual address, or `None`.
fn service(name: &str, address: &str, ports: &str) -> String {
    service_in("default", name, address, ports)
}

fn service_in(namespace: &str, name: &str, address: &str, ports: &str) -> String {
    let ip = match address {
        "None" => "None".to_owned(),
        last => format!("10.96.0.{last}"),
    };
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{clusterIP: {ip}, ports: [{ports}]}}}}\n"
    )
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    object_in("default", kind, name, spec)
}

fn object_in(namespace: &str, kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: {kind}, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{{spec}}}}}\n"
    )
}

fn mesh(config: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, data: {{mesh: '{{{config}}}'}}}}\n"
    )
}

/// A rule's way to service `a`.
const TO_A: &str = "route: [{destination: {host: a}}]";

const HTTP: &str = "{name: http, port: 80}";

fn rds(yaml: &str, proxy: &Proxy, name: &str) -> Value {
    let memos = Memos::default();
    let (view, key) = World::new(yaml).class(proxy);
    let made = match proxy.kind {
        ProxyKind::Sidecar => routes::sidecar(&view, &key, name, &memos),
        ProxyKind::Router => routes::gateway(&view, &key, name, &memos),
    };
    json(&made)
}

/// A RouteConfiguration as a few lines: each virtual host with its domains, and under it each route with its match and where it leads.
fn summary(config: &Value) -> String {
    let mut out = String::new();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    for host in list(config, "virtualHosts") {
        let domains: Vec<_> = list(&host, "domains").iter().map(text).collect();
        let tls = host.get("requireTls").map_or("", |_| " (https only)");
        out += &format!("{}{tls}: {}\n", text(&host["name"]), domains.join(" "));
        for route in list(&host, "routes") {
            out += &format!(
                "  {}{} -> {}\n",
                name(&route),
                matching(&route["match"]),
                action(&route)
            );
        }
    }
    out
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn name(route: &Value) -> String {
    route
        .get("name")
        .map_or_else(String::new, |name| format!("{}: ", text(name)))
}

fn matching(m: &Value) -> String {
    let mut parts = Vec::new();
    for (key, value) in m.as_object().unwrap() {
        match key.as_str() {
            "prefix" | "path" | "pathSeparatedPrefix" => {
                parts.push(format!("{key} {}", text(value)))
            }
            "caseSensitive" if *value == true => {}
            _ => parts.push(format!("{key} {value}")),
        }
    }
    parts.join(", ")
}

fn action(route: &Value) -> String {
    if let Some(cluster) = route.pointer("/route/cluster") {
        return text(cluster);
    }
    if let Some(clusters) = route.pointer("/route/weightedClusters/clusters") {
        let parts = clusters.as_array().unwrap().iter();
        let parts: Vec<_> = parts
            .map(|c| format!("{}={}", text(&c["name"]), c["weight"]))
            .collect();
        return parts.join(" ");
    }
    for key in ["redirect", "directResponse"] {
        if let Some(value) = route.get(key) {
            return format!("{key} {value}");
        }
    }
    "?".into()
}

/// The summary of a RouteConfiguration of a sidecar in namespace default.
#[track_caller]
fn check(yaml: &str, name: &str, want: Expect) {
    want.assert_eq(&summary(&rds(yaml, &sidecar("default"), name)));
}

#[track_caller]
fn check_for(proxy: &Proxy, yaml: &str, name: &str, want: Expect) {
    want.assert_eq(&summary(&rds(yaml, proxy, name)));
}

/// The routes of service `a` with a VirtualService of these rules, on port 80 of a sidecar in namespace default.
fn routes_of(rules: &str, more: &str) -> Vec<Value> {
    let yaml = service("a", "1", HTTP)
        + &object(
            "VirtualService",
            "v",
            &format!("hosts: [a], http: [{rules}]"),
        )
        + more;
    let config = rds(&yaml, &sidecar("default"), "80");
    let hosts = config["virtualHosts"].as_array().unwrap();
    let host = hosts
        .iter()
        .find(|h| h["name"] == "a.default.svc.cluster.local:80")
        .unwrap();
    host["routes"].as_array().cloned().unwrap_or_default()
}

/// Parts of each of these routes, by JSON pointer.
#[track_caller]
fn check_fields(rules: &str, more: &str, pointers: &[&str], want: Expect) {
    let mut out = String::new();
    for route in routes_of(rules, more) {
        for pointer in pointers {
            let value = route
                .pointer(pointer)
                .map_or_else(|| "-".into(), Value::to_string);
            out += &format!("{pointer} {value}\n");
        }
    }
    want.assert_eq(&out);
}
