//! Certificates for the tests.

use std::sync::Arc;

use mesh_types::{SpiffeId, TrustDomain};
use pki::crl::{self, RevocationReason, Revoked};
use pki::{Authority, Certificate, KeyType, LeafRequest, PrivateKey, Serial, Trust};
use time::{Duration, OffsetDateTime};

use super::super::{ClientTls, TlsIdentity, read_trust};

/// An authority of one trust domain.
pub struct Ca {
    pub authority: Authority,
    domain: TrustDomain,
}

#[expect(
    clippy::disallowed_methods,
    reason = "handshakes look at the real clock"
)]
pub fn now() -> OffsetDateTime {
    std::time::SystemTime::now().into()
}

pub fn serial() -> Serial {
    Serial::from_random(rand::random())
}

impl Ca {
    pub fn new(domain: &str) -> Ca {
        let domain = TrustDomain::new(domain).unwrap();
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let life = Duration::days(1);
        let authority = Authority::self_signed(key, &domain, life, serial(), now()).unwrap();
        Ca { authority, domain }
    }

    pub fn root(&self) -> String {
        self.authority.certificate().to_pem()
    }

    pub fn trust(&self) -> Arc<Trust> {
        self.trust_with("")
    }

    pub fn trust_with(&self, lists: &str) -> Arc<Trust> {
        Arc::new(read_trust(self.domain.clone(), &self.root(), lists).unwrap())
    }

    /// The trust of both.
    pub fn trust_and(&self, other: &Ca) -> Arc<Trust> {
        let roots = self.root() + &other.root();
        if self.domain == other.domain {
            return Arc::new(read_trust(self.domain.clone(), &roots, "").unwrap());
        }
        let mut trust = (*self.trust()).clone();
        let theirs = other.trust();
        let bundle = theirs.bundle(&other.domain).unwrap().clone();
        trust.insert(other.domain.clone(), bundle, [].into());
        Arc::new(trust)
    }

    pub fn issue(&self, id: &SpiffeId, names: &[&str], ttl: Duration) -> (Certificate, PrivateKey) {
        self.issue_at(id, names, ttl, now())
    }

    pub fn issue_at(
        &self,
        id: &SpiffeId,
        names: &[&str],
        ttl: Duration,
        at: OffsetDateTime,
    ) -> (Certificate, PrivateKey) {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let request = LeafRequest {
            id,
            public_key: key.public_key(),
            ttl,
            names: &names,
            common_name: false,
        };
        let leaf = self.authority.issue(&request, serial(), at).unwrap();
        (leaf, key)
    }

    /// An identity of this authority that believes `trust`.
    pub fn identity(&self, id: &SpiffeId, trust: &Arc<Trust>) -> TlsIdentity {
        let (leaf, key) = self.issue(id, &["citadel.test"], Duration::hours(1));
        TlsIdentity::new(&leaf.to_pem(), &key.to_pkcs8_pem(), trust.clone()).unwrap()
    }

    /// A list that takes these back.
    pub fn revokes(&self, leaves: &[&Certificate]) -> String {
        let revoked: Vec<Revoked> = leaves
            .iter()
            .map(|leaf| Revoked {
                serial: leaf.serial().clone(),
                at: now(),
                reason: RevocationReason::KeyCompromise,
            })
            .collect();
        let until = now() + Duration::hours(1);
        let list = crl::build(&self.authority, &revoked, 1, now(), until).unwrap();
        list.to_pem()
    }
}

/// A client with a certificate of `by` that believes `by`.
pub fn client(by: &Ca, id: &SpiffeId) -> ClientTls {
    fixed(by.identity(id, &by.trust()))
}

/// A client that never changes.
pub fn fixed(identity: TlsIdentity) -> ClientTls {
    let (_, receiver) = tokio::sync::watch::channel(Some(Arc::new(identity)));
    ClientTls::from(receiver)
}
