//! The client side: SECURITY-INJECTION C.5, C.6.

use mesh_model::{CertificateFiles, Proxy};
use serde_json::Value;

use super::{agent, at, mesh_config, names, peer, three_ports, with_agent, world};
use crate::testing::{json, router, sidecar};
use crate::{Memos, Options, clusters, endpoints};

const A: &str = "outbound|80||a.default.svc.cluster.local";

fn cluster_with(yaml: &str, proxy: &Proxy, name: &str, options: Options) -> Value {
    let (view, key) = world(yaml).class(proxy);
    let all = clusters::outbound(&view, &key, &Memos::new(options));
    let found = all.iter().find(|c| &**c.name() == name);
    json(found.unwrap_or_else(|| panic!("no cluster {name}")))
}

fn cluster(yaml: &str, proxy: &Proxy, name: &str) -> Value {
    cluster_with(yaml, proxy, name, Options::default())
}

/// Addresses of a cluster's endpoints that are marked for mutual TLS.
fn marked(yaml: &str) -> Vec<String> {
    let (view, key) = world(yaml).class(&agent());
    let made = json(&endpoints::assignment(&view, &key, A, &Memos::default()));
    let groups = made["endpoints"].as_array().cloned().unwrap_or_default();
    let all = groups
        .iter()
        .flat_map(|g| g["lbEndpoints"].as_array().cloned().unwrap_or_default());
    all.filter(|e| {
        e.pointer("/metadata/filterMetadata/envoy.transport_socket_match/tlsMode")
            == Some(&"istio".into())
    })
    .map(|e| at(&e, "/endpoint/address/socketAddress/address"))
    .collect()
}

fn rule(spec: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: a, namespace: default}}, spec: {{host: a, {spec}}}}}\n"
    )
}

fn socket_names(cluster: &Value) -> Vec<String> {
    let matches = cluster["transportSocketMatches"].as_array().cloned();
    matches
        .unwrap_or_default()
        .iter()
        .map(|m| format!("{} {}", at(m, "/name"), m["match"]))
        .collect()
}

/// Case 42, C-079, C-080.
#[test]
fn c079_mutual_tls_where_the_endpoint_takes_it() {
    let yaml = three_ports();
    let made = cluster(&yaml, &agent(), A);
    assert_eq!(
        socket_names(&made),
        [
            r#"tlsMode-istio {"tlsMode":"istio"}"#,
            "tlsMode-disabled {}"
        ]
    );
    assert_eq!(
        at(&made, "/transportSocketMatches/1/transportSocket/name"),
        "envoy.transport_sockets.raw_buffer"
    );
    let context = &made["transportSocketMatches"][0]["transportSocket"]["typedConfig"];
    assert_eq!(
        at(context, "/sni"),
        "outbound_.80_._.a.default.svc.cluster.local"
    );
    assert_eq!(
        names(&context["commonTlsContext"]),
        ["sa-p", "sa-q"].map(|sa| format!("URI exact spiffe://cluster.local/ns/default/sa/{sa}"))
    );
    assert_eq!(
        at(context, "/commonTlsContext/tlsParams"),
        r#"{"tlsMinimumProtocolVersion":"TLSv1_2","tlsMaximumProtocolVersion":"TLSv1_3"}"#
    );
    assert_eq!(marked(&yaml), ["10.0.0.1"], "the other has no sidecar");

    let closed = yaml.clone() + &peer("default", "default", "mtls: {mode: DISABLE}");
    assert!(socket_names(&cluster(&closed, &agent(), A)).is_empty());
    assert!(marked(&closed).is_empty());
    let strict = yaml.clone() + &peer("default", "default", "mtls: {mode: STRICT}");
    assert_eq!(
        (
            socket_names(&cluster(&strict, &agent(), A)).len(),
            marked(&strict).len()
        ),
        (2, 1)
    );
    let port = |port| {
        yaml.clone()
            + &peer(
                "default",
                "p",
                &format!(
                    "selector: {{matchLabels: {{app: p}}}}, portLevelMtls: {{{port}: {{mode: DISABLE}}}}"
                ),
            )
    };
    assert!(marked(&port(8080)).is_empty());
    assert_eq!(marked(&port(80)), ["10.0.0.1"], "ports are the workload's");
    assert_eq!(socket_names(&cluster(&port(8080), &agent(), A)).len(), 2);

    let disabled = yaml.clone() + &rule("trafficPolicy: {tls: {mode: DISABLE}}");
    let made = cluster(&disabled, &agent(), A);
    assert!(socket_names(&made).is_empty() && made.get("transportSocket").is_none());
    assert!(marked(&disabled).is_empty());
    let off = yaml + &mesh_config("\"enableAutoMtls\": false");
    assert!(socket_names(&cluster(&off, &agent(), A)).is_empty());
}

/// What is offered decides which chain of the server takes the connection.
#[test]
fn what_is_offered_inside_tls() {
    let yaml = three_ports().replace("name: x, port: 81", "name: grpc-x, port: 81");
    let offered = |port: u16, vanilla: bool, yaml: &str| {
        let mut proxy = agent();
        proxy.vanilla = vanilla;
        let made = cluster(
            yaml,
            &proxy,
            &format!("outbound|{port}||a.default.svc.cluster.local"),
        );
        at(
            &made,
            "/transportSocketMatches/0/transportSocket/typedConfig/commonTlsContext/alpnProtocols",
        )
    };
    let all = |vanilla| [70, 80, 81].map(|port| offered(port, vanilla, &yaml));
    assert_eq!(
        all(false),
        [
            r#"["istio-peer-exchange","istio"]"#,
            r#"["istio-peer-exchange","istio"]"#,
            r#"["istio-peer-exchange","istio","h2"]"#
        ]
    );
    assert_eq!(
        all(true),
        [
            r#"["istio"]"#,
            r#"["istio-http/1.1","istio","http/1.1"]"#,
            r#"["istio-h2","istio","h2"]"#
        ]
    );
    assert_eq!(offered(81, true, &three_ports()), r#"["istio"]"#);
}

/// C-081.
#[test]
fn c081_a_rule_may_ask_for_it() {
    let yaml = three_ports() + &mesh_config("\"trustDomainAliases\": [\"old\"]");
    let own = rule(
        "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}, subsets: [{name: v1, labels: {version: v1}}]",
    );
    let context = |yaml: &str, name: &str| {
        let made = cluster(yaml, &agent(), name);
        assert!(socket_names(&made).is_empty());
        made["transportSocket"]["typedConfig"].clone()
    };
    let made = context(&(yaml.clone() + &own), A);
    let want = ["cluster.local", "old"].iter().flat_map(|td| {
        ["sa-p", "sa-q"].map(|sa| format!("URI exact spiffe://{td}/ns/default/sa/{sa}"))
    });
    assert_eq!(names(&made["commonTlsContext"]), want.collect::<Vec<_>>());
    let v1 = context(
        &(yaml.clone() + &own),
        "outbound|80|v1|a.default.svc.cluster.local",
    );
    assert_eq!(
        at(&v1, "/sni"),
        "outbound_.80_.v1_.a.default.svc.cluster.local"
    );
    assert_eq!(
        marked(&(yaml.clone() + &own)),
        ["10.0.0.1", "10.0.0.3"],
        "whatever the endpoints say"
    );
    let given = rule(
        "trafficPolicy: {tls: {mode: ISTIO_MUTUAL, sni: s.example, subjectAltNames: [spiffe://x/y, a.example, 10.0.0.1]}}",
    );
    let made = context(&(yaml.clone() + &given), A);
    assert_eq!(at(&made, "/sni"), "s.example");
    assert_eq!(
        names(&made["commonTlsContext"]),
        [
            "URI exact spiffe://x/y",
            "DNS exact a.example",
            "IP_ADDRESS exact 10.0.0.1"
        ]
    );
    // A name that a template left empty is nobody's, not everybody's.
    let empty = rule("trafficPolicy: {tls: {mode: ISTIO_MUTUAL, subjectAltNames: ['']}}");
    let made = context(&(yaml.clone() + &empty), A);
    assert_eq!(names(&made["commonTlsContext"]), ["DNS exact "]);
    // Without a certificate nobody is believed and nothing is sent.
    let refused = cluster(&(yaml + &own), &sidecar("default"), A);
    let digest =
        "/transportSocket/typedConfig/commonTlsContext/validationContext/verifyCertificateHash/0";
    assert_eq!(at(&refused, digest), "0".repeat(64));
}

#[test]
fn without_a_certificate_nothing_is_offered() {
    let made = cluster(&three_ports(), &sidecar("default"), A);
    assert!(socket_names(&made).is_empty() && made.get("transportSocket").is_none());
}

fn external(spec: &str, tls: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: x, namespace: default}}, spec: {{hosts: [x.example], \
         ports: [{{number: 443, name: http, protocol: HTTP}}], resolution: DNS, {spec}}}}}\n\
         ---\n{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: x, namespace: default}}, spec: {{host: x.example, trafficPolicy: {{tls: {{{tls}}}}}}}}}\n"
    )
}

const X: &str = "outbound|443||x.example";

/// C-082.
#[test]
fn c082_tls_to_the_outside() {
    let options = "/typedExtensionProtocolOptions/envoy.extensions.upstreams.http.v3.HttpProtocolOptions/upstreamHttpProtocolOptions";
    let made = |spec: &str, tls: &str, proxy: &Proxy| {
        let made = cluster(&external(spec, tls), proxy, X);
        let common = made["transportSocket"]["typedConfig"]["commonTlsContext"].clone();
        (at(&made, options), common)
    };
    let (names_of_host, common) = made("", "mode: SIMPLE", &agent());
    assert_eq!(
        names_of_host,
        r#"{"autoSni":true,"autoSanValidation":true}"#
    );
    let roots = "/combinedValidationContext/validationContextSdsSecretConfig/name";
    assert_eq!(at(&common, roots), "file-root:system");
    assert_eq!(at(&common, "/alpnProtocols"), "-");
    let (by_host, common) = made(
        "subjectAltNames: [spiffe://x/y]",
        "mode: SIMPLE, caCertificates: /ca.pem",
        &agent(),
    );
    assert_eq!(
        (by_host.as_str(), at(&common, roots).as_str()),
        (r#"{"autoSni":true}"#, "file-root:/ca.pem")
    );
    assert_eq!(names(&common), ["URI exact spiffe://x/y"]);
    let (by_host, common) = made(
        "",
        "mode: SIMPLE, sni: s.example, insecureSkipVerify: true",
        &agent(),
    );
    assert_eq!(
        (by_host.as_str(), at(&common, "/validationContext").as_str()),
        ("-", "{}")
    );
    // Without an agent Envoy reads the system's roots itself. Its own word for them, `system_root_certs`, checks nothing.
    let (_, common) = made("", "mode: SIMPLE, sni: s.example", &sidecar("default"));
    assert_eq!(
        at(&common, "/validationContext"),
        r#"{"trustedCa":{"filename":"/etc/ssl/certs/ca-certificates.crt"}}"#
    );
    let mutual = "mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /r";
    let (_, common) = made("", mutual, &agent());
    assert_eq!(
        at(&common, "/tlsCertificateSdsSecretConfigs/0/name"),
        "file-cert:/c~/k"
    );
    let (_, common) = made("", mutual, &sidecar("default"));
    assert_eq!(
        at(&common, "/tlsCertificates/0/certificateChain/filename"),
        "/c"
    );
}

/// Case 43, C-083.
#[test]
fn c083_credentials_are_for_gateways_and_chosen_workloads() {
    let yaml = external("", "mode: MUTUAL, credentialName: c");
    let made = cluster(&yaml, &agent(), X);
    assert!(made.get("transportSocket").is_none(), "as Istio does");
    let strict = Options {
        refuse_unavailable_credentials: true,
        ..Options::default()
    };
    let refused = cluster_with(&yaml, &agent(), X, strict);
    assert!(at(&refused, "/transportSocket").contains("verifyCertificateHash"));
    let common = |yaml: &str, proxy: &Proxy| {
        cluster(yaml, proxy, X)["transportSocket"]["typedConfig"]["commonTlsContext"].clone()
    };
    let roots = "/combinedValidationContext/validationContextSdsSecretConfig/name";
    let chosen = yaml.replace(
        "host: x.example,",
        "host: x.example, workloadSelector: {matchLabels: {app: p}},",
    );
    for (yaml, proxy) in [(&yaml, with_agent(router("default"))), (&chosen, agent())] {
        let made = common(yaml, &proxy);
        assert_eq!(
            at(&made, "/tlsCertificateSdsSecretConfigs/0/name"),
            "kubernetes://c"
        );
        assert_eq!(
            at(&made, "/tlsCertificateSdsSecretConfigs/0/sdsConfig"),
            r#"{"ads":{},"resourceApiVersion":"V3"}"#
        );
        assert_eq!(at(&made, roots), "kubernetes://c-cacert");
    }
    let public = external(
        "",
        "mode: SIMPLE, credentialName: 'configmap://istio-system/roots'",
    );
    assert_eq!(
        at(&common(&public, &agent()), roots),
        "configmap://istio-system/roots"
    );
}

/// A headless service is dialled by address: mutual TLS to all of its endpoints, or to none.
#[test]
fn headless_services_need_every_endpoint() {
    let yaml = three_ports().replace("clusterIP: 10.96.0.1", "clusterIP: None");
    assert!(cluster(&yaml, &agent(), A).get("transportSocket").is_none());
    let all = yaml.replace(
        "labels: {app: p}}, spec",
        "labels: {app: p, security.istio.io/tlsMode: istio}}, spec",
    );
    assert_ne!(all, yaml);
    let made = cluster(&all, &agent(), A);
    assert!(socket_names(&made).is_empty());
    assert_eq!(
        at(&made, "/transportSocket/typedConfig/sni"),
        "outbound_.80_._.a.default.svc.cluster.local"
    );
    let closed = all + &peer("istio-system", "default", "mtls: {mode: DISABLE}");
    assert!(
        cluster(&closed, &agent(), A)
            .get("transportSocket")
            .is_none()
    );
}

#[test]
fn a_proxys_own_files_replace_the_agents_certificate() {
    let mut proxy = sidecar("default");
    proxy.client_files = Some(CertificateFiles {
        chain: "/c".into(),
        key: "/k".into(),
        root: "/r".into(),
    });
    let made = cluster(&three_ports(), &proxy, A);
    let common =
        &made["transportSocketMatches"][0]["transportSocket"]["typedConfig"]["commonTlsContext"];
    assert_eq!(at(common, "/tlsCertificates/0/privateKey/filename"), "/k");
    assert_eq!(names(common).len(), 2);
    let own = three_ports() + &rule("trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}");
    let made = cluster(&own, &proxy, A);
    let context = &made["transportSocket"]["typedConfig"];
    assert_eq!(
        (
            names(&context["commonTlsContext"]).len(),
            at(context, "/sni").as_str()
        ),
        (0, "-")
    );
}
