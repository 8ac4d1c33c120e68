//! Gateways that end TLS, and their credentials: C-104, C-105, C-114, SECURITY-INJECTION B.12.

use std::sync::Arc;

use envoy_api::envoy::config::listener::v3::Listener;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use expect_test::expect;
use mesh_config::resource::gateway::{ServerTlsMode, ServerTlsSettings};
use mesh_model::Proxy;
use prost::Message;
use serde_json::Value;
use xds_core::{Encoded, Set};

use super::{at, names, with_agent, world};
use crate::generate::Generator;
use crate::listeners::show;
use crate::secrets::redacted;
use crate::testing::{World, json, router};
use crate::tls::{Own, ServerTls, Source};

fn gateway(servers: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: gw, namespace: default}}, spec: {{servers: [{servers}]}}}}\n"
    )
}

fn https(name: &str, host: &str, tls: &str) -> String {
    format!(
        "{{port: {{number: 443, name: {name}, protocol: HTTPS}}, hosts: ['{host}'], tls: {{{tls}}}}}, "
    )
}

fn secret(namespace: &str, name: &str, keys: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: {namespace}}}, type: Opaque, stringData: {{{keys}}}}}\n"
    )
}

const PAIR: &str = "tls.crt: CHAIN, tls.key: KEY-OF-THIS, ca.crt: CA";

fn trusted() -> Proxy {
    let mut proxy = with_agent(router("default"));
    proxy.verified = true;
    proxy
}

fn items(set: &Set) -> Vec<Arc<Encoded>> {
    set.items().to_vec()
}

fn listeners(yaml: &str, proxy: &Proxy) -> Vec<Arc<Encoded>> {
    let (view, key) = world(yaml).class(proxy);
    items(&Generator::default().outbound(&view, &key).lds)
}

fn text(encoded: &Encoded) -> String {
    let any = envoy_api::any::Any::decode(encoded.any()).unwrap();
    show(&Listener::decode(any.value.as_slice()).unwrap())
}

/// The first TLS context of a listener.
fn context(yaml: &str, proxy: &Proxy) -> Value {
    let made = json(&listeners(yaml, proxy)[0]);
    let socket = ["/filterChains/0", "/defaultFilterChain"]
        .map(|c| format!("{c}/transportSocket/typedConfig"));
    socket.iter().find_map(|s| made.pointer(s)).unwrap().clone()
}

/// C-104.
#[test]
fn c104_a_chain_per_server_by_its_names() {
    let yaml = gateway(
        &(https("a", "./b.example", "mode: SIMPLE, credentialName: c")
            + &https("b", "*", "mode: MUTUAL, credentialName: d")
            + "{port: {number: 9443, name: tls, protocol: TLS}, hosts: ['t.example'], tls: {mode: SIMPLE, credentialName: c}}"),
    ) + "---\n{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: t, namespace: default}, spec: {hosts: [t.example], gateways: [gw], \
         tcp: [{route: [{destination: {host: x.example, port: {number: 1}}}]}]}}\n";
    let made: String = listeners(&yaml, &trusted())
        .iter()
        .map(|l| text(l))
        .collect();
    expect![[r#"
        0.0.0.0_443 bound tls_inspector
          sni=b.example term -> http https.443.a.gw.default
          default term -> http https.443.b.gw.default
        0.0.0.0_9443 bound tls_inspector
          sni=t.example term -> tcp outbound|1||x.example
    "#]]
    .assert_eq(&made);
    crate::listeners::accepted_by_envoy(&yaml, &trusted());
}

/// C-105.
#[test]
fn c105_what_each_mode_shows_and_asks() {
    let of = |tls: &str| context(&gateway(&https("a", "a.example", tls)), &trusted());
    let (certificate, roots) = (
        "/commonTlsContext/tlsCertificateSdsSecretConfigs/0",
        "/commonTlsContext/combinedValidationContext/validationContextSdsSecretConfig/name",
    );
    let simple = of("mode: SIMPLE, credentialName: c, subjectAltNames: [x]");
    assert_eq!(
        at(&simple, certificate),
        r#"{"name":"kubernetes://c","sdsConfig":{"ads":{},"resourceApiVersion":"V3"}}"#
    );
    assert_eq!(
        (
            at(&simple, "/requireClientCertificate").as_str(),
            at(&simple, roots).as_str()
        ),
        ("false", "-")
    );
    assert_eq!(
        at(&simple, "/commonTlsContext/alpnProtocols"),
        r#"["h2","http/1.1"]"#
    );
    let mutual = of(
        "mode: MUTUAL, credentialName: c, subjectAltNames: [x.example], minProtocolVersion: TLSV1_3, cipherSuites: [FOO, AES128-SHA]",
    );
    assert_eq!(
        (
            at(&mutual, "/requireClientCertificate").as_str(),
            at(&mutual, roots).as_str()
        ),
        ("true", "kubernetes://c-cacert")
    );
    assert_eq!(names(&mutual["commonTlsContext"]), ["DNS exact x.example"]);
    assert_eq!(
        at(&mutual, "/commonTlsContext/tlsParams"),
        r#"{"tlsMinimumProtocolVersion":"TLSv1_3","cipherSuites":["AES128-SHA"]}"#
    );
    let optional = of("mode: OPTIONAL_MUTUAL, credentialName: c, caCertCredentialName: roots");
    assert_eq!(
        (
            at(&optional, "/requireClientCertificate").as_str(),
            at(&optional, roots).as_str()
        ),
        ("false", "kubernetes://roots-cacert")
    );
    let files = of("mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /r");
    assert_eq!(
        (
            at(&files, &format!("{certificate}/name")).as_str(),
            at(&files, roots).as_str()
        ),
        ("file-cert:/c~/k", "file-root:/r")
    );
    let mesh = of("mode: ISTIO_MUTUAL, subjectAltNames: [spiffe://x/y]");
    assert_eq!(
        (
            at(&mesh, &format!("{certificate}/name")).as_str(),
            at(&mesh, roots).as_str()
        ),
        ("default", "ROOTCA")
    );
    assert_eq!(
        (
            at(&mesh, "/requireClientCertificate"),
            names(&mesh["commonTlsContext"])
        ),
        ("true".into(), vec!["URI exact spiffe://x/y".into()])
    );
    let yaml = gateway(&https("a", "a.example", "mode: ISTIO_MUTUAL"));
    assert!(
        listeners(&yaml, &router("default")).is_empty(),
        "without a certificate the port stays closed"
    );
}

/// Settings that came past the checks: nobody vouches for clients, and so nobody's certificate is taken.
#[test]
fn clients_that_nobody_vouches_for_are_refused() {
    for mode in [ServerTlsMode::Mutual, ServerTlsMode::OptionalMutual] {
        let written = ServerTlsSettings {
            mode,
            server_certificate: "/c".into(),
            private_key: "/k".into(),
            ..ServerTlsSettings::default()
        };
        let tls = ServerTls {
            mesh: Arc::default(),
            source: Source::Agent,
            own: Own::Written(Arc::new(written)),
            alpn: Vec::new(),
        };
        let common = tls.context().common_tls_context.unwrap();
        let Some(ValidationContextType::ValidationContext(check)) = common.validation_context_type
        else {
            panic!("certificates of clients are not looked at");
        };
        assert_eq!(check.verify_certificate_hash, ["0".repeat(64)]);
    }
}

fn names_of(set: &Set) -> Vec<String> {
    set.items().iter().map(|e| e.name().to_string()).collect()
}

/// C-105, C-114.
#[test]
fn c114_credentials_of_the_own_namespace_for_whoever_is_known() {
    let yaml = gateway(
        &(https("a", "a.example", "mode: MUTUAL, credentialName: c")
            + &https(
                "b",
                "b.example",
                "mode: SIMPLE, credentialName: 'kubernetes://other/d'",
            )
            + &https("c", "c.example", "mode: SIMPLE, credentialName: none")),
    ) + &secret("default", "c", PAIR)
        + &secret("default", "unused", PAIR)
        + &secret("other", "d", PAIR)
        + &secret("default", "none", "password: x");
    let mut world = World::new(&yaml);
    let generator = Generator::default();
    let (view, key) = world.class(&trusted());
    let sets = generator.outbound(&view, &key);
    assert_eq!(
        names_of(&sets.sds),
        ["kubernetes://c", "kubernetes://c-cacert"]
    );
    let made = json(&items(&sets.sds)[0]);
    assert_eq!(
        at(&made, "/tlsCertificate/privateKey/inlineBytes"),
        "S0VZLU9GLVRISVM="
    );
    let shown = json(&redacted(&items(&sets.sds)[0]));
    assert!(
        !shown.to_string().contains("S0VZ") && shown.to_string().contains("Q0hBSU4"),
        "{shown}"
    );
    let roots = json(&items(&sets.sds)[1]);
    assert_eq!(
        at(&roots, "/validationContext/trustedCa/inlineBytes"),
        "Q0E="
    );
    let listener = &items(&sets.lds)[0];
    assert!(Arc::ptr_eq(&redacted(listener), listener));

    let mut unknown = trusted();
    unknown.verified = false;
    let (view_of_unknown, key_of_unknown) = world.class(&unknown);
    assert!(
        generator
            .outbound(&view_of_unknown, &key_of_unknown)
            .sds
            .items()
            .is_empty()
    );
    let mut beside = with_agent(crate::testing::sidecar("default"));
    beside.verified = true;
    let (view_of_sidecar, key_of_sidecar) = world.class(&beside);
    assert!(
        generator
            .outbound(&view_of_sidecar, &key_of_sidecar)
            .sds
            .items()
            .is_empty()
    );

    // A rotated Secret is new secrets and nothing else; one that nobody asks for is nothing.
    let delta = world.apply(&secret("default", "c", "cert: NEW, key: K, cacert: CA"));
    let touch = world.mesh.touch(&view, &delta);
    assert!(touch.secrets);
    let next = world.mesh.update_view(&view, &touch);
    let new = generator.outbound_update(&sets, &next, &key, &delta);
    assert!(Arc::ptr_eq(&new.lds, &sets.lds) && Arc::ptr_eq(&new.clusters.cds, &sets.clusters.cds));
    let (old, now) = (items(&sets.sds), items(&new.sds));
    assert!(!Arc::ptr_eq(&old[0], &now[0]) && old[1].version() == now[1].version());
    assert_eq!(
        at(
            &json(&now[0]),
            "/tlsCertificate/certificateChain/inlineBytes"
        ),
        "TkVX"
    );
    let delta = world.apply(&secret("default", "unused", "cert: NEW, key: K"));
    assert!(world.mesh.touch(&next, &delta).is_none());
    let delta = world.delete(mesh_types::Kind::Secret, "default", "c");
    let touch = world.mesh.touch(&next, &delta);
    let gone = world.mesh.update_view(&next, &touch);
    assert!(
        generator
            .outbound_update(&new, &gone, &key, &delta)
            .sds
            .items()
            .is_empty()
    );
}
