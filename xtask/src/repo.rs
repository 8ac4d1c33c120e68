//! The repository as rules see it: a list of paths and the text of each, so that a test can make one up in a line.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

/// Folders that no rule looks into: built, fetched or private.
const SKIPPED: &[&str] = &["target", ".git", ".cache", ".venv", "node_modules"];

/// Paths relative to the root, with `/`, in order; the text where a file is text.
#[derive(Debug, Default)]
pub struct Repo {
    files: BTreeMap<String, Option<String>>,
}

impl Repo {
    /// Reads everything below a folder. Binary files are known by name only.
    pub fn read(root: &Path) -> Result<Repo> {
        let mut repo = Repo::default();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)
                .with_context(|| format!("cannot list {}", folder.display()))?
            {
                let entry = entry?;
                if SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
                    continue;
                }
                // Links are not followed: their target is looked at where it lies.
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    let path = entry.path();
                    let name = path
                        .strip_prefix(root)?
                        .to_string_lossy()
                        .replace('\\', "/");
                    repo.files
                        .insert(name, String::from_utf8(std::fs::read(&path)?).ok());
                }
            }
        }
        Ok(repo)
    }

    /// A repository made up by a test.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Repo {
        Repo {
            files: files
                .iter()
                .map(|(path, text)| (path.to_string(), Some(text.to_string())))
                .collect(),
        }
    }

    /// Every path.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Every text file with its text.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// The text of one file; `None` if it is not there or not text.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Whether a file or folder of this path exists.
    pub fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.files.contains_key(path) || self.below(path).next().is_some()
    }

    /// Paths below a folder, in order.
    pub fn below(&self, folder: &str) -> impl Iterator<Item = &str> {
        let prefix = format!("{}/", folder.trim_end_matches('/'));
        let from = self.files.range(prefix.clone()..);
        from.map(|(path, _)| path.as_str())
            .take_while(move |path| path.starts_with(&prefix))
    }
}

/// The last part of a path.
pub fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_exist_by_what_is_in_them() {
        let repo = Repo::of(&[("docs/adr/0001-a.md", ""), ("docs-old.md", "")]);
        assert!(repo.has("docs") && repo.has("docs/adr/") && repo.has("docs-old.md"));
        assert!(!repo.has("doc") && !repo.has("docs/adr/0001"));
    }
}
