//! Reading folders: what every file says now, and which of them changed since last time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use mesh_config::{Limits, MESH_CONFIG_NAME, Meta, Object, Origin};
use mesh_types::{Code, Finding, Key, Kind, Labels, Level, version_of};

/// Largest file that is read: 64 MiB.
pub const MAX_FILE: u64 = 64 << 20;
/// Most files of one source: 100 000.
pub const MAX_FILES: usize = 100_000;
/// Deepest nesting of folders.
const MAX_DEPTH: usize = 32;

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
#[derive(Debug)]
struct Known {
    stamp: (SystemTime, u64, u64),
    hash: u64,
    content: Arc<FileContent>,
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

    /// Reads everything. Returns what there is, and every folder it looked into, for watching.
    ///
    /// Blocking: call it off the async workers.
    pub fn scan(&mut self) -> (Scan, Vec<PathBuf>) {
        let mut walk = Walk::default();
        for (index, root) in self.roots.iter().enumerate() {
            walk.root(index, root);
        }
        let mut scan = Scan {
            files: BTreeMap::new(),
            unreadable: walk.unreadable,
            lost: walk.lost,
        };
        for (key, path) in walk.files {
            match self.read(&key, &path) {
                Ok(content) => drop(scan.files.insert(key, content)),
                // Gone between listing and reading: an event will follow.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    scan.unreadable.push(unreadable(&key.1, &error));
                    scan.lost.push(key.clone());
                    if let Some(known) = self.known.get(&key) {
                        scan.files.insert(key, known.content.clone());
                    }
                }
            }
        }
        // Never an empty world because a folder could not be listed: what was below it stays.
        for (key, known) in &self.known {
            if scan
                .lost
                .iter()
                .any(|(index, folder)| *index == key.0 && key.1.starts_with(folder))
            {
                scan.files
                    .entry(key.clone())
                    .or_insert_with(|| known.content.clone());
            }
        }
        self.known.retain(|key, _| scan.files.contains_key(key));
        (scan, walk.folders)
    }

    fn read(&mut self, key: &(usize, PathBuf), path: &Path) -> io::Result<Arc<FileContent>> {
        let meta = fs::metadata(path)?;
        let stamp = (
            meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            meta.len(),
            inode(&meta),
        );
        if let Some(known) = self.known.get(key)
            && known.stamp == stamp
        {
            return Ok(known.content.clone());
        }
        if meta.len() > MAX_FILE {
            return Err(io::Error::other(format!(
                "{} bytes, at most {MAX_FILE} are read",
                meta.len()
            )));
        }
        let bytes = fs::read(path)?;
        let hash = version_of(&bytes);
        let content = match self.known.get(key) {
            Some(known) if known.hash == hash => known.content.clone(),
            _ if self.mesh_config == Some(key.0) => Arc::new(decode_mesh_config(&key.1, &bytes)),
            _ => Arc::new(decode(&key.1, &bytes, &self.default_namespace)),
        };
        self.known.insert(
            key.clone(),
            Known {
                stamp,
                hash,
                content: content.clone(),
            },
        );
        Ok(content)
    }
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

/// What a walk over the roots found.
#[derive(Default)]
struct Walk {
    /// Name (as findings and identity see it) and the path to read.
    files: Vec<((usize, PathBuf), PathBuf)>,
    folders: Vec<PathBuf>,
    unreadable: Vec<Finding>,
    lost: Vec<(usize, PathBuf)>,
}

impl Walk {
    fn root(&mut self, index: usize, root: &Path) {
        // The parent tells when the root itself comes, goes or is replaced.
        if let Some(parent) = root.parent().filter(|p| !p.as_os_str().is_empty()) {
            self.folders.push(parent.to_owned());
        }
        match fs::metadata(root) {
            Ok(meta) if meta.is_dir() => self.folder(index, root, root, 0),
            Ok(_) => self.files.push(((index, root.to_owned()), root.to_owned())),
            Err(error) => self.lose(index, root, &error),
        }
    }

    /// `name` is the folder as its author knows it, `path` where it is read from.
    fn folder(&mut self, index: usize, name: &Path, path: &Path, depth: usize) {
        self.folders.push(path.to_owned());
        // A Kubernetes mount: files are links into a folder that is swapped as a whole; read all of them from the same one.
        let generation = path.join("..data").canonicalize().ok();
        let path = generation.as_deref().unwrap_or(path);
        let entries =
            fs::read_dir(path).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.lose(index, name, &error),
        };
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let file_name = entry.file_name();
            let text = file_name.to_string_lossy();
            if is_hidden(&text) {
                continue;
            }
            let (name, path) = (name.join(&file_name), path.join(&file_name));
            let Ok(meta) = fs::metadata(&path) else {
                continue;
            };
            if meta.is_dir() && depth < MAX_DEPTH {
                self.folder(index, &name, &path, depth + 1);
            } else if meta.is_file() && is_config(&text) {
                if self.files.len() == MAX_FILES {
                    let error =
                        io::Error::other(format!("more than {MAX_FILES} files; split the source"));
                    return self.lose(index, &name, &error);
                }
                self.files.push(((index, name), path));
            }
        }
    }

    fn lose(&mut self, index: usize, folder: &Path, error: &io::Error) {
        self.unreadable.push(unreadable(folder, error));
        self.lost.push((index, folder.to_owned()));
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Finding {
    let message = format!("cannot be read: {error}; what was last read from it stays in force");
    Finding::about_text(Code::Unreadable, message).at(&path.display().to_string(), 0)
}

/// Hidden files, Kubernetes' generation folders, and what editors leave while saving.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name.starts_with('#') || name.ends_with('~')
}

fn is_config(name: &str) -> bool {
    [".yaml", ".yml", ".json"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

#[cfg(unix)]
fn inode(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}
