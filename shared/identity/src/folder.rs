//! A folder with a certificate: how it is read, and how it is written so that a reader never sees halves of two.
//!
//! `key.pem`, `cert-chain.pem`, `root-cert.pem` and `ca-crl.pem` (may be missing) are links through `..data` into a folder that is swapped as
//! a whole, as Kubernetes does it. Plain files, and the names `tls.key`, `tls.crt` and `ca.crt`, are read too.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_types::SpiffeId;
use pki::Certificate;
use service_kit::tls::{IdentityError, TlsIdentity, Trust, TrustError, read_trust};
use zeroize::Zeroizing;

/// Largest file that is read. Unit: bytes.
const MAX_FILE: u64 = 4 << 20;
/// Link to the newest generation.
const DATA: &str = "..data";
/// What the folders of generations start with.
const GENERATION: &str = "..generation-";

/// Names of one file: ours, and that of a `kubernetes.io/tls` secret.
struct Names(&'static str, Option<&'static str>);

const KEY: Names = Names("key.pem", Some("tls.key"));
const CHAIN: Names = Names("cert-chain.pem", Some("tls.crt"));
const ROOTS: Names = Names("root-cert.pem", Some("ca.crt"));
const CRLS: Names = Names("ca-crl.pem", None);

/// A certificate with everything that belongs to it, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// The private key.
    pub key: Zeroizing<String>,
    /// The certificate, then those that lead to a root.
    pub chain: String,
    /// The roots of its trust domain.
    pub roots: String,
    /// Revocation lists of its trust domain; may be empty.
    pub crls: String,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others could change what is in it.
    #[error(
        "{}: others may write to this folder, and with that be us; `chmod go-w` it, and see that it is ours",
        .0.display()
    )]
    Open(PathBuf),
    /// There is no certificate in it.
    #[error("{}: there is no {name}", path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
        /// The file.
        name: &'static str,
    },
    /// A file that is too large, or not text.
    #[error("{}: this is no PEM file", .0.display())]
    NoPem(PathBuf),
    /// Key and certificate are none.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The roots are none.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    |error| FolderError::Io { path, error }
}

impl Material {
    /// The identity of it.
    ///
    /// # Errors
    /// Something cannot be read, or does not belong together.
    pub fn identity(&self) -> Result<TlsIdentity, FolderError> {
        let id = self.id()?;
        let trust = read_trust(id.trust_domain().clone(), &self.roots, &self.crls)?;
        Ok(TlsIdentity::new(&self.chain, &self.key, Arc::new(trust))?)
    }

    /// The same with roots that were read already.
    ///
    /// # Errors
    /// Key and chain cannot be read, or do not belong together.
    pub fn identity_with(&self, trust: Arc<Trust>) -> Result<TlsIdentity, FolderError> {
        Ok(TlsIdentity::new(&self.chain, &self.key, trust)?)
    }

    fn id(&self) -> Result<SpiffeId, FolderError> {
        let leaf = Certificate::all_from_pem(&self.chain)
            .map_err(|error| IdentityError::Leaf(error.into()))?;
        let leaf = leaf.first().ok_or(IdentityError::NoCertificate)?;
        let id = leaf
            .spiffe_id()
            .map_err(|error| IdentityError::Leaf(error.into()))?;
        Ok(id)
    }
}

/// Refuses a folder that others may write to: it must be ours or root's, and not be writable for its group or everybody.
///
/// # Errors
/// [`FolderError::Open`], or it cannot be looked at.
pub fn check(folder: &Path) -> Result<(), FolderError> {
    let facts = fs::metadata(folder).map_err(at(folder))?;
    let ours = facts.uid() == 0 || facts.uid() == rustix::process::geteuid().as_raw();
    if !facts.is_dir() || !ours || facts.mode() & 0o022 != 0 {
        return Err(FolderError::Open(folder.to_owned()));
    }
    Ok(())
}

/// Reads the folder; all files are of one generation.
///
/// # Errors
/// See [`FolderError`]. What the files say is not looked at.
pub fn read(folder: &Path) -> Result<Material, FolderError> {
    check(folder)?;
    // Resolved once: the link may be swapped while we read.
    let data = folder.join(DATA);
    let within = match fs::canonicalize(&data) {
        Ok(generation) => generation,
        Err(error) if error.kind() == io::ErrorKind::NotFound => folder.to_owned(),
        Err(error) => return Err(at(&data)(error)),
    };
    let read = |names: Names| -> Result<Option<String>, FolderError> {
        for name in std::iter::once(names.0).chain(names.1) {
            if let Some(text) = read_file(&within.join(name))? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    };
    let missing = |name: &'static str| {
        let path = folder.to_owned();
        move || FolderError::Missing { path, name }
    };
    Ok(Material {
        key: read(KEY)?.map(Zeroizing::new).ok_or_else(missing(KEY.0))?,
        chain: read(CHAIN)?.ok_or_else(missing(CHAIN.0))?,
        roots: read(ROOTS)?.ok_or_else(missing(ROOTS.0))?,
        crls: read(CRLS)?.unwrap_or_default(),
    })
}

/// A text file; `None` if there is none.
pub(crate) fn read_file(path: &Path) -> Result<Option<String>, FolderError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(at(path))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(FolderError::NoPem(path.to_owned()));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(FolderError::NoPem(path.to_owned())),
    }
}

/// Writes a new generation and makes it the one that is read. The folder is made, for us alone, if it does not exist; files are readable
/// for us alone.
///
/// # Errors
/// See [`FolderError`]; then what was there is there still.
pub fn write(folder: &Path, material: &Material) -> Result<(), FolderError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(at(folder))?;
    check(folder)?;
    let name = format!("{GENERATION}{:016x}", rand::random::<u64>());
    let generation = folder.join(&name);
    DirBuilder::new()
        .mode(0o700)
        .create(&generation)
        .map_err(at(&generation))?;
    let written = fill(folder, &name, material);
    if written.is_err() {
        let _ = fs::remove_dir_all(&generation);
    }
    written?;
    forget_others(folder, &name);
    Ok(())
}

fn fill(folder: &Path, name: &str, material: &Material) -> Result<(), FolderError> {
    let generation = folder.join(name);
    let files = [
        (KEY.0, &*material.key),
        (CHAIN.0, &material.chain),
        (ROOTS.0, &material.roots),
        (CRLS.0, &material.crls),
    ];
    for (file, text) in files {
        let path = generation.join(file);
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(at(&path))?;
    }
    let sync = |path: &Path| File::open(path).and_then(|dir| dir.sync_all());
    sync(&generation).map_err(at(&generation))?;
    link(folder, DATA, Path::new(name))?;
    for (file, _) in files {
        let target = Path::new(DATA).join(file);
        if fs::read_link(folder.join(file)).ok() != Some(target.clone()) {
            link(folder, file, &target)?;
        }
    }
    sync(folder).map_err(at(folder))
}

/// Makes `name` a link to `target`, replacing in one step what is there.
fn link(folder: &Path, name: &str, target: &Path) -> Result<(), FolderError> {
    let temp = folder.join(format!("{name}.tmp"));
    let _ = fs::remove_file(&temp);
    let place = folder.join(name);
    symlink(target, &temp)
        .and_then(|()| fs::rename(&temp, &place))
        .map_err(at(&place))
}

/// Removes older generations. Leftovers do no harm.
fn forget_others(folder: &Path, newest: &str) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(GENERATION) && name != newest {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
