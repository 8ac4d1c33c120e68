//! Whom to believe: pki's trust, and what a connection needs of it besides.

use std::sync::Arc;

use mesh_types::TrustDomain;
use pki::crl::{Crl, CrlError};
use pki::{Bundle, BundleError, Certificate, Trust, Use, VerifyError, offset_time};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};

/// Why roots or revocation lists cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The roots.
    #[error("roots of {domain}: {error}")]
    Roots {
        /// Whose.
        domain: TrustDomain,
        /// What is wrong.
        error: BundleError,
    },
    /// The revocation lists.
    #[error("revocation lists of {domain}: {error}")]
    Lists {
        /// Whose.
        domain: TrustDomain,
        /// What is wrong.
        error: CrlError,
    },
}

/// Trust in one domain, of PEM texts: root certificates (at least one), and revocation lists (`""`: none).
///
/// # Errors
/// See [`TrustError`]: everything must be readable, and every root an authority.
pub fn read_trust(domain: TrustDomain, roots: &str, lists: &str) -> Result<Trust, TrustError> {
    let bundle = Bundle::from_pem(roots).map_err(|error| TrustError::Roots {
        domain: domain.clone(),
        error,
    })?;
    let crls = Crl::all_from_pem(lists).map_err(|error| TrustError::Lists {
        domain: domain.clone(),
        error,
    })?;
    Ok(Trust::of(domain, Arc::new(bundle), crls.into()))
}

/// Why a certificate is not believed. For the log: the other end hears no more than an alert.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none.
    #[error("there is no certificate")]
    Missing,
    /// It was taken back.
    #[error("{0}")]
    Revoked(VerifyError),
    /// It shows nothing.
    #[error("{0}")]
    Invalid(VerifyError),
    /// No root that is known signed it for a server, or it is expired, or of another name.
    #[error("the certificate is not valid for the name {name}: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        reason: String,
    },
    /// It is valid, and somebody else's.
    #[error("the certificate is of {found}, want {wanted}")]
    SomebodyElse {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
}

impl From<VerifyError> for Refused {
    fn from(error: VerifyError) -> Refused {
        match error {
            VerifyError::Revoked(_) => Refused::Revoked(error),
            other => Refused::Invalid(other),
        }
    }
}

/// Who shows the chain, leaf first.
pub(super) fn verify(
    trust: &Trust,
    chain: &[CertificateDer<'_>],
    usage: Use,
    now: UnixTime,
) -> Result<mesh_types::SpiffeId, Refused> {
    let (leaf, rest) = chain.split_first().ok_or(Refused::Missing)?;
    Ok(trust.verify(leaf, rest, usage, offset_time(now))?)
}

/// Whether the chain is that of the server `name`, under the roots of any trust domain.
pub(super) fn verify_name(
    trust: &Trust,
    chain: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), Refused> {
    let refused = |reason: String| Refused::Name {
        name: name.to_str().into_owned(),
        reason,
    };
    let (first, rest) = chain.split_first().ok_or(Refused::Missing)?;
    let certificate = Certificate::from_der(first).map_err(VerifyError::from)?;
    if certificate.is_ca() {
        return Err(Refused::Invalid(VerifyError::Authority));
    }
    let leaf = EndEntityCert::try_from(first).map_err(|error| refused(error.to_string()))?;
    leaf.verify_is_valid_for_subject_name(name)
        .map_err(|error| refused(error.to_string()))?;
    // Who it is by its SPIFFE ID is not asked for here, but if it was taken back by that, it was.
    if let Err(error @ VerifyError::Revoked(_)) =
        trust.verify(first, rest, Use::Server, offset_time(now))
    {
        return Err(Refused::Revoked(error));
    }
    let mut reason = "no roots are known".to_owned();
    for domain in trust.domains() {
        let Some(bundle) = trust.bundle(domain) else {
            continue;
        };
        let path = leaf.verify_for_usage(
            ALL_VERIFICATION_ALGS,
            bundle.anchors(),
            rest,
            now,
            KeyUsage::server_auth(),
            None,
            None,
        );
        match path {
            Ok(_) => return Ok(()),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(refused(reason))
}
