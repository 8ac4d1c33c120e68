//! How clusters find and choose endpoints: C-019, C-084.

use super::*;

#[test]
fn c084_types_and_balancing() {
    let lb = |lb: &str| rule(&format!("trafficPolicy: {{loadBalancer: {{{lb}}}}}"));
    let of = |lb: &str| {
        let (view, key) = World::new(&(service("a", "http", 80) + lb)).class(&sidecar("default"));
        let all = clusters::outbound(&view, &key, &Memos::default());
        let cluster = json(all.iter().find(|c| &**c.name() == A).unwrap());
        let text = |name: &str| {
            cluster
                .get(name)
                .map_or_else(|| "-".into(), |v| v.to_string())
        };
        let config = [
            "ringHashLbConfig",
            "maglevLbConfig",
            "leastRequestLbConfig",
            "roundRobinLbConfig",
        ]
        .map(text);
        let config = config
            .iter()
            .find(|c| *c != "-")
            .cloned()
            .unwrap_or_default();
        format!("{} {} {config}\n", text("type"), text("lbPolicy"))
    };
    let table = [
        String::new(),
        lb("simple: UNSPECIFIED"),
        lb("simple: LEAST_CONN"),
        lb("simple: RANDOM"),
        lb("simple: ROUND_ROBIN, warmupDurationSecs: 10s"),
        lb("simple: LEAST_REQUEST, warmup: {duration: 10s}"),
        lb("simple: PASSTHROUGH"),
        lb("consistentHash: {useSourceIp: true}"),
        lb("consistentHash: {useSourceIp: true, minimumRingSize: 7}"),
        lb("consistentHash: {useSourceIp: true, ringHash: {}}"),
        lb("consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 7}}"),
        lb("consistentHash: {useSourceIp: true, maglev: {}}"),
        lb("consistentHash: {useSourceIp: true, maglev: {tableSize: 101}}"),
    ];
    expect![[r#"
        "EDS" "LEAST_REQUEST" 
        "EDS" "LEAST_REQUEST" 
        "EDS" "LEAST_REQUEST" 
        "EDS" "RANDOM" 
        "EDS" - {"slowStartConfig":{"slowStartWindow":"10s"}}
        "EDS" "LEAST_REQUEST" {"slowStartConfig":{"slowStartWindow":"10s","aggression":{"defaultValue":1,"runtimeKey":"("},"minWeightPercent":{"value":10}}}
        "ORIGINAL_DST" "CLUSTER_PROVIDED" 
        "EDS" "RING_HASH" {"minimumRingSize":"1024"}
        "EDS" "RING_HASH" {"minimumRingSize":"7"}
        "EDS" "RING_HASH" 
        "EDS" "RING_HASH" {"minimumRingSize":"7"}
        "EDS" "MAGLEV" 
        "EDS" "MAGLEV" {"tableSize":"101"}
    "#]].assert_eq(&table.map(|lb| of(&lb)).concat());
}

#[test]
fn c019_resolutions_of_a_sidecar_and_of_a_router() {
    let mesh = service("a", "http", 80)
        + "---\n{apiVersion: v1, kind: Service, metadata: {name: h, namespace: default}, spec: {clusterIP: None, ports: [{name: tcp, port: 6379}]}}\n"
        + "---\n{apiVersion: v1, kind: Service, metadata: {name: alias, namespace: default}, spec: {type: ExternalName, externalName: a.default.svc.cluster.local, ports: [{name: http, port: 80}]}}\n"
        + "---\n{apiVersion: v1, kind: Service, metadata: {name: u, namespace: default}, spec: {clusterIP: 10.96.0.9, ports: [{name: dns, port: 53, protocol: UDP}]}}\n"
        + &["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN"]
            .map(|resolution| {
                let host = resolution.to_ascii_lowercase().replace('_', "-");
                entry(&format!("hosts: [{host}.example], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: {resolution}"))
                    .replace("name: x", &format!("name: {host}"))
            })
            .concat();
    check_types(
        &mesh,
        sidecar("default"),
        expect![[r#"
        BlackHoleCluster STATIC -
        PassthroughCluster ORIGINAL_DST CLUSTER_PROVIDED
        outbound|6379||h.default.svc.cluster.local ORIGINAL_DST CLUSTER_PROVIDED
        outbound|80||a.default.svc.cluster.local EDS LEAST_REQUEST
        outbound|80||dns-round-robin.example LOGICAL_DNS LEAST_REQUEST
        outbound|80||dns.example STRICT_DNS LEAST_REQUEST
        outbound|80||none.example ORIGINAL_DST CLUSTER_PROVIDED
        outbound|80||static.example EDS LEAST_REQUEST
    "#]],
    );
    check_types(
        &mesh,
        router("default"),
        expect![[r#"
        BlackHoleCluster STATIC -
        outbound|6379||h.default.svc.cluster.local EDS LEAST_REQUEST
        outbound|80||a.default.svc.cluster.local EDS LEAST_REQUEST
        outbound|80||dns-round-robin.example LOGICAL_DNS LEAST_REQUEST
        outbound|80||dns.example STRICT_DNS LEAST_REQUEST
        outbound|80||none.example EDS LEAST_REQUEST
        outbound|80||static.example EDS LEAST_REQUEST
    "#]],
    );
}

#[test]
fn dns_clusters_carry_their_endpoints() {
    let mesh = entry(
        "hosts: [x.example], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]",
    );
    check_all(
        &mesh,
        "outbound|80||x.example",
        expect![[r#"
        dnsJitter: "0.100s"
        name: "outbound|80||x.example"
        type: "STRICT_DNS"
        connectTimeout: "10s"
        lbPolicy: "LEAST_REQUEST"
        circuitBreakers: {"thresholds":[{"maxConnections":4294967295,"maxPendingRequests":4294967295,"maxRequests":4294967295,"maxRetries":4294967295}]}
        dnsRefreshRate: "60s"
        dnsLookupFamily: "V4_ONLY"
        metadata: {"filterMetadata":{"istio":{"external":true,"services":[{"host":"x.example","name":"x.example","namespace":"default"}]}}}
        commonLbConfig: {"healthyPanicThreshold":{}}
        altStatName: "outbound|80||x.example;"
        loadAssignment: {"clusterName":"outbound|80||x.example","endpoints":[{"locality":{},"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"x.example","portValue":8080}}},"healthStatus":"HEALTHY","metadata":{"filterMetadata":{"istio":{"workload":";default;;;Kubernetes"}}},"loadBalancingWeight":1}],"loadBalancingWeight":1}]}
        respectDnsTtl: true
        typedDnsResolverConfig: {"name":"envoy.network.dns_resolver.cares","typedConfig":{"udpMaxQueries":100}}
    "#]],
    );
}

#[test]
fn a_passthrough_service_redirects_its_port() {
    let mesh = entry(
        "hosts: [x.example], resolution: NONE, ports: [{number: 80, name: tcp, protocol: TCP, targetPort: 8080}]",
    );
    check(
        &mesh,
        "outbound|80||x.example",
        &["/type", "/originalDstLbConfig"],
        expect![[r#"
        /type "ORIGINAL_DST"
        /originalDstLbConfig {"upstreamPortOverride":8080}
    "#]],
    );
}

#[test]
fn wildcard_dynamic_dns() {
    let mesh = entry(
        "hosts: ['*.x.example'], resolution: DYNAMIC_DNS, ports: [{number: 80, name: http, protocol: HTTP}]",
    );
    check(
        &mesh,
        "outbound|80||*.x.example",
        &["/clusterType", "/lbPolicy"],
        expect![[r#"
        /clusterType {"name":"envoy.clusters.dynamic_forward_proxy","typedConfig":{"allowInsecureClusterOptions":true,"dnsCacheConfig":{"name":"*.x.example_dfp_dns_cache","dnsLookupFamily":"V4_ONLY","dnsRefreshRate":"60s","typedDnsResolverConfig":{"name":"envoy.network.dns_resolver.cares","typedConfig":{"udpMaxQueries":100}}}}}
        /lbPolicy "CLUSTER_PROVIDED"
    "#]],
    );
}

mod inbound {
    use super::*;

    #[track_caller]
    fn check(yaml: &str, want: Expect) {
        let (view, key) = World::new(yaml).inbound(&sidecar("default"));
        let mut all: Vec<_> = clusters::inbound(&view, &key, &Memos::default());
        all.sort_by(|a, b| a.name().cmp(b.name()));
        want.assert_eq(&all.iter().map(|c| lines(c)).collect::<Vec<_>>().join("\n"));
    }

    /// The pod of the proxy.
    const POD: &str = "---\n{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: default, labels: {app: p}}, \
                       spec: {nodeName: n}, status: {podIP: 10.0.0.1, phase: Running}}\n";

    #[test]
    fn clusters_lead_where_the_client_dialled() {
        check(
            &(service("p", "http", 80)
                + &service("q", "grpc", 81).replace("{app: q}", "{app: p}")
                + POD),
            expect![[r#"
            typedExtensionProtocolOptions: {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"useDownstreamProtocolConfig":{"httpProtocolOptions":{},"http2ProtocolOptions":{}},"commonHttpProtocolOptions":{"idleTimeout":"300s"}}}
            name: "InboundPassthroughCluster"
            type: "ORIGINAL_DST"
            connectTimeout: "10s"
            lbPolicy: "CLUSTER_PROVIDED"
            circuitBreakers: {"thresholds":[{"maxConnections":4294967295,"maxPendingRequests":4294967295,"maxRequests":4294967295,"maxRetries":4294967295}]}
            upstreamBindConfig: {"sourceAddress":{"address":"127.0.0.6","portValue":0}}
            altStatName: "PassthroughCluster;"

            altStatName: "inbound|8080||;"
            name: "inbound|8080||"
            type: "ORIGINAL_DST"
            connectTimeout: "10s"
            lbPolicy: "CLUSTER_PROVIDED"
            circuitBreakers: {"thresholds":[{"maxConnections":4294967295,"maxPendingRequests":4294967295,"maxRequests":4294967295,"maxRetries":4294967295}]}
            cleanupInterval: "9223372035s"
            upstreamBindConfig: {"sourceAddress":{"address":"127.0.0.6","portValue":0}}
            metadata: {"filterMetadata":{"istio":{"services":[{"host":"p.default.svc.cluster.local","name":"p","namespace":"default"}]}}}
        "#]],
        );
    }

    #[test]
    fn a_sidecars_ingress_leads_elsewhere() {
        let sidecar = "---\n{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: s, namespace: default}, spec: {\
            inboundConnectionPool: {tcp: {maxConnections: 3}}, ingress: [\
            {port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: '127.0.0.1:8080', connectionPool: {tcp: {maxConnections: 4}}}, \
            {port: {number: 9081, protocol: TCP, name: tcp}, defaultEndpoint: 'unix:///tmp/app.sock'}, \
            {port: {number: 9082, protocol: TCP, name: tcp2}, defaultEndpoint: '0.0.0.0:8082'}]}}\n";
        check(
            &(service("p", "http", 80) + POD + sidecar),
            expect![[r#"
            typedExtensionProtocolOptions: {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"useDownstreamProtocolConfig":{"httpProtocolOptions":{},"http2ProtocolOptions":{}},"commonHttpProtocolOptions":{"idleTimeout":"300s"}}}
            name: "InboundPassthroughCluster"
            type: "ORIGINAL_DST"
            connectTimeout: "10s"
            lbPolicy: "CLUSTER_PROVIDED"
            circuitBreakers: {"thresholds":[{"maxConnections":4294967295,"maxPendingRequests":4294967295,"maxRequests":4294967295,"maxRetries":4294967295}]}
            upstreamBindConfig: {"sourceAddress":{"address":"127.0.0.6","portValue":0}}
            altStatName: "PassthroughCluster;"

            loadAssignment: {"clusterName":"inbound|9080||","endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"127.0.0.1","portValue":8080}}}}]}]}
            name: "inbound|9080||"
            type: "STATIC"
            connectTimeout: "10s"
            circuitBreakers: {"thresholds":[{"maxConnections":4,"maxPendingRequests":4294967295,"maxRequests":4294967295,"maxRetries":4294967295}]}
            altStatName: "inbound|9080||;"

            loadAssignment: {"clusterName":"inbound|9081||","endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"pipe":{"path":"/tmp/app.sock"}}}}]}]}
            name: "inbound|9081||"
            type: "STATIC"
            connectTimeout: "10s"
            circuitBreakers: {"thresholds":[{"maxConnections":3,"maxPendingRequests":4294967295,"maxRequests":4294967295,"maxRetries":4294967295}]}
            upstreamBindConfig: {"sourceAddress":{"address":"127.0.0.6","portValue":0}}
            altStatName: "inbound|9081||;"

            loadAssignment: {"clusterName":"inbound|9082||","endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"10.0.0.1","portValue":8082}}}}]}]}
            name: "inbound|9082||"
            type: "STATIC"
            connectTimeout: "10s"
            circuitBreakers: {"thresholds":[{"maxConnections":3,"maxPendingRequests":4294967295,"maxRequests":4294967295,"maxRetries":4294967295}]}
            upstreamBindConfig: {"sourceAddress":{"address":"127.0.0.6","portValue":0}}
            altStatName: "inbound|9082||;"
        "#]],
        );
    }
}
