//! The two folders that a server reads, and edits in them. Every file appears by rename, whole.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::args::Event;
use crate::workload::{Workload, endpoint, irrelevant, namespace, service_entry, virtual_service};

/// What our files' names begin with; nothing else in the folders is touched.
const OURS: &str = "bench-";

/// The folders of one server.
#[derive(Debug, Clone)]
pub struct Folders {
    /// What is never edited.
    pub fixed: PathBuf,
    /// What is edited.
    pub hot: PathBuf,
    /// Where files are written before they are renamed: on the same file system, and not watched.
    pub staging: PathBuf,
}

impl Folders {
    /// Replaces everything of ours by a workload, whose last object has this tag.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn load(&self, workload: &Workload, tag: &str) -> io::Result<()> {
        for folder in [&self.fixed, &self.hot, &self.staging] {
            fs::create_dir_all(folder)?;
        }
        self.restore(workload)?;
        self.place(&self.fixed, "fixed", &workload.fixed(tag))
    }

    /// Takes back all edits.
    ///
    /// # Errors
    /// A file cannot be written or removed.
    pub fn restore(&self, workload: &Workload) -> io::Result<()> {
        let hot = workload.hot();
        self.place(
            &self.hot,
            "hot",
            &service_entry(hot, endpoint(hot, 1), None),
        )?;
        self.place(&self.hot, "route", &virtual_service(hot, 5000))?;
        self.place(&self.hot, "elsewhere", &irrelevant(5000))?;
        self.clear_added()
    }

    /// Makes edit number `n`, counted from 1. It is made when this returns.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn edit(&self, workload: &Workload, event: Event, n: usize) -> io::Result<()> {
        let edit = edit(workload, event, n);
        self.place(&self.hot, &edit.file, &edit.text)
    }

    /// Removes the services that [`Event::NewService`] added.
    fn clear_added(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.hot)? {
            let entry = entry?;
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with("bench-new-")
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn place(&self, folder: &std::path::Path, name: &str, text: &str) -> io::Result<()> {
        let staged = self.staging.join(format!("{OURS}{name}"));
        fs::write(&staged, text)?;
        fs::rename(staged, folder.join(format!("{OURS}{name}.yaml")))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Edit {
    file: String,
    text: String,
}

fn edit(workload: &Workload, event: Event, n: usize) -> Edit {
    let hot = workload.hot();
    let (file, text) = match event {
        Event::Endpoint => (
            "hot".to_owned(),
            service_entry(hot, endpoint(hot, 1 + n % 2), None),
        ),
        Event::Route => ("route".to_owned(), virtual_service(hot, 5000 + n)),
        // In the hot service's namespace, so that a scoped mesh has the same proxies to tell.
        Event::NewService => {
            let mut index = workload.services + n * crate::workload::NAMESPACES;
            while namespace(index) != namespace(hot) {
                index += 1;
            }
            (
                format!("new-{n:04}"),
                service_entry(index, endpoint(index, 1), None),
            )
        }
        Event::Irrelevant => ("elsewhere".to_owned(), irrelevant(5000 + n)),
        Event::Rewrite => (
            "hot".to_owned(),
            service_entry(hot, endpoint(hot, 1), Some(n)),
        ),
    };
    Edit { file, text }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::ValueEnum as _;

    use super::*;

    const WORKLOAD: Workload = Workload {
        services: 100,
        proxies: 100,
        scoped: true,
    };

    #[test]
    fn every_edit_differs_from_the_one_before() {
        for event in Event::value_variants() {
            for n in 1..20 {
                assert_ne!(
                    edit(&WORKLOAD, *event, n),
                    edit(&WORKLOAD, *event, n + 1),
                    "{event:?} {n}"
                );
            }
        }
    }

    #[test]
    fn new_services_are_new_and_next_to_the_hot_one() {
        let edits: Vec<_> = (1..40)
            .map(|n| edit(&WORKLOAD, Event::NewService, n))
            .collect();
        let texts: HashSet<_> = edits.iter().map(|edit| &edit.text).collect();
        assert_eq!(texts.len(), edits.len());
        let wanted = format!("namespace: {}\n", namespace(WORKLOAD.hot()));
        assert!(edits.iter().all(|edit| edit.text.contains(&wanted)));
        let known = WORKLOAD.fixed("x");
        assert!(edits.iter().all(|edit| {
            let host = edit
                .text
                .lines()
                .find(|line| line.contains("hosts:"))
                .unwrap();
            !known.contains(host)
        }));
    }

    #[test]
    fn loading_again_removes_what_was_added() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders {
            fixed: root.path().join("static"),
            hot: root.path().join("hot"),
            staging: root.path().join("staging"),
        };
        folders.load(&WORKLOAD, "loaded-1").unwrap();
        fs::write(folders.hot.join("theirs.yaml"), "").unwrap();
        folders.edit(&WORKLOAD, Event::NewService, 1).unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(&folders.hot)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(
            names(),
            [
                "bench-elsewhere.yaml",
                "bench-hot.yaml",
                "bench-new-0001.yaml",
                "bench-route.yaml",
                "theirs.yaml"
            ]
        );
        folders.load(&WORKLOAD, "loaded-2").unwrap();
        assert_eq!(
            names(),
            [
                "bench-elsewhere.yaml",
                "bench-hot.yaml",
                "bench-route.yaml",
                "theirs.yaml"
            ]
        );
        assert_eq!(fs::read_dir(&folders.staging).unwrap().count(), 0);
    }
}
