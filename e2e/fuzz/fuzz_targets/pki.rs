//! Any bytes, as DER and as PEM: requests, certificates, revocation lists and keys are read or refused, and whatever of a request is accepted
//! is signed into a certificate that is in order.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mesh_types::{SpiffeId, TrustDomain};
use pki::crl::Crl;
use pki::{Authority, Certificate, KeyType, LeafRequest, PrivateKey, Serial, Trust, Use, csr};
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = time::macros::datetime!(2026-06-01 12:00 UTC);

struct World {
    authority: Authority,
    trust: Trust,
    id: SpiffeId,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let domain = TrustDomain::default();
    let key = PrivateKey::generate(KeyType::EcP256).expect("a key");
    let serial = Serial::from_random([1; 16]);
    let authority =
        Authority::self_signed(key, &domain, pki::ROOT_LIFE, serial, NOW).expect("a root");
    World {
        trust: Trust::of(domain, authority.roots().clone().into(), Vec::new().into()),
        authority,
        id: SpiffeId::parse("spiffe://cluster.local/ns/a/sa/b").expect("an identity"),
    }
});

fn sign(request: &csr::Csr) {
    let world = &*WORLD;
    let request = LeafRequest {
        id: &world.id,
        public_key: &request.public_key,
        ttl: Duration::hours(1),
        names: &[],
        common_name: request.has_common_name,
    };
    let leaf = world
        .authority
        .issue(&request, Serial::from_random([2; 16]), NOW)
        .expect("what was accepted can be signed");
    assert_eq!(
        world.trust.verify(leaf.der(), &[], Use::Client, NOW),
        Ok(world.id.clone())
    );
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    for request in [csr::check_der(data), csr::check(&text)]
        .into_iter()
        .flatten()
    {
        sign(&request);
    }
    let mut certificates = Certificate::all_from_pem(&text).unwrap_or_default();
    certificates.extend(Certificate::from_der(data));
    for certificate in certificates {
        // Nothing that the world's authority did not sign is believed.
        assert!(
            WORLD
                .trust
                .verify(certificate.der(), &[], Use::Server, NOW)
                .is_err()
        );
        let _ = (
            pki::lint_leaf(certificate.der()),
            pki::lint_ca(certificate.der()),
        );
        assert_eq!(
            Certificate::from_pem(&certificate.to_pem()).as_ref(),
            Ok(&certificate)
        );
        let _ = (
            certificate.spiffe_id(),
            certificate.fingerprint(),
            certificate.signed(&certificate),
        );
        let _ = pki::Bundle::new([certificate]);
    }
    for list in Crl::from_der(data)
        .into_iter()
        .chain(Crl::all_from_pem(&text).unwrap_or_default())
    {
        assert_eq!(Crl::all_from_pem(&list.to_pem()), Ok(vec![list]));
    }
    if let Ok(key) = PrivateKey::from_pkcs8_der(data) {
        assert!(PrivateKey::from_pem(&key.to_pkcs8_pem()).is_ok());
    }
    let _ = PrivateKey::from_pem(&text);
    if let Ok(id) = SpiffeId::parse(&text) {
        assert_eq!(SpiffeId::parse(&id.to_string()), Ok(id));
    }
});
