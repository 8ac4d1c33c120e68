use std::time::Duration;

use expect_test::{Expect, expect};

use super::*;

fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = [("POD_NAME", "web-1"), ("INSTANCE_IP", "10.0.0.7")]
        .iter()
        .chain(pairs);
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[track_caller]
fn options(pairs: &[(&str, &str)]) -> Options {
    read(&Sources {
        vars: vars(pairs),
        ..Sources::default()
    })
    .unwrap()
}

#[track_caller]
fn refused(pairs: &[(&str, &str)], want: Expect) {
    let errors = read(&Sources {
        vars: vars(pairs),
        ..Sources::default()
    })
    .unwrap_err();
    let text: Vec<String> = errors.iter().map(|error| format!("{error}\n")).collect();
    want.assert_eq(&text.concat());
}

#[test]
fn defaults_are_those_of_istios_agent() {
    let found = options(&[]);
    assert_eq!(
        found.node.id(),
        "sidecar~10.0.0.7~web-1.default~default.svc.cluster.local"
    );
    assert_eq!(found.node.cluster, "istio-proxy.default");
    let pilot = Endpoint {
        host: "istiod.istio-system.svc".into(),
        port: 15_012,
        tls: true,
    };
    assert_eq!(found.control.pilots, std::slice::from_ref(&pilot));
    assert_eq!(found.identity.ca, Some(pilot));
    assert_eq!(found.identity.key, Key::Rsa(2048));
    assert_eq!(found.identity.ttl, Duration::from_secs(86_400));
    assert_eq!(
        (found.identity.grace_ratio, found.identity.grace_jitter),
        (0.5, 0.01)
    );
    assert_eq!(
        [
            found.envoy.admin.to_string(),
            found.envoy.status.to_string(),
            found.envoy.prometheus.to_string(),
            found.status.address.to_string(),
            found.dns.address.to_string()
        ],
        [
            "127.0.0.1:15000",
            "0.0.0.0:15021",
            "0.0.0.0:15090",
            "0.0.0.0:15020",
            "127.0.0.1:15053"
        ]
    );
    assert!(!found.dns.enabled && !found.drain.exit_on_zero && found.control.delta);
    assert_eq!(
        (found.drain.termination, found.drain.minimum),
        (Duration::from_secs(5), Duration::from_secs(5))
    );
}

#[test]
fn everything_wrong_is_told_at_once_and_by_name() {
    refused(
        &[
            ("CA_PROVIDER", "Vault"),
            ("JWT_POLICY", "first-party-jwt"),
            ("CREDENTIAL_FETCHER_TYPE", "Mock"),
            ("ECC_SIGNATURE_ALGORITHM", "EdDSA"),
            ("WORKLOAD_RSA_KEY_SIZE", "1024"),
            ("WORKLOAD_IDENTITY_SOCKET_FILE", "../../tmp/x"),
            ("SECRET_TTL", "24"),
            ("SECRET_GRACE_PERIOD_RATIO", "1.5"),
            ("PROV_CERT", "/p"),
            ("FILE_MOUNTED_CERTS", "true"),
            ("DNS_FORWARD_PARALLEL", "yes"),
            ("GRPC_XDS_BOOTSTRAP", "/x"),
            ("XDS_HEADER_A", "b\nc"),
            ("ISTIO_METAJSON_X", "[1]"),
            ("POD_NAMESPACE", "a~b"),
            ("ENVOY_STATUS_PORT", "70000"),
            ("CA_ADDR", "http://10.0.0.1:8060"),
        ],
        expect![[r#"
            GRPC_XDS_BOOTSTRAP: no bootstrap for proxyless gRPC is written by this version
            XDS_HEADER_A: is no header
            CA_PROVIDER: "Vault" is no provider, use Citadel
            JWT_POLICY: "first-party-jwt" is not supported, only third-party-jwt is
            CREDENTIAL_FETCHER_TYPE: "Mock" is not supported, only JWT is
            CA_ADDR: "http://10.0.0.1:8060" is no address of a server: plaintext is for loopback only; leave http:// out to use TLS
            WORKLOAD_IDENTITY_SOCKET_FILE: "../../tmp/x" is a path, want the name of a file
            PROV_CERT: cannot be used together with FILE_MOUNTED_CERTS: one asks an authority, the other never does
            SECRET_TTL: "24" is no duration; write for example 100ms, 10s or 1h30m
            SECRET_GRACE_PERIOD_RATIO: 1.5 is outside 0..=1
            WORKLOAD_RSA_KEY_SIZE: 1024 bits are not supported, use 2048, 3072 or 4096
            ECC_SIGNATURE_ALGORITHM: "EdDSA" is not supported, use ECDSA, or leave it out for RSA
            TRUST_DOMAIN, POD_NAMESPACE, SERVICE_ACCOUNT: "a~b" is no namespace; use lower-case letters, digits and inner dashes, at most 63
            POD_NAMESPACE: "a~b" cannot be part of a node id
            ISTIO_METAJSON_X: is no JSON object
            ENVOY_STATUS_PORT: "70000": number too large to fit in target type
            DNS_FORWARD_PARALLEL: "yes" is neither true nor false
        "#]],
    );
}

#[test]
fn plaintext_is_for_loopback_and_never_mixed() {
    refused(
        &[(
            "DISCOVERY_ADDRESS",
            "http://127.0.0.1:15010,https://pilot:15012,http://10.0.0.1:15010,x",
        )],
        expect![[r#"
            discoveryAddress: "http://10.0.0.1:15010" is no address of a server: plaintext is for loopback only; leave http:// out to use TLS
            discoveryAddress: "x" is no address of a server: there is no port
            discoveryAddress: some Pilots are with TLS and some without: failing over must not turn it off
        "#]],
    );
    let found = options(&[("DISCOVERY_ADDRESS", "http://127.0.0.1:15010")]);
    assert_eq!(found.identity.ca, None);
    let found = options(&[
        ("DISCOVERY_ADDRESS", "p1:15012, [fd00::1]:15012"),
        ("CA_ADDR", "citadel:8060"),
    ]);
    let urls: Vec<String> = found
        .control
        .pilots
        .iter()
        .map(Endpoint::to_string)
        .collect();
    assert_eq!(urls, ["https://p1:15012", "https://[fd00::1]:15012"]);
    assert_eq!(
        found.identity.ca.unwrap().to_string(),
        "https://citadel:8060"
    );
}

#[test]
fn proxy_config_is_merged_and_the_pod_wins() {
    let found = read(&Sources {
        vars: vars(&[(
            "PROXY_CONFIG",
            "drainDuration: 3s\nproxyStatsMatcher: {inclusionPrefixes: [a]}\nconcurrency: 0\n",
        )]),
        mesh_file: Some(
            "defaultConfig: {drainDuration: 9s, statusPort: 1, proxyAdminPort: 2, tracing: {}, runtimeValues: {a: '1'}}\n",
        ),
        annotations: Some(
            "proxy.istio.io/config=\"proxyAdminPort: 3\\nproxyStatsMatcher:\\n  inclusionSuffixes: [b]\\n\"\n",
        ),
        labels: Some("app=\"web\"\npod-template-hash=\"x\"\nistio-locality=\"r.z\"\n"),
        kind: Kind::Router,
        ..Sources::default()
    })
    .unwrap();
    let config = &found.proxy_config;
    assert_eq!(config.drain_duration, Duration::from_secs(3));
    assert_eq!(found.status.address.port(), 1);
    assert_eq!(found.envoy.admin.port(), 3);
    assert_eq!(
        (config.stats.prefixes.clone(), config.stats.suffixes.clone()),
        (vec!["a".to_owned()], vec!["b".to_owned()])
    );
    assert_eq!(found.envoy.concurrency, 0);
    assert_eq!(
        found.notes,
        ["ProxyConfig tracing has no effect in this version"]
    );
    assert!(found.node.id().starts_with("router~"));
    assert_eq!(found.node.cluster, "web.default");
    assert_eq!(found.node.locality, ["r", "z", ""]);
    assert_eq!(
        found.node.metadata["LABELS"],
        serde_json::json!({"app": "web", "istio-locality": "r.z"})
    );
    assert_eq!(found.node.metadata["PROXY_CONFIG"]["statusPort"], 1);
}

#[test]
fn metadata_comes_from_variables_by_their_prefix() {
    let found = options(&[
        ("ISTIO_META_DNS_CAPTURE", "true"),
        ("ISTIO_META_NETWORK", "n1"),
        ("ISTIO_METAJSON_LABELS", r#"{"version":"v1"}"#),
        ("ISTIO_METAJSON_X", r#"{"y":[1,true]}"#),
        ("SERVICE_ACCOUNT", "web"),
        ("ISTIO_CPU_LIMIT", "1500m"),
        ("XDS_HEADER_X_ONE", "1"),
    ]);
    let metadata = &found.node.metadata;
    let text = serde_json::to_string(metadata).unwrap();
    assert_eq!(
        text,
        r#"{"INSTANCE_IPS":"10.0.0.7","DNS_CAPTURE":"true","NETWORK":"n1","X":{"y":[1,true]},"NAME":"web-1","SERVICE_ACCOUNT":"web","LABELS":{"version":"v1"}}"#
    );
    assert!(found.dns.enabled);
    assert_eq!(found.envoy.concurrency, 2);
    assert_eq!(
        found.control.headers,
        [("x-one".to_owned(), "1".to_owned())]
    );
}

/// Case 28: the name of a socket is no path.
#[test]
fn a_sockets_name_is_no_path() {
    for name in ["../../tmp/x", "/tmp/x", "a/b", "..", "."] {
        let errors = read(&Sources {
            vars: vars(&[("WORKLOAD_IDENTITY_SOCKET_FILE", name)]),
            ..Sources::default()
        })
        .unwrap_err();
        assert_eq!(errors[0].name, "WORKLOAD_IDENTITY_SOCKET_FILE", "{name}");
    }
}

#[test]
fn a_pod_with_ipv6_alone_listens_there() {
    let found = read(&Sources {
        vars: vars(&[("INSTANCE_IP", "fd00::7")]),
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(
        [found.envoy.admin, found.envoy.status, found.status.address].map(|at| at.to_string()),
        ["[::1]:15000", "[::]:15021", "[::]:15020"]
    );
}

/// Kubernetes asks by the first address, of whichever family.
#[test]
fn a_pod_of_both_families_is_probed_by_both() {
    for ips in ["fd00::7,10.0.0.7", "10.0.0.7,fd00::7"] {
        let found = options(&[("INSTANCE_IP", ips)]);
        assert_eq!(found.status.address.to_string(), "[::]:15020", "{ips}");
        assert_eq!(found.envoy.status.to_string(), "0.0.0.0:15021", "{ips}");
    }
}
