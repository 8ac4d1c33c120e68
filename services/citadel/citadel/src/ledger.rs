//! Citadel's memory, in SQLite or PostgreSQL: the journal, revocations, join tokens, roots and what is trusted. Shared by all replicas.
//!
//! One row, `citadel_head`, orders every write of every replica. It carries where the journal's chain ends, so entries follow each other
//! whoever writes them; which key may sign, so no certificate of a key that was replaced enters the journal; and a number that grows with
//! each revocation, so no certificate is recorded for an identity that was revoked a moment ago on another replica. A certificate is
//! handed out only after its entry is committed: with the database away nothing is issued, and agents keep what they have and try again.
//!
//! Start reading at [`Ledger`] and `writer` (entries of many requests, one transaction), then `migrations/` (the tables).

mod api;
mod journal;
mod revocations;
mod seal;
mod tokens;
mod transaction;
mod trust;
mod verify;
mod writer;

use std::borrow::Cow;
use std::sync::Arc;

use aws_lc_rs::digest;
use citadel_core::journal::{Hash, Position};
use citadel_core::revocation::{Caller, InForce};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};
use store::{Db, StoreError, sql_read};
use tokio::sync::watch;

pub use api::{journal_entry, revocation_message, target_of};
pub use journal::{OldLeaves, Query};
pub use revocations::RevokeError;
pub use seal::{KeyEncryption, SealError};
pub use tokens::{Grant, MAX_TOKENS, NewToken, TokenError, parse_token};
pub use trust::{Mode, RootRow, Trust, TrustError, TrustUpdate};
pub use verify::{Integrity, VERIFY_PERIOD};
pub use writer::RecordError;

/// Citadel's memory. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Ledger {
    db: Db,
    writer: writer::Writer,
    revoked: watch::Sender<Known>,
    seal: Option<Arc<KeyEncryption>>,
    integrity: watch::Sender<Integrity>,
}

/// Revocations as this replica last read them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    version: u64,
    in_force: Arc<InForce>,
}

/// `citadel_head` as a transaction found it.
#[derive(Clone, Debug)]
struct Head {
    position: Position,
    issuer: String,
    revocations: u64,
    trust: u64,
}

type HeadRow = (i64, String, String, i64, i64);

fn head((sequence, hash, issuer, revocations, trust): HeadRow) -> Result<Head, StoreError> {
    let hash = if sequence == 0 {
        Hash::START
    } else {
        hash.parse()
            .map_err(|_| StoreError::Corrupt("the head of the journal has no hash".into()))?
    };
    Ok(Head {
        position: Position {
            sequence: sequence.cast_unsigned(),
            hash,
        },
        issuer,
        revocations: revocations.cast_unsigned(),
        trust: trust.cast_unsigned(),
    })
}

/// What `citadel_trace` keeps of a text: the first eight bytes of its SHA-256; 0 for an empty text, which is not looked for.
fn trace(text: &str) -> i64 {
    if text.is_empty() {
        return 0;
    }
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest
        .as_ref()
        .first_chunk()
        .map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

/// What another replica may have changed, as numbers that only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Of revocations.
    pub revocations: u64,
    /// Of what is trusted.
    pub trust: u64,
}

impl Ledger {
    /// Opens the ledger at `url`, as [`Db::open`] does, brings its tables up to date, and starts the task that writes the journal.
    ///
    /// A new SQLite file is its owner's alone. Keys of roots are sealed with `encryption`, if given. Must be called inside a runtime.
    ///
    /// # Errors
    /// See [`Db::open`].
    pub async fn open(url: &str, encryption: Option<KeyEncryption>) -> Result<Self, StoreError> {
        let lite = url.starts_with("sqlite");
        let mut attempts = 0;
        let db = loop {
            match Db::open(url, &migrations(lite), true).await {
                Ok(db) => break db,
                // Another replica makes the tables of the same file at this moment: a later look finds them.
                Err(error) if lite && attempts < 5 && !matches!(error, StoreError::Url { .. }) => {
                    attempts += 1;
                    tokio::time::sleep(OPEN_AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        };
        let revoked = watch::Sender::default();
        let ledger = Self {
            writer: writer::Writer::start(db.clone(), revoked.clone()),
            db,
            revoked,
            seal: encryption.map(Arc::new),
            integrity: watch::Sender::default(),
        };
        ledger.reload_revocations().await?;
        Ok(ledger)
    }

    /// Closes all connections and waits until they are closed.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// What may have changed since one last looked. One cheap statement; also a check that the database is there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn versions(&self) -> Result<Versions, StoreError> {
        let (revocations, trust): (i64, i64) = sql_read!(&self.db, p => sqlx::query_as(
            "SELECT revocations, trust FROM citadel_head WHERE id = 1").fetch_one(p).await)?;
        Ok(Versions {
            revocations: revocations.cast_unsigned(),
            trust: trust.cast_unsigned(),
        })
    }

    /// The revocation because of which this caller gets no certificate, by what this replica knows. Costs no access to the database;
    /// what is recorded is checked against the database again.
    pub fn is_revoked_for_renewal(&self, caller: Caller<'_>) -> Option<u64> {
        self.revoked.borrow().in_force.refuses(caller)
    }

    /// Acquires or renews the right to do root operations; `None`: another replica has it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn lease(
        &self,
        holder: &str,
        ttl: std::time::Duration,
    ) -> Result<Option<store::Lease>, StoreError> {
        self.db
            .lease_acquire(LEASE_TABLE, ROOTS_LEASE, holder, ttl)
            .await
    }

    /// Gives that right back.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn release(&self, lease: &store::Lease) -> Result<(), StoreError> {
        self.db.lease_release(LEASE_TABLE, lease).await
    }

    /// Who has that right now; empty: nobody.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn leader(&self) -> Result<String, StoreError> {
        let now = store::sql::now_us(&self.db);
        let sql = format!("SELECT holder FROM {LEASE_TABLE} WHERE name = $1 AND until_us >= {now}");
        let holder: Option<String> = sql_read!(&self.db, p => sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(ROOTS_LEASE).fetch_optional(p).await)?;
        Ok(holder.unwrap_or_default())
    }
}

/// How long a file is left to the one who makes its tables.
const OPEN_AGAIN: std::time::Duration = std::time::Duration::from_millis(50);
const LEASE_TABLE: &str = "citadel_lease";
const ROOTS_LEASE: &str = "roots";

fn migrations(lite: bool) -> Migrator {
    // SQLite keeps a table in the order of such a key without an index of its own; PostgreSQL has none such.
    let key = if lite { "INTEGER" } else { "BIGINT" };
    let text = include_str!("../migrations/0001_init.sql").replace("ROWID_KEY", key);
    let init: SqlStr = AssertSqlSafe(text).into_sql_str();
    let mut migrator = Migrator::with_migrations(vec![Migration::new(
        1,
        Cow::Borrowed("init"),
        MigrationType::Simple,
        init,
        false,
    )]);
    // Galley's store may be in the same database.
    migrator.dangerous_set_table_name("citadel_migrations");
    migrator
}
