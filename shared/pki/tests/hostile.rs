//! What others send: requests, keys and chains that must be refused, each for its own reason.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use common::*;
use mesh_types::TrustDomain;
use pki::csr::{self, CsrError};
use pki::{
    Certificate, IdentityError, KeyError, KeyType, PemError, PrivateKey, Trust, Use, VerifyError,
};
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use time::Duration;

fn request(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    change(&mut params);
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// Case 6.
#[test]
fn requests_that_are_none_are_refused() {
    let good = csr::create(&ec(), &id(APP)).unwrap();
    assert!(csr::check(&good).is_ok());
    assert_eq!(
        csr::check("garbage"),
        Err(CsrError::Pem(PemError::Missing("CERTIFICATE REQUEST")))
    );
    assert_eq!(
        csr::check(&pem("CERTIFICATE REQUEST", b"garbage")),
        Err(CsrError::Malformed)
    );
    let certificate = root(ec()).certificate().to_pem();
    assert_eq!(
        csr::check(&certificate),
        Err(CsrError::Pem(PemError::Missing("CERTIFICATE REQUEST")))
    );
    // A certificate under the name of a request.
    let disguised = certificate.replace("CERTIFICATE", "CERTIFICATE REQUEST");
    assert_eq!(csr::check(&disguised), Err(CsrError::Malformed));
    // A second block, whatever it is.
    for second in [good.as_str(), certificate.as_str(), "-----BEGIN "] {
        assert_eq!(
            csr::check(&format!("{good}{second}")),
            Err(CsrError::Pem(PemError::Several))
        );
    }
    // Refused by its size alone: the first part is a good request.
    let long = good + &" ".repeat(70 << 10);
    assert_eq!(csr::check(&long), Err(CsrError::TooLong(long.len())));
}

/// Case 6: something follows the request inside the block.
#[test]
fn trailing_bytes_are_refused() {
    let good = csr::create(&ec(), &id(APP)).unwrap();
    let body: String = good.lines().filter(|line| !line.starts_with('-')).collect();
    use base64::Engine;
    let mut der = base64::engine::general_purpose::STANDARD
        .decode(body)
        .unwrap();
    assert!(csr::check_der(&der).is_ok());
    der.push(0);
    assert_eq!(csr::check_der(&der), Err(CsrError::Malformed));
}

/// Case 6: a broken self-signature.
#[test]
fn requests_signed_by_another_key_are_refused() {
    let good = csr::create(&ec(), &id(APP)).unwrap();
    let body: String = good.lines().filter(|line| !line.starts_with('-')).collect();
    use base64::Engine;
    let der = base64::engine::general_purpose::STANDARD
        .decode(body)
        .unwrap();
    // The identity is signed over: another one has another signature.
    let at = der.windows(3).position(|bytes| bytes == b"app").unwrap();
    let mut changed = der.clone();
    changed[at] = b'x';
    assert_eq!(csr::check_der(&changed), Err(CsrError::Signature));
    let mut changed = der.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert!(csr::check_der(&changed).is_err());
}

/// Case 6: keys.
#[test]
fn keys_are_accepted_by_kind_and_size() {
    for (algorithm, kind) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, KeyType::EcP256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, KeyType::EcP384),
        (&rcgen::PKCS_RSA_SHA256, KeyType::Rsa(2048)),
        (&rcgen::PKCS_ED25519, KeyType::Ed25519),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let checked = csr::check(&request(&key, |_| {})).unwrap();
        assert_eq!(checked.public_key.key_type(), kind);
        assert!(!checked.has_common_name);
        let ours = PrivateKey::from_pem(&key.serialize_pem()).unwrap();
        assert_eq!(ours.public_key(), &checked.public_key);
    }
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    assert_eq!(csr::check(&request(&p521, |_| {})), Err(CsrError::KeyType));
    assert_eq!(
        PrivateKey::from_pem(&p521.serialize_pem()).unwrap_err(),
        KeyError::Unknown
    );
}

/// Case 6: RSA of 1024 bits, and a signature with SHA-1. Both were made with openssl.
#[test]
fn weak_rsa_keys_are_refused() {
    let weak = include_str!("data/rsa-1024.csr.pem");
    assert_eq!(csr::check(weak), Err(CsrError::KeyType));
    let key = include_str!("data/rsa-1024.key.pem");
    assert!(PrivateKey::from_pem(key).is_err());
    let sha1 = include_str!("data/sha1.csr.pem");
    assert_eq!(csr::check(sha1), Err(CsrError::Signature));
}

#[test]
fn extensions_and_attributes_of_requests_do_not_matter() {
    let key = KeyPair::generate().unwrap();
    let asked = request(&key, |params| {
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "admin");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.subject_alt_names = vec![
            SanType::URI("spiffe://evil/ns/a/sa/b".try_into().unwrap()),
            SanType::URI(
                "spiffe://cluster.local/ns/kube-system/sa/admin"
                    .try_into()
                    .unwrap(),
            ),
            SanType::DnsName("kubernetes.default".try_into().unwrap()),
        ];
    });
    let checked = csr::check(&asked).unwrap();
    assert!(checked.has_common_name);
    let authority = root(ec());
    let leaf = authority
        .issue(
            &pki::LeafRequest {
                id: &id(APP),
                public_key: &checked.public_key,
                ttl: Duration::hours(1),
                names: &[],
                common_name: checked.has_common_name,
            },
            serial(2),
            NOW,
        )
        .unwrap();
    assert_eq!(Vec::from_iter(leaf.uris()), [APP]);
    assert_eq!(leaf.dns_names().count(), 0);
    assert_eq!(leaf.subject(), format!("CN={APP}"));
    assert!(!leaf.is_ca());
}

#[test]
fn private_keys_are_read_in_every_form_and_shown_in_none() {
    for kind in [
        KeyType::EcP256,
        KeyType::EcP384,
        KeyType::Rsa(2048),
        KeyType::Ed25519,
    ] {
        let key = PrivateKey::generate(kind).unwrap();
        let again = PrivateKey::from_pem(&key.to_pkcs8_pem()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        let traditional = key.to_traditional_pem().unwrap();
        let again = PrivateKey::from_pem(&traditional).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(format!("{key:?}"), format!("PrivateKey({kind}, hidden)"));
    }
    // As `openssl ecparam -genkey` writes it: the curve in a block of its own comes first.
    let params = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let key = ec();
    let text = params.to_owned() + &key.to_traditional_pem().unwrap();
    assert_eq!(
        PrivateKey::from_pem(&text).unwrap().public_key(),
        key.public_key()
    );
    let two = key.to_pkcs8_pem().to_string() + &key.to_pkcs8_pem();
    assert_eq!(
        PrivateKey::from_pem(&two).unwrap_err(),
        KeyError::Pem(PemError::Several)
    );
    assert_eq!(
        PrivateKey::from_pem(&pem("ENCRYPTED PRIVATE KEY", b"x")).unwrap_err(),
        KeyError::Encrypted
    );
    assert_eq!(
        PrivateKey::from_pem(params).unwrap_err(),
        KeyError::Pem(PemError::Missing("PRIVATE KEY"))
    );
}

/// A certificate that our own code would not make, signed by an authority of ours.
fn forged(authority: &pki::Authority, change: impl FnOnce(&mut CertificateParams)) -> Certificate {
    let key = KeyPair::from_pem(&authority.private_key().to_pkcs8_pem()).unwrap();
    let issuer = Issuer::from_ca_cert_der(authority.certificate().der(), key).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = NOW - Duration::hours(1);
    params.not_after = NOW + Duration::hours(1);
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        rcgen::ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.subject_alt_names = vec![SanType::URI(APP.try_into().unwrap())];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Certificate::from_der(certificate.der()).unwrap()
}

fn uris(params: &mut CertificateParams, uris: &[&str]) {
    params.subject_alt_names = uris
        .iter()
        .map(|uri| SanType::URI((*uri).try_into().unwrap()))
        .collect();
}

/// Case 19, as far as it is about chains.
#[test]
fn only_one_identity_of_a_known_domain_under_its_own_root_is_believed() {
    let (ours, theirs) = (root(ec()), root(ec()));
    let other = TrustDomain::new("other").unwrap();
    let mut trust = trust(&ours);
    trust.insert(
        other.clone(),
        Arc::new(theirs.roots().clone()),
        Arc::new([]),
    );
    let verify = |leaf: &Certificate| trust.verify(leaf.der(), &[], Use::Client, NOW);

    assert_eq!(verify(&forged(&ours, |_| {})), Ok(id(APP)));
    assert_eq!(
        verify(&forged(&ours, |p| uris(
            p,
            &[APP, "spiffe://cluster.local/ns/a/sa/b"]
        ))),
        Err(VerifyError::Identity(IdentityError::Several(2)))
    );
    assert_eq!(
        verify(&forged(&ours, |p| p.subject_alt_names.clear())),
        Err(VerifyError::Identity(IdentityError::None))
    );
    assert_eq!(
        verify(&forged(&ours, |p| uris(p, &["spiffe://cluster.local"]))),
        Err(VerifyError::Identity(IdentityError::TrustDomain))
    );
    assert!(matches!(
        verify(&forged(&ours, |p| uris(p, &["https://cluster.local/x"]))),
        Err(VerifyError::Identity(IdentityError::Invalid(_)))
    ));
    assert_eq!(
        verify(&forged(&ours, |p| uris(p, &["spiffe://nowhere/ns/a/sa/b"]))),
        Err(VerifyError::UnknownDomain(
            TrustDomain::new("nowhere").unwrap()
        ))
    );
    // Valid only under another domain's root, either way.
    let elsewhere = "spiffe://other/ns/a/sa/b";
    assert!(matches!(
        verify(&forged(&ours, |p| uris(p, &[elsewhere]))),
        Err(VerifyError::Chain { .. })
    ));
    assert!(matches!(
        verify(&forged(&theirs, |_| {})),
        Err(VerifyError::Chain { .. })
    ));
    assert_eq!(
        verify(&forged(&theirs, |p| uris(p, &[elsewhere]))),
        Ok(id(elsewhere))
    );
}

#[test]
fn expired_early_wrongly_used_and_signing_certificates_are_refused() {
    let ours = root(ec());
    let trust = trust(&ours);
    let verify = |leaf: &Certificate, end| trust.verify(leaf.der(), &[], end, NOW);
    let chain = |change: fn(&mut CertificateParams), end| {
        matches!(
            verify(&forged(&ours, change), end),
            Err(VerifyError::Chain { .. })
        )
    };
    assert!(chain(
        |p| p.not_after = NOW - Duration::seconds(1),
        Use::Client
    ));
    assert!(chain(
        |p| p.not_before = NOW + Duration::seconds(1),
        Use::Client
    ));
    let client_only = |p: &mut CertificateParams| {
        p.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth]
    };
    assert!(chain(client_only, Use::Server));
    assert_eq!(
        verify(&forged(&ours, client_only), Use::Client),
        Ok(id(APP))
    );
    for change in [
        (|p| p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained))
            as fn(&mut CertificateParams),
        |p| p.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign],
        |p| {
            p.key_usages = vec![
                rcgen::KeyUsagePurpose::DigitalSignature,
                rcgen::KeyUsagePurpose::CrlSign,
            ];
        },
    ] {
        assert_eq!(
            verify(&forged(&ours, change), Use::Client),
            Err(VerifyError::Authority)
        );
        assert!(pki::lint_leaf(forged(&ours, change).der()).is_err());
    }
    assert_eq!(
        verify(
            &forged(&ours, |p| p.key_usages =
                vec![rcgen::KeyUsagePurpose::KeyEncipherment]),
            Use::Client
        ),
        Err(VerifyError::Usage)
    );
    // The root itself authenticates nobody.
    assert!(verify(ours.certificate(), Use::Client).is_err());
    assert!(
        Trust::default()
            .verify(forged(&ours, |_| {}).der(), &[], Use::Client, NOW)
            .is_err()
    );
}

#[test]
fn the_linter_names_what_is_wrong() {
    use pki::Lint;
    let ours = root(ec());
    let lint = |change: fn(&mut CertificateParams)| {
        pki::lint_leaf(forged(&ours, change).der()).unwrap_err()
    };
    assert_eq!(pki::lint_leaf(forged(&ours, |_| {}).der()), Ok(()));
    assert_eq!(lint(|p| p.subject_alt_names.clear()), [Lint::UriNames(0)]);
    assert_eq!(lint(|p| uris(p, &[APP, APP])), [Lint::UriNames(2)]);
    assert_eq!(lint(|p| uris(p, &["spiffe://td"])), [Lint::Path]);
    assert_eq!(lint(|p| uris(p, &["https://td/x"])), [Lint::SpiffeId]);
    assert_eq!(lint(|p| p.key_usages.clear()), [Lint::KeyUsage]);
    assert_eq!(
        lint(|p| p.extended_key_usages.truncate(1)),
        [Lint::ExtendedUsage]
    );
    assert_eq!(lint(|p| p.not_after = p.not_before), [Lint::Validity]);
    assert_eq!(
        lint(|p| p.serial_number = Some(vec![0].into())),
        [Lint::Serial]
    );
    assert_eq!(
        lint(|p| p
            .subject_alt_names
            .push(SanType::Rfc822Name("a@b".try_into().unwrap()))),
        [Lint::Names]
    );
    assert_eq!(
        pki::lint_ca(forged(&ours, |_| {}).der()).unwrap_err(),
        [Lint::Path, Lint::BasicConstraints, Lint::UsageMissing]
    );
    assert_eq!(pki::lint_leaf(b"x"), Err(vec![Lint::Malformed]));
}
