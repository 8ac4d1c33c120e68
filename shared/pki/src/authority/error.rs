//! Why there is no signer, or no certificate.

use time::OffsetDateTime;

use crate::bundle::BundleError;
use crate::certificate::CertificateError;
use crate::key::KeyError;
use crate::lint::Lint;

/// Why material makes no signer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The private key is unusable.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate is unusable.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The roots are unusable.
    #[error("root certificates: {0}")]
    Roots(#[from] BundleError),
    /// Key and certificate are of different pairs.
    #[error("the private key does not belong to the CA certificate")]
    KeyMismatch,
    /// A key that no authority may have.
    #[error("an authority's key must be EC P-256, EC P-384 or RSA of 2048 to 8192 bits, not {0}")]
    KeyType(String),
    /// Basic constraints say that it signs nothing.
    #[error("the CA certificate is none: its basic constraints lack cA")]
    NotCa,
    /// The key usage says that it signs nothing.
    #[error("the CA certificate may not sign certificates: its key usage lacks keyCertSign")]
    MayNotSign,
    /// One of the certificates has expired.
    #[error("certificate {subject:?} has expired at {not_after}")]
    Expired {
        /// Its subject.
        subject: String,
        /// Since when.
        not_after: OffsetDateTime,
    },
    /// One of the certificates is not valid yet.
    #[error("certificate {subject:?} is valid only from {not_before} on; is the clock right?")]
    NotYetValid {
        /// Its subject.
        subject: String,
        /// From when on.
        not_before: OffsetDateTime,
    },
    /// No path from the signing certificate to a root.
    #[error("the CA certificate does not chain to any of the roots through the chain: {0}")]
    Untrusted(String),
    /// Our own output failed a check.
    #[error("the certificate that was made is not in order: {}", words(.0))]
    Lint(Vec<Lint>),
}

/// Why a certificate was not issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The signer's certificate has expired.
    #[error("the signing certificate has expired at {0}")]
    SignerExpired(OffsetDateTime),
    /// A life that is not positive, or too long to reckon with.
    #[error("a certificate must live for some time, and not for ever")]
    Lifetime,
    /// The identity names a trust domain, which no workload is.
    #[error("a trust domain is no workload")]
    TrustDomain,
    /// A name that is neither a host name nor an address.
    #[error("{0:?} is no host name and no address")]
    Name(String),
    /// Signing failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What was made cannot be read again.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// What was made is not in order: a bug.
    #[error("the certificate that was made is not in order: {}", words(.0))]
    Lint(Vec<Lint>),
}

pub(super) fn words(lints: &[Lint]) -> String {
    let words: Vec<String> = lints.iter().map(Lint::to_string).collect();
    words.join("; ")
}
