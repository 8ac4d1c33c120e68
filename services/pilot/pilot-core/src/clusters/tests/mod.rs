//! Clusters by conformance case (XDS-TRAFFIC 13.4): one field or a whole message of one cluster.

mod discovery;

use expect_test::{Expect, expect};

use crate::testing::{World, field, json, lines, router, sidecar};
use crate::{Memos, clusters};

/// A Kubernetes Service in namespace default.
fn service(name: &str, port_name: &str, port: u16) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: default}}, \
         spec: {{clusterIP: 10.96.0.1, selector: {{app: {name}}}, ports: [{{name: {port_name}, port: {port}, targetPort: 8080}}]}}}}\n"
    )
}

/// A DestinationRule for host `a` in namespace default.
fn rule(spec: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: a, namespace: default}}, \
         spec: {{host: a, {spec}}}}}\n"
    )
}

/// A ServiceEntry.
fn entry(spec: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: x, namespace: default}}, spec: {{{spec}}}}}\n"
    )
}

fn mesh_config(config: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, data: {{mesh: '{{{config}}}'}}}}\n"
    )
}

const A: &str = "outbound|80||a.default.svc.cluster.local";

/// The named cluster of a sidecar in namespace default, all of it.
#[track_caller]
fn check_all(yaml: &str, name: &str, want: Expect) {
    let memos = Memos::default();
    let (view, key) = World::new(yaml).class(&sidecar("default"));
    let all = clusters::outbound(&view, &key, &memos);
    let cluster = all.iter().find(|c| &**c.name() == name);
    want.assert_eq(&cluster.map_or_else(|| "none".into(), |c| lines(c)));
}

/// Fields of the named cluster of a sidecar in namespace default.
#[track_caller]
fn check(yaml: &str, name: &str, pointers: &[&str], want: Expect) {
    let memos = Memos::default();
    let (view, key) = World::new(yaml).class(&sidecar("default"));
    let all = clusters::outbound(&view, &key, &memos);
    let text = match all.iter().find(|c| &**c.name() == name) {
        Some(cluster) => pointers
            .iter()
            .map(|p| format!("{p} {}\n", field(cluster, p)))
            .collect(),
        None => "none".to_owned(),
    };
    want.assert_eq(&text);
}

/// Name, type and balancing of every cluster.
#[track_caller]
fn check_types(yaml: &str, proxy: mesh_model::Proxy, want: Expect) {
    let memos = Memos::default();
    let (view, key) = World::new(yaml).class(&proxy);
    let mut all: Vec<String> = clusters::outbound(&view, &key, &memos)
        .iter()
        .map(|c| {
            let value = json(c);
            let get = |p: &str| {
                value
                    .pointer(p)
                    .and_then(|v| v.as_str())
                    .unwrap_or("-")
                    .to_owned()
            };
            let kind = if value.get("clusterType").is_some() {
                get("/clusterType/name")
            } else {
                get("/type")
            };
            format!("{} {kind} {}\n", c.name(), get("/lbPolicy"))
        })
        .collect();
    all.sort();
    want.assert_eq(&all.concat());
}

#[test]
fn c001_an_http_cluster_without_rules() {
    check_all(
        &service("a", "http", 80),
        A,
        expect![[r#"
        altStatName: "outbound|80||a.default.svc.cluster.local;"
        name: "outbound|80||a.default.svc.cluster.local"
        type: "EDS"
        edsClusterConfig: {"edsConfig":{"ads":{},"initialFetchTimeout":"0s","resourceApiVersion":"V3"},"serviceName":"outbound|80||a.default.svc.cluster.local"}
        connectTimeout: "10s"
        lbPolicy: "LEAST_REQUEST"
        circuitBreakers: {"thresholds":[{"maxConnections":4294967295,"maxPendingRequests":4294967295,"maxRequests":4294967295,"maxRetries":4294967295}]}
        metadata: {"filterMetadata":{"istio":{"services":[{"host":"a.default.svc.cluster.local","name":"a","namespace":"default"}]}}}
        commonLbConfig: {"healthyPanicThreshold":{}}
    "#]],
    );
}

#[test]
fn istio_proxies_exchange_metadata() {
    let (view, key) = World::new(&service("a", "http", 80)).class(&sidecar("default"));
    let key = crate::OutboundKey {
        vanilla: false,
        ..key
    };
    let all = clusters::outbound(&view, &key, &Memos::default());
    let cluster = all.iter().find(|c| &**c.name() == A).unwrap();
    expect![[r#"[{"name":"istio.metadata_exchange","typedConfig":{"value":"CkZ0eXBlLmdvb2dsZWFwaXMuY29tL2Vudm95LnRjcC5tZXRhZGF0YWV4Y2hhbmdlLmNvbmZpZy5NZXRhZGF0YUV4Y2hhbmdlEjsKFgoQZW5hYmxlX2Rpc2NvdmVyeRICIAEKIQoIcHJvdG9jb2wSFRoTaXN0aW8tcGVlci1leGNoYW5nZQ=="}}]"#]].assert_eq(&field(cluster, "/filters"));
}

#[test]
fn c070_limits_are_open_unless_a_rule_sets_one() {
    let with = service("a", "http", 80)
        + &rule("trafficPolicy: {connectionPool: {tcp: {maxConnections: 5}}}");
    check(
        &with,
        A,
        &["/circuitBreakers"],
        expect![[r#"
        /circuitBreakers {"thresholds":[{"maxConnections":5,"maxPendingRequests":4294967295,"maxRequests":4294967295,"maxRetries":4294967295}]}
    "#]],
    );
}

#[test]
fn c071_http_limits_and_timeouts() {
    let with = service("a", "http", 80)
        + &rule(
            "trafficPolicy: {connectionPool: {tcp: {maxConnectionDuration: 1h, idleTimeout: 5s}, \
             http: {http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRequestsPerConnection: 1, maxRetries: 3}}, \
             retryBudget: {percent: 30}}",
        );
    check(
        &with,
        A,
        &["/circuitBreakers", "/typedExtensionProtocolOptions"],
        expect![[r#"
        /circuitBreakers {"thresholds":[{"maxConnections":4294967295,"maxPendingRequests":1,"maxRequests":2,"maxRetries":3,"retryBudget":{"budgetPercent":{"value":30},"minRetryConcurrency":3}}]}
        /typedExtensionProtocolOptions {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"explicitHttpConfig":{"httpProtocolOptions":{}},"commonHttpProtocolOptions":{"idleTimeout":"5s","maxConnectionDuration":"3600s","maxRequestsPerConnection":1}}}
    "#]],
    );
}

#[test]
fn c072_outlier_detection_never_panics() {
    let with = service("a", "http", 80)
        + &rule(
            "trafficPolicy: {outlierDetection: {consecutive5xxErrors: 2, consecutiveGatewayErrors: 0, interval: 1s, \
             baseEjectionTime: 30s, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 4}}",
        );
    check(
        &with,
        A,
        &["/outlierDetection", "/commonLbConfig"],
        expect![[r#"
        /outlierDetection {"consecutive5xx":2,"interval":"1s","baseEjectionTime":"30s","enforcingConsecutive5xx":100,"enforcingSuccessRate":0,"consecutiveGatewayFailure":0,"enforcingConsecutiveGatewayFailure":0,"splitExternalLocalOriginErrors":true,"consecutiveLocalOriginFailure":4,"enforcingConsecutiveLocalOriginFailure":100,"enforcingLocalOriginSuccessRate":0}
        /commonLbConfig {"healthyPanicThreshold":{}}
    "#]],
    );
}

#[test]
fn c077_port_settings_replace_all_others() {
    let with = service("a", "http", 80)
        + &rule(
            "trafficPolicy: {connectionPool: {tcp: {maxConnections: 5}}, outlierDetection: {interval: 1s}, \
             portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}",
        );
    check(
        &with,
        A,
        &[
            "/lbPolicy",
            "/circuitBreakers/thresholds/0/maxConnections",
            "/outlierDetection",
        ],
        expect![[r#"
            /lbPolicy "RANDOM"
            /circuitBreakers/thresholds/0/maxConnections 4294967295
            /outlierDetection -
        "#]],
    );
}

#[test]
fn c078_subsets_replace_block_by_block() {
    let with = service("a", "http", 80)
        + &rule(
            "trafficPolicy: {connectionPool: {tcp: {maxConnections: 5}}, loadBalancer: {simple: ROUND_ROBIN}}, \
             subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]",
        );
    check(
        &with,
        "outbound|80|v1|a.default.svc.cluster.local",
        &[
            "/lbPolicy",
            "/circuitBreakers/thresholds/0/maxConnections",
            "/metadata",
            "/altStatName",
        ],
        expect![[r#"
            /lbPolicy "RANDOM"
            /circuitBreakers/thresholds/0/maxConnections 5
            /metadata {"filterMetadata":{"istio":{"config":"/apis/networking.istio.io/v1/namespaces/default/destination-rule/a","services":[{"host":"a.default.svc.cluster.local","name":"a","namespace":"default"}],"subset":"v1"}}}
            /altStatName "outbound|80|v1|a.default.svc.cluster.local;"
        "#]],
    );
}

#[test]
fn c093_connect_timeout_and_keepalive() {
    let mesh = mesh_config("tcpKeepalive: {probes: 3, time: 10s}")
        + &service("a", "http", 80)
        + &rule(
            "trafficPolicy: {connectionPool: {tcp: {connectTimeout: 1s, tcpKeepalive: {time: 20s}}}}",
        );
    check(
        &mesh,
        A,
        &["/connectTimeout", "/upstreamConnectionOptions"],
        expect![[r#"
        /connectTimeout "1s"
        /upstreamConnectionOptions {"tcpKeepalive":{"keepaliveProbes":3,"keepaliveTime":20}}
    "#]],
    );
}

#[test]
fn c094_http2_by_protocol_and_by_upgrade() {
    let options =
        "/typedExtensionProtocolOptions/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let of = |port_name: &str, mesh: &str, policy: &str| {
        let policy = rule(&format!(
            "trafficPolicy: {{connectionPool: {{http: {{{policy}}}}}}}"
        ));
        let world = World::new(&(mesh_config(mesh) + &service("a", port_name, 80) + &policy));
        let (view, key) = world.class(&sidecar("default"));
        let all = clusters::outbound(&view, &key, &Memos::default());
        let cluster = all.iter().find(|c| &**c.name() == A).unwrap();
        format!(
            "{port_name} {mesh} {policy}: {}\n",
            field(cluster, options),
            policy = policy.split("http: ").nth(1).unwrap().trim_end()
        )
    };
    let upgrade = "h2UpgradePolicy: UPGRADE";
    let table = [
        of("http", "", ""),
        of("http", "", upgrade),
        of("grpc", "", "h2UpgradePolicy: DO_NOT_UPGRADE"),
        of("http", upgrade, ""),
        of("tcp", upgrade, ""),
        of("tcp", "", upgrade),
        of("http", upgrade, "h2UpgradePolicy: DO_NOT_UPGRADE"),
        of("http", upgrade, "useClientProtocol: true"),
        of("auto", "", upgrade),
        of(
            "grpc",
            "",
            "maxConcurrentStreams: 9, http2KeepAlive: {interval: 5s, timeout: 1s}",
        ),
    ];
    expect![[r#"
        http  {}}}}}: -
        http  {h2UpgradePolicy: UPGRADE}}}}}: {"explicitHttpConfig":{"http2ProtocolOptions":{}}}
        grpc  {h2UpgradePolicy: DO_NOT_UPGRADE}}}}}: {"explicitHttpConfig":{"http2ProtocolOptions":{}}}
        http h2UpgradePolicy: UPGRADE {}}}}}: {"explicitHttpConfig":{"http2ProtocolOptions":{}}}
        tcp h2UpgradePolicy: UPGRADE {}}}}}: -
        tcp  {h2UpgradePolicy: UPGRADE}}}}}: {"explicitHttpConfig":{"http2ProtocolOptions":{}}}
        http h2UpgradePolicy: UPGRADE {h2UpgradePolicy: DO_NOT_UPGRADE}}}}}: -
        http h2UpgradePolicy: UPGRADE {useClientProtocol: true}}}}}: {"useDownstreamProtocolConfig":{"httpProtocolOptions":{},"http2ProtocolOptions":{}}}
        auto  {h2UpgradePolicy: UPGRADE}}}}}: {"useDownstreamProtocolConfig":{"httpProtocolOptions":{},"http2ProtocolOptions":{}}}
        grpc  {maxConcurrentStreams: 9, http2KeepAlive: {interval: 5s, timeout: 1s}}}}}}: {"explicitHttpConfig":{"http2ProtocolOptions":{"maxConcurrentStreams":9,"connectionKeepalive":{"interval":"5s","timeout":"1s"}}}}
    "#]].assert_eq(&table.concat());
}

#[test]
fn the_mesh_names_statistics() {
    let mesh = mesh_config(
        "outboundClusterStatName: \"%SERVICE%_%SERVICE_PORT%_%SERVICE_PORT_NAME%_%SUBSET_NAME%\"",
    ) + &service("a", "http", 80);
    check(
        &mesh,
        A,
        &["/altStatName"],
        expect![[r#"
        /altStatName "a.default_80_http_;"
    "#]],
    );
}

#[test]
fn mesh_defaults_fill_blocks_that_no_rule_set() {
    let mesh = mesh_config(
        "defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}, outlierDetection: {interval: 3s}}",
    ) + &service("a", "http", 80)
        + &rule("trafficPolicy: {outlierDetection: {interval: 1s}}");
    check(
        &mesh,
        A,
        &[
            "/circuitBreakers/thresholds/0/maxConnections",
            "/outlierDetection/interval",
        ],
        expect![[r#"
            /circuitBreakers/thresholds/0/maxConnections 7
            /outlierDetection/interval "1s"
        "#]],
    );
}

#[test]
fn special_clusters() {
    let mesh = mesh_config("outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}");
    for (name, want) in [
        (
            "BlackHoleCluster",
            expect![[r#"
            altStatName: "BlackHoleCluster;"
            name: "BlackHoleCluster"
            type: "STATIC"
            connectTimeout: "10s"
        "#]],
        ),
        (
            "PassthroughCluster",
            expect![[r#"
            typedExtensionProtocolOptions: {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"useDownstreamProtocolConfig":{"httpProtocolOptions":{},"http2ProtocolOptions":{}},"commonHttpProtocolOptions":{"idleTimeout":"300s"}}}
            name: "PassthroughCluster"
            type: "ORIGINAL_DST"
            connectTimeout: "10s"
            lbPolicy: "CLUSTER_PROVIDED"
            circuitBreakers: {"thresholds":[{"maxConnections":4294967295,"maxPendingRequests":4294967295,"maxRequests":4294967295,"maxRetries":4294967295}]}
            altStatName: "PassthroughCluster;"
        "#]],
        ),
        (
            "AllowAnyDynamicDNSCluster",
            expect![[r#"
            clusterType: {"name":"envoy.clusters.dynamic_forward_proxy","typedConfig":{"allowInsecureClusterOptions":true,"dnsCacheConfig":{"name":"allow_any_dfp_dns_cache","dnsLookupFamily":"V4_ONLY","maxHosts":1024,"typedDnsResolverConfig":{"name":"envoy.network.dns_resolver.cares","typedConfig":{"udpMaxQueries":100}}}}}
            name: "AllowAnyDynamicDNSCluster"
            connectTimeout: "10s"
            lbPolicy: "CLUSTER_PROVIDED"
            circuitBreakers: {"thresholds":[{"maxConnections":4294967295,"maxPendingRequests":4294967295,"maxRequests":4294967295,"maxRetries":4294967295}]}
            altStatName: "AllowAnyDynamicDNSCluster;"
            typedExtensionProtocolOptions: {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"useDownstreamProtocolConfig":{"httpProtocolOptions":{},"http2ProtocolOptions":{}}}}
        "#]],
        ),
    ] {
        check_all(&mesh, name, want);
    }
}
