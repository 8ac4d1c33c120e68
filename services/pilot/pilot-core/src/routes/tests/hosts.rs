//! Which virtual hosts there are, and what they answer to.

use expect_test::expect;

use super::*;

#[test]
fn c001_a_service_without_rules() {
    let yaml = service("a", "1", HTTP);
    check(
        &yaml,
        "80",
        expect![[r#"
        a.default.svc.cluster.local:80: a.default.svc.cluster.local a.default.svc.cluster.local. a a.default.svc a.default 10.96.0.1
          default: prefix / -> outbound|80||a.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
    let config = rds(&yaml, &sidecar("default"), "80");
    expect![[r#"
        {
          "ignorePortInHostMatching": true,
          "name": "80",
          "virtualHosts": [
            {
              "name": "a.default.svc.cluster.local:80",
              "domains": [
                "a.default.svc.cluster.local",
                "a.default.svc.cluster.local.",
                "a",
                "a.default.svc",
                "a.default",
                "10.96.0.1"
              ],
              "routes": [
                {
                  "match": {
                    "prefix": "/"
                  },
                  "route": {
                    "cluster": "outbound|80||a.default.svc.cluster.local",
                    "timeout": "0s",
                    "retryPolicy": {
                      "retryOn": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
                      "numRetries": 2,
                      "retryHostPredicate": [
                        {
                          "name": "envoy.retry_host_predicates.previous_hosts",
                          "typedConfig": {}
                        }
                      ],
                      "hostSelectionRetryMaxAttempts": "5"
                    },
                    "maxGrpcTimeout": "0s"
                  },
                  "decorator": {
                    "operation": "a.default.svc.cluster.local:80/*"
                  },
                  "name": "default"
                }
              ],
              "includeRequestAttemptCount": true
            },
            {
              "name": "allow_any",
              "domains": [
                "*"
              ],
              "routes": [
                {
                  "match": {
                    "prefix": "/"
                  },
                  "route": {
                    "cluster": "PassthroughCluster",
                    "timeout": "0s",
                    "maxGrpcTimeout": "0s"
                  },
                  "name": "allow_any"
                }
              ],
              "includeRequestAttemptCount": true
            }
          ],
          "validateClusters": false,
          "maxDirectResponseBodySizeBytes": 1048576
        }"#]].assert_eq(&serde_json::to_string_pretty(&config).unwrap());
}

#[test]
fn c002_of_another_namespace_names_keep_it() {
    let yaml = service_in("other", "a", "1", HTTP);
    check(
        &yaml,
        "80",
        expect![[r#"
        a.other.svc.cluster.local:80: a.other.svc.cluster.local a.other.svc.cluster.local. a.other a.other.svc 10.96.0.1
          default: prefix / -> outbound|80||a.other.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
}

#[test]
fn c013_endpoints_of_a_headless_service_have_names_below_it() {
    check(
        &service("h", "None", HTTP),
        "80",
        expect![[r#"
        h.default.svc.cluster.local:80: h.default.svc.cluster.local h.default.svc.cluster.local. h h.default.svc h.default *.h.default.svc.cluster.local *.h.default.svc.cluster.local. *.h *.h.default.svc *.h.default
          default: prefix / -> outbound|80||h.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
}

/// `alias` is another name of `concrete`; as most such services it declares no ports.
fn alias() -> String {
    let alias = "---\n{apiVersion: v1, kind: Service, metadata: {name: alias, namespace: default}, \
                 spec: {type: ExternalName, externalName: concrete.default.svc.cluster.local}}\n";
    service(
        "concrete",
        "1",
        "{name: http, port: 80}, {name: auto, port: 81}",
    ) + alias
}

#[test]
fn c014_an_alias_is_another_name_of_its_service() {
    check(
        &alias(),
        "80",
        expect![[r#"
        concrete.default.svc.cluster.local:80: concrete.default.svc.cluster.local concrete.default.svc.cluster.local. concrete concrete.default.svc concrete.default alias.default.svc.cluster.local alias.default.svc.cluster.local. alias alias.default.svc alias.default 10.96.0.1
          default: prefix / -> outbound|80||concrete.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
}

#[test]
fn c015_rules_for_an_alias_are_for_its_full_name() {
    let one = "http: [{match: [{uri: {prefix: /one}}], route: [{destination: {host: concrete}}]}]";
    let yaml = alias()
        + &object(
            "VirtualService",
            "v",
            &format!("hosts: [alias.default.svc.cluster.local], {one}"),
        );
    check(
        &yaml,
        "80",
        expect![[r#"
        alias.default.svc.cluster.local:80: alias.default.svc.cluster.local
          prefix /one -> outbound|80||concrete.default.svc.cluster.local
        concrete.default.svc.cluster.local:80: concrete.default.svc.cluster.local concrete.default.svc.cluster.local. concrete concrete.default.svc concrete.default alias.default.svc.cluster.local. alias alias.default.svc alias.default 10.96.0.1
          default: prefix / -> outbound|80||concrete.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
    check(
        &yaml,
        "81",
        expect![[r#"
        concrete.default.svc.cluster.local:81: concrete.default.svc.cluster.local concrete.default.svc.cluster.local. concrete concrete.default.svc concrete.default alias.default.svc.cluster.local alias.default.svc.cluster.local. alias alias.default.svc alias.default 10.96.0.1
          default: prefix / -> outbound|81||concrete.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
    check(
        &yaml,
        "concrete.default.svc.cluster.local:81",
        expect![[r#"
        concrete.default.svc.cluster.local:81: *
          default: prefix / -> outbound|81||concrete.default.svc.cluster.local
    "#]],
    );
}

#[test]
fn c014_a_destination_that_is_an_alias_leads_to_its_service() {
    let to_alias = "http: [{route: [{destination: {host: alias, port: {number: 80}}}]}]";
    let yaml = alias()
        + &service("b", "2", HTTP)
        + &object("VirtualService", "v", &format!("hosts: [b], {to_alias}"));
    let config = rds(&yaml, &sidecar("default"), "80");
    let host = &config["virtualHosts"][0];
    assert_eq!(host["name"], "b.default.svc.cluster.local:80");
    assert_eq!(
        host.pointer("/routes/0/route/cluster").unwrap(),
        "outbound|80||concrete.default.svc.cluster.local"
    );
}

#[test]
fn c018_the_forward_proxy_tells_ports_apart() {
    let yaml = service("a", "1", HTTP)
        + &service(
            "b",
            "2",
            "{name: http, port: 8080}, {name: tcp, port: 9000}",
        )
        + &mesh("proxyHttpPort: 15002");
    check(
        &yaml,
        "http_proxy",
        expect![[r#"
        a.default.svc.cluster.local:80: a.default.svc.cluster.local a.default.svc.cluster.local:80 a.default.svc.cluster.local. a.default.svc.cluster.local.:80 a a:80 a.default.svc a.default.svc:80 a.default a.default:80 10.96.0.1 10.96.0.1:80
          default: prefix / -> outbound|80||a.default.svc.cluster.local
        b.default.svc.cluster.local:8080: b.default.svc.cluster.local:8080 b.default.svc.cluster.local.:8080 b:8080 b.default.svc:8080 b.default:8080 10.96.0.2:8080
          default: prefix / -> outbound|8080||b.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
    assert_eq!(
        rds(&yaml, &sidecar("default"), "http_proxy").get("ignorePortInHostMatching"),
        None
    );
}

#[test]
fn rules_for_the_forward_proxy_are_those_of_each_port() {
    let rules = "http: [{match: [{port: 8080}], route: [{destination: {host: b}}]}]";
    let yaml = service(
        "b",
        "2",
        "{name: http, port: 80}, {name: alt, appProtocol: http, port: 8080}",
    ) + &object(
        "VirtualService",
        "v",
        &format!("hosts: [b, nobody.example], {rules}"),
    );
    check(
        &yaml,
        "http_proxy",
        expect![[r#"
        b.default.svc.cluster.local:80: b.default.svc.cluster.local b.default.svc.cluster.local:80 b.default.svc.cluster.local. b.default.svc.cluster.local.:80 b b:80 b.default.svc b.default.svc:80 b.default b.default:80 10.96.0.2 10.96.0.2:80
          default: prefix / -> outbound|80||b.default.svc.cluster.local
        b.default.svc.cluster.local:8080: b.default.svc.cluster.local:8080 b.default.svc.cluster.local.:8080 b:8080 b.default.svc:8080 b.default:8080 10.96.0.2:8080
          prefix / -> outbound|8080||b.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
}

#[test]
fn a_socket_has_the_services_of_its_listener() {
    let socket = "egress: [{port: {number: 0, name: http, protocol: HTTP}, bind: 'unix:///tmp/x', hosts: ['./a.default.svc.cluster.local']}, {hosts: ['~/*']}]";
    let yaml = service("a", "1", HTTP) + &service("b", "2", HTTP) + &object("Sidecar", "s", socket);
    check(
        &yaml,
        "unix:///tmp/x",
        expect![[r#"
        a.default.svc.cluster.local:80: a.default.svc.cluster.local a.default.svc.cluster.local:80 a.default.svc.cluster.local. a.default.svc.cluster.local.:80 a a:80 a.default.svc a.default.svc:80 a.default a.default:80 10.96.0.1 10.96.0.1:80
          default: prefix / -> outbound|80||a.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
}

#[test]
fn c005_a_sniffed_port_of_one_service_takes_every_host() {
    let yaml = service("u", "1", "{port: 8080}") + &service("other", "2", "{port: 8080}");
    check(
        &yaml,
        "u.default.svc.cluster.local:8080",
        expect![[r#"
        u.default.svc.cluster.local:8080: *
          default: prefix / -> outbound|8080||u.default.svc.cluster.local
    "#]],
    );
    let rules = "http: [{route: [{destination: {host: other}}]}]";
    let wild = object(
        "VirtualService",
        "wild",
        &format!("hosts: ['*.default.svc.cluster.local'], {rules}"),
    );
    check(
        &(yaml.clone() + &wild),
        "u.default.svc.cluster.local:8080",
        expect![[r#"
        u.default.svc.cluster.local:8080: *
          prefix / -> outbound|8080||other.default.svc.cluster.local
    "#]],
    );
    // The most specific one says nothing about this port, so the next with that host is asked.
    let first = object(
        "VirtualService",
        "a",
        "hosts: [u], http: [{match: [{port: 9}], route: [{destination: {host: u}}]}]",
    );
    let next = object("VirtualService", "b", &format!("hosts: [u], {rules}"));
    check(
        &(yaml + &wild + &first + &next),
        "u.default.svc.cluster.local:8080",
        expect![[r#"
        u.default.svc.cluster.local:8080: *
          prefix / -> outbound|8080||other.default.svc.cluster.local
    "#]],
    );
}

#[test]
fn c003_unknown_hosts_pass_or_not() {
    check(
        &mesh("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"),
        "80",
        expect![[r#"
        block_all: *
          block_all: prefix / -> directResponse {"status":502}
    "#]],
    );
    let through = "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: out.default.svc.cluster.local, port: {number: 80}}}, egress: [{hosts: ['./*']}]";
    check(
        &object("Sidecar", "s", through),
        "80",
        expect![[r#"
        allow_any: *
          allow_any: prefix / -> outbound|80||out.default.svc.cluster.local
    "#]],
    );
}

#[test]
fn c140_an_unknown_name_has_no_virtual_hosts() {
    for name in ["nonsense", "0", "65536", "a:b", ""] {
        let config = rds(&service("a", "1", HTTP), &sidecar("default"), name);
        assert_eq!(config.get("virtualHosts"), None, "{name}");
    }
    let config = rds(&service("a", "1", HTTP), &sidecar("default"), "nonsense");
    assert_eq!(
        config,
        serde_json::json!({"name": "nonsense", "validateClusters": false})
    );
}

#[test]
fn outside_kubernetes_names_are_cut_to_what_is_not_shared() {
    let entry = |host: &str| {
        format!(
            "hosts: [{host}], resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP}}]"
        )
    };
    let proxy = Proxy {
        dns_domain: "shop.corp".into(),
        ..sidecar("default")
    };
    let yaml = object("ServiceEntry", "a", &entry("a.shop.corp"))
        + &object("ServiceEntry", "b", &entry("b.bar.corp"));
    check_for(
        &proxy,
        &yaml,
        "80",
        expect![[r#"
        a.shop.corp:80: a.shop.corp a.shop.corp. a
          default: prefix / -> outbound|80||a.shop.corp
        b.bar.corp:80: b.bar.corp b.bar.corp. b.bar
          default: prefix / -> outbound|80||b.bar.corp
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
}

#[test]
fn a_short_name_stands_back_for_a_full_one() {
    let entry =
        "hosts: [a.other], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}]";
    let yaml = service_in("other", "a", "1", HTTP) + &object("ServiceEntry", "x", entry);
    check(
        &yaml,
        "80",
        expect![[r#"
        a.other.svc.cluster.local:80: a.other.svc.cluster.local a.other.svc.cluster.local. a.other.svc 10.96.0.1
          default: prefix / -> outbound|80||a.other.svc.cluster.local
        a.other:80: a.other a.other.
          default: prefix / -> outbound|80||a.other
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
}

#[test]
fn addresses_of_other_families_are_left_out() {
    let entry = "hosts: [x.example], addresses: [10.0.0.9, 'fd00::9', 10.0.0.10], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}]";
    let yaml = object("ServiceEntry", "x", entry);
    check(
        &yaml,
        "80",
        expect![[r#"
        x.example:80: x.example x.example. 10.0.0.9 10.0.0.10
          default: prefix / -> outbound|80||x.example
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
    let six = Proxy {
        addresses: vec!["fd00::1".parse().unwrap()],
        ..sidecar("default")
    };
    check_for(
        &six,
        &yaml,
        "80",
        expect![[r#"
        x.example:80: x.example x.example. [fd00::9]
          default: prefix / -> outbound|80||x.example
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]],
    );
}

#[test]
fn attempts_are_counted_unless_the_proxy_says_no() {
    let off = mesh("defaultConfig: {proxyHeaders: {attemptCount: {disabled: true}}}");
    let config = rds(&(service("a", "1", HTTP) + &off), &sidecar("default"), "80");
    assert_eq!(
        config.pointer("/virtualHosts/0/includeRequestAttemptCount"),
        None
    );
}

#[test]
fn c139_without_its_rules_a_service_has_the_default_route() {
    let mut world = World::new(
        &(service("a", "1", HTTP)
            + &object(
                "VirtualService",
                "v",
                "hosts: [a], http: [{redirect: {uri: /x}}]",
            )),
    );
    let now = |world: &World| {
        let (view, key) = world.class(&sidecar("default"));
        summary(&json(&routes::sidecar(
            &view,
            &key,
            "80",
            &Memos::default(),
        )))
    };
    let with_rules = now(&world);
    world.delete(mesh_types::Kind::VirtualService, "default", "v");
    let default = now(&world);
    world.delete(mesh_types::Kind::Service, "default", "a");
    expect![[r#"
        a.default.svc.cluster.local:80: a.default.svc.cluster.local a.default.svc.cluster.local. a a.default.svc a.default 10.96.0.1
          prefix / -> redirect {"pathRedirect":"/x"}
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
        --
        a.default.svc.cluster.local:80: a.default.svc.cluster.local a.default.svc.cluster.local. a a.default.svc a.default 10.96.0.1
          default: prefix / -> outbound|80||a.default.svc.cluster.local
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
        --
        allow_any: *
          allow_any: prefix / -> PassthroughCluster
    "#]].assert_eq(&[with_rules, default, now(&world)].join("--\n"));
}
