//! One moment of an identity: key, certificate, trust.

use std::fmt;
use std::sync::Arc;

use mesh_types::SpiffeId;
use pki::{Certificate, CertificateError, VerifyError};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

use super::Trust;
use super::settings::provider;

/// Most bytes of a certificate chain or key in PEM.
const MAX_PEM: usize = 1 << 20;
/// Most certificates in a chain.
const MAX_CHAIN: usize = 16;

/// The newest moment of an identity; `None` while there is none yet.
pub type Identities = watch::Receiver<Option<Arc<TlsIdentity>>>;

/// Who a process is, and whom it believes, at one moment. Never changed: a renewed certificate or another root is another one.
pub struct TlsIdentity {
    id: SpiffeId,
    certificate: Arc<Certificate>,
    key: Arc<CertifiedKey>,
    trust: Arc<Trust>,
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity")
            .field("id", &self.id)
            .field("serial", self.certificate.serial())
            .field("not_after", &self.certificate.not_after())
            .finish_non_exhaustive()
    }
}

/// Why key and certificate are no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No certificate.
    #[error("there is no certificate in the chain")]
    NoCertificate,
    /// Too much.
    #[error("the chain or the key is too long: at most 16 certificates and 1 MiB")]
    TooMuch,
    /// The chain cannot be read.
    #[error("certificate {0} of the chain cannot be read")]
    Chain(usize),
    /// The certificate says nothing that we could be.
    #[error("the certificate cannot be ours: {0}")]
    Leaf(#[from] VerifyError),
    /// The key cannot be read.
    #[error("there is no private key that can be read")]
    Key,
    /// The key is of another certificate.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
}

impl TlsIdentity {
    /// An identity of a certificate chain (leaf first) and its private key (PKCS#8, SEC1 or PKCS#1), both PEM. Whether the roots in
    /// `trust` vouch for the chain is not checked: others may know more roots than we do.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn new(chain: &str, key: &str, trust: Arc<Trust>) -> Result<TlsIdentity, IdentityError> {
        if chain.len() > MAX_PEM || key.len() > MAX_PEM {
            return Err(IdentityError::TooMuch);
        }
        let mut certificates = Vec::new();
        for (n, certificate) in CertificateDer::pem_slice_iter(chain.as_bytes()).enumerate() {
            if n == MAX_CHAIN {
                return Err(IdentityError::TooMuch);
            }
            certificates.push(certificate.map_err(|_| IdentityError::Chain(n + 1))?);
        }
        let first = certificates.first().ok_or(IdentityError::NoCertificate)?;
        let certificate = Certificate::from_der(first)
            .map_err(|error: CertificateError| IdentityError::Leaf(error.into()))?;
        let id = certificate
            .spiffe_id()
            .map_err(|error| IdentityError::Leaf(error.into()))?;
        if certificate.is_ca() {
            return Err(IdentityError::Leaf(VerifyError::Authority));
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| IdentityError::Key)?;
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|_| IdentityError::Key)?;
        let key = CertifiedKey::new(certificates, key);
        key.keys_match().map_err(|_| IdentityError::Mismatch)?;
        Ok(TlsIdentity {
            id,
            certificate: Arc::new(certificate),
            key: Arc::new(key),
            trust,
        })
    }

    /// The same key and certificate with another trust.
    pub fn with_trust(&self, trust: Arc<Trust>) -> TlsIdentity {
        TlsIdentity {
            id: self.id.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            trust,
        }
    }

    /// Who we are.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Our certificate.
    pub fn certificate(&self) -> &Arc<Certificate> {
        &self.certificate
    }

    /// Our certificate, and those that lead to a root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// Whom we believe.
    pub fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    pub(super) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

#[cfg(test)]
impl TlsIdentity {
    /// Shows another certificate, without any check.
    pub(super) fn showing(mut self, key: CertifiedKey) -> TlsIdentity {
        self.key = Arc::new(key);
        self
    }
}
