//! What a certificate says about its holder.

use std::sync::Arc;

use mesh_types::SpiffeId;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The facts of a leaf certificate. Whether they are true is for [`Trust`](crate::tls::Trust) to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Who holds it.
    pub id: SpiffeId,
    /// Its serial number, in lower-case hexadecimal without leading zeros.
    pub serial: Arc<str>,
    /// Valid from.
    pub not_before: OffsetDateTime,
    /// Valid until, inclusive.
    pub not_after: OffsetDateTime,
}

/// Why a certificate is nobody's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// It cannot be read.
    #[error("it is no X.509 certificate")]
    Unreadable,
    /// It has none, or several, of what must be there once.
    #[error("it has {0} URI names, want exactly one")]
    UriNames(usize),
    /// The one URI is no SPIFFE ID.
    #[error("its URI name is no SPIFFE ID: {0}")]
    Id(String),
    /// A trust domain as such, not one of its members.
    #[error("{0} names a trust domain and nobody in it")]
    NoPath(SpiffeId),
    /// A certificate that signs others authenticates nobody.
    #[error("it is the certificate of an authority")]
    Authority,
    /// Its key must not sign handshakes.
    #[error("its key usage does not have digitalSignature")]
    KeyUsage,
}

impl Leaf {
    /// Reads a certificate and checks what SPIFFE asks of a leaf: one URI name that is a SPIFFE ID with a path, no authority, a key
    /// that may sign.
    ///
    /// # Errors
    /// See [`LeafError`].
    pub fn read(der: &CertificateDer<'_>) -> Result<Leaf, LeafError> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| LeafError::Unreadable)?;
        if !rest.is_empty() {
            return Err(LeafError::Unreadable);
        }
        let mut uris = Vec::new();
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    uris.extend(names.general_names.iter().filter_map(|name| match name {
                        GeneralName::URI(uri) => Some(*uri),
                        _ => None,
                    }));
                }
                ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
                    return Err(LeafError::Authority);
                }
                ParsedExtension::KeyUsage(usage) => {
                    if usage.key_cert_sign() || usage.crl_sign() {
                        return Err(LeafError::Authority);
                    }
                    if !usage.digital_signature() {
                        return Err(LeafError::KeyUsage);
                    }
                }
                // A name extension that cannot be read must not pass as none.
                ParsedExtension::ParseError { .. } => return Err(LeafError::Unreadable),
                _ => {}
            }
        }
        let [uri] = uris[..] else {
            return Err(LeafError::UriNames(uris.len()));
        };
        let id = SpiffeId::parse(uri).map_err(|error| LeafError::Id(error.to_string()))?;
        if id.is_trust_domain() {
            return Err(LeafError::NoPath(id));
        }
        let validity = certificate.validity();
        let serial = format!("{:x}", certificate.serial);
        Ok(Leaf {
            id,
            serial: serial.into(),
            not_before: validity.not_before.to_datetime(),
            not_after: validity.not_after.to_datetime(),
        })
    }
}
