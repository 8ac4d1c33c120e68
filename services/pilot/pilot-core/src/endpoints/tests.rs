//! Endpoints by conformance case (XDS-TRAFFIC 13.4).

use expect_test::{Expect, expect};
use mesh_model::Proxy;

use crate::testing::{World, json, router, sidecar};
use crate::{Memos, endpoints};

/// Endpoints as `locality*weight: address status weight workload`, one per line.
#[track_caller]
fn check(yaml: &str, cluster: &str, proxy: Proxy, want: Expect) {
    let (view, key) = World::new(yaml).class(&proxy);
    let assignment = json(&endpoints::assignment(
        &view,
        &key,
        cluster,
        &Memos::default(),
    ));
    assert_eq!(assignment["clusterName"], cluster);
    let mut text = String::new();
    for group in assignment["endpoints"].as_array().into_iter().flatten() {
        let part = |name: &str| group["locality"][name].as_str().unwrap_or("").to_owned();
        let locality = [part("region"), part("zone"), part("subZone")].join("/");
        text += &format!("{locality} * {}\n", group["loadBalancingWeight"]);
        for e in group["lbEndpoints"].as_array().into_iter().flatten() {
            let address = match &e["endpoint"]["address"]["pipe"]["path"] {
                serde_json::Value::String(path) => path.clone(),
                _ => {
                    let socket = &e["endpoint"]["address"]["socketAddress"];
                    format!(
                        "{}:{}",
                        socket["address"].as_str().unwrap(),
                        socket["portValue"]
                    )
                }
            };
            let workload = e["metadata"]["filterMetadata"]["istio"]["workload"]
                .as_str()
                .unwrap();
            text += &format!(
                "  {address} {} * {} {workload}\n",
                e["healthStatus"].as_str().unwrap(),
                e["loadBalancingWeight"]
            );
        }
    }
    want.assert_eq(&text);
}

/// Service `a` with port 80 -> 8080 and these endpoints of its one slice.
fn service(spec: &str, endpoints: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: a, namespace: default}}, spec: {{clusterIP: 10.96.0.1, {spec} ports: [{{name: http, port: 80, targetPort: 8080}}]}}}}\n\
         ---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: a-1, namespace: default, labels: {{kubernetes.io/service-name: a}}}}, \
         addressType: IPv4, ports: [{{name: http, port: 8080, protocol: TCP}}], endpoints: [{endpoints}]}}\n"
    )
}

fn entry(spec: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: x, namespace: default}}, spec: {{{spec}}}}}\n"
    )
}

fn rule(host: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: r, namespace: default}}, spec: {{host: {host}, {spec}}}}}\n"
    )
}

const A: &str = "outbound|80||a.default.svc.cluster.local";
const STATIC: &str = "hosts: [x.example], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: ";

#[test]
fn c078_a_subset_has_the_endpoints_with_its_labels() {
    let mesh = entry(&format!(
        "{STATIC} [{{address: 10.0.0.2, labels: {{version: v1}}}}, {{address: 10.0.0.3, labels: {{version: v2}}}}]"
    )) + &rule(
        "x.example",
        "subsets: [{name: v1, labels: {version: v1}}, {name: none, labels: {version: v9}}]",
    );
    check(
        &mesh,
        "outbound|80||x.example",
        sidecar("default"),
        expect![[r#"
        // * 2
          10.0.0.2:80 HEALTHY * 1 x;default;x;v1;Kubernetes
          10.0.0.3:80 HEALTHY * 1 x;default;x;v2;Kubernetes
    "#]],
    );
    check(
        &mesh,
        "outbound|80|v1|x.example",
        sidecar("default"),
        expect![[r#"
        // * 1
          10.0.0.2:80 HEALTHY * 1 x;default;x;v1;Kubernetes
    "#]],
    );
    check(
        &mesh,
        "outbound|80|none|x.example",
        sidecar("default"),
        expect![[""]],
    );
}

#[test]
fn c088_weights_add_up_by_locality() {
    let mesh = entry(&format!(
        "{STATIC} [{{address: 10.0.0.2, weight: 5, locality: r1/z1}}, {{address: 10.0.0.3, locality: r1/z1}}, \
         {{address: 10.0.0.4, locality: r1/z2/s}}, {{address: 'unix:///tmp/x'}}]"
    ));
    check(
        &mesh,
        "outbound|80||x.example",
        sidecar("default"),
        expect![[r#"
        // * 1
          /tmp/x HEALTHY * 1 x;default;x;;Kubernetes
        r1/z1/ * 6
          10.0.0.2:80 HEALTHY * 5 x;default;x;;Kubernetes
          10.0.0.3:80 HEALTHY * 1 x;default;x;;Kubernetes
        r1/z2/s * 1
          10.0.0.4:80 HEALTHY * 1 x;default;x;;Kubernetes
    "#]],
    );
}

#[test]
fn c089_endpoints_that_are_not_ready() {
    let slice = "{addresses: [10.0.0.2], conditions: {ready: true}}, {addresses: [10.0.0.3], conditions: {ready: false}}, \
                 {addresses: [10.0.0.4], conditions: {ready: false, serving: true, terminating: true}}";
    let mesh = service("", slice);
    check(
        &mesh,
        A,
        sidecar("default"),
        expect![[r#"
        // * 2
          10.0.0.2:8080 HEALTHY * 1 ;default;;;Kubernetes
          10.0.0.3:8080 UNHEALTHY * 1 ;default;;;Kubernetes
    "#]],
    );
    let mesh = mesh
        + &rule(
            "a",
            "trafficPolicy: {outlierDetection: {minHealthPercent: 50}}",
        );
    check(
        &mesh,
        A,
        sidecar("default"),
        expect![[r#"
        // * 1
          10.0.0.2:8080 HEALTHY * 1 ;default;;;Kubernetes
    "#]],
    );
}

#[test]
fn c090_local_traffic_stays_on_the_node() {
    let mesh = service(
        "internalTrafficPolicy: Local,",
        "{addresses: [10.0.0.2], nodeName: n1}, {addresses: [10.0.0.3], nodeName: n2}",
    );
    let on = |node: &str| Proxy {
        node_name: node.into(),
        ..sidecar("default")
    };
    check(
        &mesh,
        A,
        on("n1"),
        expect![[r#"
        // * 1
          10.0.0.2:8080 HEALTHY * 1 ;default;;;Kubernetes
    "#]],
    );
    check(
        &mesh,
        A,
        on("n2"),
        expect![[r#"
        // * 1
          10.0.0.3:8080 HEALTHY * 1 ;default;;;Kubernetes
    "#]],
    );
}

#[test]
fn networks_that_a_proxy_does_not_want_are_left_out() {
    let mesh = entry(&format!(
        "{STATIC} [{{address: 10.0.0.2, network: n1}}, {{address: 10.0.0.3, network: n2}}, {{address: 10.0.0.4}}]"
    ));
    let proxy = Proxy {
        network_view: vec!["n1".into()],
        ..sidecar("default")
    };
    check(
        &mesh,
        "outbound|80||x.example",
        proxy,
        expect![[r#"
        // * 2
          10.0.0.2:80 HEALTHY * 1 x;default;x;;Kubernetes
          10.0.0.4:80 HEALTHY * 1 x;default;x;;Kubernetes
    "#]],
    );
}

#[test]
fn headless_services_have_endpoints_for_routers_only() {
    let mesh = service("", "{addresses: [10.0.0.2]}").replace("10.96.0.1", "None");
    check(&mesh, A, sidecar("default"), expect![[""]]);
    check(
        &mesh,
        A,
        router("default"),
        expect![[r#"
        // * 1
          10.0.0.2:8080 HEALTHY * 1 ;default;;;Kubernetes
    "#]],
    );
}

#[test]
fn unknown_clusters_are_answered_empty() {
    for name in [
        "outbound|80||nobody",
        "outbound|81||a.default.svc.cluster.local",
        "nonsense",
        "",
    ] {
        let (view, key) =
            World::new(&service("", "{addresses: [10.0.0.2]}")).class(&sidecar("default"));
        let got = endpoints::assignment(&view, &key, name, &Memos::default());
        assert_eq!((&**got.name(), json(&got).get("endpoints")), (name, None));
    }
}
