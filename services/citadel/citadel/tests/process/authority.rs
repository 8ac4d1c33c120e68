//! An authority made elsewhere: what a plugged-in folder holds, and what a forger may make.

use std::path::Path;

use mesh_types::{SpiffeId, TrustDomain};
use pki::{
    Authority, Certificate, KeyType, LeafRequest, Name, PrivateKey, Purpose, Serial, Template,
};
use time::{Duration, OffsetDateTime};

/// A root of `domain` that lives for `life` from now on.
pub fn root(domain: &str, life: Duration) -> Authority {
    root_at(domain, life, OffsetDateTime::now_utc())
}

/// The same, as if it were another time.
pub fn root_at(domain: &str, life: Duration, now: OffsetDateTime) -> Authority {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let serial = Serial::from_random(rand::random());
    let domain = TrustDomain::new(domain).unwrap();
    Authority::self_signed(key, &domain, life, serial, now).unwrap()
}

/// Writes the files of a plugged-in authority. A root that signs itself is its own chain.
pub fn write(folder: &Path, authority: &Authority) {
    std::fs::create_dir_all(folder).unwrap();
    let certificate = authority.certificate().to_pem();
    let key = authority.private_key().to_pkcs8_pem();
    for (name, text) in [
        ("ca-cert.pem", &*certificate),
        ("ca-key.pem", &key),
        ("cert-chain.pem", &certificate),
        ("root-cert.pem", &authority.roots().to_pem()),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

/// A certificate with these names, whatever they are.
pub fn forge(authority: &Authority, names: &[&str]) -> (String, PrivateKey) {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let now = OffsetDateTime::now_utc();
    let template = Template {
        serial: Serial::from_random(rand::random()),
        not_before: now - Duration::minutes(1),
        not_after: now + Duration::hours(1),
        organization: None,
        common_name: None,
        names: names
            .iter()
            .map(|name| Name::Uri(SpiffeId::parse(name).unwrap()))
            .collect(),
        purpose: Purpose::Leaf,
        public_key: key.public_key().clone(),
    };
    (authority.sign(&template).unwrap().to_pem(), key)
}

/// A server's certificate for an address.
pub fn server(authority: &Authority, address: &str) -> (Certificate, PrivateKey) {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let id = SpiffeId::parse("spiffe://kube/ns/kube-system/sa/api").unwrap();
    let request = LeafRequest {
        id: &id,
        public_key: key.public_key(),
        ttl: Duration::hours(1),
        names: &[address.to_owned()],
        common_name: false,
    };
    let serial = Serial::from_random(rand::random());
    let leaf = authority.issue(&request, serial, OffsetDateTime::now_utc());
    (leaf.unwrap(), key)
}
