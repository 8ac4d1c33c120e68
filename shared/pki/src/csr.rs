//! Certificate requests: what of one is taken, and how an agent makes one.

use mesh_types::SpiffeId;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::der::{self, oid};
use crate::key::{KeyError, PrivateKey};
use crate::pem::{self, PemError};
use crate::public_key::PublicKey;

/// Longest request that is looked at, as PEM. Unit: bytes.
pub const MAX_CSR: usize = 64 << 10;

/// A request that passed every check.
///
/// Nothing else is taken of it: names, extensions and attributes are ignored, whoever may have put them there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    /// The key that the requester showed to hold.
    pub public_key: PublicKey,
    /// Whether its subject has a common name that is not empty: it wants one in its certificate too.
    pub has_common_name: bool,
}

/// A request that is refused. The requester may be told any of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Refused before anything is parsed.
    #[error("the request has {0} bytes, at most 65536 are allowed")]
    TooLong(usize),
    /// No PEM, more than one block, or a block of another name.
    #[error("the request is unreadable: {0}")]
    Pem(#[from] PemError),
    /// Not DER of a PKCS#10 request, or something after it.
    #[error("the request is no PKCS#10 certificate request")]
    Malformed,
    /// A key of a kind or size that is not accepted.
    #[error(
        "the request's key is not accepted; use EC P-256 or P-384, RSA of 2048 to 8192 bits, or Ed25519"
    )]
    KeyType,
    /// Not signed by the key that it asks a certificate for, or with a digest that is not accepted (SHA-1).
    #[error("the request's signature is not its own key's")]
    Signature,
}

/// Checks a request in PEM: one block `CERTIFICATE REQUEST`, one of the accepted keys, signed by that key.
///
/// Keys: P-256, P-384, RSA of 2048 to 8192 bits, Ed25519.
pub fn check(text: &str) -> Result<Csr, CsrError> {
    if text.len() > MAX_CSR {
        return Err(CsrError::TooLong(text.len()));
    }
    // Counted first, so that a second block is refused whatever it is and even if it is broken.
    if text.matches("-----BEGIN ").nth(1).is_some() {
        return Err(PemError::Several.into());
    }
    let blocks = pem::blocks(text, MAX_CSR)?;
    let [block] = &*blocks else {
        return Err(PemError::Missing(LABEL).into());
    };
    if !matches!(block.label, LABEL | "NEW CERTIFICATE REQUEST") {
        return Err(PemError::Missing(LABEL).into());
    }
    check_der(&block.content)
}

/// The same for a request in DER.
pub fn check_der(request: &[u8]) -> Result<Csr, CsrError> {
    if request.len() > MAX_CSR {
        return Err(CsrError::TooLong(request.len()));
    }
    let Ok(([], parsed)) = X509CertificationRequest::from_der(request) else {
        return Err(CsrError::Malformed);
    };
    let info = &parsed.certification_request_info;
    // The kind of key first: what the verifier does not know would look like a bad signature.
    let public_key = PublicKey::of(&info.subject_pki).map_err(|_| CsrError::KeyType)?;
    if !SIGNATURES.contains(&parsed.signature_algorithm.algorithm.to_id_string().as_str()) {
        return Err(CsrError::Signature);
    }
    parsed.verify_signature().map_err(|_| CsrError::Signature)?;
    let has_common_name = info
        .subject
        .iter_common_name()
        .any(|name| name.as_str().is_ok_and(|text| !text.is_empty()));
    Ok(Csr {
        public_key,
        has_common_name,
    })
}

const LABEL: &str = "CERTIFICATE REQUEST";

/// ECDSA and RSA with SHA-256, SHA-384 or SHA-512, RSA-PSS, Ed25519.
const SIGNATURES: [&str; 8] = [
    "1.2.840.10045.4.3.2",
    "1.2.840.10045.4.3.3",
    "1.2.840.10045.4.3.4",
    "1.2.840.113549.1.1.11",
    "1.2.840.113549.1.1.12",
    "1.2.840.113549.1.1.13",
    "1.2.840.113549.1.1.10",
    "1.3.101.112",
];

/// A request for a certificate of an identity, in PEM: the form that Istio's agents send, with an empty organization as its subject.
pub fn create(key: &PrivateKey, id: &SpiffeId) -> Result<String, KeyError> {
    let uri = der::value(der::context_primitive(6), &[id.to_string().as_bytes()]);
    let names = der::extension(oid::SUBJECT_ALT_NAME, true, &der::sequence(&[&uri]));
    request(key, &[names])
}

/// A request with extensions, already encoded.
fn request(key: &PrivateKey, extensions: &[Vec<u8>]) -> Result<String, KeyError> {
    const PRINTABLE_STRING: u8 = 0x13;
    let organization = der::sequence(&[
        &der::value(der::OID, &[oid::ORGANIZATION]),
        &[PRINTABLE_STRING, 0],
    ]);
    let subject = der::sequence(&[&der::set(&[&organization])]);
    let extensions: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
    let attribute = der::sequence(&[
        &der::value(der::OID, &[oid::EXTENSION_REQUEST]),
        &der::set(&[&der::sequence(&extensions)]),
    ]);
    let info = der::sequence(&[
        &der::unsigned(&[0]),
        &subject,
        key.public_key().spki_der(),
        &der::value(der::context(0), &[&attribute]),
    ]);
    Ok(pem::encode(LABEL, &key.envelope(&info)?).to_string())
}
