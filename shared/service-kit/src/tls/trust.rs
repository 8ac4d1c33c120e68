//! Whom to believe: the roots of each trust domain, and what they took back.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mesh_types::TrustDomain;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::settings::provider;
use super::{Leaf, LeafError};

/// Most bytes of PEM taken for one trust domain.
const MAX_PEM: usize = 4 << 20;
/// Most roots, and most revocation lists, of one trust domain.
const MAX_ENTRIES: usize = 256;

/// The roots of every trust domain that is believed, with the revocation lists of their issuers.
#[derive(Clone, PartialEq, Eq)]
pub struct Trust {
    domains: BTreeMap<TrustDomain, Arc<Anchors>>,
}

struct Anchors {
    anchors: Vec<TrustAnchor<'static>>,
    lists: Vec<CertRevocationList<'static>>,
    /// What the two were made of, sorted: equal content is equal trust.
    roots: Vec<CertificateDer<'static>>,
    list_ders: Vec<CertificateRevocationListDer<'static>>,
}

impl PartialEq for Anchors {
    fn eq(&self, other: &Anchors) -> bool {
        self.roots == other.roots && self.list_ders == other.list_ders
    }
}

impl Eq for Anchors {}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self
            .domains
            .iter()
            .map(|(domain, of)| (domain.as_str(), (of.roots.len(), of.lists.len())));
        f.debug_map().entries(counts).finish()
    }
}

/// Why roots cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Nobody would be believed.
    #[error("there is no root certificate for {0}")]
    Empty(TrustDomain),
    /// Too much of it.
    #[error(
        "there is too much for {0}: at most 4 MiB, 256 root certificates and 256 revocation lists"
    )]
    TooMuch(TrustDomain),
    /// Not PEM, or not what it says.
    #[error("root certificate {number} of {domain} cannot be read")]
    Root {
        /// The trust domain.
        domain: TrustDomain,
        /// Which, from 1.
        number: usize,
    },
    /// A certificate that may not sign.
    #[error("root certificate {number} of {domain} is not that of an authority")]
    NoAuthority {
        /// The trust domain.
        domain: TrustDomain,
        /// Which, from 1.
        number: usize,
    },
    /// A revocation list that cannot be read.
    #[error("revocation list {number} of {domain} cannot be read: {reason}")]
    List {
        /// The trust domain.
        domain: TrustDomain,
        /// Which, from 1.
        number: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Why a certificate is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none.
    #[error("there is no certificate")]
    Missing,
    /// It is nobody's.
    #[error("certificate refused: {0}")]
    Leaf(#[from] LeafError),
    /// No root of its trust domain is known.
    #[error("certificate refused: trust domain {0} is not known here")]
    UnknownDomain(TrustDomain),
    /// It was taken back.
    #[error("certificate refused: it is revoked")]
    Revoked,
    /// It is expired.
    #[error("certificate refused: it is expired")]
    Expired,
    /// It is not valid yet.
    #[error("certificate refused: it is not valid yet; check the clocks")]
    NotYet,
    /// It does not lead to a root of its trust domain.
    #[error("certificate refused: no root of its trust domain signed it")]
    Issuer,
    /// Anything else that is wrong with it.
    #[error("certificate refused: {0}")]
    Chain(webpki::Error),
    /// It is valid, and somebody else's.
    #[error("certificate refused: it is of {found}, want {wanted}")]
    SomebodyElse {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
}

/// What a certificate is shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// By a client.
    Client,
    /// By a server.
    Server,
}

impl Trust {
    /// Trust in one trust domain. Both texts are PEM, any number of certificates (at least one) and lists (`""`: none).
    ///
    /// # Errors
    /// See [`TrustError`]: everything must be readable, and every root an authority.
    pub fn of(domain: TrustDomain, roots: &str, lists: &str) -> Result<Trust, TrustError> {
        let none = Trust {
            domains: BTreeMap::new(),
        };
        none.and(domain, roots, lists)
    }

    /// Trust in one more domain; replaces what was known of it.
    ///
    /// # Errors
    /// As [`Trust::of`].
    pub fn and(
        mut self,
        domain: TrustDomain,
        roots: &str,
        lists: &str,
    ) -> Result<Trust, TrustError> {
        let anchors = Anchors::read(&domain, roots, lists)?;
        self.domains.insert(domain, Arc::new(anchors));
        Ok(self)
    }

    /// The trust domains that are known.
    pub fn domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.domains.keys()
    }

    /// The root certificates of a domain, sorted; empty if it is not known.
    pub fn roots(&self, domain: &TrustDomain) -> &[CertificateDer<'static>] {
        self.domains.get(domain).map_or(&[], |of| &of.roots)
    }

    /// Who holds the certificate `chain[0]`, if the roots of its own trust domain vouch for it now and it was not taken back. The rest
    /// of `chain` may be anything; what leads to a root is picked.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        usage: Usage,
        now: UnixTime,
    ) -> Result<Leaf, Refused> {
        let (first, rest) = chain.split_first().ok_or(Refused::Missing)?;
        let leaf = Leaf::read(first)?;
        let domain = leaf.id.trust_domain();
        let anchors = self
            .domains
            .get(domain)
            .ok_or_else(|| Refused::UnknownDomain(domain.clone()))?;
        anchors.verify(first, rest, usage, now)?;
        Ok(leaf)
    }

    /// Whether the server certificate `chain[0]` is valid for `name` under the roots of any trust domain.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(super) fn verify_name(
        &self,
        chain: &[CertificateDer<'_>],
        name: &rustls_pki_types::ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Refused> {
        let (first, rest) = chain.split_first().ok_or(Refused::Missing)?;
        let mut refused = Refused::Issuer;
        for anchors in self.domains.values() {
            match anchors.verify(first, rest, Usage::Server, now) {
                Ok(()) => {
                    return EndEntityCert::try_from(first)
                        .and_then(|leaf| leaf.verify_is_valid_for_subject_name(name))
                        .map_err(|error| match error {
                            webpki::Error::CertNotValidForName(_) => Refused::SomebodyElse {
                                found: "another name".into(),
                                wanted: name.to_str().into_owned(),
                            },
                            other => Refused::Chain(other),
                        });
                }
                Err(Refused::Issuer) => {}
                Err(other) => refused = other,
            }
        }
        Err(refused)
    }
}

impl Anchors {
    fn read(domain: &TrustDomain, roots: &str, lists: &str) -> Result<Anchors, TrustError> {
        if roots.len().saturating_add(lists.len()) > MAX_PEM {
            return Err(TrustError::TooMuch(domain.clone()));
        }
        let unreadable = |number| TrustError::Root {
            domain: domain.clone(),
            number,
        };
        let mut ders = Vec::new();
        for (n, root) in CertificateDer::pem_slice_iter(roots.as_bytes()).enumerate() {
            let root = root.map_err(|_| unreadable(n + 1))?;
            let (_, parsed) = X509Certificate::from_der(&root).map_err(|_| unreadable(n + 1))?;
            if !parsed.is_ca() {
                return Err(TrustError::NoAuthority {
                    domain: domain.clone(),
                    number: n + 1,
                });
            }
            webpki::anchor_from_trusted_cert(&root).map_err(|_| unreadable(n + 1))?;
            ders.push(root);
        }
        ders.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        ders.dedup();
        if ders.is_empty() {
            return Err(TrustError::Empty(domain.clone()));
        }
        let mut list_ders = Vec::new();
        let mut parsed = Vec::new();
        for (n, list) in CertificateRevocationListDer::pem_slice_iter(lists.as_bytes()).enumerate()
        {
            let wrong = |reason: String| TrustError::List {
                domain: domain.clone(),
                number: n + 1,
                reason,
            };
            let list = list.map_err(|error| wrong(error.to_string()))?;
            let owned = OwnedCertRevocationList::from_der(&list)
                .map_err(|error| wrong(error.to_string()))?;
            parsed.push(CertRevocationList::from(owned));
            list_ders.push(list);
        }
        if ders.len() > MAX_ENTRIES || list_ders.len() > MAX_ENTRIES {
            return Err(TrustError::TooMuch(domain.clone()));
        }
        list_ders.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        let anchors = ders
            .iter()
            .filter_map(|root| webpki::anchor_from_trusted_cert(root).ok())
            .map(|anchor| anchor.to_owned())
            .collect();
        Ok(Anchors {
            anchors,
            lists: parsed,
            roots: ders,
            list_ders,
        })
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: Usage,
        now: UnixTime,
    ) -> Result<(), Refused> {
        let leaf = EndEntityCert::try_from(leaf).map_err(Refused::from)?;
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().collect();
        // An issuer without a list took nothing back. A list that has expired still holds: what it names stays refused.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::EndEntity)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build()
        });
        let key_usage = match usage {
            Usage::Client => webpki::KeyUsage::client_auth(),
            Usage::Server => webpki::KeyUsage::server_auth(),
        };
        leaf.verify_for_usage(
            provider().signature_verification_algorithms.all,
            &self.anchors,
            intermediates,
            now,
            key_usage,
            revocation,
            None,
        )?;
        Ok(())
    }
}

impl From<webpki::Error> for Refused {
    fn from(error: webpki::Error) -> Refused {
        match error {
            webpki::Error::CertRevoked => Refused::Revoked,
            webpki::Error::CertExpired { .. } => Refused::Expired,
            webpki::Error::CertNotValidYet { .. } => Refused::NotYet,
            webpki::Error::UnknownIssuer => Refused::Issuer,
            webpki::Error::CaUsedAsEndEntity => Refused::Leaf(LeafError::Authority),
            other => Refused::Chain(other),
        }
    }
}
