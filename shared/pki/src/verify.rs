//! Whether a chain shows an identity: against the roots of the identity's own trust domain, and no others.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_types::{SpiffeId, TrustDomain};
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};

use crate::bundle::Bundle;
use crate::certificate::{
    CRL_SIGN, Certificate, CertificateError, DIGITAL_SIGNATURE, IdentityError, KEY_CERT_SIGN,
};
use crate::crl::Crl;

/// Whom to trust: for each trust domain its roots and its revocation lists.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    domains: BTreeMap<TrustDomain, Domain>,
}

#[derive(Debug, Clone)]
struct Domain {
    bundle: Arc<Bundle>,
    crls: Arc<[Crl]>,
}

impl PartialEq for Trust {
    /// Equal roots and equal lists of the same domains.
    fn eq(&self, other: &Trust) -> bool {
        self.domains.len() == other.domains.len()
            && self.domains.iter().zip(&other.domains).all(|(a, b)| {
                let (one, two) = (a.1.crls.iter(), b.1.crls.iter());
                a.0 == b.0
                    && a.1.bundle.roots() == b.1.bundle.roots()
                    && one.map(Crl::der).eq(two.map(Crl::der))
            })
    }
}

impl Eq for Trust {}

/// Which end of a connection a certificate is checked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It calls.
    Client,
    /// It is called.
    Server,
}

/// Why a chain shows nothing. For the log: the peer hears no more than that it was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The leaf cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The leaf carries no one identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There are no roots of its trust domain.
    #[error("nothing is known of the trust domain {0}")]
    UnknownDomain(TrustDomain),
    /// It is a certificate to sign with.
    #[error("the certificate is an authority's: it signs, and authenticates nobody")]
    Authority,
    /// Its usages say that it authenticates nobody.
    #[error("the certificate's usages do not allow it to authenticate")]
    Usage,
    /// Its issuer has taken it back.
    #[error("the certificate of {0} was revoked")]
    Revoked(SpiffeId),
    /// No path to a root, or expired: in words.
    #[error("the certificate of {id} is not valid: {reason}")]
    Chain {
        /// Whom it claims to be of.
        id: SpiffeId,
        /// Why.
        reason: String,
    },
}

impl Trust {
    /// Trust in one domain.
    pub fn of(domain: TrustDomain, bundle: Arc<Bundle>, crls: Arc<[Crl]>) -> Trust {
        let mut trust = Trust::default();
        trust.insert(domain, bundle, crls);
        trust
    }

    /// Sets what is trusted of a domain.
    pub fn insert(&mut self, domain: TrustDomain, bundle: Arc<Bundle>, crls: Arc<[Crl]>) {
        self.domains.insert(domain, Domain { bundle, crls });
    }

    /// The roots of a domain.
    pub fn bundle(&self, domain: &TrustDomain) -> Option<&Arc<Bundle>> {
        self.domains.get(domain).map(|domain| &domain.bundle)
    }

    /// The domains, in order.
    pub fn domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.domains.keys()
    }

    /// Whom a chain shows: exactly one URI name, a SPIFFE ID of a known trust domain, a path (RFC 5280) to a root of that domain that is valid
    /// now, a leaf that may authenticate and is not revoked.
    ///
    /// A certificate on none of the lists is not revoked, and a list that is overdue still counts: a domain whose authority is away goes on.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        use_: Use,
        now: OffsetDateTime,
    ) -> Result<SpiffeId, VerifyError> {
        let certificate = Certificate::from_der(leaf)?;
        let id = certificate.spiffe_id()?;
        check_leaf(&certificate)?;
        let domain = self
            .domains
            .get(id.trust_domain())
            .ok_or_else(|| VerifyError::UnknownDomain(id.trust_domain().clone()))?;
        let refuse = |error: webpki::Error| VerifyError::Chain {
            id: id.clone(),
            reason: error.to_string(),
        };
        let end = EndEntityCert::try_from(leaf).map_err(refuse)?;
        let path = end
            .verify_for_usage(
                ALL_VERIFICATION_ALGS,
                domain.bundle.anchors(),
                intermediates,
                unix_time(now),
                match use_ {
                    Use::Client => KeyUsage::client_auth(),
                    Use::Server => KeyUsage::server_auth(),
                },
                None,
                None,
            )
            .map_err(refuse)?;
        let issuer = path.issuer_spki();
        if domain
            .crls
            .iter()
            .any(|crl| crl.revokes(&certificate) && crl.is_signed_by(&issuer))
        {
            return Err(VerifyError::Revoked(id));
        }
        Ok(id)
    }
}

/// The leaf checks of the X.509-SVID standard that a path validation leaves out.
fn check_leaf(certificate: &Certificate) -> Result<(), VerifyError> {
    if certificate.is_ca() {
        return Err(VerifyError::Authority);
    }
    match certificate.key_usage() {
        Some(usage) if usage & (KEY_CERT_SIGN | CRL_SIGN) != 0 => Err(VerifyError::Authority),
        Some(usage) if usage & DIGITAL_SIGNATURE == 0 => Err(VerifyError::Usage),
        _ => Ok(()),
    }
}

/// A time as rustls has it; 1970 for what is before.
pub fn unix_time(at: OffsetDateTime) -> UnixTime {
    let seconds = u64::try_from(at.unix_timestamp()).unwrap_or(0);
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

/// The time that rustls hands to a verifier; the end of 9999 for what is after.
pub fn offset_time(at: UnixTime) -> OffsetDateTime {
    i64::try_from(at.as_secs())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(time::macros::datetime!(9999-12-31 23:59:59 UTC))
}
