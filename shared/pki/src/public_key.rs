//! Public keys of the kinds that are accepted.

use aws_lc_rs::digest;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::der::{self, oid};
use crate::key::{KeyError, KeyType};

/// A public key: P-256, P-384, RSA of 2048 to 8192 bits, or Ed25519.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
    key_type: KeyType,
    id: [u8; 20],
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` in DER.
    pub fn from_spki_der(spki: &[u8]) -> Result<PublicKey, KeyError> {
        match SubjectPublicKeyInfo::from_der(spki) {
            Ok(([], parsed)) => PublicKey::of(&parsed),
            _ => Err(KeyError::Unknown),
        }
    }

    pub(crate) fn of(parsed: &SubjectPublicKeyInfo<'_>) -> Result<PublicKey, KeyError> {
        let bits: &[u8] = parsed.subject_public_key.data.as_ref();
        if parsed.subject_public_key.unused_bits != 0 {
            return Err(KeyError::Unknown);
        }
        let name = |oid| der::value(der::OID, &[oid]);
        let (key_type, algorithm) = match parsed.algorithm.algorithm.as_bytes() {
            oid::EC_PUBLIC_KEY => {
                let curve = parsed
                    .algorithm
                    .parameters
                    .as_ref()
                    .and_then(|any| any.as_oid().ok())
                    .ok_or(KeyError::Unknown)?;
                let (key_type, oid, size) = match curve.as_bytes() {
                    oid::P256 => (KeyType::EcP256, oid::P256, 32),
                    oid::P384 => (KeyType::EcP384, oid::P384, 48),
                    _ => return Err(KeyError::Unknown),
                };
                if bits.len() != 1 + 2 * size || bits[0] != 4 {
                    return Err(KeyError::Unknown);
                }
                let algorithm = der::sequence(&[&name(oid::EC_PUBLIC_KEY), &name(oid)]);
                (key_type, algorithm)
            }
            oid::RSA => {
                let Ok(Parsed::RSA(key)) = parsed.parsed() else {
                    return Err(KeyError::Unknown);
                };
                let size = bit_length(key.modulus);
                if !(2048..=8192).contains(&size) {
                    return Err(KeyError::RsaSize(size));
                }
                match key.try_exponent() {
                    Ok(exponent) if exponent >= 3 && exponent % 2 == 1 => {}
                    _ => return Err(KeyError::Unknown),
                }
                let algorithm = der::sequence(&[&name(oid::RSA), &[der::NULL, 0]]);
                (KeyType::Rsa(size), algorithm)
            }
            oid::ED25519 if bits.len() == 32 => {
                (KeyType::Ed25519, der::sequence(&[&name(oid::ED25519)]))
            }
            _ => return Err(KeyError::Unknown),
        };
        let mut id = [0; 20];
        id.copy_from_slice(&digest::digest(&digest::SHA256, bits).as_ref()[..20]);
        Ok(PublicKey {
            spki: der::sequence(&[&algorithm, &der::bit_string(bits)]),
            key_type,
            id,
        })
    }

    /// What kind it is.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// `SubjectPublicKeyInfo` in DER, written in the one canonical way.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// Key identifier: the first 20 bytes of SHA-256 over the key's bits. Source: RFC 7093, section 2, method 1.
    pub fn key_id(&self) -> &[u8; 20] {
        &self.id
    }
}

/// Bits of an integer that is not negative; 0 of one that is.
fn bit_length(bytes: &[u8]) -> u32 {
    if bytes.first().is_none_or(|first| first & 0x80 != 0) {
        return 0;
    }
    let skip = bytes.iter().take_while(|b| **b == 0).count();
    match &bytes[skip..] {
        [] => 0,
        short => u32::try_from(short.len() * 8).unwrap_or(u32::MAX) - short[0].leading_zeros(),
    }
}
