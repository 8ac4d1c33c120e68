//! The server side of sidecars: SECURITY-INJECTION C.3, C.4.

use envoy_api::envoy::config::listener::v3::Listener;
use envoy_api::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
use expect_test::{Expect, expect};
use mesh_model::{CertificateFiles, Interception, Proxy};
use prost::Message;
use serde_json::Value;
use xds_core::Encoded;

use super::{agent, at, mesh_config, names, peer, three_ports, with_agent, world};
use crate::listeners::{self, show};
use crate::testing::{json, sidecar};
use crate::{Compliance, InboundKey, Memos, Options};

fn encoded(yaml: &str, proxy: &Proxy, options: Options) -> Vec<std::sync::Arc<Encoded>> {
    let world = world(yaml);
    let mut proxy = proxy.clone();
    world.mesh.complete(&mut proxy);
    let view = world.mesh.view(&world.mesh.view_key(&proxy));
    let key = InboundKey::of(&world.mesh, &view, &proxy);
    listeners::inbound(&view, &key, &Memos::new(options))
}

fn made(yaml: &str, proxy: &Proxy) -> Vec<Listener> {
    let decode = |e: &std::sync::Arc<Encoded>| {
        let any = envoy_api::any::Any::decode(e.any()).unwrap();
        Listener::decode(any.value.as_slice()).unwrap()
    };
    encoded(yaml, proxy, Options::default())
        .iter()
        .map(decode)
        .collect()
}

#[track_caller]
fn check(yaml: &str, proxy: &Proxy, want: Expect) {
    let text: String = made(yaml, proxy).iter().map(show).collect();
    want.assert_eq(&text);
}

fn mode(mode: &str) -> String {
    three_ports() + &peer("default", "default", &format!("mtls: {{mode: {mode}}}"))
}

/// Case 37, C-050 to C-053.
#[test]
fn without_a_policy_both_are_taken() {
    check(
        &three_ports(),
        &agent(),
        expect![[r#"
        virtualInbound bound timeout=0s original_dst tls_inspector http_inspector(not everywhere)
          virtualInbound-blackhole :15006 -> tcp BlackHoleCluster
          virtualInbound-catchall-http tls [istio-http/1.0,istio-http/1.1,istio-h2] term -> http InboundPassthroughCluster vhost inbound|http|0 (InboundPassthroughCluster;)
          virtualInbound-catchall-http raw_buffer [http/1.1,h2c] -> http InboundPassthroughCluster vhost inbound|http|0 (InboundPassthroughCluster;)
          virtualInbound tls [istio-peer-exchange,istio] term -> tcp InboundPassthroughCluster
          virtualInbound raw_buffer -> tcp InboundPassthroughCluster
          virtualInbound tls -> tcp InboundPassthroughCluster
          0.0.0.0_70 :70 tls [istio,istio-peer-exchange,istio-http/1.0,istio-http/1.1,istio-h2] term -> tcp inbound|70||
          0.0.0.0_70 :70 tls -> tcp inbound|70||
          0.0.0.0_70 :70 raw_buffer -> tcp inbound|70||
          0.0.0.0_81 :81 tls [istio-http/1.0,istio-http/1.1,istio-h2] term -> http inbound|81|| vhost inbound|http|81 (inbound_0.0.0.0_81;)
          0.0.0.0_81 :81 raw_buffer [http/1.1,h2c] -> http inbound|81|| vhost inbound|http|81 (inbound_0.0.0.0_81;)
          0.0.0.0_81 :81 tls [istio-peer-exchange,istio] term -> tcp inbound|81||
          0.0.0.0_81 :81 raw_buffer -> tcp inbound|81||
          0.0.0.0_81 :81 tls -> tcp inbound|81||
          0.0.0.0_8080 :8080 tls [istio,istio-peer-exchange,istio-http/1.0,istio-http/1.1,istio-h2] term -> http inbound|8080|| vhost inbound|http|80 (inbound_0.0.0.0_8080;)
          0.0.0.0_8080 :8080 raw_buffer -> http inbound|8080|| vhost inbound|http|80 (inbound_0.0.0.0_8080;)
    "#]],
    );
}

/// Case 41, C-050 to C-053.
#[test]
fn strict_takes_nothing_in_plaintext() {
    check(
        &mode("STRICT"),
        &agent(),
        expect![[r#"
        virtualInbound bound timeout=0s original_dst tls_inspector
          virtualInbound-blackhole :15006 -> tcp BlackHoleCluster
          virtualInbound-catchall-http tls [istio-http/1.0,istio-http/1.1,istio-h2] term -> http InboundPassthroughCluster vhost inbound|http|0 (InboundPassthroughCluster;)
          virtualInbound tls term -> tcp InboundPassthroughCluster
          0.0.0.0_70 :70 tls term -> tcp inbound|70||
          0.0.0.0_81 :81 tls [istio-http/1.0,istio-http/1.1,istio-h2] term -> http inbound|81|| vhost inbound|http|81 (inbound_0.0.0.0_81;)
          0.0.0.0_81 :81 tls term -> tcp inbound|81||
          0.0.0.0_8080 :8080 tls term -> http inbound|8080|| vhost inbound|http|80 (inbound_0.0.0.0_8080;)
    "#]],
    );
}

#[test]
fn disable_is_plaintext_alone() {
    check(
        &mode("DISABLE"),
        &agent(),
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

/// C-054, case 38.
#[test]
fn c054_modes_of_single_ports() {
    let yaml = mode("STRICT")
        + &peer(
            "default",
            "p",
            "selector: {matchLabels: {app: p}}, mtls: {mode: PERMISSIVE}, portLevelMtls: {8080: {mode: DISABLE}, 80: {mode: STRICT}, 81: {mode: STRICT}}",
        );
    check(
        &yaml,
        &agent(),
        expect![[r#"
        virtualInbound bound timeout=0s original_dst tls_inspector(not everywhere) http_inspector(not everywhere)
          virtualInbound-blackhole :15006 -> tcp BlackHoleCluster
          virtualInbound-catchall-http tls [istio-http/1.0,istio-http/1.1,istio-h2] term -> http InboundPassthroughCluster vhost inbound|http|0 (InboundPassthroughCluster;)
          virtualInbound-catchall-http raw_buffer [http/1.1,h2c] -> http InboundPassthroughCluster vhost inbound|http|0 (InboundPassthroughCluster;)
          virtualInbound tls [istio-peer-exchange,istio] term -> tcp InboundPassthroughCluster
          virtualInbound raw_buffer -> tcp InboundPassthroughCluster
          virtualInbound tls -> tcp InboundPassthroughCluster
          virtualInbound-catchall-http :80 tls [istio-http/1.0,istio-http/1.1,istio-h2] term -> http InboundPassthroughCluster vhost inbound|http|0 (InboundPassthroughCluster;)
          virtualInbound :80 tls term -> tcp InboundPassthroughCluster
          0.0.0.0_70 :70 tls [istio,istio-peer-exchange,istio-http/1.0,istio-http/1.1,istio-h2] term -> tcp inbound|70||
          0.0.0.0_70 :70 tls -> tcp inbound|70||
          0.0.0.0_70 :70 raw_buffer -> tcp inbound|70||
          0.0.0.0_81 :81 tls [istio-http/1.0,istio-http/1.1,istio-h2] term -> http inbound|81|| vhost inbound|http|81 (inbound_0.0.0.0_81;)
          0.0.0.0_81 :81 tls term -> tcp inbound|81||
          0.0.0.0_8080 :8080 raw_buffer -> http inbound|8080|| vhost inbound|http|80 (inbound_0.0.0.0_8080;)
    "#]],
    );
}

/// C-055.
#[test]
fn c055_the_meshs_mode_holds_where_the_namespace_says_nothing() {
    let root = peer("istio-system", "default", "mtls: {mode: STRICT}");
    let yaml = three_ports() + &root + &peer("default", "default", "mtls: {mode: UNSET}");
    let strict = made(&mode("STRICT"), &agent());
    assert_eq!(show(&made(&yaml, &agent())[0]), show(&strict[0]));
}

/// Which ports a listener filter looks away from; `not` before those it looks at.
fn off(listener: &Listener, filter: &str) -> String {
    let Some(found) = listener
        .listener_filters
        .iter()
        .find(|f| f.name.ends_with(filter))
    else {
        return "absent".into();
    };
    fn read(rule: &Rule) -> String {
        match rule {
            Rule::DestinationPortRange(range) => {
                assert_eq!(range.end, range.start + 1);
                range.start.to_string()
            }
            Rule::OrMatch(set) => {
                let all = set.rules.iter().map(|p| read(p.rule.as_ref().unwrap()));
                all.collect::<Vec<_>>().join(",")
            }
            Rule::NotMatch(inner) => format!("not {}", read(inner.rule.as_ref().unwrap())),
            _ => panic!("another rule"),
        }
    }
    let off = found.filter_disabled.as_ref().and_then(|p| p.rule.as_ref());
    off.map(read).unwrap_or_default()
}

/// An inspector waits for bytes, and what it finds decides about chains: it must be off where nothing depends on it.
#[test]
fn inspectors_look_only_where_something_depends_on_it() {
    let both = |yaml: &str| {
        let made = made(yaml, &agent());
        [
            off(&made[0], "tls_inspector"),
            off(&made[0], "http_inspector"),
        ]
    };
    assert_eq!(both(&three_ports()), ["", "70,8080"]);
    assert_eq!(both(&mode("STRICT")), ["", "absent"]);
    assert_eq!(both(&mode("DISABLE")), ["absent", "70,8080"]);
    let ports = |mode: &str| {
        peer(
            "default",
            "p",
            &format!(
                "selector: {{matchLabels: {{app: p}}}}, portLevelMtls: {{70: {{mode: {mode}}}, 8080: {{mode: {mode}}}}}"
            ),
        )
    };
    assert_eq!(
        both(&(mode("DISABLE") + &ports("STRICT"))),
        ["not 70,8080", "70,8080"]
    );
    assert_eq!(
        both(&(mode("STRICT") + &ports("DISABLE"))),
        ["70,8080", "absent"]
    );
    let auto = peer(
        "default",
        "p",
        "selector: {matchLabels: {app: p}}, portLevelMtls: {81: {mode: PERMISSIVE}}",
    );
    assert_eq!(both(&(mode("STRICT") + &auto)), ["", "0,70,8080"]);
}

/// The TLS contexts of the chains of a port.
fn contexts(yaml: &str, proxy: &Proxy, options: Options, port: u16) -> Vec<Value> {
    let listener = json(&encoded(yaml, proxy, options)[0]);
    let chains = listener["filterChains"].as_array().unwrap().iter();
    chains
        .filter(|c| c["filterChainMatch"]["destinationPort"] == port)
        .filter_map(|c| c.pointer("/transportSocket/typedConfig").cloned())
        .collect()
}

/// C-061, case 41.
#[test]
fn c061_who_is_let_in_and_what_is_shown() {
    let yaml = three_ports()
        + &mesh_config(
            "\"trustDomain\": \"td\", \"trustDomainAliases\": [\"old\", \"td\"], \"caCertificates\": [{\"trustDomains\": [\"far\", \"\"]}]",
        );
    let plain = Options::default();
    let http = contexts(&yaml, &agent(), plain, 8080).remove(0);
    let common = &http["commonTlsContext"];
    assert_eq!(
        names(common),
        [
            "URI prefix spiffe://td/",
            "URI prefix spiffe://old/",
            "URI prefix spiffe://far/"
        ]
    );
    assert_eq!(at(&http, "/requireClientCertificate"), "true");
    assert_eq!(at(common, "/alpnProtocols"), r#"["h2","http/1.1"]"#);
    let sds = |name: &str| {
        format!(
            r#"{{"name":"{name}","sdsConfig":{{"apiConfigSource":{{"apiType":"GRPC","grpcServices":[{{"envoyGrpc":{{"clusterName":"sds-grpc"}}}}],"setNodeOnFirstMessageOnly":true,"transportApiVersion":"V3"}},"initialFetchTimeout":"0s","resourceApiVersion":"V3"}}}}"#
        )
    };
    assert_eq!(
        at(common, "/tlsCertificateSdsSecretConfigs/0"),
        sds("default")
    );
    let roots = "/combinedValidationContext/validationContextSdsSecretConfig";
    assert_eq!(at(common, roots), sds("ROOTCA"));
    expect![[r#"{"tlsMinimumProtocolVersion":"TLSv1_2","tlsMaximumProtocolVersion":"TLSv1_3","cipherSuites":["ECDHE-ECDSA-AES256-GCM-SHA384","ECDHE-RSA-AES256-GCM-SHA384","ECDHE-ECDSA-AES128-GCM-SHA256","ECDHE-RSA-AES128-GCM-SHA256","AES256-GCM-SHA384","AES128-GCM-SHA256"]}"#]].assert_eq(&at(common, "/tlsParams"));

    let tcp = |vanilla| {
        let mut proxy = agent();
        proxy.vanilla = vanilla;
        let context = contexts(&yaml, &proxy, plain, 70).remove(0);
        at(&context, "/commonTlsContext/alpnProtocols")
    };
    assert_eq!(tcp(false), r#"["istio-peer-exchange","h2","http/1.1"]"#);
    assert_eq!(
        tcp(true),
        r#"["h2","http/1.1"]"#,
        "nobody there would take the exchange"
    );
}

#[test]
fn versions_suites_and_standards() {
    let params = |config: &str, compliance| {
        let options = Options {
            compliance,
            ..Options::default()
        };
        let yaml = three_ports() + &mesh_config(config);
        let context = contexts(&yaml, &agent(), options, 8080).remove(0);
        at(&context, "/commonTlsContext/tlsParams")
    };
    let own = "\"meshMTLS\": {\"minProtocolVersion\": \"TLSV1_3\", \"cipherSuites\": [\"AES128-SHA\", \"ECDHE-RSA-AES128-GCM-SHA256\"]}";
    expect![[r#"{"tlsMinimumProtocolVersion":"TLSv1_3","tlsMaximumProtocolVersion":"TLSv1_3","cipherSuites":["AES128-SHA","ECDHE-RSA-AES128-GCM-SHA256"]}"#]].assert_eq(&params(own, Compliance::None));
    expect![[r#"{"tlsMinimumProtocolVersion":"TLSv1_2","tlsMaximumProtocolVersion":"TLSv1_2","cipherSuites":["ECDHE-RSA-AES128-GCM-SHA256"]}"#]].assert_eq(&params(own, Compliance::Fips140_2));
    assert!(params("", Compliance::Fips140_3).contains("FIPS_202205"));
    let pqc = params("", Compliance::Pqc);
    assert!(pqc.contains(r#""ecdhCurves":["X25519MLKEM768"]"#), "{pqc}");
    let words = ["", "fips-140-2", "fips-140-3", "pqc", "other"].map(Compliance::parse);
    assert!(words[..4].iter().all(Option::is_some) && words[4].is_none());
}

#[test]
fn certificates_in_files_replace_the_agents() {
    let files = CertificateFiles {
        chain: "/c".into(),
        key: "/k".into(),
        root: "/r".into(),
    };
    let mut proxy = agent();
    proxy.server_files = Some(files);
    let context =
        |proxy: &Proxy| contexts(&three_ports(), proxy, Options::default(), 8080).remove(0);
    let by_agent = context(&proxy);
    let name = "/commonTlsContext/tlsCertificateSdsSecretConfigs/0/name";
    assert_eq!(at(&by_agent, name), "file-cert:/c~/k");
    let roots = "/commonTlsContext/combinedValidationContext/validationContextSdsSecretConfig/name";
    assert_eq!(at(&by_agent, roots), "file-root:/r");
    proxy.agent = false;
    let alone = context(&proxy);
    let key = "/commonTlsContext/tlsCertificates/0/privateKey/filename";
    assert_eq!(at(&alone, key), "/k");
    assert_eq!(
        at(
            &alone,
            "/commonTlsContext/validationContext/trustedCa/filename"
        ),
        "/r"
    );
    assert_eq!(
        names(&alone["commonTlsContext"]),
        ["URI prefix spiffe://cluster.local/"]
    );
}

/// Never plaintext under STRICT: what cannot take mutual TLS is closed.
#[test]
fn a_proxy_without_certificate_closes_what_must_have_one() {
    let alone = sidecar("default");
    let open = show(&made(&three_ports(), &alone)[0]);
    assert_eq!(
        open,
        show(&made(&mode("DISABLE"), &agent())[0]),
        "PERMISSIVE is plaintext there"
    );
    check(
        &mode("STRICT"),
        &alone,
        expect![[r#"
        virtualInbound bound timeout=0s original_dst
          virtualInbound-blackhole :15006 -> tcp BlackHoleCluster
          0.0.0.0_70 :70 -> tcp BlackHoleCluster
          0.0.0.0_81 :81 -> tcp BlackHoleCluster
          0.0.0.0_8080 :8080 -> tcp BlackHoleCluster
    "#]],
    );
    let one = peer(
        "default",
        "p",
        "selector: {matchLabels: {app: p}}, portLevelMtls: {8080: {mode: STRICT}}",
    );
    check(
        &(three_ports() + &one),
        &alone,
        expect![[r#"
        virtualInbound bound timeout=0s original_dst http_inspector(not everywhere)
          virtualInbound-blackhole :15006 -> tcp BlackHoleCluster
          virtualInbound-catchall-http raw_buffer [http/1.1,h2c] -> http InboundPassthroughCluster vhost inbound|http|0 (InboundPassthroughCluster;)
          virtualInbound raw_buffer -> tcp InboundPassthroughCluster
          0.0.0.0_70 :70 raw_buffer -> tcp inbound|70||
          0.0.0.0_81 :81 raw_buffer [http/1.1,h2c] -> http inbound|81|| vhost inbound|http|81 (inbound_0.0.0.0_81;)
          0.0.0.0_81 :81 raw_buffer -> tcp inbound|81||
          0.0.0.0_8080 :8080 -> tcp BlackHoleCluster
    "#]],
    );
}

fn ingress(tls: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{name: s, namespace: default}}, spec: {{egress: [{{hosts: ['*/*']}}], \
         ingress: [{{port: {{number: 9080, protocol: HTTPS, name: x}}, defaultEndpoint: '127.0.0.1:8080', tls: {{{tls}}}}}]}}}}\n"
    )
}

/// Certificates of a Sidecar's own port count only where the mesh's are not taken.
#[test]
fn a_sidecars_own_certificates() {
    let files = "mode: SIMPLE, serverCertificate: /c, privateKey: /k";
    let mut proxy = with_agent(sidecar("default"));
    proxy.interception = Interception::None;
    let yaml = mode("DISABLE") + &ingress(files);
    check(
        &yaml,
        &proxy,
        expect![[r#"
        10.0.0.1_9080 bound timeout=0s tls_inspector
          10.0.0.1_9080 :9080 tls term -> http inbound|9080|| vhost inbound|http|9080 (inbound_0.0.0.0_9080;)
    "#]],
    );
    let listener = json(&encoded(&yaml, &proxy, Options::default())[0]);
    let context = listener
        .pointer("/filterChains/0/transportSocket/typedConfig")
        .unwrap();
    assert_eq!(at(context, "/requireClientCertificate"), "false");
    assert_eq!(
        at(
            context,
            "/commonTlsContext/tlsCertificateSdsSecretConfigs/0/name"
        ),
        "file-cert:/c~/k"
    );
    check(
        &(mode("STRICT") + &ingress(files)),
        &proxy,
        expect![[r#"
        10.0.0.1_9080 bound timeout=0s tls_inspector
          10.0.0.1_9080 :9080 tls term -> tcp inbound|9080||
    "#]],
    );
}
