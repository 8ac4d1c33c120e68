//! Who gets in.

use pki::{KeyType, Name, PrivateKey, Purpose, Template};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyUsagePurpose, SanType};
use rustls::sign::CertifiedKey;
use time::Duration as Span;

use super::authority::{client, fixed, now, serial};
use super::*;

#[tokio::test]
async fn a_client_is_known_by_its_certificate_over_both_versions_of_http() {
    let ca = Ca::new("one.test");
    let server = Server::with(ca.identity(&id("server"), &ca.trust()), Clients::Optional).await;
    let mut send = connect_as(server.addr, client(&ca, &id("ann")))
        .await
        .unwrap();
    assert_eq!(ask(&mut send, "/who").await.unwrap(), id("ann").to_string());
    let mut nobody = connect_as(server.addr, ClientTls::from(ca.trust()))
        .await
        .unwrap();
    assert_eq!(ask(&mut nobody, "/who").await.unwrap(), "anonymous");

    let config = client_config(client(&ca, &id("bob")), ServerId::spiffe(id("server")));
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, tcp).await.unwrap();
    let (mut send, connection) = conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut plain = request("/who");
    *plain.uri_mut() = "/who".parse().unwrap();
    plain.headers_mut().insert("host", "test".parse().unwrap());
    let response = send.send_request(plain).await.unwrap();
    assert_eq!(response.version(), hyper::Version::HTTP_11);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, id("bob").to_string());

    server.stop.trigger();
    within(server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_shows_nothing_stays_out_where_certificates_are_required() {
    let ca = Ca::new("one.test");
    let server = Server::with(ca.identity(&id("server"), &ca.trust()), Clients::Required).await;
    let refused = connect_as(server.addr, ClientTls::from(ca.trust())).await;
    assert!(refused.unwrap_err().contains("CertificateRequired"));
    assert!(
        connect_as(server.addr, client(&ca, &id("ann")))
            .await
            .is_ok()
    );
}

/// Case 19.
#[tokio::test]
async fn a_certificate_counts_under_the_roots_of_its_own_trust_domain_alone() {
    let (one, two, unknown) = (
        Ca::new("one.test"),
        Ca::new("two.test"),
        Ca::new("three.test"),
    );
    let trust = one.trust_and(&two);
    let server = Server::with(one.identity(&id("server"), &trust), Clients::Optional).await;
    let of = |domain: &str| SpiffeId::parse(&format!("spiffe://{domain}/ns/mesh/sa/ann")).unwrap();
    let shows = async |by: &Ca, domain: &str| {
        connect_as(server.addr, fixed(by.identity(&of(domain), &one.trust()))).await
    };
    assert!(shows(&one, "one.test").await.is_ok());
    assert!(shows(&two, "two.test").await.is_ok());
    // No pool for the trust domain, even if the signature is of a known root.
    assert!(shows(&unknown, "three.test").await.is_err());
    assert!(shows(&one, "three.test").await.is_err());
    // A chain that is valid under another domain's root only.
    assert!(shows(&two, "one.test").await.is_err());
    assert!(shows(&one, "two.test").await.is_err());
}

/// Signs anything, as an authority that went astray would.
fn forged(ca: &Ca, change: impl FnOnce(&mut CertificateParams)) -> ClientTls {
    let root_key = rcgen::KeyPair::try_from(ca.authority.private_key().pkcs8_der()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&ca.root(), root_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id("ann").to_string().try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    change(&mut params);
    let leaf = params.signed_by(&key, &issuer).unwrap();
    unchecked(ca, leaf.der().clone(), &key.serialize_der())
}

/// A client that shows a certificate which `TlsIdentity` would not take.
fn unchecked(ca: &Ca, leaf: rustls_pki_types::CertificateDer<'static>, key: &[u8]) -> ClientTls {
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.to_vec());
    let key = settings::provider()
        .key_provider
        .load_private_key(key.into())
        .unwrap();
    ca.identity(&id("ann"), &ca.trust());
    let identity = ca
        .identity(&id("ann"), &ca.trust())
        .showing(CertifiedKey::new(vec![leaf], key));
    fixed(identity)
}

/// Case 19.
#[tokio::test]
async fn certificates_that_are_no_identity_are_refused_in_the_handshake() {
    let ca = Ca::new("one.test");
    let server = Server::with(ca.identity(&id("server"), &ca.trust()), Clients::Optional).await;
    let uri = |text: &str| SanType::URI(text.to_owned().try_into().unwrap());
    // The forger's tools work: what he changes is what is refused.
    assert!(connect_as(server.addr, forged(&ca, |_| {})).await.is_ok());
    let cases: Vec<(&str, ClientTls)> = vec![
        (
            "two URIs",
            forged(&ca, |p| {
                p.subject_alt_names.push(uri(&id("bob").to_string()))
            }),
        ),
        (
            "two URIs, one of another kind",
            forged(&ca, |p| p.subject_alt_names.push(uri("https://one.test/"))),
        ),
        ("no name", forged(&ca, |p| p.subject_alt_names.clear())),
        (
            "a DNS name alone",
            forged(&ca, |p| {
                p.subject_alt_names = vec![SanType::DnsName("ann".try_into().unwrap())];
            }),
        ),
        (
            "no SPIFFE ID",
            forged(&ca, |p| {
                p.subject_alt_names = vec![uri("spiffe://one.test/ns/../sa/ann")]
            }),
        ),
        (
            "the trust domain itself",
            forged(&ca, |p| {
                p.subject_alt_names = vec![uri("spiffe://one.test")]
            }),
        ),
        (
            "an authority",
            forged(&ca, |p| {
                p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                p.key_usages = vec![
                    KeyUsagePurpose::DigitalSignature,
                    KeyUsagePurpose::KeyCertSign,
                ];
            }),
        ),
        (
            "the root itself",
            unchecked(
                &ca,
                ca.authority.certificate().der().clone(),
                ca.authority.private_key().pkcs8_der(),
            ),
        ),
        (
            "for servers only",
            forged(&ca, |p| {
                p.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
        (
            "no signatures",
            forged(&ca, |p| {
                p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]
            }),
        ),
        (
            "expired",
            forged(&ca, |p| p.not_after = now() - Span::minutes(1)),
        ),
        (
            "not valid yet",
            forged(&ca, |p| p.not_before = now() + Span::hours(1)),
        ),
    ];
    for (what, client) in cases {
        assert!(connect_as(server.addr, client).await.is_err(), "{what}");
    }
}

#[tokio::test]
async fn an_intermediate_counts_if_it_is_sent_along() {
    let ca = Ca::new("one.test");
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let below = ca
        .authority
        .issue_intermediate(key.public_key(), "below", Span::hours(2), serial(), now())
        .unwrap();
    let material = pki::Material {
        key,
        certificate: below.clone(),
        chain: Vec::new(),
        roots: vec![ca.authority.certificate().clone()],
    };
    let domain = id("ann").trust_domain().clone();
    let authority = pki::Authority::new(material, &domain, now()).unwrap();
    let leaf_key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let template = Template {
        serial: serial(),
        not_before: now() - Span::minutes(1),
        not_after: now() + Span::hours(1),
        organization: None,
        common_name: None,
        names: vec![Name::Uri(id("ann"))],
        purpose: Purpose::Leaf,
        public_key: leaf_key.public_key().clone(),
    };
    let leaf = authority.sign(&template).unwrap().to_pem();
    let server = Server::with(ca.identity(&id("server"), &ca.trust()), Clients::Required).await;
    let with =
        |chain: &str| fixed(TlsIdentity::new(chain, &leaf_key.to_pkcs8_pem(), ca.trust()).unwrap());
    assert!(
        connect_as(server.addr, with(&(leaf.clone() + &below.to_pem())))
            .await
            .is_ok()
    );
    assert!(connect_as(server.addr, with(&leaf)).await.is_err());
}

#[tokio::test]
async fn a_client_knows_its_server() {
    let (ca, other) = (Ca::new("one.test"), Ca::new("one.test"));
    let identity = ca.identity(&id("server"), &ca.trust());
    let taken_back = ca.trust_with(&ca.revokes(&[identity.certificate()]));
    let server = Server::with(identity, Clients::Optional).await;
    let to = async |trust: Arc<Trust>, id| connect_to(server.addr, trust.into(), id).await;
    for server in [
        ServerId::spiffe(id("server")),
        ServerId::name("citadel.test").unwrap(),
    ] {
        let error = to(taken_back.clone(), server).await.unwrap_err();
        assert!(error.contains("Revoked"), "{error}");
    }
    let error = to(ca.trust(), ServerId::spiffe(id("else")))
        .await
        .unwrap_err();
    assert!(
        error.contains("the certificate is of spiffe://one.test/ns/mesh/sa/server, want spiffe://one.test/ns/mesh/sa/else"),
        "{error}"
    );
    assert!(
        to(other.trust(), ServerId::spiffe(id("server")))
            .await
            .is_err()
    );
    assert!(
        to(ca.trust(), ServerId::name("citadel.test").unwrap())
            .await
            .is_ok()
    );
    let error = to(ca.trust(), ServerId::name("else.test").unwrap())
        .await
        .unwrap_err();
    assert!(
        error.contains("not valid for the name else.test"),
        "{error}"
    );
    assert!(
        to(other.trust(), ServerId::name("citadel.test").unwrap())
            .await
            .is_err()
    );
    let both = [id("else"), id("server")];
    assert!(to(ca.trust(), ServerId::Spiffe(both.into())).await.is_ok());
    assert!(ServerId::name("not a name").is_err());
}

#[tokio::test]
async fn a_client_without_an_identity_yet_says_so() {
    let ca = Ca::new("one.test");
    let server = Server::with(ca.identity(&id("server"), &ca.trust()), Clients::Optional).await;
    let (_, nothing) = watch::channel(None);
    let error = connect_as(server.addr, nothing.into()).await.unwrap_err();
    assert!(error.contains("no trust bundle yet"), "{error}");
}

#[tokio::test]
async fn old_versions_and_other_ciphers_are_refused() {
    let ca = Ca::new("one.test");
    let server = Server::start(
        Some(ca.identity(&id("server"), &ca.trust())),
        Clients::Optional,
        |tls, _| {
            tls.settings =
                TlsSettings::with_ciphers(TlsVersion::Tls12, &["ECDHE-ECDSA-AES256-GCM-SHA384"])
                    .unwrap();
        },
    )
    .await;
    let speaks = async |ciphers: &[&str]| {
        let settings = TlsSettings::with_ciphers(TlsVersion::Tls12, ciphers).unwrap();
        connect_as(server.addr, client(&ca, &id("ann")).with_settings(settings)).await
    };
    assert!(speaks(&[]).await.is_ok());
    assert!(speaks(&["ECDHE-ECDSA-AES256-GCM-SHA384"]).await.is_ok());
    assert!(speaks(&["ECDHE-ECDSA-AES128-GCM-SHA256"]).await.is_err());
    assert!(speaks(&["TLS_AES_128_GCM_SHA256"]).await.is_err());

    let newest = Server::start(
        Some(ca.identity(&id("server"), &ca.trust())),
        Clients::Optional,
        |tls, _| tls.settings = TlsSettings::with_ciphers::<&str>(TlsVersion::Tls13, &[]).unwrap(),
    )
    .await;
    let old = TlsSettings::with_ciphers(TlsVersion::Tls12, &["ECDHE-ECDSA-AES256-GCM-SHA384"]);
    let old = client(&ca, &id("ann")).with_settings(old.unwrap());
    assert!(connect_as(newest.addr, old).await.is_err());
    assert!(
        connect_as(newest.addr, client(&ca, &id("ann")))
            .await
            .is_ok()
    );
}

#[test]
fn key_and_certificate_must_belong_together() {
    let ca = Ca::new("one.test");
    let (leaf, key) = ca.issue(&id("ann"), &[], Span::hours(1));
    let other = PrivateKey::generate(KeyType::EcP256).unwrap();
    let make =
        |chain: &str, key: &str| TlsIdentity::new(chain, key, ca.trust()).map(|i| i.id().clone());
    let (chain, key, other) = (leaf.to_pem(), key.to_pkcs8_pem(), other.to_pkcs8_pem());
    assert_eq!(make(&chain, &key), Ok(id("ann")));
    assert_eq!(make(&chain, &other), Err(IdentityError::Mismatch));
    assert_eq!(make("", &key), Err(IdentityError::NoCertificate));
    assert_eq!(make(&chain, &chain), Err(IdentityError::Key));
    let root = make(&ca.root(), &ca.authority.private_key().to_pkcs8_pem());
    assert!(matches!(root, Err(IdentityError::Leaf(_))));
    let identity = TlsIdentity::new(&chain, &key, ca.trust()).unwrap();
    let shown = format!("{identity:?}");
    assert!(
        shown.contains("sa/ann") && !shown.contains("key"),
        "{shown}"
    );
}
