//! What makes a signer and what does not, as folders of a plugged-in CA have it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use pki::{Authority, AuthorityError, Bundle, BundleError, KeyType, Material, PrivateKey, Use};
use time::Duration;

fn material(authority: &Authority) -> Material {
    Material {
        key: authority.private_key().clone(),
        certificate: authority.certificate().clone(),
        chain: authority.chain().to_vec(),
        roots: authority.roots().roots().to_vec(),
    }
}

fn refusal(material: Material) -> AuthorityError {
    Authority::new(material, &domain(), NOW).unwrap_err()
}

#[test]
fn an_authority_below_an_rsa_root_sends_its_certificate_along() {
    let root = root(PrivateKey::generate(KeyType::Rsa(2048)).unwrap());
    let below = below(&root, ec());
    assert_eq!(below.chain(), std::slice::from_ref(below.certificate()));
    let leaf = leaf(&below, &ec(), APP, 7);
    assert_eq!(
        below.response(&leaf),
        [
            leaf.to_pem(),
            below.certificate().to_pem(),
            root.certificate().to_pem()
        ]
    );
    let chain: Vec<_> = below.chain().iter().map(|one| one.der().clone()).collect();
    let trust = trust(&root);
    assert_eq!(
        trust.verify(leaf.der(), &chain, Use::Client, NOW),
        Ok(id(APP))
    );
    assert!(trust.verify(leaf.der(), &[], Use::Client, NOW).is_err());
    assert_eq!(below.chain_not_after(), NOW + Duration::days(365));
    assert!(leaf.not_after() < below.chain_not_after());
}

/// A chain file in any order, with the signing certificate and the root in it, is put into order.
#[test]
fn a_chain_is_put_into_order() {
    let root = root(ec());
    let key = ec();
    // One that may be followed by another: pathLen is absent only in roots, so this one is made by hand.
    let middle = root
        .sign(&pki::Template {
            serial: serial(5),
            not_before: NOW,
            not_after: NOW + Duration::days(100),
            organization: Some("middle".into()),
            common_name: None,
            names: Vec::new(),
            purpose: pki::Purpose::Authority { path_len: None },
            public_key: key.public_key().clone(),
        })
        .unwrap();
    let middle_authority = Authority::new(
        Material {
            key,
            certificate: middle.clone(),
            chain: Vec::new(),
            roots: root.roots().roots().to_vec(),
        },
        &domain(),
        NOW,
    )
    .unwrap();
    let key = ec();
    let last = middle_authority
        .issue_intermediate(
            key.public_key(),
            "last",
            Duration::days(365),
            serial(6),
            NOW,
        )
        .unwrap();
    let authority = Authority::new(
        Material {
            key,
            certificate: last.clone(),
            chain: vec![root.certificate().clone(), middle.clone(), last.clone()],
            roots: root.roots().roots().to_vec(),
        },
        &domain(),
        NOW,
    )
    .unwrap();
    assert_eq!(authority.chain(), [last, middle]);
    assert_eq!(authority.chain_not_after(), NOW + Duration::days(100));
}

/// Case 17, as far as it is about the material.
#[test]
fn each_fault_of_a_folder_is_named() {
    let root = root(ec());
    let good = below(&root, ec());
    assert!(Authority::new(material(&good), &domain(), NOW).is_ok());

    let mut other_key = material(&good);
    other_key.key = ec();
    assert_eq!(refusal(other_key), AuthorityError::KeyMismatch);

    let key = ec();
    let no_ca = Material {
        certificate: leaf(&root, &key, APP, 8),
        key,
        ..material(&root)
    };
    assert_eq!(refusal(no_ca), AuthorityError::NotCa);

    let mut no_roots = material(&good);
    no_roots.roots.clear();
    assert_eq!(refusal(no_roots), AuthorityError::Roots(BundleError::Empty));

    let mut leaf_as_root = material(&good);
    leaf_as_root.roots = vec![leaf(&root, &ec(), APP, 9)];
    assert!(matches!(
        refusal(leaf_as_root),
        AuthorityError::Roots(BundleError::NoAuthority { .. })
    ));

    let mut foreign = material(&good);
    foreign.roots = common::root(ec()).roots().roots().to_vec();
    assert!(matches!(refusal(foreign), AuthorityError::Untrusted(_)));

    // Below an intermediate that is not in the chain, and below one that may not be followed by another.
    let key = ec();
    let deeper = good
        .issue_intermediate(key.public_key(), "x", Duration::days(9), serial(4), NOW)
        .unwrap();
    let mut too_deep = Material {
        key,
        certificate: deeper,
        chain: Vec::new(),
        roots: root.roots().roots().to_vec(),
    };
    assert!(matches!(
        refusal(too_deep.clone()),
        AuthorityError::Untrusted(_)
    ));
    too_deep.chain = good.chain().to_vec();
    assert!(matches!(refusal(too_deep), AuthorityError::Untrusted(_)));

    let after = NOW + Duration::days(366);
    assert!(matches!(
        Authority::new(material(&good), &domain(), after).unwrap_err(),
        AuthorityError::Expired { .. }
    ));
    let before = NOW - Duration::days(1);
    assert!(matches!(
        Authority::new(material(&good), &domain(), before).unwrap_err(),
        AuthorityError::NotYetValid { .. }
    ));
    // Case 13: a root that has expired is no start.
    let later = NOW + pki::ROOT_LIFE;
    assert!(matches!(
        Authority::new(material(&root), &domain(), later).unwrap_err(),
        AuthorityError::Expired { .. }
    ));
}

#[test]
fn an_authority_signs_with_ec_or_rsa_only() {
    let key = PrivateKey::generate(KeyType::Ed25519).unwrap();
    let refused = Authority::self_signed(key, &domain(), pki::ROOT_LIFE, serial(1), NOW);
    assert_eq!(
        refused.unwrap_err(),
        AuthorityError::KeyType("Ed25519".into())
    );
}

/// The issuer's name goes into what it signs byte for byte, however odd it is.
#[test]
fn an_issuer_with_an_odd_name_is_named_as_it_is() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(
        rcgen::DnType::OrganizationName,
        rcgen::DnValue::TeletexString("caf".try_into().unwrap()),
    );
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let certificate = params.self_signed(&key).unwrap();
    let certificate = pki::Certificate::from_der(certificate.der()).unwrap();
    let authority = Authority::new(
        Material {
            key: PrivateKey::from_pem(&key.serialize_pem()).unwrap(),
            certificate: certificate.clone(),
            chain: Vec::new(),
            roots: vec![certificate.clone()],
        },
        &domain(),
        NOW,
    )
    .unwrap();
    let leaf = leaf(&authority, &ec(), APP, 2);
    assert_eq!(leaf.issuer_der(), certificate.subject_der());
    // It may sign certificates, but no lists.
    let list = pki::crl::build(&authority, &[], 1, NOW, NOW + Duration::days(1));
    assert_eq!(list, Err(pki::crl::CrlError::MayNotSign));
}

#[test]
fn roots_can_be_added_and_taken_away_but_not_the_own_one() {
    let (old, new) = (root(ec()), root(ec()));
    let both = old.roots().union(new.roots()).unwrap();
    let with = old
        .with_roots(both.roots().to_vec(), &domain(), NOW)
        .unwrap();
    assert_eq!(with.roots(), &both);
    let answer = with.response(&leaf(&with, &ec(), APP, 2));
    assert_eq!(answer.len(), 2);
    assert_eq!(Bundle::from_pem(&answer[1]).unwrap(), both);
    assert!(
        old.with_roots(new.roots().roots().to_vec(), &domain(), NOW)
            .is_err()
    );
}
