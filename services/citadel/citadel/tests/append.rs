//! What an entry of the journal costs. Run by hand: `cargo test --release -p citadel --test append -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use citadel_core::journal::{Entry, Position};
use common::{issued, open};

const CALLERS: usize = 64;
const ENTRIES: u64 = 100_000;

/// CPU time of this process so far. Unit: seconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

#[expect(
    clippy::disallowed_methods,
    reason = "a measurement is of the real clock"
)]
async fn measure(name: &str, url: &str) {
    let ledger = open(url).await;
    let next = Arc::new(AtomicU64::new(0));
    let (start, used) = (Instant::now(), cpu());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (ledger, next) = (ledger.clone(), next.clone());
        tasks.spawn(async move {
            let mut longest = Duration::ZERO;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= ENTRIES {
                    return longest;
                }
                // As random as real ones are, so that the index is hit all over.
                let serial = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let entry = Entry {
                    spiffe_id: format!("spiffe://cluster.local/ns/ns-{}/sa/app", n % 1000),
                    node: format!("node-{}", n % 100),
                    replaces: format!("{:x}", serial ^ 1),
                    ..issued(&format!("{serial:016x}{serial:016x}"))
                };
                let asked = Instant::now();
                ledger.record_issued(entry, None).await.unwrap();
                longest = longest.max(asked.elapsed());
            }
        });
    }
    let longest = tasks.join_all().await.into_iter().max().unwrap();
    let (wall, used) = (start.elapsed().as_secs_f64(), cpu() - used);
    let each = |seconds: f64| seconds * 1e6 / ENTRIES as f64;
    println!(
        "{name}: {ENTRIES} entries of {CALLERS} callers: {:.1} us each, {:.1} us of CPU each, longest wait {longest:?}",
        each(wall),
        each(used)
    );
    let start = Instant::now();
    let end = ledger.verify(Position::START).await.unwrap();
    assert_eq!(end.sequence, ENTRIES);
    println!(
        "{name}: verified at {:.1} us each",
        each(start.elapsed().as_secs_f64())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn an_append() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("citadel.db").display());
    measure("SQLite", &url).await;
    let server = common::postgres::Postgres::start();
    measure(
        "PostgreSQL (CPU of the client alone)",
        &server.database("append"),
    )
    .await;
}
