//! The roots of a trust domain.

use aws_lc_rs::digest;
use rustls_pki_types::TrustAnchor;

use crate::certificate::{Certificate, CertificateError, hex};

/// Most roots of one bundle.
const MAX_ROOTS: usize = 1000;

/// Root certificates of one trust domain: each once, sorted by their bytes, each with cA true. Never empty.
#[derive(Debug, Clone)]
pub struct Bundle {
    roots: Vec<Certificate>,
    anchors: Vec<TrustAnchor<'static>>,
}

/// Certificates that make no bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// There is none.
    #[error("there is no root certificate")]
    Empty,
    /// More than any mesh has.
    #[error("{0} root certificates, at most 1000 are allowed")]
    TooMany(usize),
    /// One cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// One that may not sign certificates.
    #[error("{subject:?} (SHA-256 {fingerprint}) is no root: it is no CA certificate")]
    NoAuthority {
        /// Its subject.
        subject: String,
        /// Its fingerprint.
        fingerprint: String,
    },
}

impl Bundle {
    /// A bundle of roots, in any order, repeated or not.
    pub fn new(roots: impl IntoIterator<Item = Certificate>) -> Result<Bundle, BundleError> {
        let mut roots: Vec<Certificate> = roots.into_iter().collect();
        roots.sort_by(|a, b| a.der().as_ref().cmp(b.der().as_ref()));
        roots.dedup();
        if roots.is_empty() {
            return Err(BundleError::Empty);
        }
        if roots.len() > MAX_ROOTS {
            return Err(BundleError::TooMany(roots.len()));
        }
        let mut anchors = Vec::with_capacity(roots.len());
        for root in &roots {
            if !root.is_ca() || !root.may_sign_certificates() {
                return Err(BundleError::NoAuthority {
                    subject: root.subject().into(),
                    fingerprint: root.fingerprint(),
                });
            }
            let anchor = webpki::anchor_from_trusted_cert(root.der())
                .map_err(|_| CertificateError::Malformed)?;
            anchors.push(anchor.to_owned());
        }
        Ok(Bundle { roots, anchors })
    }

    /// Every certificate of a PEM text as a root.
    pub fn from_pem(text: &str) -> Result<Bundle, BundleError> {
        Bundle::new(Certificate::all_from_pem(text)?)
    }

    /// The roots one after the other in PEM.
    pub fn to_pem(&self) -> String {
        self.roots.iter().map(Certificate::to_pem).collect()
    }

    /// The roots in PEM, one each.
    pub fn pems(&self) -> Vec<String> {
        self.roots.iter().map(Certificate::to_pem).collect()
    }

    /// The roots, sorted by their bytes.
    pub fn roots(&self) -> &[Certificate] {
        &self.roots
    }

    /// The roots as webpki and rustls take them.
    pub fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// Whether a certificate is one of the roots.
    pub fn contains(&self, certificate: &Certificate) -> bool {
        self.roots.contains(certificate)
    }

    /// Whether every root of `other` is one of these.
    pub fn is_superset_of(&self, other: &Bundle) -> bool {
        other.roots.iter().all(|root| self.contains(root))
    }

    /// Whether one of the two holds the other: the only change of roots that leaves nobody behind.
    pub fn overlaps_with(&self, other: &Bundle) -> bool {
        self.is_superset_of(other) || other.is_superset_of(self)
    }

    /// The roots of both.
    pub fn union(&self, other: &Bundle) -> Result<Bundle, BundleError> {
        Bundle::new(self.roots.iter().chain(&other.roots).cloned())
    }

    /// SHA-256 over the roots in order, lower-case hexadecimal: equal roots, equal digest.
    pub fn digest(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        for root in &self.roots {
            context.update(&(root.der().len() as u64).to_be_bytes());
            context.update(root.der());
        }
        hex(context.finish().as_ref())
    }
}

impl PartialEq for Bundle {
    fn eq(&self, other: &Bundle) -> bool {
        self.roots == other.roots
    }
}

impl Eq for Bundle {}
