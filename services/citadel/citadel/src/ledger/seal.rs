//! Sealing the keys of roots, so that whoever has the database alone cannot sign.

use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize as _, Zeroizing};

/// First word of what is sealed; a key that is not begins with `-----BEGIN`.
const FORM: &str = "aes-256-gcm:";

/// Largest key file. Unit: bytes.
const MAX_FILE: u64 = 4096;

/// The key that seals the keys of roots: AES-256-GCM, bound to the root it is about.
pub struct KeyEncryption {
    key: RandomizedNonceKey,
}

impl std::fmt::Debug for KeyEncryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyEncryption")
    }
}

/// Why a key is not to be had. Tells nothing of its content.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The file holds something else.
    #[error(
        "{0}: wanted 32 random bytes, as they are or in hexadecimal or base64: `openssl rand -hex 32` makes them"
    )]
    Form(String),
    /// The key is sealed and there is nothing to open it with.
    #[error(
        "the root's key is sealed in the database: start with the --key-encryption-key-file it was sealed with"
    )]
    Sealed,
    /// The key is sealed with another key, or was changed.
    #[error(
        "the root's key cannot be opened: another --key-encryption-key-file sealed it, or the database was changed"
    )]
    Wrong,
    /// Sealing failed.
    #[error("the root's key could not be sealed")]
    Failed,
}

impl KeyEncryption {
    /// Reads the key: a file of 32 bytes, or of 64 hexadecimal digits, or of their base64.
    ///
    /// # Errors
    /// [`SealError::File`], [`SealError::Form`].
    pub fn from_file(path: &Path) -> Result<Self, SealError> {
        use std::io::Read as _;
        let named = || path.display().to_string();
        let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
            .map_err(|error| SealError::File {
                path: named(),
                error,
            })?;
        Self::from_text(&bytes).ok_or_else(|| SealError::Form(named()))
    }

    fn from_text(bytes: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() == 32 {
            key.copy_from_slice(bytes);
        } else {
            let text = std::str::from_utf8(bytes).ok()?.trim();
            if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                for (n, byte) in key.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
                }
            } else {
                let mut decoded = STANDARD.decode(text).ok()?;
                let fits = decoded.len() == 32;
                if fits {
                    key.copy_from_slice(&decoded);
                }
                decoded.zeroize();
                if !fits {
                    return None;
                }
            }
        }
        let key = RandomizedNonceKey::new(&AES_256_GCM, &*key).ok()?;
        Some(Self { key })
    }

    fn seal(&self, about: &str, pem: &str) -> Result<String, SealError> {
        // Encrypted in place; what is left in the buffer is no secret any more.
        let mut buffer = pem.as_bytes().to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(about.as_bytes()), &mut buffer)
            .map_err(|_| SealError::Failed)?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.extend_from_slice(&buffer);
        Ok(FORM.to_owned() + &STANDARD.encode(sealed))
    }

    fn open(&self, about: &str, text: &str) -> Result<Zeroizing<String>, SealError> {
        let mut sealed = STANDARD.decode(text).map_err(|_| SealError::Wrong)?;
        if sealed.len() < NONCE_LEN {
            return Err(SealError::Wrong);
        }
        let mut rest = Zeroizing::new(sealed.split_off(NONCE_LEN));
        let nonce = Nonce::try_assume_unique_for_key(&sealed).map_err(|_| SealError::Wrong)?;
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(about.as_bytes()), &mut rest)
            .map_err(|_| SealError::Wrong)?;
        let text = std::str::from_utf8(plain).map_err(|_| SealError::Wrong)?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

/// A key as it is kept: sealed, if there is something to seal it with. `about`: fingerprint of the root it is of.
pub(super) fn kept(
    encryption: Option<&KeyEncryption>,
    about: &str,
    pem: &str,
) -> Result<Zeroizing<String>, SealError> {
    match encryption {
        Some(encryption) => encryption.seal(about, pem).map(Zeroizing::new),
        None => Ok(Zeroizing::new(pem.to_owned())),
    }
}

/// The reverse of [`kept`]; and whether it was sealed.
pub(super) fn opened(
    encryption: Option<&KeyEncryption>,
    about: &str,
    kept: &str,
) -> Result<(Zeroizing<String>, bool), SealError> {
    match (kept.strip_prefix(FORM), encryption) {
        (None, _) => Ok((Zeroizing::new(kept.to_owned()), false)),
        (Some(_), None) => Err(SealError::Sealed),
        (Some(sealed), Some(encryption)) => Ok((encryption.open(about, sealed)?, true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n";

    fn key(byte: u8) -> KeyEncryption {
        KeyEncryption::from_text(&[byte; 32]).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_for_the_same_root_alone() {
        let sealed = kept(Some(&key(1)), "root", PEM).unwrap();
        assert!(sealed.starts_with(FORM) && !sealed.contains("PRIVATE"));
        let (open, was_sealed) = opened(Some(&key(1)), "root", &sealed).unwrap();
        assert_eq!((open.as_str(), was_sealed), (PEM, true));
        let error = |encryption: Option<&KeyEncryption>, about, text: &str| {
            opened(encryption, about, text).unwrap_err()
        };
        assert!(matches!(
            error(Some(&key(2)), "root", &sealed),
            SealError::Wrong
        ));
        assert!(matches!(
            error(Some(&key(1)), "other", &sealed),
            SealError::Wrong
        ));
        assert!(matches!(error(None, "root", &sealed), SealError::Sealed));
        let half = &sealed[..sealed.len() / 2 / 4 * 4];
        assert!(matches!(
            error(Some(&key(1)), "root", half),
            SealError::Wrong
        ));
        assert!(matches!(
            error(Some(&key(1)), "root", FORM),
            SealError::Wrong
        ));
        let again = kept(Some(&key(1)), "root", PEM).unwrap();
        assert_ne!(*again, *sealed, "another nonce each time");
    }

    #[test]
    fn an_open_key_stays_readable_when_sealing_is_switched_on() {
        let open = kept(None, "root", PEM).unwrap();
        assert_eq!(open.as_str(), PEM);
        let (found, was_sealed) = opened(Some(&key(1)), "root", &open).unwrap();
        assert_eq!((found.as_str(), was_sealed), (PEM, false));
    }

    #[test]
    fn key_files_come_in_three_forms() {
        let hex = "01".repeat(32);
        let base64 = STANDARD.encode([1; 32]);
        for text in [
            &[1; 32][..],
            hex.as_bytes(),
            base64.as_bytes(),
            format!("{hex}\n").as_bytes(),
        ] {
            let found = KeyEncryption::from_text(text).unwrap();
            let sealed = kept(Some(&found), "r", PEM).unwrap();
            assert!(opened(Some(&key(1)), "r", &sealed).is_ok());
        }
        for wrong in [
            &b""[..],
            b"short",
            &[1; 31],
            "0g".repeat(32).as_bytes(),
            &[0xff; 40],
        ] {
            assert!(KeyEncryption::from_text(wrong).is_none());
        }
        let dir = tempfile::tempdir().unwrap();
        let error = KeyEncryption::from_file(&dir.path().join("none")).unwrap_err();
        assert!(matches!(error, SealError::File { .. }));
        assert_eq!(format!("{:?}", key(7)), "KeyEncryption");
    }
}
