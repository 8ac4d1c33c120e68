//! Outbound listeners: C-001..C-018, C-121, C-122.

use expect_test::{Expect, expect};
use mesh_model::Interception;
use mesh_types::Kind;
use serde_json::json;

use super::{World, listener};

#[track_caller]
fn check(world: World, want: Expect) {
    let text: String = world
        .outbound()
        .iter()
        .filter(|l| l.name != "virtualOutbound")
        .map(listener)
        .collect();
    want.assert_eq(&text);
}

fn se(host: &str, body: serde_json::Value) -> (String, serde_json::Value) {
    (host.to_owned(), body)
}

#[test]
fn c001_http_port_shares_the_wildcard_listener() {
    let world = World::new()
        .service("a.default 10.96.0.1 80:http")
        .service("b.default 10.96.0.2 80:grpc");
    let made = world.made();
    assert_eq!(
        made.route_names.iter().map(|n| &**n).collect::<Vec<_>>(),
        ["80"]
    );
    check(
        world,
        expect![[r#"
            0.0.0.0_80 timeout=0s http_inspector
              raw_buffer [http/1.1,h2c] -> http 80
              default PassthroughFilterChain -> tcp PassthroughCluster
        "#]],
    );
}

#[test]
fn c004_tcp_port_with_address() {
    check(
        World::new().service("t.default 10.96.0.1 9000:tcp"),
        expect![[r#"
            10.96.0.1_9000 timeout=0s
              -> tcp outbound|9000||t.default.svc.cluster.local
        "#]],
    );
}

#[test]
fn c005_sniffed_port_with_address() {
    let world = World::new().service("u.default 10.96.0.1 8080:auto");
    assert!(
        world
            .made()
            .route_names
            .contains("u.default.svc.cluster.local:8080")
    );
    check(
        world,
        expect![[r#"
        10.96.0.1_8080 timeout=0s http_inspector
          raw_buffer [http/1.1,h2c] -> http u.default.svc.cluster.local:8080
          default -> tcp outbound|8080||u.default.svc.cluster.local
    "#]],
    );
}

#[test]
fn c007_http_and_tcp_without_address_in_either_order() {
    let http = "a.default 10.96.0.1 80:http";
    let tcp = "x.example - 80:tcp";
    let want = expect![[r#"
        0.0.0.0_80 timeout=0s http_inspector
          raw_buffer [http/1.1,h2c] -> http 80
          default -> tcp outbound|80||x.example
    "#]];
    check(World::new().service(http).service(tcp), want);
    let want = expect![[r#"
        0.0.0.0_80 timeout=0s http_inspector
          raw_buffer [http/1.1,h2c] -> http 80
          default -> tcp outbound|80||x.example
    "#]];
    check(World::new().service(tcp).service(http), want);
}

#[test]
fn c008_the_older_of_two_tcp_services_owns_the_port() {
    let world = World::new()
        .service("x.example - 9000:tcp")
        .service("y.example - 9000:tcp");
    check(
        world,
        expect![[r#"
        0.0.0.0_9000 timeout=0s
          -> tcp outbound|9000||x.example
    "#]],
    );
}

#[test]
fn c009_tls_port_without_address_is_chosen_by_server_name() {
    check(
        World::new()
            .service("x.example - 443:tls")
            .service("y.example - 443:https"),
        expect![[r#"
            0.0.0.0_443 timeout=0s tls_inspector
              sni=x.example -> tcp outbound|443||x.example
              sni=y.example -> tcp outbound|443||y.example
              default PassthroughFilterChain -> tcp PassthroughCluster
        "#]],
    );
}

#[test]
fn c010_network_address() {
    check(
        World::new().service("x.example 10.10.0.0/16 5000:tcp"),
        expect![[r#"
            0.0.0.0_5000 timeout=0s
              10.10.0.0/16 -> tcp outbound|5000||x.example
              default PassthroughFilterChain -> tcp PassthroughCluster
        "#]],
    );
}

#[test]
fn c011_two_addresses_are_two_listeners() {
    check(
        World::new().service("x.example 10.1.1.1,10.1.1.2 5000:tcp"),
        expect![[r#"
            10.1.1.1_5000 timeout=0s
              -> tcp outbound|5000||x.example
            10.1.1.2_5000 timeout=0s
              -> tcp outbound|5000||x.example
        "#]],
    );
}

#[test]
fn c012_headless_service_has_a_listener_per_endpoint() {
    let headless =
        || World::new().service_with("h.default - 6379:tcp", json!({"resolution": "passthrough"}));
    let host = "h.default.svc.cluster.local";
    check(
        headless().endpoints("default", host, 6379, &["10.0.0.1", "10.0.0.3", "10.0.0.2"]),
        expect![[r#"
            10.0.0.2_6379 timeout=0s
              -> tcp outbound|6379||h.default.svc.cluster.local
            10.0.0.3_6379 timeout=0s
              -> tcp outbound|6379||h.default.svc.cluster.local
        "#]],
    );
    check(headless(), expect![[""]]);
}

#[test]
fn c013_headless_http_shares_the_wildcard_listener() {
    check(
        World::new().service_with("h.default - 80:http", json!({"resolution": "passthrough"})),
        expect![[r#"
            0.0.0.0_80 timeout=0s http_inspector
              raw_buffer [http/1.1,h2c] -> http 80
              default PassthroughFilterChain -> tcp PassthroughCluster
        "#]],
    );
}

#[test]
fn external_passthrough_without_endpoints_takes_its_port() {
    check(
        World::new().service_with("x.example - 6379:tcp", json!({"resolution": "passthrough"})),
        expect![[r#"
            0.0.0.0_6379 timeout=0s
              -> tcp outbound|6379||x.example
        "#]],
    );
}

#[test]
fn c014_aliases_and_udp_have_no_listeners() {
    check(
        World::new()
            .service_with(
                "alias.default - 80:http",
                json!({"resolution": "alias", "aliasOf": "a.default.svc.cluster.local"}),
            )
            .service("d.default 10.96.0.5 53:udp"),
        expect![[""]],
    );
}

#[test]
fn c016_virtual_outbound() {
    let last = |world: World| listener(world.outbound().last().unwrap());
    expect![[r#"
        virtualOutbound bound
          virtualOutbound-blackhole :15001 -> tcp BlackHoleCluster
          virtualOutbound-catchall-tcp -> tcp PassthroughCluster
    "#]]
    .assert_eq(&last(World::new()));
    let closed = World::new().mesh(json!({"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}));
    expect![[r#"
        virtualOutbound bound
          virtualOutbound-blackhole :15001 -> tcp BlackHoleCluster
          virtualOutbound-catchall-tcp -> tcp BlackHoleCluster
    "#]]
    .assert_eq(&last(closed));
    let tproxy = World::new()
        .proxy(|p| p.interception = Interception::Tproxy)
        .outbound();
    assert_eq!(tproxy[0].transparent, Some(true));
    assert_eq!(tproxy[0].use_original_dst, Some(true));
}

#[test]
fn c017_mongo_shares_its_port_with_nothing_else() {
    check(
        World::new()
            .service("m.example - 27017:mongo")
            .service("w.default 10.96.0.1 27017:http"),
        expect![[r#"
            0.0.0.0_27017 timeout=0s
              -> envoy.filters.network.mongo_proxy tcp outbound|27017||m.example
        "#]],
    );
    check(
        World::new()
            .service("w.default 10.96.0.1 27017:http")
            .service("m.example - 27017:mongo"),
        expect![[r#"
            0.0.0.0_27017 timeout=0s http_inspector
              raw_buffer [http/1.1,h2c] -> http 27017
              default PassthroughFilterChain -> tcp PassthroughCluster
        "#]],
    );
}

#[test]
fn c018_forward_proxy() {
    let world = World::new().mesh(json!({"proxyHttpPort": 15002}));
    assert!(world.made().route_names.contains("http_proxy"));
    check(
        world,
        expect![[r#"
        127.0.0.1_15002 bound timeout=0s
          -> http http_proxy
    "#]],
    );
}

#[test]
fn c060_no_interception_binds_loopback_and_has_no_virtual_outbound() {
    let world = World::new()
        .proxy(|p| p.interception = Interception::None)
        .service("a.default 10.96.0.1 80:http,9000:tcp,81:auto");
    let names: Vec<_> = world.outbound().iter().map(|l| l.name.clone()).collect();
    assert!(!names.contains(&"virtualOutbound".to_owned()));
    check(
        world,
        expect![[r#"
        127.0.0.1_80 bound timeout=0s
          -> http 80
        127.0.0.1_81 bound timeout=0s http_inspector
          raw_buffer [http/1.1,h2c] -> http a.default.svc.cluster.local:81
          default -> tcp outbound|81||a.default.svc.cluster.local
        127.0.0.1_9000 bound timeout=0s
          -> tcp outbound|9000||a.default.svc.cluster.local
    "#]],
    );
}

#[test]
fn c121_an_egress_port_is_closed_to_the_catch_all() {
    let world = World::new()
        .service("a.prod 10.96.0.1 9080:http")
        .service("t.prod 10.96.0.2 9090:tcp")
        .service("x.example - 9080:tcp")
        .object(
            Kind::Sidecar,
            "default",
            "s",
            json!({"egress": [
                {"port": {"number": 9080, "protocol": "HTTP", "name": "http"}, "hosts": ["prod/*"]},
                {"hosts": ["*/*"]},
            ]}),
        );
    check(
        world,
        expect![[r#"
        0.0.0.0_9080 timeout=0s http_inspector
          raw_buffer [http/1.1,h2c] -> http 9080
          default PassthroughFilterChain -> tcp PassthroughCluster
        10.96.0.2_9090 timeout=0s
          -> tcp outbound|9090||t.prod.svc.cluster.local
    "#]],
    );
}

#[test]
fn c122_capture_none_binds_for_real() {
    let world = World::new().service("a.default 10.96.0.1 9000:http").object(
        Kind::Sidecar,
        "default",
        "s",
        json!({"egress": [
            {"port": {"number": 9000, "protocol": "HTTP", "name": "http"}, "bind": "127.0.0.1", "captureMode": "NONE", "hosts": ["*/*"]},
        ]}),
    );
    let real = &world.outbound()[0];
    assert_eq!(
        (
            real.bind_to_port,
            real.max_connections_to_accept_per_socket_event
        ),
        (None, Some(1))
    );
    check(
        world,
        expect![[r#"
        127.0.0.1_9000 bound timeout=0s
          -> http 9000
    "#]],
    );
}

#[test]
fn unix_socket_of_an_egress_listener() {
    let world = World::new().service("a.default 10.96.0.1 80:http").object(
        Kind::Sidecar,
        "default",
        "s",
        json!({"egress": [
            {"port": {"number": 80, "protocol": "HTTP", "name": "http"}, "bind": "unix:///tmp/egress.sock", "hosts": ["*/*"]},
        ]}),
    );
    assert!(world.made().route_names.contains("unix:///tmp/egress.sock"));
    check(
        world,
        expect![[r#"
        /tmp/egress.sock_0 bound timeout=0s
          -> http unix:///tmp/egress.sock
    "#]],
    );
}

#[test]
fn tcp_rules_by_subnet_label_and_port() {
    let (host, vs) = se(
        "x.example",
        json!({"hosts": ["x.example"], "tcp": [
            {"match": [{"sourceLabels": {"app": "other"}}], "route": [{"destination": {"host": "never"}}]},
            {"match": [{"port": 1}], "route": [{"destination": {"host": "never"}}]},
            {"match": [{"destinationSubnets": ["10.2.0.0/16"], "port": 5000}], "route": [{"destination": {"host": "x.example", "subset": "v1"}}]},
            {"match": [{"sourceLabels": {"app": "p"}}], "route": [
                {"destination": {"host": "x.example", "subset": "v1"}, "weight": 80},
                {"destination": {"host": "x.example", "subset": "v2"}, "weight": 20},
                {"destination": {"host": "x.example", "subset": "v3"}, "weight": 0},
            ]},
        ]}),
    );
    let world = World::new().service(&format!("{host} - 5000:tcp")).object(
        Kind::VirtualService,
        "default",
        "split",
        vs,
    );
    let chain = world.outbound()[0].default_filter_chain.clone().unwrap();
    assert!(
        chain
            .metadata
            .unwrap()
            .filter_metadata
            .contains_key("istio")
    );
    check(
        world,
        expect![[r#"
        0.0.0.0_5000 timeout=0s
          10.2.0.0/16 -> tcp outbound|5000|v1|x.example
          default -> tcp split.default outbound|5000|v1|x.example=80 outbound|5000|v2|x.example=20
    "#]],
    );
}

#[test]
fn tls_rules_by_server_name() {
    let world = World::new().service("x.example - 443:tls").service("y.example 10.1.1.1 443:tls").object(
        Kind::VirtualService,
        "default",
        "tls",
        json!({"hosts": ["x.example", "y.example"], "tls": [
            {"match": [{"sniHosts": ["x.example"], "port": 443}, {"sniHosts": ["x.example"]}], "route": [{"destination": {"host": "y.example"}}]},
            {"match": [{"sniHosts": ["y.example"], "gateways": ["default/gw"]}], "route": [{"destination": {"host": "never"}}]},
        ]}),
    );
    check(
        world,
        expect![[r#"
        0.0.0.0_443 timeout=0s tls_inspector
          sni=x.example -> tcp outbound|443||y.example
          default PassthroughFilterChain -> tcp PassthroughCluster
        10.1.1.1_443 timeout=0s tls_inspector
          sni=x.example -> tcp outbound|443||y.example
          default PassthroughFilterChain -> tcp PassthroughCluster
    "#]],
    );
}

#[test]
fn settings_of_a_destination_rule_on_tcp() {
    use envoy_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
    let world = World::new()
        .proxy(|p| p.idle_timeout = mesh_config::resource::Duration::parse("7s"))
        .service("x.example 10.1.1.1 5000:tcp")
        .service("y.example 10.1.1.2 5000:tcp")
        .object(
            Kind::DestinationRule,
            "default",
            "x",
            json!({"host": "x.example", "trafficPolicy": {
                "connectionPool": {"tcp": {"idleTimeout": "5s", "maxConnectionDuration": "9s"}},
                "loadBalancer": {"consistentHash": {"useSourceIp": true}},
                "tunnel": {"protocol": "POST", "targetHost": "t.example", "targetPort": 443},
            }}),
        );
    let proxies: Vec<TcpProxy> = world.outbound()[..2]
        .iter()
        .map(|l| super::message(&l.filter_chains[0].filters[0]).unwrap())
        .collect();
    let x = &proxies[0];
    assert_eq!(x.idle_timeout.unwrap().seconds, 5);
    assert_eq!(x.max_downstream_connection_duration.unwrap().seconds, 9);
    assert_eq!(x.hash_policy.len(), 1);
    let tunnel = x.tunneling_config.as_ref().unwrap();
    assert_eq!(
        (tunnel.hostname.as_str(), tunnel.use_post),
        ("t.example:443", true)
    );
    assert_eq!(proxies[1].idle_timeout.unwrap().seconds, 7);
}

#[test]
fn ports_of_the_proxy_are_left_alone() {
    check(
        World::new()
            .proxy(|p| p.unprivileged = true)
            .service("a.default 10.96.0.1 15021:http,15001:http,80:http")
            .service("x.example - 15090:tcp"),
        expect![[r#"
            0.0.0.0_80 timeout=0s http_inspector
              raw_buffer [http/1.1,h2c] -> http 80
              default PassthroughFilterChain -> tcp PassthroughCluster
        "#]],
    );
    let none = World::new().proxy(|p| {
        p.unprivileged = true;
        p.interception = Interception::None;
        p.http_proxy_port = 8888;
    });
    check(
        none.service("a.default 10.96.0.1 80:http,8080:http,8888:http"),
        expect![[r#"
            127.0.0.1_8080 bound timeout=0s
              -> http 8080
            127.0.0.1_8888 bound timeout=0s
              -> http http_proxy
        "#]],
    );
}

#[test]
fn only_what_changed_is_encoded_anew() {
    let memos = crate::Memos::default();
    let old = World::new()
        .service("a.default 10.96.0.1 9000:tcp")
        .service("b.default 10.96.0.2 9001:tcp");
    let new = World::new()
        .service("a.default 10.96.0.1 9000:tcp")
        .service("b.default 10.96.0.2 9002:tcp");
    let (old, new) = (old.made_with(&memos), new.made_with(&memos));
    let shared = |at: usize| std::sync::Arc::ptr_eq(&old.resources[at], &new.resources[at]);
    assert_eq!([shared(0), shared(1), shared(2)], [true, false, true]);
}
