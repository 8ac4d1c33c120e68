//! Short ways to authorities and leaves.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::Arc;

use mesh_types::{SpiffeId, TrustDomain};
use pki::{Authority, Certificate, KeyType, LeafRequest, Material, PrivateKey, Serial, Trust};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

pub const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
pub const APP: &str = "spiffe://cluster.local/ns/default/sa/app";

pub fn domain() -> TrustDomain {
    TrustDomain::default()
}

pub fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

pub fn serial(n: u8) -> Serial {
    Serial::from_random([n; 16])
}

pub fn ec() -> PrivateKey {
    PrivateKey::generate(KeyType::EcP256).unwrap()
}

pub fn root(key: PrivateKey) -> Authority {
    Authority::self_signed(key, &domain(), pki::ROOT_LIFE, serial(1), NOW).unwrap()
}

/// An authority below a root.
pub fn below(root: &Authority, key: PrivateKey) -> Authority {
    let certificate = root
        .issue_intermediate(
            key.public_key(),
            "below",
            Duration::days(365),
            serial(3),
            NOW,
        )
        .unwrap();
    let material = Material {
        key,
        certificate,
        chain: Vec::new(),
        roots: root.roots().roots().to_vec(),
    };
    Authority::new(material, &domain(), NOW).unwrap()
}

pub fn leaf(authority: &Authority, key: &PrivateKey, whom: &str, number: u8) -> Certificate {
    let request = LeafRequest {
        id: &id(whom),
        public_key: key.public_key(),
        ttl: Duration::hours(24),
        names: &[],
        common_name: false,
    };
    authority.issue(&request, serial(number), NOW).unwrap()
}

pub fn trust(authority: &Authority) -> Trust {
    Trust::of(domain(), Arc::new(authority.roots().clone()), Arc::new([]))
}
