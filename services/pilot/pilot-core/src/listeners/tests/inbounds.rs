//! Inbound listeners: C-050..C-058 in their plaintext column, C-060.

use envoy_api::envoy::config::listener::v3::Listener;
use envoy_api::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
use expect_test::{Expect, expect};
use mesh_model::Interception;
use mesh_types::Kind;
use serde_json::json;

use super::{World, listener};

#[track_caller]
fn check(world: World, targets: &[(&str, u16, u16)], want: Expect) {
    let text: String = world.inbound(targets).iter().map(listener).collect();
    want.assert_eq(&text);
}

fn three_ports() -> World {
    World::new().service("a.default 10.96.0.1 70:tcp,80:http,81:auto")
}

const THREE: [(&str, u16, u16); 3] = [("a", 70, 70), ("a", 80, 8080), ("a", 81, 81)];

#[test]
fn c050_to_c053_chains_by_protocol_and_for_unknown_ports() {
    check(
        three_ports(),
        &THREE,
        expect![[r#"
        virtualInbound bound timeout=0s original_dst http_inspector(not everywhere)
          virtualInbound-blackhole :15006 -> tcp BlackHoleCluster
          virtualInbound-catchall-http raw_buffer [http/1.1,h2c] -> http InboundPassthroughCluster vhost inbound|http|0 (InboundPassthroughCluster;)
          virtualInbound raw_buffer -> tcp InboundPassthroughCluster
          0.0.0.0_70 :70 raw_buffer -> tcp inbound|70||
          0.0.0.0_81 :81 raw_buffer [http/1.1,h2c] -> http inbound|81|| vhost inbound|http|81 (inbound_0.0.0.0_81;)
          0.0.0.0_81 :81 raw_buffer -> tcp inbound|81||
          0.0.0.0_8080 :8080 raw_buffer -> http inbound|8080|| vhost inbound|http|80 (inbound_0.0.0.0_8080;)
    "#]],
    );
}

#[test]
fn c016_without_services_everything_is_passed_through() {
    check(
        World::new(),
        &[],
        expect![[r#"
        virtualInbound bound timeout=0s original_dst http_inspector
          virtualInbound-blackhole :15006 -> tcp BlackHoleCluster
          virtualInbound-catchall-http raw_buffer [http/1.1,h2c] -> http InboundPassthroughCluster vhost inbound|http|0 (InboundPassthroughCluster;)
          virtualInbound raw_buffer -> tcp InboundPassthroughCluster
    "#]],
    );
}

/// The ports where the HTTP inspector of a listener is off, and whether a list was needed to say so.
fn off_at(listener: &Listener) -> (Vec<i32>, bool) {
    let filter = &listener.listener_filters[1];
    assert_eq!(filter.name, "envoy.filters.listener.http_inspector");
    let port = |rule: &Rule| match rule {
        Rule::DestinationPortRange(range) => {
            assert_eq!(range.end, range.start + 1);
            range.start
        }
        _ => panic!("not a port"),
    };
    match filter
        .filter_disabled
        .as_ref()
        .and_then(|p| p.rule.as_ref())
    {
        None => (Vec::new(), false),
        Some(Rule::OrMatch(set)) => {
            let rules = set.rules.iter().map(|p| port(p.rule.as_ref().unwrap()));
            (rules.collect(), true)
        }
        Some(one) => (vec![port(one)], false),
    }
}

#[test]
fn the_http_inspector_is_off_where_the_protocol_is_known() {
    assert_eq!(
        off_at(&three_ports().inbound(&THREE)[0]),
        (vec![70, 8080], true)
    );
    assert_eq!(
        off_at(&three_ports().inbound(&THREE[1..])[0]),
        (vec![8080], false)
    );
    assert_eq!(off_at(&World::new().inbound(&[])[0]), (vec![], false));
}

#[test]
fn c056_a_sidecar_lists_its_own_ports() {
    let ingress = |capture: &str| {
        three_ports().object(
            Kind::Sidecar,
            "default",
            "s",
            json!({"egress": [{"hosts": ["*/*"]}], "ingress": [
                {"port": {"number": 9080, "protocol": "HTTP", "name": "http"}, "defaultEndpoint": "127.0.0.1:8080"},
                {"port": {"number": 9090, "protocol": "TCP", "name": "tcp"}, "bind": "127.0.0.1", "captureMode": capture, "defaultEndpoint": "unix:///s"},
            ]}),
        )
    };
    check(
        ingress("DEFAULT"),
        &[],
        expect![[r#"
        virtualInbound bound timeout=0s original_dst http_inspector(not everywhere)
          virtualInbound-blackhole :15006 -> tcp BlackHoleCluster
          virtualInbound-catchall-http raw_buffer [http/1.1,h2c] -> http InboundPassthroughCluster vhost inbound|http|0 (InboundPassthroughCluster;)
          virtualInbound raw_buffer -> tcp InboundPassthroughCluster
          10.0.0.1_9080 :9080 raw_buffer -> http inbound|9080|| vhost inbound|http|9080 (inbound_0.0.0.0_9080;)
          127.0.0.1_9090 :9090 raw_buffer -> tcp inbound|9090||
    "#]],
    );
    check(
        ingress("NONE"),
        &[],
        expect![[r#"
        virtualInbound bound timeout=0s original_dst http_inspector(not everywhere)
          virtualInbound-blackhole :15006 -> tcp BlackHoleCluster
          virtualInbound-catchall-http raw_buffer [http/1.1,h2c] -> http InboundPassthroughCluster vhost inbound|http|0 (InboundPassthroughCluster;)
          virtualInbound raw_buffer -> tcp InboundPassthroughCluster
          10.0.0.1_9080 :9080 raw_buffer -> http inbound|9080|| vhost inbound|http|9080 (inbound_0.0.0.0_9080;)
        127.0.0.1_9090 bound
          127.0.0.1_9090 :9090 raw_buffer -> tcp inbound|9090||
    "#]],
    );
    let uncaptured = ingress("DEFAULT").proxy(|p| p.interception = Interception::None);
    check(
        uncaptured,
        &[],
        expect![[r#"
        10.0.0.1_9080 bound
          10.0.0.1_9080 :9080 raw_buffer -> http inbound|9080|| vhost inbound|http|9080 (inbound_0.0.0.0_9080;)
        127.0.0.1_9090 bound
          127.0.0.1_9090 :9090 raw_buffer -> tcp inbound|9090||
    "#]],
    );
}

#[test]
fn c058_the_oldest_service_of_a_port_decides() {
    let world = World::new()
        .service("a.default 10.96.0.1 80:http")
        .service("b.default 10.96.0.2 90:tcp");
    check(
        world,
        &[("a", 80, 8080), ("b", 90, 8080)],
        expect![[r#"
            virtualInbound bound timeout=0s original_dst http_inspector(not everywhere)
              virtualInbound-blackhole :15006 -> tcp BlackHoleCluster
              virtualInbound-catchall-http raw_buffer [http/1.1,h2c] -> http InboundPassthroughCluster vhost inbound|http|0 (InboundPassthroughCluster;)
              virtualInbound raw_buffer -> tcp InboundPassthroughCluster
              0.0.0.0_8080 :8080 raw_buffer -> http inbound|8080|| vhost inbound|http|80 (inbound_0.0.0.0_8080;)
        "#]],
    );
}

#[test]
fn c060_nothing_is_captured_without_interception() {
    let world = three_ports().proxy(|p| p.interception = Interception::None);
    check(world, &THREE, expect![[""]]);
}

#[test]
fn ports_of_the_proxy_and_udp_have_no_chains() {
    let world = World::new().service("a.default 10.96.0.1 1:http,2:http,3:http,4:udp");
    check(
        world,
        &[
            ("a", 1, 15021),
            ("a", 2, 15006),
            ("a", 3, 8080),
            ("a", 4, 53),
        ],
        expect![[r#"
            virtualInbound bound timeout=0s original_dst http_inspector(not everywhere)
              virtualInbound-blackhole :15006 -> tcp BlackHoleCluster
              virtualInbound-catchall-http raw_buffer [http/1.1,h2c] -> http InboundPassthroughCluster vhost inbound|http|0 (InboundPassthroughCluster;)
              virtualInbound raw_buffer -> tcp InboundPassthroughCluster
              0.0.0.0_8080 :8080 raw_buffer -> http inbound|8080|| vhost inbound|http|3 (inbound_0.0.0.0_8080;)
        "#]],
    );
}

#[test]
fn http_1_0_and_tproxy_and_ipv6() {
    let world = World::new()
        .proxy(|p| {
            p.http10 = true;
            p.interception = Interception::Tproxy;
            p.addresses = vec!["fd00::1".parse().unwrap()];
            p.inbound_exact_balance = true;
        })
        .service("a.default fd00:96::1 80:auto");
    let made = world.inbound(&[("a", 80, 80)]);
    assert_eq!(made[0].transparent, Some(true));
    assert!(made[0].connection_balance_config.is_some());
    check(
        world,
        &[("a", 80, 80)],
        expect![[r#"
        virtualInbound bound timeout=0s original_dst original_src http_inspector
          virtualInbound-blackhole :15006 -> tcp BlackHoleCluster
          virtualInbound-catchall-http raw_buffer [http/1.0,http/1.1,h2c] -> http InboundPassthroughCluster vhost inbound|http|0 (InboundPassthroughCluster;)
          virtualInbound raw_buffer -> tcp InboundPassthroughCluster
          ::_80 :80 raw_buffer [http/1.0,http/1.1,h2c] -> http inbound|80|| vhost inbound|http|80 (inbound_::_80;)
          ::_80 :80 raw_buffer -> tcp inbound|80||
    "#]],
    );
}

#[test]
fn the_one_route_of_an_http_chain() {
    use envoy_api::envoy::config::route::v3::{RouteAction, route};
    use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
    use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
    let action = |world: World| -> (String, RouteAction) {
        let made = world.service("a.default 10.96.0.1 80:http,81:grpc");
        let chains = &made.inbound(&[("a", 80, 8080), ("a", 81, 8081)])[0].filter_chains;
        let read = |port| {
            let chain = chains.iter().find(|c| c.name == format!("0.0.0.0_{port}"));
            super::message::<HttpConnectionManager>(&chain.unwrap().filters[0]).unwrap()
        };
        let of = |port| {
            let Some(RouteSpecifier::RouteConfig(config)) = read(port).route_specifier else {
                panic!("no routes")
            };
            config.virtual_hosts[0].routes[0].clone()
        };
        let (http, grpc) = (of(8080), of(8081));
        let Some(route::Action::Route(grpc)) = grpc.action else {
            panic!("no route")
        };
        assert!(grpc.retry_policy.is_none());
        let Some(route::Action::Route(action)) = http.action else {
            panic!("no route")
        };
        (http.decorator.unwrap().operation, action)
    };
    let (operation, default) = action(World::new());
    assert_eq!(operation, "a.default.svc.cluster.local:80/*");
    assert_eq!(default.timeout.unwrap().seconds, 0);
    let retry = default.retry_policy.unwrap();
    assert_eq!(
        (retry.retry_on.as_str(), retry.num_retries),
        ("reset-before-request", Some(2))
    );
    let none = json!({"defaultInboundHttpRetryPolicy": {"attempts": 0}});
    assert!(action(World::new().mesh(none)).1.retry_policy.is_none());
    let own = json!({"defaultInboundHttpRetryPolicy": {"attempts": 5, "retryOn": "5xx"}});
    let retry = action(World::new().mesh(own)).1.retry_policy.unwrap();
    assert_eq!(
        (retry.retry_on.as_str(), retry.num_retries),
        ("5xx", Some(5))
    );
}
