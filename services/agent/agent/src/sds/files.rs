//! Secrets of files, read again when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_core::paths::{Paths, SYSTEM_ROOTS};
use agent_core::secrets::{
    PairError, SecretName, Trusted, certificate_secret, read_pair, read_roots, trust_secret,
};
use envoy_api::any::{Any, pack};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use service_kit::Stop;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::store::{Material, Materials};

/// Largest file that is read. Unit: bytes.
const MAX_FILE: u64 = 4 << 20;
/// Files are looked at this often even if nothing is told of them.
const PERIOD: Duration = Duration::from_secs(10);
/// A key and a certificate that do not belong together are read again for this long before that is an error.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most files of secrets at once.
const MAX_SECRETS: usize = 1024;

/// Secrets of files, each watched as long as somebody wants it. Clones share them.
#[derive(Clone)]
pub struct FileSecrets(Arc<Inner>);

type Sender = Arc<watch::Sender<Option<Arc<Material>>>>;

struct Inner {
    paths: Paths,
    debounce: Duration,
    stop: Stop,
    secrets: Mutex<BTreeMap<String, Sender>>,
}

impl FileSecrets {
    /// None yet.
    pub fn new(paths: Paths, debounce: Duration, stop: Stop) -> FileSecrets {
        FileSecrets(Arc::new(Inner {
            paths,
            debounce,
            stop,
            secrets: Mutex::default(),
        }))
    }

    /// Where a secret of files appears. What is no name of files never does.
    pub fn subscribe(&self, name: &str, secret: &SecretName) -> Materials {
        let mut secrets = self.0.secrets.lock();
        if let Some(sender) = secrets.get(name) {
            return sender.subscribe();
        }
        let sender: Sender = Arc::new(watch::Sender::new(None));
        let materials = sender.subscribe();
        if secrets.len() >= MAX_SECRETS {
            sender.send_replace(Some(Arc::new(Material {
                version: 1,
                secret: Err("too many files".into()),
            })));
            return materials;
        }
        secrets.insert(name.to_owned(), sender.clone());
        let (files, name, secret) = (self.clone(), name.to_owned(), secret.clone());
        tokio::spawn(async move { files.keep(name, secret, sender).await });
        materials
    }

    /// Reads a secret again and again until nobody wants it.
    async fn keep(self, name: String, secret: SecretName, sender: Sender) {
        let mut files = watch_files(self.files(&secret), self.0.debounce);
        let mut since: Option<Instant> = None;
        loop {
            let read = {
                let (inner, name, secret) = (self.0.clone(), name.clone(), secret.clone());
                tokio::task::spawn_blocking(move || inner.read(&name, &secret)).await
            };
            let again = match read {
                Ok(Ok(found)) => {
                    since = None;
                    publish(&sender, Ok(found));
                    false
                }
                // Whoever writes them has not finished.
                Ok(Err(FileError::Pair(PairError::Mismatch)))
                    if since.get_or_insert_with(Instant::now).elapsed() < PATIENCE =>
                {
                    true
                }
                Ok(Err(error)) => {
                    tracing::warn!(name, %error, "a secret of files cannot be read");
                    publish(&sender, Err(error.to_string()));
                    false
                }
                Err(_) => return,
            };
            let pause = async {
                match again {
                    true => sleep(self.0.debounce.max(Duration::from_millis(10))).await,
                    false => files.changed().await,
                }
            };
            tokio::select! {
                () = self.0.stop.wait() => return,
                () = pause => {}
                () = sender.closed() => {
                    let mut secrets = self.0.secrets.lock();
                    // Somebody may have come meanwhile.
                    if sender.receiver_count() == 0 {
                        secrets.remove(&name);
                        return;
                    }
                }
            }
        }
    }

    fn files(&self, secret: &SecretName) -> Vec<PathBuf> {
        let at = |path: &Path| self.0.paths.resolve(path);
        match secret {
            SecretName::FileCertificate { chain, key } => vec![at(chain), at(key)],
            SecretName::FileRoot(path) => vec![at(path)],
            SecretName::SystemRoot => system_roots().into_iter().collect(),
            SecretName::Workload | SecretName::Root => Vec::new(),
        }
    }
}

/// The file of the roots that this system trusts.
pub fn system_roots() -> Option<PathBuf> {
    let mut places = SYSTEM_ROOTS.iter().map(PathBuf::from);
    places.find(|path| path.is_file())
}

/// A change is told; an error only while there is nothing better.
fn publish(sender: &Sender, found: Result<Any, String>) {
    sender.send_if_modified(|now| {
        let held = now.as_ref().map(|held| (held.version, &held.secret));
        match (&held, &found) {
            (Some((_, Ok(_))), Err(_)) => return false,
            (Some((_, held)), _) if **held == found => return false,
            _ => {}
        }
        *now = Some(Arc::new(Material {
            version: held.map_or(1, |(version, _)| version + 1),
            secret: found.clone(),
        }));
        true
    });
}

/// Files that hold no secret. What stands in them is never part of the message.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("certificate and key: {0}")]
    Pair(#[from] PairError),
    #[error("{}: holds no certificate", .0.display())]
    NoRoots(PathBuf),
    #[error("this system has no file of roots at a known place")]
    NoSystem,
    #[error("is no secret of files")]
    NotFiles,
}

impl Inner {
    fn read(&self, name: &str, secret: &SecretName) -> Result<Any, FileError> {
        let read = |path: &Path| {
            let path = self.paths.resolve(path);
            read_file(&path).map_err(|error| FileError::Io { path, error })
        };
        let roots = |path: &Path| {
            let roots =
                read_roots(&read(path)?).map_err(|_| FileError::NoRoots(path.to_owned()))?;
            let trusted = Trusted {
                roots,
                crls: BTreeSet::new(),
            };
            Ok(pack(&trust_secret(name, &trusted)))
        };
        match secret {
            SecretName::FileCertificate { chain, key } => {
                let pair = read_pair(&read(chain)?, &read(key)?)?;
                Ok(pack(&certificate_secret(name, &pair)))
            }
            SecretName::FileRoot(path) => roots(path),
            SecretName::SystemRoot => roots(&system_roots().ok_or(FileError::NoSystem)?),
            SecretName::Workload | SecretName::Root => Err(FileError::NotFiles),
        }
    }
}

/// A file's content, if it is a plain file of a sensible size.
///
/// # Errors
/// It is not, or cannot be read.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Looked at before it is opened: opening a pipe would wait for somebody to write.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "is no plain file",
        ));
    }
    let mut content = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("is larger than {MAX_FILE} bytes"),
        ));
    }
    Ok(content)
}

/// Tells that files may have changed. Folders are watched rather than files, since files are replaced by renaming, and Kubernetes replaces a link
/// beside them.
pub struct Watched {
    files: Vec<PathBuf>,
    debounce: Duration,
    events: mpsc::Receiver<()>,
    sender: mpsc::Sender<()>,
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

/// Watches files, which need not be there.
pub fn watch_files(files: Vec<PathBuf>, debounce: Duration) -> Watched {
    let (sender, events) = mpsc::channel(1);
    let mut watched = Watched {
        files,
        debounce,
        events,
        sender,
        watcher: None,
        folders: BTreeSet::new(),
    };
    watched.follow();
    watched
}

impl Watched {
    /// Returns when something may have changed, after it has been quiet for a while; at the latest after ten seconds.
    pub async fn changed(&mut self) {
        tokio::select! {
            _ = self.events.recv() => {
                let deadline = Instant::now() + PERIOD;
                loop {
                    tokio::select! {
                        () = sleep(self.debounce) => break,
                        () = tokio::time::sleep_until(deadline) => break,
                        _ = self.events.recv() => {}
                    }
                }
            }
            () = sleep(PERIOD) => {}
        }
        self.follow();
    }

    /// Watches the folders that the files are in now.
    fn follow(&mut self) {
        let folders: BTreeSet<PathBuf> = self.files.iter().flat_map(|file| homes(file)).collect();
        if folders == self.folders && self.watcher.is_some() {
            return;
        }
        let sender = self.sender.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is no change of it.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                let _ = sender.try_send(());
            }
        });
        match watcher {
            Ok(mut watcher) => {
                for folder in &folders {
                    if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                        tracing::debug!(folder = %folder.display(), %error, "cannot be watched");
                    }
                }
                self.watcher = Some(watcher);
                self.folders = folders;
            }
            Err(error) => {
                tracing::warn!(%error, "files cannot be watched; they are looked at every 10 s");
                self.watcher = None;
            }
        }
    }
}

/// The folders in which a change of a file shows: its own, and that of what it is a link to. Of a folder that is not there, the nearest above it.
fn homes(file: &Path) -> Vec<PathBuf> {
    let existing = |path: &Path| {
        let above = path.ancestors().skip(1);
        above
            .map(Path::to_owned)
            .find(|folder| folder.is_dir())
            .unwrap_or_else(|| PathBuf::from("/"))
    };
    let mut found = vec![existing(file)];
    if let Ok(target) = std::fs::canonicalize(file) {
        found.push(existing(&target));
    }
    found
}
