//! Certificate revocation lists.

use std::collections::BTreeSet;
use std::fmt;

use time::OffsetDateTime;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::authority::Authority;
use crate::certificate::Certificate;
use crate::der::{self, oid};
use crate::key::KeyError;
use crate::pem::{self, PemError};
use crate::serial::Serial;
use crate::template::Issuer;

/// Largest text of revocation lists that is read. Unit: bytes; enough for 100 000 certificates.
const MAX_PEM: usize = 16 << 20;

/// A revocation list that was understood. Who signed it is another question: [`Crl::is_signed_by`].
#[derive(Clone, PartialEq, Eq)]
pub struct Crl {
    der: Box<[u8]>,
    issuer: Box<[u8]>,
    number: Option<u64>,
    this_update: OffsetDateTime,
    next_update: Option<OffsetDateTime>,
    serials: BTreeSet<Serial>,
}

/// One certificate that is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Its serial number.
    pub serial: Serial,
    /// Since when.
    pub at: OffsetDateTime,
    /// Why.
    pub reason: RevocationReason,
}

/// Why a certificate is taken back. Source: RFC 5280, section 5.3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationReason {
    /// Not said: the entry then has no reason at all.
    Unspecified,
    /// Its key is known to others.
    KeyCompromise,
    /// It was replaced.
    Superseded,
    /// Its holder is no more.
    CessationOfOperation,
    /// For now: it may be lifted.
    CertificateHold,
}

/// A revocation list that cannot be read or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// No PEM, or not the right blocks in it.
    #[error("the revocation list is unreadable: {0}")]
    Pem(#[from] PemError),
    /// Not DER of a revocation list, or something after it.
    #[error("the revocation list is malformed")]
    Malformed,
    /// It restricts itself to a part of what its issuer signed, which nobody here looks at.
    #[error("the revocation list covers only a part of its issuer's certificates")]
    Partial,
    /// An authority's certificate does not allow that.
    #[error("the authority's key usage lacks cRLSign, so it cannot sign a revocation list")]
    MayNotSign,
    /// The next list would be due before this one.
    #[error("the next revocation list is due before this one")]
    Times,
    /// A CA of the chain is without a list of its own: Envoy would then refuse everybody below it.
    #[error(
        "no revocation list is signed by {0:?}; as soon as there is one, every CA of the chain needs one"
    )]
    Uncovered(String),
    /// Signing failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A revocation list of what an authority has signed, in the order of serial numbers.
///
/// `number` must rise from one list to the next. Envoy refuses every certificate of the issuer once `next_update` has passed.
pub fn build(
    authority: &Authority,
    revoked: &[Revoked],
    number: u64,
    this_update: OffsetDateTime,
    next_update: OffsetDateTime,
) -> Result<Crl, CrlError> {
    let certificate = authority.certificate();
    if !certificate.may_sign_crls() {
        return Err(CrlError::MayNotSign);
    }
    if next_update <= this_update {
        return Err(CrlError::Times);
    }
    let key = authority.key();
    let issuer = Issuer::of(certificate, key.public_key());
    let mut sorted: Vec<&Revoked> = revoked.iter().collect();
    sorted.sort_by(|a, b| a.serial.cmp(&b.serial));
    sorted.dedup_by(|a, b| a.serial == b.serial);
    let entries: Vec<u8> = sorted.into_iter().flat_map(Revoked::encode).collect();
    // RFC 5280 wants the list left out when it is empty.
    let entries = (!entries.is_empty()).then(|| der::sequence(&[&entries]));
    let number = der::unsigned(&number.to_be_bytes());
    let extensions = der::sequence(&[
        &issuer.extension(),
        &der::extension(oid::CRL_NUMBER, false, &number),
    ]);
    let content = der::sequence(&[
        &der::unsigned(&[1]),
        &key.signature_algorithm(),
        issuer.name,
        &der::time(this_update),
        &der::time(next_update),
        entries.as_deref().unwrap_or_default(),
        &der::value(der::context(0), &[&extensions]),
    ]);
    Crl::from_der(&key.envelope(&content)?)
}

/// Whether a set of lists may be handed out with a chain: with none all is well; otherwise each certificate of the chain must have signed at
/// least one of them.
///
/// Source: Istio's `ca-crl.pem` rule. Envoy wants a list for every CA of a chain as soon as it is given one.
pub fn check(crls: &[Crl], chain: &[Certificate]) -> Result<(), CrlError> {
    if crls.is_empty() {
        return Ok(());
    }
    match chain
        .iter()
        .find(|certificate| !crls.iter().any(|crl| crl.is_issued_by(certificate)))
    {
        Some(uncovered) => Err(CrlError::Uncovered(uncovered.subject().into())),
        None => Ok(()),
    }
}

impl Revoked {
    fn encode(&self) -> Vec<u8> {
        let reason = match self.reason {
            RevocationReason::Unspecified => None,
            RevocationReason::KeyCompromise => Some(1),
            RevocationReason::Superseded => Some(4),
            RevocationReason::CessationOfOperation => Some(5),
            RevocationReason::CertificateHold => Some(6),
        };
        let extension = reason.map(|code| {
            let code = der::value(der::ENUMERATED, &[&[code]]);
            der::sequence(&[&der::extension(oid::CRL_REASON, false, &code)])
        });
        der::sequence(&[
            &der::unsigned(self.serial.as_bytes()),
            &der::time(self.at),
            extension.as_deref().unwrap_or_default(),
        ])
    }
}

impl Crl {
    /// Reads a list in DER.
    pub fn from_der(list: &[u8]) -> Result<Crl, CrlError> {
        let Ok(([], parsed)) = CertificateRevocationList::from_der(list) else {
            return Err(CrlError::Malformed);
        };
        let mut number = None;
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::CRLNumber(value) => number = u64::try_from(value).ok(),
                ParsedExtension::IssuingDistributionPoint(_) => return Err(CrlError::Partial),
                ParsedExtension::ParseError { .. } => return Err(CrlError::Malformed),
                _ if extension.critical => return Err(CrlError::Partial),
                _ => {}
            }
        }
        let serials = parsed
            .iter_revoked_certificates()
            .map(|revoked| Serial::from_bytes(revoked.raw_serial()))
            .collect::<Result<_, _>>()
            .map_err(|_| CrlError::Malformed)?;
        Ok(Crl {
            issuer: parsed.issuer().as_raw().into(),
            number,
            this_update: parsed.last_update().to_datetime(),
            next_update: parsed.next_update().map(|time| time.to_datetime()),
            serials,
            der: list.into(),
        })
    }

    /// Reads every list of a PEM text (`X509 CRL`), in order; other blocks are left out. May be none.
    pub fn all_from_pem(text: &str) -> Result<Vec<Crl>, CrlError> {
        pem::blocks(text, MAX_PEM)?
            .iter()
            .filter(|block| block.label == LABEL)
            .map(|block| Crl::from_der(&block.content))
            .collect()
    }

    /// In PEM, ending in one newline.
    pub fn to_pem(&self) -> String {
        pem::encode(LABEL, &self.der).to_string()
    }

    /// In DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its number, if it has one that fits.
    pub fn number(&self) -> Option<u64> {
        self.number
    }

    /// When it was made.
    pub fn this_update(&self) -> OffsetDateTime {
        self.this_update
    }

    /// When the next one is due.
    pub fn next_update(&self) -> Option<OffsetDateTime> {
        self.next_update
    }

    /// The serial numbers on it, in order.
    pub fn serials(&self) -> impl Iterator<Item = &Serial> {
        self.serials.iter()
    }

    /// Whether it is of the issuer of a certificate, and names that certificate. Ask [`Crl::is_signed_by`] too.
    pub fn revokes(&self, certificate: &Certificate) -> bool {
        *self.issuer == *certificate.issuer_der() && self.serials.contains(certificate.serial())
    }

    /// Whether a key (`SubjectPublicKeyInfo` in DER) signed it.
    pub fn is_signed_by(&self, spki: &[u8]) -> bool {
        let (Ok((_, list)), Ok((_, key))) = (
            CertificateRevocationList::from_der(&self.der),
            SubjectPublicKeyInfo::from_der(spki),
        ) else {
            return false;
        };
        list.verify_signature(&key).is_ok()
    }

    /// Whether a certificate's holder made it: the name and the signature agree.
    pub fn is_issued_by(&self, certificate: &Certificate) -> bool {
        *self.issuer == *certificate.subject_der() && self.is_signed_by(certificate.spki_der())
    }
}

const LABEL: &str = "X509 CRL";

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crl")
            .field("number", &self.number)
            .field("revoked", &self.serials.len())
            .field("next_update", &self.next_update)
            .finish_non_exhaustive()
    }
}
