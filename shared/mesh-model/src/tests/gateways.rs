//! Servers of routers.

use expect_test::{Expect, expect};

use crate::testing::{World, proxy, servers};

#[track_caller]
fn check(text: &str, want: Expect) {
    want.assert_eq(&servers(&World::new(text).router("n")));
}

#[test]
fn c_100_a_server_makes_a_port_with_its_route_name() {
    check(
        "Gateway n/gw\nselector: {app: p}\nservers: [{port: {number: 80, protocol: HTTP, name: http}, hosts: ['*']}]\n---\n\
         Gateway n/other\nselector: {app: q}\nservers: [{port: {number: 81, protocol: HTTP, name: http}, hosts: ['*']}]",
        expect![[r#"
            80 Http "http.80" n/gw ["*"] []
        "#]],
    );
}

#[test]
fn c_103_ports_follow_the_routers_services() {
    let text = "svc gw.n http:80>8080 app=p\n---\nGateway n/gw\nservers: [{port: {number: 80, protocol: HTTP, name: http}, hosts: ['*']}]";
    check(
        text,
        expect![[r#"
            8080 Http "http.8080" n/gw ["*"] []
        "#]],
    );
    let world = World::new(text);
    assert_eq!(
        world
            .mesh
            .view_key(&proxy("router", "n", "p"))
            .gateway_ports,
        [(80, 8080)]
    );
    assert_eq!(
        world
            .mesh
            .view_key(&proxy("router", "n", "q"))
            .gateway_ports,
        []
    );
    assert_eq!(
        world
            .mesh
            .view_key(&proxy("sidecar", "n", "p"))
            .gateway_ports,
        []
    );
}

#[test]
fn c_104_terminated_https_has_its_own_route_name() {
    check(
        "Gateway n/gw\nservers:\n- {port: {number: 443, protocol: HTTPS, name: a}, hosts: [a.com], tls: {mode: SIMPLE, credentialName: c}}\n\
         - {port: {number: 443, protocol: HTTPS, name: b}, bind: 10.0.0.9, hosts: [b.com], tls: {mode: SIMPLE, credentialName: c}}\n\
         - {port: {number: 443, protocol: TLS, name: c}, hosts: [c.com], tls: {mode: PASSTHROUGH}}",
        expect![[r#"
            443 Https "https.443.a.gw.n" n/gw ["a.com"] []
            443 Tls "" n/gw ["c.com"] []
            10.0.0.9443 Https "https.443.b.gw.n.10.0.0.9" n/gw ["b.com"] []
        "#]],
    );
}

#[test]
fn c_108_tcp_and_http_do_not_share_a_port() {
    let server = |protocol: &str, bind: &str| {
        format!(
            "- {{port: {{number: 80, protocol: {protocol}, name: {protocol}}}, hosts: ['*'], bind: '{bind}'}}\n"
        )
    };
    let gateway = |servers: String| format!("Gateway n/gw\nservers:\n{servers}");
    check(
        &gateway(server("TCP", "") + &server("HTTP", "")),
        expect![[r#"
            80 Tcp "" n/gw ["*"] []
        "#]],
    );
    check(
        &gateway(server("HTTP", "") + &server("TCP", "")),
        expect![[r#"
            80 Http "http.80" n/gw ["*"] []
        "#]],
    );
    check(
        &gateway(server("HTTP", "") + &server("TCP", "10.0.0.9")),
        expect![[r#"
            80 Http "http.80" n/gw ["*"] []
            10.0.0.980 Tcp "" n/gw ["*"] []
        "#]],
    );
    check(
        &gateway(server("HTTP", "") + &server("GRPC", "")),
        expect![[r#"
            80 Http "http.80" n/gw ["*"] [] + n/gw ["*"] []
        "#]],
    );
}

#[test]
fn c_109_hosts_in_normal_form() {
    check(
        "Gateway n/gw\nservers:\n- {port: {number: 80, protocol: HTTP, name: a}, hosts: ['./*', 'ns-1/*.example.com', '*/b.com']}\n\
         - {port: {number: 81, protocol: HTTP, name: b}, hosts: [a.com, '*/*']}",
        expect![[r#"
            80 Http "http.80" n/gw ["n/*", "ns-1/*.example.com", "b.com"] []
            81 Http "http.81" n/gw ["*"] []
        "#]],
    );
}

#[test]
fn c_111_a_tls_host_is_taken_once_per_port() {
    check(
        "Gateway n/a\nservers: [{port: {number: 443, protocol: HTTPS, name: x}, hosts: [x/a.com], tls: {mode: SIMPLE, credentialName: c}}]\n---\n\
         Gateway n/b\nservers:\n- {port: {number: 443, protocol: HTTPS, name: x}, hosts: [y/a.com], tls: {mode: SIMPLE, credentialName: c}}\n\
         - {port: {number: 80, protocol: HTTP, name: y}, hosts: [a.com]}",
        expect![[r#"
            80 Http "http.80" n/b ["a.com"] []
            443 Https "https.443.x.a.n" n/a ["x/a.com"] []
        "#]],
    );
}

#[test]
fn c_113_the_older_gateway_wins_a_port_in_any_namespace() {
    let gateway = |namespace: &str, created: &str, protocol: &str| {
        format!(
            "Gateway {namespace}/gw created={created}\nservers: [{{port: {{number: 80, protocol: {protocol}, name: x}}, hosts: ['*']}}]\n---\n"
        )
    };
    check(
        &(gateway("a", "5", "HTTP") + &gateway("z", "4", "TCP")),
        expect![[r#"
            80 Tcp "" z/gw ["*"] []
        "#]],
    );
    check(
        &(gateway("z", "5", "TCP") + &gateway("a", "5", "HTTP")),
        expect![[r#"
            80 Http "http.80" a/gw ["*"] []
        "#]],
    );
}

#[test]
fn servers_hold_the_rules_bound_to_their_gateway() {
    check(
        "Gateway n/gw\nservers: [{port: {number: 80, protocol: HTTP, name: http}, hosts: ['*']}]\n---\n\
         VirtualService x/bound\nhosts: [a.com]\ngateways: [n/gw]\n---\nVirtualService x/hidden\nhosts: [a.com]\nexportTo: ['.']\ngateways: [n/gw]\n---\n\
         VirtualService n/own\nhosts: [b.com]\ngateways: [gw]\n---\nVirtualService n/mesh\nhosts: [b.com]",
        expect![[r#"
            80 Http "http.80" n/gw ["*"] ["x/bound", "n/own"]
        "#]],
    );
}
