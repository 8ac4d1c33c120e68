//! Listeners of routers: C-100, C-103, C-106, C-108, C-109, C-113.

use expect_test::{Expect, expect};
use mesh_types::Kind;
use serde_json::{Value, json};

use super::{World, listener};

#[track_caller]
fn check(world: World, want: Expect) {
    let text: String = world.outbound().iter().map(listener).collect();
    want.assert_eq(&text);
}

fn gateway(world: World, name: &str, servers: Value) -> World {
    let (namespace, name) = name.split_once('/').unwrap();
    let spec = json!({"selector": {"app": "p"}, "servers": servers});
    world.object(Kind::Gateway, namespace, name, spec)
}

fn server(port: u16, protocol: &str, hosts: &[&str]) -> Value {
    json!({"port": {"number": port, "protocol": protocol, "name": format!("p{port}")}, "hosts": hosts})
}

fn passthrough(port: u16, hosts: &[&str]) -> Value {
    let mut server = server(port, "TLS", hosts);
    server["tls"] = json!({"mode": "PASSTHROUGH"});
    server
}

#[test]
fn c100_an_http_server_needs_no_virtual_service() {
    let world = gateway(
        World::router(),
        "default/gw",
        json!([server(80, "HTTP", &["*"])]),
    );
    assert!(world.made().route_names.contains("http.80"));
    check(
        world,
        expect![[r#"
        0.0.0.0_80 bound
          -> http http.80
    "#]],
    );
    check(
        World::router().service("a.default 10.96.0.1 80:http"),
        expect![[""]],
    );
}

#[test]
fn what_a_gateways_connection_manager_says() {
    use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
    use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::ForwardClientCertDetails;
    let world = World::router()
        .mesh(json!({"defaultConfig": {"gatewayTopology": {"numTrustedProxies": 2, "proxyProtocol": {}}}}));
    let world = gateway(world, "default/gw", json!([server(80, "HTTP", &["*"])]));
    let made = &world.outbound()[0];
    assert_eq!(
        made.listener_filters[0].name,
        "envoy.filters.listener.proxy_protocol"
    );
    let hcm: HttpConnectionManager = super::message(&made.filter_chains[0].filters[0]).unwrap();
    assert_eq!(hcm.use_remote_address, Some(true));
    assert_eq!(hcm.xff_num_trusted_hops, 2);
    assert_eq!(hcm.server_name, "istio-envoy");
    assert_eq!(hcm.stat_prefix, "outbound_0.0.0.0_80;");
    assert_eq!(
        hcm.forward_client_cert_details,
        i32::from(ForwardClientCertDetails::SanitizeSet)
    );
    assert!(hcm.http_protocol_options.is_some());
}

#[test]
fn c103_the_service_of_the_router_translates_its_port() {
    let world = World::router()
        .service_with(
            "gw.default 10.96.0.1 80:http",
            json!({"selector": {"app": "p"}, "ports": [{"name": "http", "number": 80, "protocol": "HTTP", "targetPort": 8080}]}),
        );
    let world = gateway(world, "default/gw", json!([server(80, "HTTP", &["*"])]));
    assert!(world.made().route_names.contains("http.8080"));
    check(
        world,
        expect![[r#"
        0.0.0.0_8080 bound
          -> http http.8080
    "#]],
    );
}

#[test]
fn c106_tls_is_passed_through_by_server_name() {
    let rule = |hosts: &[&str], to: &str| json!({"match": [{"port": 443, "sniHosts": hosts}], "route": [{"destination": {"host": to, "port": {"number": 443}}}]});
    let world = World::router()
        .service("a.default 10.96.0.1 443:tls")
        .service("b.default 10.96.0.2 443:tls");
    let world = gateway(
        world,
        "default/gw",
        json!([passthrough(443, &["*.example"])]),
    )
    .object(
        Kind::VirtualService,
        "default",
        "first",
        json!({"hosts": ["a.example", "b.example"], "gateways": ["gw"], "tls": [rule(&["a.example"], "a"), rule(&["b.example"], "b")]}),
    )
    .object(
        Kind::VirtualService,
        "default",
        "second",
        json!({"hosts": ["a.example", "c.example"], "gateways": ["gw"], "tls": [rule(&["a.example", "c.example"], "b"), rule(&["c.example"], "b")]}),
    );
    check(
        world,
        expect![[r#"
        0.0.0.0_443 bound tls_inspector
          sni=a.example -> tcp outbound|443||a.default.svc.cluster.local
          sni=b.example -> tcp outbound|443||b.default.svc.cluster.local
          sni=c.example -> tcp outbound|443||b.default.svc.cluster.local
    "#]],
    );
}

#[test]
fn one_name_at_one_port_stays_one_chain_whatever_the_protocols_are_called() {
    let mut https = passthrough(443, &["*"]);
    https["port"]["protocol"] = json!("HTTPS");
    let world = World::router().service("a.default 10.96.0.1 443:tls");
    let world = gateway(world, "default/gw", json!([passthrough(443, &["*.example"]), https])).object(
        Kind::VirtualService,
        "default",
        "vs",
        json!({"hosts": ["a.example", "b.example"], "gateways": ["gw"], "tls": [
            {"match": [{"sniHosts": ["a.example", "b.example"]}], "route": [{"destination": {"host": "a"}}]},
        ]}),
    );
    check(
        world,
        expect![[r#"
        0.0.0.0_443 bound tls_inspector
          sni=a.example,b.example -> tcp outbound|443||a.default.svc.cluster.local
    "#]],
    );
}

#[test]
fn c108_the_first_protocol_of_a_port_and_bind_keeps_it() {
    let of = |servers: Value| {
        gateway(World::router(), "default/gw", servers)
            .service("a.default 10.96.0.1 9000:tcp")
            .object(
                Kind::VirtualService,
                "default",
                "vs",
                json!({"hosts": ["*"], "gateways": ["gw"], "tcp": [{"route": [{"destination": {"host": "a", "port": {"number": 9000}}}]}]}),
            )
    };
    let (tcp, http) = (server(80, "TCP", &["*"]), server(80, "HTTP", &["*"]));
    check(
        of(json!([tcp, http])),
        expect![[r#"
        0.0.0.0_80 bound
          -> tcp outbound|9000||a.default.svc.cluster.local
    "#]],
    );
    check(
        of(json!([http, tcp])),
        expect![[r#"
        0.0.0.0_80 bound
          -> http http.80
    "#]],
    );
    let mut elsewhere = tcp;
    elsewhere["bind"] = json!("127.0.0.2");
    check(
        of(json!([http, elsewhere])),
        expect![[r#"
        0.0.0.0_80 bound
          -> http http.80
        127.0.0.2_80 bound
          -> tcp outbound|9000||a.default.svc.cluster.local
    "#]],
    );
}

#[test]
fn c109_a_server_for_one_namespace_binds_rules_of_that_namespace() {
    let vs = |host: &str, to: &str| json!({"hosts": [host], "gateways": ["default/gw"], "tcp": [{"route": [{"destination": {"host": to, "port": {"number": 9000}}}]}]});
    let of = |hosts: &[&str]| {
        gateway(
            World::router(),
            "default/gw",
            json!([server(9000, "TCP", hosts)]),
        )
        .object(
            Kind::VirtualService,
            "ns-2",
            "vs",
            vs("a.example.com", "two"),
        )
        .object(
            Kind::VirtualService,
            "ns-1",
            "vs",
            vs("b.example.com", "one"),
        )
    };
    check(
        of(&["ns-1/*.example.com"]),
        expect![[r#"
        0.0.0.0_9000 bound
          -> tcp outbound|9000||one.ns-1.svc.cluster.local
    "#]],
    );
    check(
        of(&["*/*.example.com"]),
        expect![[r#"
        0.0.0.0_9000 bound
          -> tcp outbound|9000||two.ns-2.svc.cluster.local
    "#]],
    );
    check(of(&["./*"]), expect![[""]]);
}

#[test]
fn c113_the_older_gateway_has_the_port() {
    let world = gateway(
        World::router(),
        "ns-1/gw",
        json!([server(80, "HTTP", &["*"])]),
    );
    let world = gateway(world, "default/gw", json!([server(80, "TCP", &["*"])]));
    check(
        world,
        expect![[r#"
        0.0.0.0_80 bound
          -> http http.80
    "#]],
    );
}

#[test]
fn weighted_tcp_and_ports_of_matches() {
    let route = |host: &str, weight: u32| json!({"destination": {"host": host, "port": {"number": 9000}}, "weight": weight});
    let world = gateway(World::router(), "default/gw", json!([server(9000, "TCP", &["*"])])).object(
        Kind::VirtualService,
        "default",
        "vs",
        json!({"hosts": ["*"], "gateways": ["gw", "mesh"], "tcp": [
            {"match": [{"port": 1}], "route": [route("never", 1)]},
            {"match": [{"gateways": ["mesh"]}], "route": [route("never", 1)]},
            {"match": [{"port": 9000, "gateways": ["gw"]}], "route": [route("a", 90), route("b", 10)]},
        ]}),
    );
    check(
        world,
        expect![[r#"
        0.0.0.0_9000 bound
          -> tcp vs.default outbound|9000||a.default.svc.cluster.local=90 outbound|9000||b.default.svc.cluster.local=10
    "#]],
    );
}

#[test]
fn ports_that_the_router_cannot_open() {
    let world = World::router().proxy(|p| p.unprivileged = true);
    let servers = json!([
        server(80, "HTTP", &["*"]),
        server(15021, "HTTP", &["*"]),
        server(8080, "HTTP", &["*"])
    ]);
    check(
        gateway(world, "default/gw", servers),
        expect![[r#"
        0.0.0.0_8080 bound
          -> http http.8080
    "#]],
    );
}
