//! Processes killed while they commit: a revision that was acknowledged is there, and none is there by half.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use store::{CommitRequest, Store, StoredKey, StoredObject, WRITER_LEASE};

#[path = "../../testkit/src/postgres.rs"]
#[allow(dead_code)]
mod postgres;

const URL: &str = "FLOTILLA_TEST_STORE_URL";
const OBJECTS: usize = 60;

/// No test of its own: what the others start in a second process, and kill.
#[tokio::test]
async fn committing_child() {
    #[allow(
        clippy::disallowed_methods,
        reason = "how a test talks to itself in a second process"
    )]
    let Ok(url) = std::env::var(URL) else { return };
    let store = Store::open(&url).await.unwrap();
    let holder = std::process::id().to_string();
    let epoch = loop {
        // The one before was killed with the lease in its hands; it ends by itself.
        match store
            .lease_acquire(WRITER_LEASE, &holder, Duration::from_millis(100))
            .await
            .unwrap()
        {
            Some(lease) => break lease.epoch,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let mut head = store.load().await.unwrap().revision;
    loop {
        let next = (head + 1).to_string();
        let request = CommitRequest {
            epoch,
            expect_head: head,
            digest: next.clone(),
            upserts: (0..OBJECTS)
                .map(|n| StoredObject {
                    key: StoredKey::new("Thing", "", n.to_string()),
                    body: next.clone(),
                    hash: head + 1,
                    revision: 0,
                })
                .collect(),
            ..CommitRequest::default()
        };
        // After an error (the server was killed) there is nothing left to do here.
        match store.commit(&request).await {
            Ok(n) => head = n,
            Err(error) => {
                eprintln!("{error}");
                return;
            }
        }
        println!("acknowledged {head}");
    }
}

struct Committer {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Committer {
    fn start(url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["committing_child", "--exact", "--nocapture"])
            .env(URL, url)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next revision it says was stored; `None` once it has ended.
    fn acknowledged(&mut self) -> Option<u64> {
        self.lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("acknowledged ")?.1.parse().ok())
    }

    /// Kills it and returns the last revision it said was stored.
    fn kill(mut self, mut last: u64) -> u64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        while let Some(n) = self.acknowledged() {
            last = n;
        }
        last
    }
}

/// `last` was acknowledged: it and all before are there, whole, and at most one more.
async fn check(store: &Store, last: u64) {
    store.verify().await.unwrap();
    let loaded = store.load().await.unwrap();
    assert!(
        (last..=last + 1).contains(&loaded.revision),
        "{} after {last}",
        loaded.revision
    );
    assert_eq!(loaded.objects.len(), OBJECTS);
    for object in &loaded.objects {
        assert_eq!(
            (object.body.as_str(), object.revision),
            (loaded.revision.to_string().as_str(), loaded.revision)
        );
    }
    for n in 1..=loaded.revision {
        assert_eq!(
            store.revision(n).await.unwrap().unwrap().digest,
            n.to_string()
        );
        assert_eq!(store.changes_of(n).await.unwrap().len(), OBJECTS);
    }
}

/// Kills the writer again and again, at different points of its work, and checks after each time.
async fn kill_writers(url: &str) {
    for round in 0..8 {
        let mut writer = Committer::start(url);
        let mut last = 0;
        for _ in 0..=round {
            last = writer.acknowledged().unwrap();
        }
        // Into the next commit, a different distance each time.
        tokio::time::sleep(Duration::from_micros(400 * round)).await;
        let last = writer.kill(last);
        let store = Store::open(url).await.unwrap();
        check(&store, last).await;
        store.close().await;
    }
}

#[tokio::test]
async fn a_killed_writer_loses_nothing_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    kill_writers(&format!(
        "sqlite://{}",
        dir.path().join("galley.db").display()
    ))
    .await;
}

#[tokio::test]
async fn a_killed_writer_or_server_loses_nothing_on_postgres() {
    let mut server = postgres::Postgres::start();
    let url = server.database("writer");
    kill_writers(&url).await;

    let url = server.database("server");
    for round in 1..4 {
        let mut writer = Committer::start(&url);
        let mut last = 0;
        for _ in 0..round * 3 {
            last = writer.acknowledged().unwrap();
        }
        server.kill();
        let last = writer.kill(last);
        server.restart();
        let store = Store::open(&url).await.unwrap();
        check(&store, last).await;
        store.close().await;
    }
}
