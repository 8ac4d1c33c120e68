//! Killed at any instant: no revision is lost, none is there by half, and nothing goes back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use galley_core::Held;
use store::Store;
use testkit::postgres::Postgres;

use crate::client::Client;
use crate::harness::{Start, folder, service, wait};

const ROUNDS: u64 = 20;

/// A folder behind a link that is swapped for the next generation as fast as it goes.
struct Editor {
    stop: Arc<AtomicBool>,
    last: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn publish(dir: &Path, generation: usize) -> PathBuf {
    let folder = dir.join(format!("gen-{generation}"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.yaml"), service("a", generation)).unwrap();
    fs::write(folder.join("b.yaml"), service("b", generation)).unwrap();
    symlink(&folder, dir.join("fresh")).unwrap();
    fs::rename(dir.join("fresh"), dir.join("current")).unwrap();
    folder
}

impl Editor {
    fn start(dir: &Path) -> Editor {
        let (stop, last) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(1)),
        );
        let (dir, stopped, counted) = (dir.to_owned(), stop.clone(), last.clone());
        let mut old = publish(&dir, 1);
        let thread = std::thread::spawn(move || {
            for generation in 2.. {
                // A pace that lets some scans in between and makes others collide.
                std::thread::park_timeout(Duration::from_millis(generation as u64 * 7 % 40));
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let new = publish(&dir, generation);
                fs::remove_dir_all(&old).unwrap();
                counted.store(generation, Ordering::Relaxed);
                old = new;
            }
        });
        Editor {
            stop,
            last,
            thread: Some(thread),
        }
    }

    fn end(&mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        self.last.load(Ordering::Relaxed)
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The number that both objects of a revision have.
fn number(says: &str) -> usize {
    let words: Vec<&str> = says.split(' ').collect();
    assert_eq!(words.len(), 2, "half a revision: {says}");
    let numbers: Vec<&str> = words
        .iter()
        .map(|word| word.split_once('=').unwrap().1)
        .collect();
    assert_eq!(numbers[0], numbers[1], "half a revision: {says}");
    numbers[0].parse().unwrap()
}

async fn kill_loop(store_url: &str) {
    let (dir, _, _) = folder();
    let mut editor = Editor::start(dir.path());
    let current = dir.path().join("current");
    let start = Start::new(dir.path(), "one", store_url, &[&current]).arg("--lease-ttl=50ms");
    let (mut client, mut seen) = (Client::default(), BTreeMap::new());
    for round in 0..ROUNDS {
        let galley = start.start().await;
        let mut stream = client.connect(&galley.grpc()).await.unwrap();
        // A different instant each time: in the middle of starting, of reading, of committing, of sending.
        let life = Duration::from_millis(5 + round * round * 3 % 400);
        let _ = tokio::time::timeout(life, async {
            while let Some(revision) = client.next(&mut stream).await {
                if let Some(known) = seen.insert(revision, number(&client.says())) {
                    assert_eq!(known, number(&client.says()), "revision {revision} changed");
                }
            }
        })
        .await;
        galley.kill();
    }
    let last = editor.end();
    let galley = start.start().await;
    let mut stream = client.connect(&galley.grpc()).await.unwrap();
    let final_revision = async {
        while client.says() != format!("a={last} b={last}") {
            assert!(client.next(&mut stream).await.is_some(), "the stream ended");
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, final_revision)
        .await
        .unwrap();
    galley.stop().await;

    let store = Store::open(store_url).await.unwrap();
    store.verify().await.unwrap();
    let head = store.head().await.unwrap().unwrap().n;
    assert!(head > 1, "nothing happened");
    let mut before = 0;
    for n in 1..=head {
        let objects = store.load_at(n).await.unwrap().objects;
        let says: Vec<String> = objects
            .iter()
            .map(|row| {
                let object = Held::from_row(&row.body).unwrap().object;
                format!(
                    "{}={}",
                    object.meta.key.name,
                    object.meta.labels.get("n").unwrap()
                )
            })
            .collect();
        let now = number(&says.join(" "));
        assert!(now > before, "revision {n} has {now} after {before}");
        // What a subscriber was told is what is kept.
        assert!(
            seen.get(&n).is_none_or(|told| *told == now),
            "{n}: {now}, told {seen:?}"
        );
        before = now;
    }
    assert!(seen.keys().all(|n| *n <= head), "{head}: {seen:?}");
    assert_eq!(before, last);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_instant_on_sqlite() {
    let (_dir, _, store) = folder();
    kill_loop(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_instant_on_postgres() {
    let server = Postgres::start();
    kill_loop(&server.database("kill")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_mount_is_one_change_set() {
    let (dir, mesh, store) = folder();
    for name in ["a", "b"] {
        symlink(
            format!("..data/{name}.yaml"),
            mesh.join(format!("{name}.yaml")),
        )
        .unwrap();
    }
    let swap = |generation: usize| {
        let folder = mesh.join(format!("..gen-{generation}"));
        fs::create_dir(&folder).unwrap();
        for name in ["a", "b"] {
            fs::write(
                folder.join(format!("{name}.yaml")),
                service(name, generation),
            )
            .unwrap();
        }
        symlink(&folder, mesh.join("..fresh")).unwrap();
        fs::rename(mesh.join("..fresh"), mesh.join("..data")).unwrap();
    };
    swap(1);
    let galley = Start::new(dir.path(), "one", &store, &[&mesh])
        .start()
        .await;
    let mut client = Client::default();
    let mut stream = client.connect(&galley.grpc()).await.unwrap();
    client.reach(&mut stream, 1).await;
    for generation in 2..10 {
        swap(generation);
        client.reach(&mut stream, generation as u64).await;
        assert_eq!(number(&client.says()), generation);
        assert_eq!(client.revision, generation as u64);
    }
    wait("nothing more", async || {
        (galley.revision() == 9).then_some(())
    })
    .await;
}
