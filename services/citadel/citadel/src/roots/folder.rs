//! A plugged-in authority: the files of a folder, read as one and checked.
//!
//! `ca-cert.pem`, `ca-key.pem`, `root-cert.pem`, `cert-chain.pem` and optionally `ca-crl.pem`; or, as secrets of type `kubernetes.io/tls`
//! have it, `tls.crt`, `tls.key` and `ca.crt`. If `tls.crt` is there, that layout is meant.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use citadel_core::issue;
use mesh_types::TrustDomain;
use pki::crl::{self, Crl, CrlError};
use pki::{
    Authority, AuthorityError, Bundle, Certificate, CertificateError, KeyError, Material, PemError,
    PrivateKey,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// Largest file that is read: revocation lists may be long.
const MAX_FILE: u64 = 16 << 20;

const OWN: [&str; 4] = [
    "ca-cert.pem",
    "ca-key.pem",
    "root-cert.pem",
    "cert-chain.pem",
];
const KUBERNETES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];
const CRL: &str = "ca-crl.pem";

/// An authority that a folder holds.
#[derive(Debug)]
pub struct Plugged {
    /// Key, certificate, chain and roots, checked.
    pub authority: Authority,
    /// The key as [`Entry::issuer`](citadel_core::journal::Entry::issuer) names it.
    pub issuer: String,
    /// The root that the authority leads to.
    pub root: Certificate,
    /// Revocation lists that came along.
    pub crls: Vec<Crl>,
}

impl Plugged {
    /// Whether it is the same authority, with the same roots and lists.
    pub(super) fn same(&self, other: &Plugged) -> bool {
        let (a, b) = (&self.authority, &other.authority);
        a.certificate() == b.certificate()
            && a.chain() == b.chain()
            && a.roots().roots() == b.roots().roots()
            && self.crls == other.crls
    }
}

/// Why a folder holds no authority.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Some files, but not all.
    #[error("{folder}: of the files of a plugged-in authority {} missing; with none of them, a root would be made", list(.missing))]
    Missing {
        /// The folder.
        folder: String,
        /// The names.
        missing: Vec<String>,
    },
    /// A file cannot be read.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// A file that is larger than any such file.
    #[error("{0}: larger than {MAX_FILE} bytes")]
    TooLarge(String),
    /// The key is unusable.
    #[error("{path}: {error}")]
    Key {
        /// Which file.
        path: String,
        /// Why.
        error: KeyError,
    },
    /// A certificate is unusable.
    #[error("{path}: {error}")]
    Certificate {
        /// Which file.
        path: String,
        /// Why.
        error: CertificateError,
    },
    /// The files do not fit together.
    #[error("{folder}: {error}")]
    Authority {
        /// The folder.
        folder: String,
        /// Why.
        error: AuthorityError,
    },
    /// The revocation lists do not cover the chain, or are unreadable.
    #[error("{path}: {error}")]
    Lists {
        /// Which file.
        path: String,
        /// Why.
        error: CrlError,
    },
    /// Other roots, while roots may not change.
    #[error(
        "{0}: it brings other roots; with --multi-root, roots may be added and taken away, but not exchanged"
    )]
    Roots(String),
}

fn list(names: &[String]) -> String {
    match names {
        [one] => format!("{one} is"),
        many => format!("{} are", many.join(", ")),
    }
}

/// Reads a folder; `None`: it holds none of the files. Blocks.
///
/// # Errors
/// See [`FolderError`].
pub fn read(
    folder: &Path,
    with_crl: bool,
    trust_domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<Option<Plugged>, FolderError> {
    // Kubernetes swaps a link to a folder: all files must come from the same one.
    let content = folder.join("..data");
    let root = std::fs::canonicalize(&content).unwrap_or_else(|_| folder.to_path_buf());
    let place = root.clone();
    let there = move |name: &&str| place.join(name).exists();
    let (names, [certificate, key, roots]): (&[&str], [&str; 3]) =
        if there(&KUBERNETES[0]) || KUBERNETES.iter().any(&there) && !OWN.iter().any(&there) {
            (&KUBERNETES, KUBERNETES)
        } else {
            (&OWN, [OWN[0], OWN[1], OWN[2]])
        };
    let missing: Vec<String> = names
        .iter()
        .filter(|name| !there(name))
        .map(|name| (*name).to_owned())
        .collect();
    if missing.len() == names.len() {
        return Ok(None);
    }
    if !missing.is_empty() {
        return Err(FolderError::Missing {
            folder: folder.display().to_string(),
            missing,
        });
    }
    let files = Files {
        folder: folder.to_path_buf(),
        root,
    };
    let mut own = files.certificates(certificate)?;
    if own.is_empty() {
        return Err(FolderError::Certificate {
            path: files.path(certificate),
            error: PemError::Missing("CERTIFICATE").into(),
        });
    }
    let mut chain = if names.len() == OWN.len() {
        files.certificates(OWN[3])?
    } else {
        Vec::new()
    };
    // The file may hold its chain, too: the first one signs.
    let certificate = own.remove(0);
    chain.extend(own);
    let key_text = files.text(key)?;
    let key = PrivateKey::from_pem(&key_text).map_err(|error| FolderError::Key {
        path: files.path(key),
        error,
    })?;
    let material = Material {
        key,
        certificate,
        chain,
        roots: files.certificates(roots)?,
    };
    let failed = |error| FolderError::Authority {
        folder: folder.display().to_string(),
        error,
    };
    let authority = Authority::new(material, trust_domain, now).map_err(failed)?;
    let lists = |error| FolderError::Lists {
        path: files.path(CRL),
        error,
    };
    let crls = if with_crl && there(&CRL) {
        Crl::all_from_pem(&files.text(CRL)?).map_err(lists)?
    } else {
        Vec::new()
    };
    crl::check(&crls, authority.chain()).map_err(lists)?;
    let root = anchor(&authority)
        .ok_or_else(|| failed(AuthorityError::Untrusted("no root signed its chain".into())))?;
    Ok(Some(Plugged {
        issuer: issue::issuer(&authority),
        root,
        crls,
        authority,
    }))
}

/// The root that an authority leads to.
fn anchor(authority: &Authority) -> Option<Certificate> {
    let top = authority
        .chain()
        .last()
        .unwrap_or_else(|| authority.certificate());
    let roots: &Bundle = authority.roots();
    let found = roots.roots().iter().find(|root| *root == top);
    found
        .or_else(|| roots.roots().iter().find(|root| root.signed(top)))
        .cloned()
}

struct Files {
    folder: PathBuf,
    root: PathBuf,
}

impl Files {
    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn text(&self, name: &str) -> Result<Zeroizing<String>, FolderError> {
        let mut text = Zeroizing::new(String::new());
        let read = std::fs::File::open(self.root.join(name))
            .and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text));
        match read {
            Ok(read) if read as u64 > MAX_FILE => Err(FolderError::TooLarge(self.path(name))),
            Ok(_) => Ok(text),
            Err(error) => Err(FolderError::File {
                path: self.path(name),
                error,
            }),
        }
    }

    fn certificates(&self, name: &str) -> Result<Vec<Certificate>, FolderError> {
        let text = self.text(name)?;
        Certificate::all_from_pem(&text).map_err(|error| FolderError::Certificate {
            path: self.path(name),
            error,
        })
    }
}
