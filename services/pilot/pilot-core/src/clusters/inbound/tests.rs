//! Inbound clusters: C-056..C-058, C-060.

use expect_test::{Expect, expect};
use mesh_model::{Interception, Proxy};

use crate::testing::{World, json, sidecar};
use crate::{Memos, clusters};

const SERVICES: &str = "
{apiVersion: v1, kind: Service, metadata: {name: a, namespace: default}, spec: {clusterIP: 10.96.0.1, selector: {app: p}, ports: [
  {name: http, port: 80, targetPort: 8080}, {name: tcp, port: 90, targetPort: 9090}, {name: auto, port: 7000, targetPort: 7000}, {name: grpc, port: 81, targetPort: 8081}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: b, namespace: default}, spec: {clusterIP: 10.96.0.2, selector: {app: p}, ports: [
  {name: tcp, port: 80, targetPort: 8080}, {name: http, port: 1, targetPort: 15021}]}}
";

/// A line per cluster: its name, type, where it leads, from which address, its HTTP options, and its services.
#[track_caller]
fn check(yaml: &str, proxy: Proxy, want: Expect) {
    let (view, key) = World::new(yaml).inbound(&proxy);
    let mut text = String::new();
    for cluster in clusters::inbound(&view, &key, &Memos::default()) {
        let value = json(&cluster);
        let at = |pointer: &str| value.pointer(pointer).map(ToString::to_string);
        let address = at("/loadAssignment/endpoints/0/lbEndpoints/0/endpoint/address");
        let protocol = at(
            "/typedExtensionProtocolOptions/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        );
        let services = at("/metadata/filterMetadata/istio/services");
        let parts = [
            at("/type"),
            address,
            at("/upstreamBindConfig/sourceAddress/address").map(|a| format!("from {a}")),
            protocol,
            services,
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        text += &format!("{}: {}\n", cluster.name(), parts.join(" ").replace('"', ""));
    }
    want.assert_eq(&text);
}

#[test]
fn c058_one_cluster_per_port_of_the_workload() {
    let proxy = Proxy {
        reserved_ports: vec![15021],
        ..sidecar("default")
    };
    check(
        SERVICES,
        proxy,
        expect![[r#"
        inbound|7000||: ORIGINAL_DST from 127.0.0.6 {useDownstreamProtocolConfig:{httpProtocolOptions:{},http2ProtocolOptions:{}}} [{host:a.default.svc.cluster.local,name:a,namespace:default}]
        inbound|8080||: ORIGINAL_DST from 127.0.0.6 [{host:a.default.svc.cluster.local,name:a,namespace:default},{host:b.default.svc.cluster.local,name:b,namespace:default}]
        inbound|8081||: ORIGINAL_DST from 127.0.0.6 {explicitHttpConfig:{http2ProtocolOptions:{}}} [{host:a.default.svc.cluster.local,name:a,namespace:default}]
        inbound|9090||: ORIGINAL_DST from 127.0.0.6 [{host:a.default.svc.cluster.local,name:a,namespace:default}]
        InboundPassthroughCluster: ORIGINAL_DST from 127.0.0.6 {useDownstreamProtocolConfig:{httpProtocolOptions:{},http2ProtocolOptions:{}},commonHttpProtocolOptions:{idleTimeout:300s}}
    "#]],
    );
}

#[test]
fn c060_none_without_interception() {
    let proxy = Proxy {
        interception: Interception::None,
        ..sidecar("default")
    };
    check(
        SERVICES,
        proxy,
        expect![[r#"
        InboundPassthroughCluster: ORIGINAL_DST from 127.0.0.6 {useDownstreamProtocolConfig:{httpProtocolOptions:{},http2ProtocolOptions:{}},commonHttpProtocolOptions:{idleTimeout:300s}}
    "#]],
    );
}

#[test]
fn c057_applications_on_loopback() {
    let mesh = format!(
        "{SERVICES}---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, data: {{mesh: 'inboundTrafficPolicy: {{mode: LOCALHOST}}'}}}}"
    );
    check(
        &mesh,
        sidecar("default"),
        expect![[r#"
        inbound|7000||: STATIC {socketAddress:{address:127.0.0.1,portValue:7000}} {useDownstreamProtocolConfig:{httpProtocolOptions:{},http2ProtocolOptions:{}}} [{host:a.default.svc.cluster.local,name:a,namespace:default}]
        inbound|8080||: STATIC {socketAddress:{address:127.0.0.1,portValue:8080}} [{host:a.default.svc.cluster.local,name:a,namespace:default},{host:b.default.svc.cluster.local,name:b,namespace:default}]
        inbound|8081||: STATIC {socketAddress:{address:127.0.0.1,portValue:8081}} {explicitHttpConfig:{http2ProtocolOptions:{}}} [{host:a.default.svc.cluster.local,name:a,namespace:default}]
        inbound|9090||: STATIC {socketAddress:{address:127.0.0.1,portValue:9090}} [{host:a.default.svc.cluster.local,name:a,namespace:default}]
        inbound|15021||: STATIC {socketAddress:{address:127.0.0.1,portValue:15021}} [{host:b.default.svc.cluster.local,name:b,namespace:default}]
        InboundPassthroughCluster: ORIGINAL_DST from 127.0.0.6 {useDownstreamProtocolConfig:{httpProtocolOptions:{},http2ProtocolOptions:{}},commonHttpProtocolOptions:{idleTimeout:300s}}
    "#]],
    );
    let proxy = Proxy {
        addresses: vec!["fd00::1".parse().unwrap()],
        ..sidecar("default")
    };
    check(
        &mesh,
        proxy,
        expect![[r#"
        inbound|7000||: STATIC {socketAddress:{address:::1,portValue:7000}} {useDownstreamProtocolConfig:{httpProtocolOptions:{},http2ProtocolOptions:{}}} [{host:a.default.svc.cluster.local,name:a,namespace:default}]
        inbound|8080||: STATIC {socketAddress:{address:::1,portValue:8080}} [{host:a.default.svc.cluster.local,name:a,namespace:default},{host:b.default.svc.cluster.local,name:b,namespace:default}]
        inbound|8081||: STATIC {socketAddress:{address:::1,portValue:8081}} {explicitHttpConfig:{http2ProtocolOptions:{}}} [{host:a.default.svc.cluster.local,name:a,namespace:default}]
        inbound|9090||: STATIC {socketAddress:{address:::1,portValue:9090}} [{host:a.default.svc.cluster.local,name:a,namespace:default}]
        inbound|15021||: STATIC {socketAddress:{address:::1,portValue:15021}} [{host:b.default.svc.cluster.local,name:b,namespace:default}]
        InboundPassthroughCluster: ORIGINAL_DST from ::6 {useDownstreamProtocolConfig:{httpProtocolOptions:{},http2ProtocolOptions:{}},commonHttpProtocolOptions:{idleTimeout:300s}}
    "#]],
    );
}

#[test]
fn c056_default_endpoints_of_a_sidecar() {
    let mesh = format!(
        "{SERVICES}---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: s, namespace: default}}
spec:
  ingress:
  - {{port: {{number: 9080, name: a, protocol: HTTP}}, defaultEndpoint: '127.0.0.1:8080'}}
  - {{port: {{number: 9081, name: b, protocol: TCP}}, defaultEndpoint: '0.0.0.0:8081'}}
  - {{port: {{number: 9082, name: c, protocol: HTTP2}}, defaultEndpoint: 'unix:///s'}}
  - {{port: {{number: 8080, name: d, protocol: HTTP}}}}
"
    );
    check(
        &mesh,
        sidecar("default"),
        expect![[r#"
        inbound|9080||: STATIC {socketAddress:{address:127.0.0.1,portValue:8080}}
        inbound|9081||: STATIC {socketAddress:{address:10.0.0.1,portValue:8081}} from 127.0.0.6
        inbound|9082||: STATIC {pipe:{path:/s}} from 127.0.0.6 {explicitHttpConfig:{http2ProtocolOptions:{}}}
        inbound|8080||: ORIGINAL_DST from 127.0.0.6 [{host:a.default.svc.cluster.local,name:a,namespace:default}]
        InboundPassthroughCluster: ORIGINAL_DST from 127.0.0.6 {useDownstreamProtocolConfig:{httpProtocolOptions:{},http2ProtocolOptions:{}},commonHttpProtocolOptions:{idleTimeout:300s}}
    "#]],
    );
}

#[test]
fn limits_of_the_ingress_listener_the_sidecar_and_the_rule() {
    let limit = |ingress: &str, own: &str| {
        let mesh = format!(
            "{SERVICES}---
{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: d, namespace: default}}, spec: {{host: a,
  trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 1}}}}, outlierDetection: {{interval: 1s}}}}}}}}
---
{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{name: s, namespace: default}}, spec: {{{own}
  ingress: [{{port: {{number: 8080, name: http, protocol: HTTP}}, {ingress}}}]}}}}
"
        );
        let (view, key) = World::new(&mesh).inbound(&sidecar("default"));
        let made = clusters::inbound(&view, &key, &Memos::default());
        let value = json(&made[0]);
        assert_eq!(value.get("outlierDetection"), None);
        value["circuitBreakers"]["thresholds"][0]["maxConnections"].clone()
    };
    let two = "inboundConnectionPool: {tcp: {maxConnections: 2}},";
    assert_eq!(limit("", ""), 1);
    assert_eq!(limit("", two), 2);
    assert_eq!(limit("connectionPool: {tcp: {maxConnections: 3}}", two), 3);
}

#[test]
fn a_rule_for_certain_clients_is_none_of_the_servers_business() {
    let rule = "---\n{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: d, namespace: default}, spec: {host: a, \
                workloadSelector: {matchLabels: {app: p}}, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}}";
    let (view, key) = World::new(&format!("{SERVICES}{rule}")).inbound(&sidecar("default"));
    let made = clusters::inbound(&view, &key, &Memos::default());
    let limits = &json(&made[0])["circuitBreakers"]["thresholds"][0];
    assert_eq!(limits["maxConnections"], 4_294_967_295_u32);
}
