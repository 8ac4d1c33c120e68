//! From a request to a certificate that verifies.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{APP, NOW, domain, id, serial, trust};
use pki::{
    Authority, Bundle, Certificate, IssueError, KeyType, LeafRequest, PrivateKey, Use, csr,
    lint_ca, lint_leaf,
};
use time::Duration;

fn root(key_type: KeyType) -> Authority {
    let key = PrivateKey::generate(key_type).unwrap();
    Authority::self_signed(key, &domain(), pki::ROOT_LIFE, serial(1), NOW).unwrap()
}

fn leaf(authority: &Authority, key: &PrivateKey, whom: &str, ttl: Duration) -> Certificate {
    let request = csr::check(&csr::create(key, &id(whom)).unwrap()).unwrap();
    let request = LeafRequest {
        id: &id(whom),
        public_key: &request.public_key,
        ttl,
        names: &[],
        common_name: false,
    };
    authority.issue(&request, serial(2), NOW).unwrap()
}

/// Case 1, as far as it is about the certificate.
#[test]
fn every_kind_of_key_gets_a_leaf_that_verifies() {
    for signer in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa(2048)] {
        let authority = root(signer);
        assert_eq!(lint_ca(authority.certificate().der()), Ok(()));
        for holder in [
            KeyType::EcP256,
            KeyType::EcP384,
            KeyType::Rsa(2048),
            KeyType::Ed25519,
        ] {
            let key = PrivateKey::generate(holder).unwrap();
            let leaf = leaf(&authority, &key, APP, Duration::hours(24));
            assert_eq!(lint_leaf(leaf.der()), Ok(()));
            assert_eq!(leaf.spiffe_id(), Ok(id(APP)));
            assert_eq!(leaf.uris().count() + leaf.dns_names().count(), 1);
            assert_eq!(leaf.key_type(), Some(holder));
            assert!(!leaf.is_ca() && leaf.subject().is_empty());
            assert_eq!(leaf.not_before(), NOW - Duration::minutes(2));
            assert_eq!(leaf.not_after(), NOW + Duration::hours(24));
            for end in [Use::Client, Use::Server] {
                let shown = trust(&authority).verify(leaf.der(), &[], end, NOW);
                assert_eq!(shown, Ok(id(APP)), "{signer} {holder}");
            }
            let answer = authority.response(&leaf);
            assert_eq!(answer, [leaf.to_pem(), authority.roots().to_pem()]);
        }
    }
}

/// Case 2: what the request says of itself does not count.
#[test]
fn names_of_the_request_are_ignored() {
    let authority = root(KeyType::EcP256);
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let foreign = csr::create(&key, &id("spiffe://cluster.local/ns/kube-system/sa/admin")).unwrap();
    let request = csr::check(&foreign).unwrap();
    let leaf = authority
        .issue(
            &LeafRequest {
                id: &id(APP),
                public_key: &request.public_key,
                ttl: Duration::hours(1),
                names: &[],
                common_name: request.has_common_name,
            },
            serial(2),
            NOW,
        )
        .unwrap();
    assert_eq!(Vec::from_iter(leaf.uris()), [APP]);
}

/// Case 13, as far as it is about the certificate.
#[test]
fn a_leaf_ends_with_its_signer_and_an_expired_signer_signs_nothing() {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let hour = Duration::hours(1);
    let authority = Authority::self_signed(key.clone(), &domain(), hour, serial(1), NOW).unwrap();
    let leaf = leaf(&authority, &key, APP, Duration::hours(24));
    assert_eq!(leaf.not_after(), authority.certificate().not_after());
    let request = LeafRequest {
        id: &id(APP),
        public_key: key.public_key(),
        ttl: hour,
        names: &[],
        common_name: false,
    };
    let end = NOW + hour;
    assert_eq!(
        authority.issue(&request, serial(3), end),
        Err(IssueError::SignerExpired(end))
    );
    for ttl in [Duration::ZERO, -hour, Duration::MAX] {
        let request = LeafRequest {
            ttl,
            ..request.clone()
        };
        assert_eq!(
            authority.issue(&request, serial(3), NOW),
            Err(IssueError::Lifetime)
        );
    }
}

/// Case 16, as far as it is about certificates.
#[test]
fn a_root_issued_again_with_its_key_keeps_every_leaf_valid() {
    let old = root(KeyType::EcP256);
    let later = NOW + Duration::days(3100);
    let new = old
        .reissue(&domain(), pki::ROOT_LIFE, serial(9), later)
        .unwrap();
    assert_ne!(old.certificate(), new.certificate());
    assert_eq!(
        old.certificate().subject_der(),
        new.certificate().subject_der()
    );
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let of_old = leaf(&old, &key, APP, Duration::days(3200));
    let request = LeafRequest {
        id: &id(APP),
        public_key: key.public_key(),
        ttl: Duration::hours(1),
        names: &[],
        common_name: false,
    };
    let of_new = new.issue(&request, serial(10), later).unwrap();
    assert!(
        trust(&new)
            .verify(of_old.der(), &[], Use::Client, later)
            .is_ok()
    );
    assert!(
        trust(&old)
            .verify(of_new.der(), &[], Use::Client, later)
            .is_ok()
    );
}

/// Case 16, as far as it is about certificates: whose clock was ahead when the root was made anew still has one that is valid.
#[test]
fn a_root_issued_again_begins_when_the_first_did() {
    let old = root(KeyType::EcP256);
    let ahead = NOW + Duration::days(3100);
    let new = old
        .reissue(&domain(), pki::ROOT_LIFE, serial(9), ahead)
        .unwrap();
    let certificate = new.certificate();
    assert_eq!(certificate.not_before(), old.certificate().not_before());
    assert_eq!(certificate.not_after(), ahead + pki::ROOT_LIFE);
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let leaf = leaf(&new, &key, APP, Duration::hours(1));
    assert!(
        trust(&new)
            .verify(leaf.der(), &[], Use::Client, NOW)
            .is_ok()
    );
    // A clock that was behind moves the beginning back, not forward.
    let behind = NOW - Duration::days(10);
    let new = old
        .reissue(&domain(), pki::ROOT_LIFE, serial(9), behind)
        .unwrap();
    assert_eq!(new.certificate().not_before(), behind - pki::BACKDATE);
}

#[test]
fn servers_are_named_too_and_dual_use_takes_short_identities() {
    let authority = root(KeyType::EcP256);
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let names = ["istio-citadel.istio-system.svc", "127.0.0.1", "::1"].map(String::from);
    let long = format!("spiffe://cluster.local/ns/default/sa/{}", "a".repeat(60));
    let issue = |whom: &str, names: &[String]| {
        authority.issue(
            &LeafRequest {
                id: &id(whom),
                public_key: key.public_key(),
                ttl: Duration::hours(1),
                names,
                common_name: true,
            },
            serial(4),
            NOW,
        )
    };
    let server = issue(APP, &names).unwrap();
    assert_eq!(Vec::from_iter(server.dns_names()), names[..1]);
    assert_eq!(server.subject(), format!("CN={APP}"));
    assert!(
        trust(&authority)
            .verify(server.der(), &[], Use::Server, NOW)
            .is_ok()
    );
    assert_eq!(issue(&long, &[]).unwrap().subject(), "");
    for bad in ["a,b", "", "a b", "spiffe://cluster.local/ns/a/sa/b"] {
        let refused = issue(APP, &[bad.into()]);
        assert_eq!(refused, Err(IssueError::Name(bad.into())));
    }
    assert_eq!(issue("spiffe://td", &[]), Err(IssueError::TrustDomain));
}

#[test]
fn a_bundle_is_sorted_without_repetitions_and_knows_its_kin() {
    let (a, b) = (root(KeyType::EcP256), root(KeyType::EcP256));
    let (a, b) = (a.certificate().clone(), b.certificate().clone());
    let both = Bundle::new([a.clone(), b.clone(), a.clone()]).unwrap();
    assert_eq!(both, Bundle::from_pem(&(b.to_pem() + &a.to_pem())).unwrap());
    assert_eq!(both.roots().len(), 2);
    let one = Bundle::new([a]).unwrap();
    assert!(both.overlaps_with(&one) && one.overlaps_with(&both) && !one.is_superset_of(&both));
    assert!(!one.overlaps_with(&Bundle::new([b]).unwrap()));
    assert_ne!(one.digest(), both.digest());
    assert_eq!(
        Bundle::from_pem(&both.to_pem()).unwrap().digest(),
        both.digest()
    );
    assert!(Bundle::from_pem("").is_err());
    let authority = root(KeyType::EcP256);
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let no_root = leaf(&authority, &key, APP, Duration::hours(1));
    assert!(Bundle::new([no_root]).is_err());
}
