//! Processes killed while they record: what was acknowledged is there, the chain is whole, and another writer goes on.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use citadel::ledger::Query;
use citadel_core::journal::Position;
use common::{issued, open};

const URL: &str = "FLOTILLA_TEST_LEDGER_URL";

/// No test of its own: what the others start in a second process, and kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recording_child() {
    #[allow(
        clippy::disallowed_methods,
        reason = "how a test talks to itself in a second process"
    )]
    let Ok(url) = std::env::var(URL) else { return };
    let ledger = open(&url).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16u64 {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            for n in 1u64.. {
                let serial = format!("{:x}{task:02x}{n:08x}", std::process::id());
                // After an error (the server was killed) there is nothing left to do here.
                if ledger.record_issued(issued(&serial), None).await.is_err() {
                    return;
                }
                println!("acknowledged {serial}");
            }
        });
    }
    tasks.join_all().await;
}

struct Recorder {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Recorder {
    fn start(url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["recording_child", "--exact", "--nocapture"])
            .env(URL, url)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next serial number it says was recorded; `None` once it has ended.
    fn acknowledged(&mut self) -> Option<String> {
        let mut lines = self.lines.by_ref().map_while(Result::ok);
        lines.find_map(|line| Some(line.split_once("acknowledged ")?.1.to_owned()))
    }

    /// Kills it, and returns all it said it had recorded.
    fn kill(mut self, mut all: Vec<String>) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        while let Some(serial) = self.acknowledged() {
            all.push(serial);
        }
        all
    }
}

async fn check(url: &str, acknowledged: &[String]) {
    let ledger = open(url).await;
    let end = ledger.verify(Position::START).await.unwrap();
    assert!(end.sequence >= acknowledged.len() as u64);
    for serial in acknowledged {
        let query = Query {
            serial: serial.clone(),
            ..Query::default()
        };
        let found = ledger.journal(&query).await.unwrap();
        assert_eq!(found.len(), 1, "{serial} was acknowledged");
    }
    ledger.record_issued(issued("ff"), None).await.unwrap();
    ledger.close().await;
}

async fn kill_writers(url: &str) {
    for round in 0..5usize {
        let mut writer = Recorder::start(url);
        let mut all = Vec::new();
        for _ in 0..=round * 7 {
            all.push(writer.acknowledged().unwrap());
        }
        // Into the next transaction, a different distance each time.
        tokio::time::sleep(Duration::from_micros(300 * round as u64)).await;
        check(url, &writer.kill(all)).await;
    }
}

#[tokio::test]
async fn a_killed_writer_loses_nothing_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    kill_writers(&format!(
        "sqlite://{}",
        dir.path().join("citadel.db").display()
    ))
    .await;
}

#[tokio::test]
async fn a_killed_writer_or_server_loses_nothing_on_postgres() {
    let mut server = common::postgres::Postgres::start();
    let url = server.database("writer");
    kill_writers(&url).await;

    let url = server.database("server");
    for round in 1..4 {
        let mut writer = Recorder::start(&url);
        let mut all = Vec::new();
        for _ in 0..round * 10 {
            all.push(writer.acknowledged().unwrap());
        }
        server.kill();
        let all = writer.kill(all);
        server.restart();
        check(&url, &all).await;
    }
}

/// The database goes away and comes back: nothing is recorded meanwhile, and then again, without a restart.
#[tokio::test]
async fn a_ledger_outlives_its_database() {
    let mut server = common::postgres::Postgres::start();
    let url = server.database("away");
    let ledger = open(&url).await;
    ledger.record_issued(issued("a1"), None).await.unwrap();
    server.kill();
    let refused = ledger.record_issued(issued("a2"), None).await.unwrap_err();
    assert!(
        refused.to_string().contains("cannot be reached"),
        "{refused}"
    );
    server.restart();
    let mut attempts = 0;
    while let Err(error) = ledger.record_issued(issued("a3"), None).await {
        attempts += 1;
        assert!(attempts < 50, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ledger.verify(Position::START).await.unwrap();
}
