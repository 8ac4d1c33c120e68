use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

/// Longest time anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Watching {
    dir: tempfile::TempDir,
    scans: watch::Receiver<Option<Scan>>,
    stop: Stop,
}

impl Watching {
    /// Watches `root` in a new folder, without ever looking unless something tells it to.
    fn start(root: &str, prepare: impl FnOnce(&Path)) -> Watching {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let options = FolderOptions {
            rescan: Duration::from_secs(3600),
            ..FolderOptions::new(vec![dir.path().join(root)])
        };
        let (scans, receiver) = watch::channel(None);
        let stop = Stop::new();
        tokio::spawn(watch(options, scans, stop.clone()));
        Watching {
            dir,
            scans: receiver,
            stop,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Waits until the names of all objects are these.
    async fn says(&mut self, want: &str) {
        let said = |scan: &Option<Scan>| {
            let scan = scan.as_ref()?;
            let objects = scan.files.values().flat_map(|file| &file.objects);
            let mut names: Vec<&str> = objects.map(|o| &*o.meta.key.name).collect();
            names.sort_unstable();
            Some(names.join(" "))
        };
        let waiting = self
            .scans
            .wait_for(|scan| said(scan).as_deref() == Some(want));
        let found = tokio::time::timeout(PATIENCE, waiting).await.map(drop);
        assert!(
            found.is_ok(),
            "{:?}, not {want}",
            said(&self.scans.borrow())
        );
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.trigger();
    }
}

fn write(path: &Path, name: &str) {
    fs::write(
        path,
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"),
    )
    .unwrap();
}

#[tokio::test]
async fn hears_of_everything_that_happens_in_a_folder() {
    let mut on = Watching::start("mesh", |dir| fs::create_dir(dir.join("mesh")).unwrap());
    on.says("").await;
    write(&on.path("mesh/a.yaml"), "a");
    on.says("a").await;
    fs::create_dir_all(on.path("mesh/x/y")).unwrap();
    write(&on.path("mesh/x/y/b.yaml"), "b");
    on.says("a b").await;
    // As editors save: a new file is renamed over the old one.
    write(&on.path("mesh/.a.yaml.tmp"), "c");
    fs::rename(on.path("mesh/.a.yaml.tmp"), on.path("mesh/a.yaml")).unwrap();
    on.says("b c").await;
    fs::remove_dir_all(on.path("mesh/x")).unwrap();
    on.says("c").await;
}

#[tokio::test]
async fn hears_of_a_folder_that_comes_later_goes_and_comes_again() {
    let mut on = Watching::start("not/yet/mesh", |_| {});
    on.says("").await;
    assert!(!on.scans.borrow().as_ref().unwrap().lost.is_empty());
    fs::create_dir_all(on.path("not/yet/mesh")).unwrap();
    write(&on.path("not/yet/mesh/a.yaml"), "a");
    on.says("a").await;
    fs::rename(on.path("not/yet"), on.path("away")).unwrap();
    let lost = on
        .scans
        .wait_for(|scan| scan.as_ref().is_some_and(|s| !s.lost.is_empty()));
    tokio::time::timeout(PATIENCE, lost).await.unwrap().unwrap();
    on.says("a").await;
    fs::create_dir_all(on.path("not/yet/mesh")).unwrap();
    write(&on.path("not/yet/mesh/b.yaml"), "b");
    on.says("b").await;
}

#[tokio::test]
async fn hears_of_links_that_are_swapped_wherever_they_are() {
    let mut on = Watching::start("etc/mesh", |dir| {
        for generation in ["gen-1", "gen-2"] {
            fs::create_dir_all(dir.join("srv").join(generation).join("mesh")).unwrap();
            write(
                &dir.join("srv").join(generation).join("mesh/a.yaml"),
                generation,
            );
        }
        symlink("gen-1", dir.join("srv/current")).unwrap();
        fs::create_dir(dir.join("etc")).unwrap();
        symlink("../srv/current/mesh", dir.join("etc/mesh")).unwrap();
    });
    on.says("gen-1").await;
    symlink("gen-2", on.path("srv/fresh")).unwrap();
    fs::rename(on.path("srv/fresh"), on.path("srv/current")).unwrap();
    on.says("gen-2").await;
}

#[tokio::test]
async fn rests_when_nothing_happens() {
    let mut on = Watching::start("mesh", |dir| {
        fs::create_dir(dir.join("mesh")).unwrap();
        write(&dir.join("mesh/a.yaml"), "a");
    });
    on.says("a").await;
    // What happens beside the folder, and what only reads, is no reason to look; what was written earlier would be seen by now.
    let interest = Mutex::new(Scanner::new(vec![on.path("mesh")], "default").scan().1);
    let event =
        |kind, path: &str| Ok(Event::new(kind).add_path(on.path(path).canonicalize().unwrap()));
    let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
    assert!(!matters(&event(open, "mesh/a.yaml"), &interest));
    let modify = EventKind::Modify(notify::event::ModifyKind::Any);
    assert!(matters(&event(modify, "mesh/a.yaml"), &interest));
    write(&on.path("beside.yaml"), "b");
    assert!(!matters(&event(modify, "beside.yaml"), &interest));
}
