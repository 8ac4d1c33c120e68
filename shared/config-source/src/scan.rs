//! Reading folders: what every file says now, and which of them changed since last time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_config::{Limits, MESH_CONFIG_NAME, Meta, Object, Origin};
use mesh_types::{Finding, Key, Kind, Labels, Level, version_of};

use crate::walk::{Trouble, Walk, Watched};

/// Largest file that is read: 64 MiB.
pub const MAX_FILE: u64 = 64 << 20;
/// How often everything is read again because it changed while being read.
const ATTEMPTS: usize = 10;
/// A file that was modified so shortly before it was read may be modified again without looking any different: clocks of file systems tick
/// slowly.
const TICK: Duration = Duration::from_secs(2);

/// What one file says.
#[derive(Debug)]
pub struct FileContent {
    /// The file, as findings name it.
    pub file: Arc<str>,
    /// Objects that were decoded without error, in the order of the file.
    pub objects: Vec<Arc<Object>>,
    /// Objects of the file that were refused, as far as they could be identified: their last good version stays in force.
    pub refused: Vec<Key>,
    /// Whether some document could not even be identified, so that any object last seen in the file may be meant.
    pub unidentified: bool,
    /// Everything there is to tell the author.
    pub findings: Vec<Finding>,
}

/// Everything a source holds now, file by file. Files that did not change keep their `Arc`.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// By path, in the order of the roots and then of the names.
    pub files: BTreeMap<(usize, PathBuf), Arc<FileContent>>,
    /// Roots, folders and files that could not be read. What this scanner last saw below them is still in `files`.
    pub unreadable: Vec<Finding>,
    /// The same places, as root and path: what anybody remembers of them stays in force.
    pub lost: Vec<(usize, PathBuf)>,
}

impl Scan {
    /// Whether both hold the very same file contents and troubles.
    pub fn same(&self, other: &Scan) -> bool {
        self.unreadable == other.unreadable
            && self.files.len() == other.files.len()
            && self
                .files
                .iter()
                .zip(&other.files)
                .all(|((a, x), (b, y))| a == b && Arc::ptr_eq(x, y))
    }

    /// Every finding of every file.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.unreadable
            .iter()
            .chain(self.files.values().flat_map(|file| &file.findings))
    }
}

/// A file that was read before.
#[derive(Debug, Clone)]
struct Known {
    stamp: Stamp,
    /// Whether an equal stamp means equal content.
    settled: bool,
    hash: u64,
    content: Arc<FileContent>,
}

/// What the file system tells about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    len: u64,
    file: (u64, u64),
}

impl Stamp {
    fn of(meta: &fs::Metadata) -> Stamp {
        Stamp {
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            len: meta.len(),
            file: (meta.dev(), meta.ino()),
        }
    }
}

/// Reads folders again and again, decoding only what changed.
#[derive(Debug)]
pub struct Scanner {
    roots: Vec<PathBuf>,
    /// Index of the root that is a bare MeshConfig file.
    mesh_config: Option<usize>,
    default_namespace: Arc<str>,
    known: BTreeMap<(usize, PathBuf), Known>,
}

impl Scanner {
    /// A scanner of some folders or single files. Objects without namespace get `default_namespace`.
    pub fn new(roots: Vec<PathBuf>, default_namespace: impl Into<Arc<str>>) -> Scanner {
        Scanner {
            roots,
            mesh_config: None,
            default_namespace: default_namespace.into(),
            known: BTreeMap::new(),
        }
    }

    /// The same, with a file that holds bare mesh settings, as `--mesh-config` names it.
    pub fn with_mesh_config(mut self, file: Option<PathBuf>) -> Scanner {
        self.mesh_config = file.is_some().then_some(self.roots.len());
        self.roots.extend(file);
        self
    }

    /// Reads everything. Returns what there is, and what must be watched to hear of changes.
    ///
    /// Folders behind a link, as Kubernetes mounts them, are read whole from before a swap or whole from after it. Blocking: call it off the
    /// async workers.
    pub fn scan(&mut self) -> (Scan, Watched) {
        for _ in 0..ATTEMPTS {
            let (found, settled) = self.read_all();
            if settled {
                return self.accept(found);
            }
        }
        let (found, _) = self.read_all();
        self.accept(found)
    }

    /// Reads everything once, and whether nothing vanished or was swapped meanwhile; if it was, the places concerned are in trouble.
    fn read_all(&self) -> (Found, bool) {
        let mut walk = Walk::default();
        for (index, root) in self.roots.iter().enumerate() {
            walk.root(index, root);
        }
        let mut settled = !walk.raced;
        let mut files = BTreeMap::new();
        for (key, path) in &walk.files {
            match self.read(key, path) {
                Ok(known) => drop(files.insert(key.clone(), known)),
                Err(error) => {
                    settled &= error.kind() != io::ErrorKind::NotFound;
                    walk.troubles.push(Trouble::new(key.0, &key.1, &error));
                }
            }
        }
        let moved: Vec<(usize, PathBuf)> = walk.moved().cloned().collect();
        for (root, path) in moved {
            settled = false;
            files.retain(|key, _| key.0 != root || !key.1.starts_with(&path));
            let error = io::Error::other("it is replaced faster than it can be read");
            walk.troubles.push(Trouble::new(root, &path, &error));
        }
        let found = Found {
            files,
            troubles: walk.troubles,
            watched: walk.watched,
        };
        (found, settled)
    }

    fn accept(&mut self, mut found: Found) -> (Scan, Watched) {
        // Never an empty world because something could not be read: what was below it stays.
        for (key, known) in &self.known {
            let lost =
                |trouble: &Trouble| trouble.root == key.0 && key.1.starts_with(&trouble.path);
            if found.troubles.iter().any(lost) {
                found
                    .files
                    .entry(key.clone())
                    .or_insert_with(|| known.clone());
            }
        }
        self.known = found.files;
        let files = self
            .known
            .iter()
            .map(|(key, known)| (key.clone(), known.content.clone()))
            .collect();
        let (lost, unreadable) = found
            .troubles
            .into_iter()
            .map(|trouble| ((trouble.root, trouble.path), trouble.finding))
            .unzip();
        let scan = Scan {
            files,
            unreadable,
            lost,
        };
        (scan, found.watched)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "only compared with times that the file system gave out a moment ago"
    )]
    fn read(&self, key: &(usize, PathBuf), path: &Path) -> io::Result<Known> {
        let meta = fs::metadata(path)?;
        let stamp = Stamp::of(&meta);
        let known = self.known.get(key);
        if let Some(known) = known
            && known.settled
            && known.stamp == stamp
        {
            return Ok(known.clone());
        }
        if meta.len() > MAX_FILE {
            return Err(io::Error::other(format!(
                "{} bytes, at most {MAX_FILE} are read",
                meta.len()
            )));
        }
        let now = SystemTime::now();
        let age = |time: io::Result<SystemTime>| now.duration_since(time.ok()?).ok();
        let settled = age(meta.modified()).is_some_and(|age| age > TICK);
        let bytes = fs::read(path)?;
        let hash = version_of(&bytes);
        let content = match known {
            Some(known) if known.hash == hash => known.content.clone(),
            _ if self.mesh_config == Some(key.0) => Arc::new(decode_mesh_config(&key.1, &bytes)),
            _ => Arc::new(decode(&key.1, &bytes, &self.default_namespace)),
        };
        Ok(Known {
            stamp,
            settled,
            hash,
            content,
        })
    }
}

/// What one reading of everything gave.
struct Found {
    files: BTreeMap<(usize, PathBuf), Known>,
    troubles: Vec<Trouble>,
    watched: Watched,
}

fn decode(path: &Path, bytes: &[u8], default_namespace: &str) -> FileContent {
    let file = path.display().to_string();
    let limits = Limits {
        text: MAX_FILE as usize,
        ..Limits::default()
    };
    let origin = Origin {
        file: &file,
        default_namespace,
        limits,
        ..Origin::default()
    };
    let decoded = mesh_config::decode_bytes(bytes, &origin);
    let objects = decoded
        .objects
        .into_iter()
        .map(|(object, _)| Arc::new(object))
        .collect();
    FileContent::new(&file, objects, decoded.findings)
}

fn decode_mesh_config(path: &Path, bytes: &[u8]) -> FileContent {
    let file = path.display().to_string();
    let (config, mut findings) = mesh_config::decode_mesh_config(&String::from_utf8_lossy(bytes));
    findings
        .iter_mut()
        .for_each(|finding| finding.file.clone_from(&file));
    let meta = Meta {
        key: Key::new(Kind::MeshConfig, "", MESH_CONFIG_NAME),
        created_us: 0,
        labels: Labels::default(),
        annotations: Labels::default(),
    };
    let refused = findings.iter().any(|finding| finding.level == Level::Error);
    let object = (!refused).then(|| Arc::new(Object::new(meta, config.into())));
    FileContent::new(&file, object.into_iter().collect(), findings)
}

impl FileContent {
    fn new(file: &str, objects: Vec<Arc<Object>>, findings: Vec<Finding>) -> FileContent {
        let errors = || {
            findings
                .iter()
                .filter(|finding| finding.level == Level::Error)
        };
        FileContent {
            file: file.into(),
            refused: errors().filter_map(|finding| finding.key.clone()).collect(),
            unidentified: errors().any(|finding| finding.key.is_none()),
            objects,
            findings,
        }
    }
}

#[cfg(test)]
mod tests;
