//! What tests of the ledger and the roots share.

#![allow(
    dead_code,
    unused_macros,
    unused_imports,
    reason = "each test takes what it needs"
)]

use citadel::ledger::Ledger;
use citadel_core::journal::{Entry, Event};
use sqlx::AssertSqlSafe;
use sqlx::migrate::Migrator;
use store::{Db, sql_write};
use time::OffsetDateTime;

pub mod roots;

// The file alone: the rest of the crate would make these tests wait for crates they do not need.
#[path = "../../../../../shared/testkit/src/postgres.rs"]
pub mod postgres;

pub const NOW: i64 = 1_800_000_000;
pub const APP: &str = "spiffe://cluster.local/ns/default/sa/app";

/// One test per check on SQLite, each in a file of its own; one for all on PostgreSQL, each in a database of its own, as starting
/// a server takes longer than all checks.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let dir = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}", dir.path().join("new/citadel.db").display());
            check::$name(&url).await;
        })*

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn all_of_it_on_postgres() {
            let server = common::postgres::Postgres::start();
            $(
                println!("{}", stringify!($name));
                check::$name(&server.database(stringify!($name))).await;
            )*
        }
    };
}
pub(crate) use on_both;

pub fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

pub async fn open(url: &str) -> Ledger {
    Ledger::open(url, None).await.unwrap()
}

/// A certificate of `APP` with this serial number, for an hour, signed by key `k`.
pub fn issued(serial: &str) -> Entry {
    Entry {
        serial: serial.into(),
        spiffe_id: APP.into(),
        requester: APP.into(),
        attestation: "kubernetes".into(),
        not_after: NOW + 3600,
        issuer: "k".into(),
        ..Entry::new(NOW, Event::Issued)
    }
}

/// Brings what SQLite has in its log into the file.
pub async fn merge_log(url: &str) {
    let mut migrations = Migrator::with_migrations(Vec::new());
    migrations.dangerous_set_table_name("merge_migrations");
    let db = Db::open(url, &migrations, true).await.unwrap();
    let merged = sql_write!(&db, p => sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(p).await.map(drop));
    merged.unwrap();
    db.close().await;
}

/// Does what nobody may: changes the database by hand.
pub async fn tamper(url: &str, sql: &str) {
    let mut migrations = Migrator::with_migrations(Vec::new());
    migrations.dangerous_set_table_name("tamper_migrations");
    let db = Db::open(url, &migrations, true).await.unwrap();
    let changed = sql_write!(&db, p => sqlx::query(AssertSqlSafe(sql)).execute(p).await.map(|done| done.rows_affected()));
    assert!(changed.unwrap() > 0, "{sql}");
    db.close().await;
}
