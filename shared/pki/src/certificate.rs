//! One certificate, and what is read of it.

use std::fmt;

use aws_lc_rs::digest;
use mesh_types::{SpiffeError, SpiffeId};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::key::KeyType;
use crate::pem::{self, PemError};
use crate::public_key::PublicKey;
use crate::serial::Serial;

/// Largest certificate that is read. Unit: bytes.
const MAX_DER: usize = 64 << 10;
/// Largest text of certificates that is read. Unit: bytes.
const MAX_PEM: usize = 4 << 20;

/// An X.509 certificate that was understood. Equal when its bytes are.
#[derive(Clone)]
pub struct Certificate {
    der: CertificateDer<'static>,
    serial: Serial,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    subject: Box<[u8]>,
    subject_text: Box<str>,
    issuer: Box<[u8]>,
    spki: Box<[u8]>,
    public_key: Option<PublicKey>,
    is_ca: bool,
    path_len: Option<u32>,
    key_usage: Option<u16>,
    subject_key_id: Option<Box<[u8]>>,
    uris: Vec<Box<str>>,
    dns_names: Vec<Box<str>>,
}

/// A text or bytes that are no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No PEM, or not the right blocks in it.
    #[error("the certificate is unreadable: {0}")]
    Pem(#[from] PemError),
    /// Not DER of a certificate, or something after it.
    #[error("the certificate is malformed")]
    Malformed,
    /// Larger than any certificate that is taken.
    #[error("the certificate has {0} bytes, at most 65536 are allowed")]
    TooLarge(usize),
}

/// Why a certificate carries no one identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No URI among its names.
    #[error("the certificate has no URI name, so it carries no SPIFFE ID")]
    None,
    /// More than one.
    #[error("the certificate has {0} URI names, where one SPIFFE ID is wanted")]
    Several(usize),
    /// One that is no SPIFFE ID.
    #[error("the certificate's URI name is no SPIFFE ID: {0}")]
    Invalid(#[from] SpiffeError),
    /// It names a trust domain, which no workload is.
    #[error("the certificate names a trust domain instead of a workload")]
    TrustDomain,
}

impl Certificate {
    /// Reads a certificate in DER.
    pub fn from_der(der: &[u8]) -> Result<Certificate, CertificateError> {
        Certificate::of(&parse(der)?, der)
    }

    /// What is read of `parsed`, which is of `der`.
    pub(crate) fn of(
        parsed: &X509Certificate<'_>,
        der: &[u8],
    ) -> Result<Certificate, CertificateError> {
        let malformed = |_| CertificateError::Malformed;
        // Extensions that cannot be read or come twice would otherwise look absent.
        let extensions = parsed.extensions_map().map_err(malformed)?;
        if extensions.values().any(|extension| {
            matches!(
                extension.parsed_extension(),
                ParsedExtension::ParseError { .. }
            )
        }) {
            return Err(CertificateError::Malformed);
        }
        let mut uris = Vec::new();
        let mut dns_names = Vec::new();
        if let Some(names) = parsed.subject_alternative_name().map_err(malformed)? {
            for name in &names.value.general_names {
                match name {
                    GeneralName::URI(uri) => uris.push((*uri).into()),
                    GeneralName::DNSName(name) => dns_names.push((*name).into()),
                    GeneralName::Invalid(..) => return Err(CertificateError::Malformed),
                    _ => {}
                }
            }
        }
        let constraints = parsed.basic_constraints().map_err(malformed)?;
        let usage = parsed.key_usage().map_err(malformed)?;
        let subject_key_id =
            extensions
                .values()
                .find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.into()),
                    _ => None,
                });
        Ok(Certificate {
            serial: Serial::from_bytes(parsed.raw_serial())
                .map_err(|_| CertificateError::Malformed)?,
            not_before: parsed.validity().not_before.to_datetime(),
            not_after: parsed.validity().not_after.to_datetime(),
            subject: parsed.subject().as_raw().into(),
            subject_text: parsed.subject().to_string().into(),
            issuer: parsed.issuer().as_raw().into(),
            spki: parsed.public_key().raw.into(),
            public_key: PublicKey::of(parsed.public_key()).ok(),
            is_ca: constraints.as_ref().is_some_and(|it| it.value.ca),
            path_len: constraints.and_then(|it| it.value.path_len_constraint),
            key_usage: usage.map(|it| it.value.flags),
            subject_key_id,
            uris,
            dns_names,
            der: CertificateDer::from(der.to_vec()),
        })
    }

    /// Reads the one certificate of a PEM text.
    pub fn from_pem(text: &str) -> Result<Certificate, CertificateError> {
        let mut all = Certificate::all_from_pem(text)?;
        match (all.pop(), all.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => Err(PemError::Missing(LABEL).into()),
            _ => Err(PemError::Several.into()),
        }
    }

    /// Reads every certificate of a PEM text, in order; other blocks are left out. May be none.
    pub fn all_from_pem(text: &str) -> Result<Vec<Certificate>, CertificateError> {
        pem::blocks(text, MAX_PEM)?
            .iter()
            .filter(|block| matches!(block.label, LABEL | "X509 CERTIFICATE"))
            .map(|block| Certificate::from_der(&block.content))
            .collect()
    }

    /// In PEM, ending in one newline.
    pub fn to_pem(&self) -> String {
        pem::encode(LABEL, &self.der).to_string()
    }

    /// In DER, as rustls takes it.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Serial number.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// Valid from then on.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// Valid until then.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// SHA-256 over its DER, lower-case hexadecimal.
    pub fn fingerprint(&self) -> String {
        hex(digest::digest(&digest::SHA256, &self.der).as_ref())
    }

    /// Its subject in DER.
    pub fn subject_der(&self) -> &[u8] {
        &self.subject
    }

    /// Its subject for people; empty if it has none.
    pub fn subject(&self) -> &str {
        &self.subject_text
    }

    /// Its issuer's name in DER.
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer
    }

    /// Whether subject and issuer are the same.
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Its public key as it stands in it, in DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// Its public key, if it is of an accepted kind.
    pub fn public_key(&self) -> Option<&PublicKey> {
        self.public_key.as_ref()
    }

    /// What kind of key it has, if of an accepted kind.
    pub fn key_type(&self) -> Option<KeyType> {
        self.public_key().map(PublicKey::key_type)
    }

    /// Whether basic constraints say that it may sign certificates.
    pub fn is_ca(&self) -> bool {
        self.is_ca
    }

    /// How many intermediates may follow it, if that is bounded.
    pub fn path_len(&self) -> Option<u32> {
        self.path_len
    }

    /// Whether its key may sign certificates: nothing says otherwise, or the usage says so.
    pub fn may_sign_certificates(&self) -> bool {
        self.key_usage
            .is_none_or(|usage| usage & KEY_CERT_SIGN != 0)
    }

    /// Whether its key may sign revocation lists.
    pub fn may_sign_crls(&self) -> bool {
        self.key_usage.is_none_or(|usage| usage & CRL_SIGN != 0)
    }

    /// Key usage bits, the first usage of RFC 5280 in the lowest place; none if the extension is absent.
    pub(crate) fn key_usage(&self) -> Option<u16> {
        self.key_usage
    }

    /// Its subject key identifier, if it has one.
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.subject_key_id.as_deref()
    }

    /// Its URI names.
    pub fn uris(&self) -> impl Iterator<Item = &str> {
        self.uris.iter().map(|uri| &**uri)
    }

    /// Its DNS names.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.dns_names.iter().map(|name| &**name)
    }

    /// The workload (or other member of a trust domain) it is of: exactly one URI name, a SPIFFE ID with a path.
    pub fn spiffe_id(&self) -> Result<SpiffeId, IdentityError> {
        match &*self.uris {
            [] => Err(IdentityError::None),
            [uri] => {
                let id = SpiffeId::parse(uri)?;
                if id.is_trust_domain() {
                    return Err(IdentityError::TrustDomain);
                }
                Ok(id)
            }
            more => Err(IdentityError::Several(more.len())),
        }
    }

    /// Whether this certificate's key signed `other`, whatever their names and constraints say.
    pub fn signed(&self, other: &Certificate) -> bool {
        let (Ok((_, issuer)), Ok((_, subject))) = (
            X509Certificate::from_der(&self.der),
            X509Certificate::from_der(&other.der),
        ) else {
            return false;
        };
        subject.verify_signature(Some(issuer.public_key())).is_ok()
    }
}

/// The bytes as the parser has them; nothing may follow.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    if der.len() > MAX_DER {
        return Err(CertificateError::TooLarge(der.len()));
    }
    match X509Certificate::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(CertificateError::Malformed),
    }
}

const LABEL: &str = "CERTIFICATE";
pub(crate) const DIGITAL_SIGNATURE: u16 = 1;
pub(crate) const KEY_CERT_SIGN: u16 = 1 << 5;
pub(crate) const CRL_SIGN: u16 = 1 << 6;

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.extend([digit(byte >> 4), digit(*byte)]);
    }
    text
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Certificate) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject_text)
            .field("uris", &self.uris)
            .field("serial", &self.serial.to_string())
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}
