//! Listing folders: which files there are, and what must be watched to hear of changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use mesh_types::{Code, Finding};

/// Most files of one source, and most folders: 100 000 each.
pub const MAX_FILES: usize = 100_000;
/// Deepest nesting of folders.
const MAX_DEPTH: usize = 32;
/// Most links on the way to one path, as in Linux.
const MAX_LINKS: usize = 40;

/// What tells of changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// Folders that were read, without links: whatever happens in them matters.
    pub folders: BTreeSet<PathBuf>,
    /// Names whose coming, going or replacement matters: roots, links on the way to them, and what is missing.
    pub names: BTreeSet<PathBuf>,
}

impl Watched {
    /// Every folder to watch.
    pub fn all(&self) -> BTreeSet<PathBuf> {
        let parents = self.names.iter().filter_map(|name| name.parent());
        parents
            .map(Path::to_owned)
            .chain(self.folders.iter().cloned())
            .collect()
    }

    /// Whether something that happened to `path` may change what is read.
    pub fn concerns(&self, path: &Path) -> bool {
        self.names.contains(path)
            || self.folders.contains(path)
            || path
                .parent()
                .is_some_and(|parent| self.folders.contains(parent))
    }
}

/// A root, folder or file that cannot be read.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) root: usize,
    pub(crate) path: PathBuf,
    pub(crate) finding: Finding,
}

impl Trouble {
    pub(crate) fn new(root: usize, path: &Path, error: &io::Error) -> Trouble {
        let message = format!("cannot be read: {error}; what was last read from it stays in force");
        let finding = Finding::about_text(Code::Unreadable, message);
        Trouble {
            root,
            path: path.to_owned(),
            finding: finding.at(&path.display().to_string(), 0),
        }
    }
}

/// What a walk over the roots found.
#[derive(Default)]
pub(crate) struct Walk {
    /// Name (as findings and identity see it) and the path to read.
    pub(crate) files: Vec<((usize, PathBuf), PathBuf)>,
    pub(crate) watched: Watched,
    pub(crate) troubles: Vec<Trouble>,
    /// Folders by the name they were reached by, and where that led.
    led: BTreeMap<(usize, PathBuf), (PathBuf, PathBuf)>,
    /// The folders that are being read, each in the one before.
    above: Vec<PathBuf>,
    /// Something vanished between being listed and being looked at.
    pub(crate) raced: bool,
}

impl Walk {
    pub(crate) fn root(&mut self, index: usize, root: &Path) {
        self.watched.names.extend(on_the_way(root));
        match fs::metadata(root) {
            Ok(meta) if meta.is_dir() => self.folder(index, root, root, 0),
            Ok(_) => self.files.push(((index, root.to_owned()), root.to_owned())),
            Err(error) => self.lose(index, root, &error),
        }
    }

    /// Folders that by now lead elsewhere than when they were read: half of what was read may be of before, half of after.
    pub(crate) fn moved(&self) -> impl Iterator<Item = &(usize, PathBuf)> {
        self.led
            .iter()
            .filter(|(_, (path, led))| path.canonicalize().ok().as_ref() != Some(led))
            .map(|(name, _)| name)
    }

    /// `name` is the folder as its author knows it, `path` where it is reached.
    fn folder(&mut self, index: usize, name: &Path, path: &Path, depth: usize) {
        // Links are followed once, so that every file is read from the same place, whatever is swapped meanwhile.
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) => return self.lose(index, name, &error),
        };
        if self.above.contains(&real) {
            let error = io::Error::other("it leads back to a folder that it stands in");
            return self.lose(index, name, &error);
        }
        if self.led.len() >= MAX_FILES {
            let error =
                io::Error::other(format!("more than {MAX_FILES} folders; split the source"));
            return self.lose(index, name, &error);
        }
        self.above.push(real.clone());
        self.list(index, name, path, real, depth);
        self.above.pop();
    }

    /// What is in a folder; `real` is where `path` leads.
    fn list(&mut self, index: usize, name: &Path, path: &Path, real: PathBuf, depth: usize) {
        self.watched.folders.insert(real.clone());
        // A Kubernetes mount: files are links into a folder that is swapped as a whole.
        let data = real.join("..data");
        let (reached, real) = match data.canonicalize() {
            Ok(generation) => {
                self.watched.folders.insert(generation.clone());
                (data, generation)
            }
            // Swapped while it was followed, or broken. Never past it: the files beside it lead through it one by one, so that some
            // would be of before and some of after.
            Err(error) if data.is_symlink() => {
                self.raced = true;
                return self.lose(index, name, &error);
            }
            Err(_) => (path.to_owned(), real),
        };
        self.led
            .insert((index, name.to_owned()), (reached, real.clone()));
        let entries =
            fs::read_dir(&real).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.lose(index, name, &error),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let file_name = entry.file_name();
            let text = file_name.to_string_lossy();
            if is_hidden(&text) {
                continue;
            }
            let (name, path) = (name.join(&file_name), real.join(&file_name));
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if is_link {
                self.watched.names.extend(on_the_way(&path));
            }
            let meta = match fs::metadata(&path) {
                Ok(meta) => meta,
                // A link to nothing is nothing.
                Err(error) if is_link && error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.raced = true;
                    continue;
                }
                Err(error) => {
                    self.lose(index, &name, &error);
                    continue;
                }
            };
            if meta.is_dir() {
                if depth == MAX_DEPTH {
                    let error = io::Error::other(format!("more than {MAX_DEPTH} folders deep"));
                    self.lose(index, &name, &error);
                } else {
                    self.folder(index, &name, &path, depth + 1);
                }
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

    fn lose(&mut self, index: usize, path: &Path, error: &io::Error) {
        self.troubles.push(Trouble::new(index, path, error));
    }
}

/// Names on the way to a path that lead elsewhere when they are replaced: every folder and link it goes through, and its end, up to the
/// first that is missing. None of them has a link in front of its last part.
fn on_the_way(path: &Path) -> BTreeSet<PathBuf> {
    let mut names = BTreeSet::new();
    let Ok(absolute) = std::path::absolute(path) else {
        return names;
    };
    let mut ahead = parts(&absolute);
    let mut at = PathBuf::new();
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        match fs::read_link(&next) {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                names.insert(next);
                for part in parts(&target).into_iter().rev() {
                    ahead.push_front(part);
                }
            }
            _ if fs::symlink_metadata(&next).is_ok() => {
                at = next;
                if at.parent().is_some() {
                    names.insert(at.clone());
                }
            }
            _ => {
                names.insert(next);
                return names;
            }
        }
    }
    names
}

/// The parts of a path; `/` is one, `.` is none.
fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| part.as_os_str().to_owned())
        .collect()
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_link_on_the_way_is_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("srv/gen-1/mesh")).unwrap();
        symlink("gen-1", dir.join("srv/current")).unwrap();
        fs::create_dir(dir.join("etc")).unwrap();
        symlink("../srv/current/mesh", dir.join("etc/mesh")).unwrap();
        let names = |path: &str| -> Vec<PathBuf> {
            let all = on_the_way(&dir.join(path)).into_iter();
            all.filter(|name| name.starts_with(&dir) && *name != dir)
                .collect()
        };
        let want = [
            "etc",
            "etc/mesh",
            "srv",
            "srv/current",
            "srv/gen-1",
            "srv/gen-1/mesh",
        ];
        assert_eq!(names("etc/mesh"), want.map(|name| dir.join(name)));
        assert_eq!(names("etc/no/such"), [dir.join("etc"), dir.join("etc/no")]);
        symlink("loop", dir.join("loop")).unwrap();
        assert!(on_the_way(&dir.join("loop/x")).contains(&dir.join("loop")));
    }
}
