//! Keys: private ones that nothing prints, and public ones of the kinds that are accepted.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::der::{self, oid};
use crate::pem::{self, PemError};
use crate::public_key::PublicKey;

/// What kind of key, and of what strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// ECDSA on P-256: the default.
    EcP256,
    /// ECDSA on P-384.
    EcP384,
    /// RSA. Unit: bits of the modulus; range: 2048..=8192.
    Rsa(u32),
    /// Ed25519. Workloads may have one; an authority may not, since Envoy refuses its signatures.
    Ed25519,
}

/// As operators read it: `EC P-256`, `RSA 2048`.
impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyType::EcP256 => f.write_str("EC P-256"),
            KeyType::EcP384 => f.write_str("EC P-384"),
            KeyType::Rsa(bits) => write!(f, "RSA {bits}"),
            KeyType::Ed25519 => f.write_str("Ed25519"),
        }
    }
}

/// A key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No PEM, or not the right blocks in it.
    #[error("the private key is unreadable: {0}")]
    Pem(#[from] PemError),
    /// It is protected by a pass phrase.
    #[error("the private key is encrypted; store it without a pass phrase")]
    Encrypted,
    /// Neither PKCS#8, SEC1 nor PKCS#1, or of a kind that is not accepted.
    #[error(
        "the private key is no EC P-256, EC P-384, RSA or Ed25519 key in PKCS#8, SEC1 or PKCS#1"
    )]
    Unknown,
    /// An RSA key of a size that is not accepted.
    #[error("an RSA key of {0} bits; 2048 to 8192 are accepted")]
    RsaSize(u32),
    /// RSA keys are made in these sizes only.
    #[error("RSA keys are made of 2048, 3072, 4096 or 8192 bits, not of {0}")]
    CannotMake(u32),
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Library,
}

/// A private key. Clones share it; its bytes are wiped with the last one.
#[derive(Clone)]
pub struct PrivateKey(Arc<Inner>);

struct Inner {
    pair: Pair,
    /// PKCS#8.
    der: Zeroizing<Vec<u8>>,
    public: PublicKey,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Longest file of a private key. Unit: bytes. An RSA key of 8192 bits has 6400.
const MAX_PEM: usize = 64 << 10;

impl PrivateKey {
    /// A new key, from the cryptographic library's own randomness. Sizes of RSA keys: 2048, 3072, 4096, 8192.
    pub fn generate(key_type: KeyType) -> Result<PrivateKey, KeyError> {
        let pair = match key_type {
            KeyType::EcP256 => Pair::Ec(
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
                    .map_err(|_| KeyError::Library)?,
            ),
            KeyType::EcP384 => Pair::Ec(
                EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING)
                    .map_err(|_| KeyError::Library)?,
            ),
            KeyType::Rsa(bits) => {
                let size = match bits {
                    2048 => KeySize::Rsa2048,
                    3072 => KeySize::Rsa3072,
                    4096 => KeySize::Rsa4096,
                    8192 => KeySize::Rsa8192,
                    other => return Err(KeyError::CannotMake(other)),
                };
                Pair::Rsa(RsaKeyPair::generate(size).map_err(|_| KeyError::Library)?)
            }
            KeyType::Ed25519 => {
                Pair::Ed25519(Ed25519KeyPair::generate().map_err(|_| KeyError::Library)?)
            }
        };
        PrivateKey::of(pair)
    }

    /// Reads the one private key of a PEM text: PKCS#8 (`PRIVATE KEY`), SEC1 (`EC PRIVATE KEY`, also after `EC PARAMETERS`) or PKCS#1
    /// (`RSA PRIVATE KEY`).
    pub fn from_pem(text: &str) -> Result<PrivateKey, KeyError> {
        let mut found = None;
        for block in pem::blocks(text, MAX_PEM)? {
            let key = match block.label {
                "PRIVATE KEY" => PrivateKey::from_pkcs8_der(&block.content)?,
                "EC PRIVATE KEY" => PrivateKey::of(ec(&block.content).ok_or(KeyError::Unknown)?)?,
                "RSA PRIVATE KEY" => PrivateKey::of(Pair::Rsa(
                    RsaKeyPair::from_der(&block.content).map_err(|_| KeyError::Unknown)?,
                ))?,
                "ENCRYPTED PRIVATE KEY" => return Err(KeyError::Encrypted),
                _ => continue,
            };
            if found.replace(key).is_some() {
                return Err(PemError::Several.into());
            }
        }
        found.ok_or(KeyError::Pem(PemError::Missing("PRIVATE KEY")))
    }

    /// Reads a key in PKCS#8 DER.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<PrivateKey, KeyError> {
        let pair = if let Some(pair) = ec(der) {
            pair
        } else if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
            Pair::Rsa(pair)
        } else if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            Pair::Ed25519(pair)
        } else {
            return Err(KeyError::Unknown);
        };
        PrivateKey::of(pair)
    }

    fn of(pair: Pair) -> Result<PrivateKey, KeyError> {
        let library = |_| KeyError::Library;
        let (bytes, public) = match &pair {
            Pair::Ec(key) => (
                Zeroizing::new(key.to_pkcs8v1().map_err(library)?.as_ref().to_vec()),
                key.public_key()
                    .as_der()
                    .map_err(library)?
                    .as_ref()
                    .to_vec(),
            ),
            Pair::Rsa(key) => (
                Zeroizing::new(
                    AsDer::<Pkcs8V1Der<'_>>::as_der(key)
                        .map_err(library)?
                        .as_ref()
                        .to_vec(),
                ),
                key.public_key()
                    .as_der()
                    .map_err(library)?
                    .as_ref()
                    .to_vec(),
            ),
            Pair::Ed25519(key) => (
                Zeroizing::new(key.to_pkcs8v1().map_err(library)?.as_ref().to_vec()),
                der::sequence(&[
                    &der::sequence(&[&der::value(der::OID, &[oid::ED25519])]),
                    &der::bit_string(key.public_key().as_ref()),
                ]),
            ),
        };
        let public = PublicKey::from_spki_der(&public)?;
        Ok(PrivateKey(Arc::new(Inner {
            pair,
            der: bytes,
            public,
        })))
    }

    /// What kind it is.
    pub fn key_type(&self) -> KeyType {
        self.0.public.key_type()
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public
    }

    /// PKCS#8 in PEM (`PRIVATE KEY`).
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        pem::encode("PRIVATE KEY", &self.0.der)
    }

    /// The form of its kind in PEM: `EC PRIVATE KEY` (SEC1) and `RSA PRIVATE KEY` (PKCS#1), which is what Istio's agent writes unless
    /// told otherwise. An Ed25519 key has no other form than PKCS#8.
    pub fn to_traditional_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        match &self.0.pair {
            Pair::Ec(key) => {
                let der = AsDer::<EcPrivateKeyRfc5915Der<'_>>::as_der(&key.private_key())
                    .map_err(|_| KeyError::Library)?;
                Ok(pem::encode("EC PRIVATE KEY", der.as_ref()))
            }
            Pair::Rsa(_) => {
                let inner = pkcs8_content(&self.0.der).ok_or(KeyError::Library)?;
                Ok(pem::encode("RSA PRIVATE KEY", inner))
            }
            Pair::Ed25519(_) => Ok(self.to_pkcs8_pem()),
        }
    }

    /// PKCS#8 in DER.
    pub fn pkcs8_der(&self) -> &[u8] {
        &self.0.der
    }

    /// As rustls takes it.
    pub fn to_pki_types(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.der.to_vec()).into()
    }

    /// The encoded algorithm identifier of its signatures.
    pub(crate) fn signature_algorithm(&self) -> Vec<u8> {
        let name = |oid| der::value(der::OID, &[oid]);
        match self.key_type() {
            KeyType::EcP256 => der::sequence(&[&name(oid::ECDSA_SHA256)]),
            KeyType::EcP384 => der::sequence(&[&name(oid::ECDSA_SHA384)]),
            KeyType::Rsa(_) => der::sequence(&[&name(oid::RSA_SHA256), &[der::NULL, 0]]),
            KeyType::Ed25519 => der::sequence(&[&name(oid::ED25519)]),
        }
    }

    /// Its signature: ECDSA with SHA-256 or SHA-384 by curve, RSA PKCS#1 with SHA-256, Ed25519.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match &self.0.pair {
            Pair::Ec(key) => key
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| KeyError::Library),
            Pair::Rsa(key) => {
                let mut out = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut out)
                    .map_err(|_| KeyError::Library)?;
                Ok(out)
            }
            Pair::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
        }
    }

    /// `SEQUENCE { content, algorithm, signature }`: the outer form of certificates, requests and revocation lists.
    pub(crate) fn envelope(&self, content: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.sign(content)?;
        Ok(der::sequence(&[
            content,
            &self.signature_algorithm(),
            &der::bit_string(&signature),
        ]))
    }
}

/// Says what kind it is, and nothing else.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, hidden)", self.key_type())
    }
}

/// A key of one of the curves, in PKCS#8 or SEC1.
fn ec(der: &[u8]) -> Option<Pair> {
    let on = |curve: &'static EcdsaSigningAlgorithm| {
        EcdsaKeyPair::from_private_key_der(curve, der).map(Pair::Ec)
    };
    on(&ECDSA_P256_SHA256_ASN1_SIGNING)
        .or_else(|_| on(&ECDSA_P384_SHA384_ASN1_SIGNING))
        .ok()
}

/// What the octet string of a PKCS#8 document that this crate wrote holds.
fn pkcs8_content(document: &[u8]) -> Option<&[u8]> {
    let inside = take(document, 0x30)?.0;
    let (_, rest) = take(inside, der::INTEGER)?;
    let (_, rest) = take(rest, 0x30)?;
    Some(take(rest, der::OCTET_STRING)?.0)
}

/// The content of the first value, which has that tag, and what follows it.
fn take(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&len, rest) = rest.split_first()?;
    let (len, rest) = if len < 0x80 {
        (usize::from(len), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(len & 0x7f))?;
        let len = bytes.iter().try_fold(0_usize, |len, byte| {
            len.checked_mul(256)?.checked_add(usize::from(*byte))
        })?;
        (len, rest)
    };
    if first != tag {
        return None;
    }
    rest.split_at_checked(len)
}
