//! Secrets that Envoy asks for: what a name means, and what the answer is made of.

use std::collections::BTreeSet;
use std::path::{Component, PathBuf};

use bytes::Bytes;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret,
};
use pki::{Certificate, PrivateKey};

use crate::bootstrap::inline;

/// Name of the workload's certificate and key.
pub const WORKLOAD: &str = "default";
/// Name of whom the workload trusts.
pub const ROOT: &str = "ROOTCA";

/// Longest name that is looked at. Unit: bytes.
const MAX_NAME: usize = 8192;

/// What a resource name asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretName {
    /// `default`: the workload's certificate.
    Workload,
    /// `ROOTCA`: whom it trusts.
    Root,
    /// `file-cert:<chain>~<key>`: a certificate in files.
    FileCertificate {
        /// Path of the chain.
        chain: PathBuf,
        /// Path of the key.
        key: PathBuf,
    },
    /// `file-root:<file>`: whom to trust, in a file.
    FileRoot(PathBuf),
    /// `file-root:system`: whom the operating system trusts.
    SystemRoot,
}

/// A name that asks for nothing the agent has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Neither a workload's secret nor a file's.
    #[error("no such secret")]
    Unknown,
    /// A path that leaves the working folder, or holds a zero byte.
    #[error("the path is neither absolute nor below the working folder")]
    Path,
}

impl SecretName {
    /// Reads a resource name.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn parse(name: &str) -> Result<SecretName, NameError> {
        if name.len() > MAX_NAME {
            return Err(NameError::Unknown);
        }
        match name {
            WORKLOAD => return Ok(SecretName::Workload),
            ROOT => return Ok(SecretName::Root),
            "file-root:system" => return Ok(SecretName::SystemRoot),
            _ => {}
        }
        if let Some(pair) = name.strip_prefix("file-cert:") {
            let mut parts = pair.split('~');
            return match (parts.next(), parts.next(), parts.next()) {
                (Some(chain), Some(key), None) if !chain.is_empty() && !key.is_empty() => {
                    Ok(SecretName::FileCertificate {
                        chain: path(chain)?,
                        key: path(key)?,
                    })
                }
                _ => Err(NameError::Unknown),
            };
        }
        match name.strip_prefix("file-root:") {
            Some(file) if !file.is_empty() && !file.contains('~') => {
                Ok(SecretName::FileRoot(path(file)?))
            }
            _ => Err(NameError::Unknown),
        }
    }
}

fn path(text: &str) -> Result<PathBuf, NameError> {
    let path = PathBuf::from(text);
    let stays = path.is_absolute() || !path.components().any(|part| part == Component::ParentDir);
    if text.contains('\0') || !stays {
        return Err(NameError::Path);
    }
    Ok(path)
}

/// A certificate chain and the key of its leaf. Its `Debug` says no more than whose it is.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// Certificates in PEM, the leaf first.
    pub chain: Bytes,
    /// Private key in PEM.
    pub key: Bytes,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair").finish_non_exhaustive()
    }
}

/// Files that hold no certificate with its key. What stands in them is never part of the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// The chain cannot be read.
    #[error("holds no certificate chain")]
    Chain,
    /// The key cannot be read.
    #[error("holds no private key that can be used")]
    Key,
    /// They do not belong together: one of them may not have been written yet.
    #[error("the private key is not that of the certificate")]
    Mismatch,
}

/// Reads a chain and a key that belong together.
///
/// # Errors
/// See [`PairError`].
pub fn read_pair(chain: &[u8], key: &[u8]) -> Result<KeyPair, PairError> {
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let certificates = text(chain)
        .and_then(|text| Certificate::all_from_pem(text).ok())
        .ok_or(PairError::Chain)?;
    let leaf = certificates.first().ok_or(PairError::Chain)?;
    let parsed = text(key)
        .and_then(|text| PrivateKey::from_pem(text).ok())
        .ok_or(PairError::Key)?;
    if leaf.public_key() != Some(parsed.public_key()) {
        return Err(PairError::Mismatch);
    }
    let chain: String = certificates.iter().map(Certificate::to_pem).collect();
    Ok(KeyPair {
        chain: chain.into(),
        key: Bytes::copy_from_slice(key),
    })
}

/// A file that holds no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("holds no certificate")]
pub struct NoRoots;

/// Reads root certificates, each in PEM, sorted, without doubles. What is none is left out.
///
/// # Errors
/// There is none at all.
pub fn read_roots(bytes: &[u8]) -> Result<BTreeSet<String>, NoRoots> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let text = String::from_utf8_lossy(bytes);
    let blocks = text.split(BEGIN).skip(1);
    let found: BTreeSet<String> = blocks
        .filter_map(|block| {
            let body = block.split_once(END)?.0;
            Certificate::from_pem(&format!("{BEGIN}{body}{END}\n")).ok()
        })
        .map(|certificate| certificate.to_pem())
        .collect();
    if found.is_empty() {
        return Err(NoRoots);
    }
    Ok(found)
}

/// Whom to trust.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trusted {
    /// Root certificates, each in PEM.
    pub roots: BTreeSet<String>,
    /// Revocation lists of the issuers of leaves, each in PEM.
    pub crls: BTreeSet<String>,
}

/// The secret of a certificate and key.
pub fn certificate_secret(name: &str, pair: &KeyPair) -> Secret {
    Secret {
        name: name.to_owned(),
        r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: Some(inline(pair.chain.clone())),
            private_key: Some(inline(pair.key.clone())),
            ..TlsCertificate::default()
        })),
    }
}

/// The secret of whom to trust. Revocation lists are those of leaves' issuers, so only leaves are looked up in them: Envoy would refuse a chain
/// whose root has no list otherwise.
pub fn trust_secret(name: &str, trusted: &Trusted) -> Secret {
    let join = |texts: &BTreeSet<String>| texts.iter().map(String::as_str).collect::<String>();
    let lists = !trusted.crls.is_empty();
    Secret {
        name: name.to_owned(),
        r#type: Some(secret::Type::ValidationContext(
            CertificateValidationContext {
                trusted_ca: Some(inline(join(&trusted.roots))),
                crl: lists.then(|| inline(join(&trusted.crls))),
                only_verify_leaf_cert_crl: lists,
                ..CertificateValidationContext::default()
            },
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case 26: names that are no files.
    #[test]
    fn names_mean_what_their_grammar_says() {
        let file = |chain: &str, key: &str| {
            Ok(SecretName::FileCertificate {
                chain: chain.into(),
                key: key.into(),
            })
        };
        for (name, want) in [
            ("default", Ok(SecretName::Workload)),
            ("ROOTCA", Ok(SecretName::Root)),
            ("file-cert:/a~/b", file("/a", "/b")),
            ("file-cert:a/b~c", file("a/b", "c")),
            ("file-cert:/a~/b~/c", Err(NameError::Unknown)),
            ("file-cert:/x", Err(NameError::Unknown)),
            ("file-cert:~/x", Err(NameError::Unknown)),
            ("file-cert:/x~", Err(NameError::Unknown)),
            ("file-cert:../x~/y", Err(NameError::Path)),
            ("file-cert:/x\0~/y", Err(NameError::Path)),
            ("file-root:/a", Ok(SecretName::FileRoot("/a".into()))),
            (
                "file-root:/etc/../etc/shadow",
                Ok(SecretName::FileRoot("/etc/../etc/shadow".into())),
            ),
            ("file-root:/a~/b", Err(NameError::Unknown)),
            ("file-root:", Err(NameError::Unknown)),
            ("file-root:../a", Err(NameError::Path)),
            ("file-root:system", Ok(SecretName::SystemRoot)),
            ("rootca", Err(NameError::Unknown)),
            ("kubernetes://x", Err(NameError::Unknown)),
            ("", Err(NameError::Unknown)),
        ] {
            assert_eq!(SecretName::parse(name), want, "{name:?}");
        }
        assert_eq!(
            SecretName::parse(&format!("file-root:/{}", "a".repeat(9000))),
            Err(NameError::Unknown)
        );
    }

    /// Case 26: what is no certificate is never handed out.
    #[test]
    fn a_file_without_certificates_is_no_root() {
        assert_eq!(
            read_roots(b"root:$6$secret:19000:0:99999:7:::"),
            Err(NoRoots)
        );
        assert_eq!(
            read_roots(b"-----BEGIN CERTIFICATE-----\nroot:secret\n-----END CERTIFICATE-----\n"),
            Err(NoRoots)
        );
        assert_eq!(read_pair(b"root:secret", b"x"), Err(PairError::Chain));
    }
}
