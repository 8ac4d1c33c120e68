//! What holds for any input.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::LazyLock;

use common::*;
use pki::crl::Crl;
use pki::{Authority, Certificate, LeafRequest, PrivateKey, Renewal, Serial, Use, csr};
use proptest::prelude::*;
use time::Duration;

static ROOT: LazyLock<Authority> = LazyLock::new(|| root(ec()));
static REQUEST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    use base64::Engine;
    let text = csr::create(&ec(), &id(APP)).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD
        .decode(body)
        .unwrap()
});

fn workload() -> impl Strategy<Value = String> {
    let label = "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?";
    (label, label, "[a-z0-9.-]{1,20}")
        .prop_map(|(ns, sa, td)| format!("spiffe://{td}/ns/{ns}/sa/{sa}"))
}

/// Bytes that begin like something real and then go astray.
fn changed(real: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let len = real.len();
    prop::collection::vec((0..len, any::<u8>()), 1..4).prop_map(move |changes| {
        let mut bytes = real.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_signed_lints_and_verifies_for_its_own_domain_only(
        whom in workload(),
        number in any::<[u8; 16]>(),
        ttl in 1_i64..100_000_000,
        passed in 0_i64..1000,
        common_name in any::<bool>(),
        dns in prop::collection::vec("[a-z]{1,10}(\\.[a-z]{1,10}){0,3}", 0..3),
    ) {
        let whom = id(&whom);
        let key = ec();
        let request = LeafRequest {
            id: &whom,
            public_key: key.public_key(),
            ttl: Duration::seconds(ttl),
            names: &dns,
            common_name,
        };
        let serial = Serial::from_random(number);
        let leaf = ROOT.issue(&request, serial.clone(), NOW).unwrap();
        prop_assert_eq!(pki::lint_leaf(leaf.der()), Ok(()));
        prop_assert_eq!(leaf.serial(), &serial);
        prop_assert!(leaf.not_after() <= ROOT.certificate().not_after());
        prop_assert_eq!(leaf.dns_names().count(), dns.len());
        let trust = pki::Trust::of(
            whom.trust_domain().clone(),
            ROOT.roots().clone().into(),
            Vec::new().into(),
        );
        let now = NOW + Duration::seconds(passed.min(ttl - 1));
        prop_assert_eq!(trust.verify(leaf.der(), &[], Use::Server, now), Ok(whom.clone()));
        let other = pki::Trust::of(
            mesh_types::TrustDomain::new(&format!("x{}", whom.trust_domain())).unwrap(),
            ROOT.roots().clone().into(),
            Vec::new().into(),
        );
        prop_assert!(other.verify(leaf.der(), &[], Use::Server, now).is_err());
        prop_assert_eq!(&Certificate::from_pem(&leaf.to_pem()).unwrap(), &leaf);
    }

    #[test]
    fn changed_requests_are_refused_and_break_nothing(bytes in changed(REQUEST.clone())) {
        // A change that changes nothing is no change; any other breaks the signature at least, or only how it is encoded.
        if let Ok(checked) = csr::check_der(&bytes) {
            prop_assert!(checked.public_key.spki_der().len() > 60);
        }
    }

    #[test]
    fn a_changed_certificate_is_never_believed(bytes in changed(
        leaf(&ROOT, &PrivateKey::generate(pki::KeyType::EcP256).unwrap(), APP, 5).der().to_vec()
    )) {
        if let Ok(certificate) = Certificate::from_der(&bytes) {
            let shown = trust(&ROOT).verify(certificate.der(), &[], Use::Client, NOW);
            // An ECDSA signature has more than one encoding of its own at most in theory: who it is of never changes.
            prop_assert!(shown.is_err() || shown == Ok(id(APP)));
        }
        let _ = pki::lint_leaf(&bytes);
    }

    #[test]
    fn any_text_and_any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = (csr::check(&text), csr::check_der(&bytes));
        let _ = (Certificate::all_from_pem(&text), Certificate::from_der(&bytes));
        let _ = (Crl::all_from_pem(&text), Crl::from_der(&bytes));
        let _ = (PrivateKey::from_pem(&text), PrivateKey::from_pkcs8_der(&bytes));
        let _ = (pki::lint_leaf(&bytes), pki::lint_ca(&bytes));
    }

    #[test]
    fn renewal_comes_before_the_end(
        ratio in 0.0..=1.0_f64, jitter in 0.0..=1.0_f64, random in -1.0..=1.0_f64,
        life in 0_i64..10_000_000, passed in 0_i64..20_000_000,
    ) {
        let end = NOW + Duration::seconds(life);
        let now = NOW + Duration::seconds(passed);
        let delay = Renewal { ratio, jitter }.delay(NOW, end, random, now);
        prop_assert!(now + delay <= end.max(now));
    }
}
