//! Opening a store, and the one place where SQLite and PostgreSQL differ in handling.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::SqlStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::StoreError;

/// How long a call waits for a free connection or for another writer.
const WAIT: Duration = Duration::from_secs(5);

/// A store of revisions. Cheap to clone; all clones share their connections.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) db: Db,
}

#[derive(Clone, Debug)]
pub(crate) enum Db {
    /// SQLite takes one writer at a time; readers do not wait for it (write-ahead log).
    Lite {
        read: SqlitePool,
        write: SqlitePool,
    },
    Pg(PgPool),
}

/// Runs `$body` with `$pool` bound to the pool for reading.
macro_rules! read {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            $crate::db::Db::Lite { read: $pool, .. } => $body,
            $crate::db::Db::Pg($pool) => $body,
        }
    };
}

/// Runs `$body` with `$pool` bound to the pool for single statements that write.
macro_rules! write {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            $crate::db::Db::Lite { write: $pool, .. } => $body,
            $crate::db::Db::Pg($pool) => $body,
        }
    };
}

/// Runs `$body` in a transaction that sees one state of the database and changes nothing.
macro_rules! snapshot {
    ($db:expr, $tx:ident => $body:block) => {
        match $db {
            $crate::db::Db::Lite { read, .. } => {
                let mut $tx = read.begin().await?;
                let result = $body;
                $tx.rollback().await?;
                result
            }
            $crate::db::Db::Pg(pool) => {
                let mut $tx = pool
                    .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                    .await?;
                let result = $body;
                $tx.rollback().await?;
                result
            }
        }
    };
}

/// Runs `$body`, a transaction on SQLite's writing connection `$connection`, and throws the connection away if it fails: after a full
/// disk or an I/O error SQLite has rolled back by itself, which sqlx does not notice, and the connection would refuse every
/// later transaction.
macro_rules! lite_transaction {
    ($write:expr, $connection:ident => $body:block) => {{
        let mut $connection = $write.acquire().await?;
        let result = async $body.await;
        if result.is_err() {
            $connection.close_on_drop();
        }
        result
    }};
}

pub(crate) use {lite_transaction, read, snapshot, write};

impl Store {
    /// Opens the store at `url`, makes it if it does not exist (SQLite), and brings its tables up to date.
    ///
    /// `sqlite:///absolute/file.db`, `sqlite:relative/file.db` or `postgres://user:password@host:port/database` (with the
    /// usual parameters, as `?sslmode=verify-full`).
    ///
    /// # Errors
    /// [`StoreError::Url`], [`StoreError::Denied`] and [`StoreError::Newer`] want somebody's attention; after
    /// [`StoreError::Unavailable`] and [`StoreError::Busy`] try again.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let wrong = |reason: &str| StoreError::Url {
            url: without_password(url),
            reason: reason.to_owned(),
        };
        let db = match url.split_once(':') {
            Some(("sqlite", rest)) => open_lite(&lite_path(rest).map_err(wrong)?).await?,
            Some(("postgres" | "postgresql", _)) => {
                let options =
                    PgConnectOptions::from_str(url).map_err(|error| wrong(&error.to_string()))?;
                open_pg(options).await?
            }
            Some(_) => return Err(wrong("its scheme is neither sqlite nor postgres")),
            None => return Err(wrong("it has no scheme")),
        };
        Ok(Self { db })
    }

    /// Closes all connections and waits until they are closed.
    pub async fn close(&self) {
        match &self.db {
            Db::Lite { read, write } => {
                read.close().await;
                write.close().await;
            }
            Db::Pg(pool) => pool.close().await,
        }
    }
}

fn lite_path(rest: &str) -> Result<PathBuf, &'static str> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() {
        Err("it names no file")
    } else if path == ":memory:" {
        Err("a database in memory is one per connection; use a temporary file")
    } else if path.contains(['?', '#']) {
        Err("it has parameters, and SQLite takes none here")
    } else {
        Ok(PathBuf::from(path))
    }
}

fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{host}")
        }
        None => url.to_owned(),
    }
}

async fn open_lite(path: &Path) -> Result<Db, StoreError> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder)
            .map_err(|error| StoreError::from(sqlx::Error::Io(error)))?;
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A committed revision survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(WAIT);
    let write = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(WAIT)
        .connect_with(options.clone())
        .await?;
    migrations().run(&write).await?;
    let read = SqlitePoolOptions::new()
        .max_connections(4)
        .acquire_timeout(WAIT)
        .connect_with(options.create_if_missing(false).read_only(true))
        .await?;
    Ok(Db::Lite { read, write })
}

async fn open_pg(options: PgConnectOptions) -> Result<Db, StoreError> {
    let pool = PgPoolOptions::new()
        .max_connections(8)
        .acquire_timeout(WAIT)
        .connect_with(options.application_name("flotilla"))
        .await?;
    migrations().run(&pool).await?;
    Ok(Db::Pg(pool))
}

fn migrations() -> Migrator {
    Migrator::with_migrations(vec![Migration::new(
        1,
        "init".into(),
        MigrationType::Simple,
        SqlStr::from_static(include_str!("../migrations/0001_init.sql")),
        false,
    )])
}

/// The database's clock, in microseconds since the epoch: an expression for either database.
pub(crate) fn now_us(db: &Db) -> &'static str {
    match db {
        Db::Lite { .. } => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
        Db::Pg(_) => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
    }
}

/// Numbers are stored as BIGINT. Revisions and epochs never get near the sign; hashes are reinterpreted bit by bit.
pub(crate) fn to_db(n: u64) -> i64 {
    n.cast_signed()
}

/// The reverse of [`to_db`].
pub(crate) fn from_db(n: i64) -> u64 {
    n.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wrong_urls_are_explained_without_the_password() {
        for (url, want) in [
            (
                "mysql://root:secret@h/db",
                "\"mysql://root:***@h/db\" is no store: its scheme is neither sqlite nor postgres",
            ),
            ("sqlite:", "\"sqlite:\" is no store: it names no file"),
            (
                "sqlite::memory:",
                "\"sqlite::memory:\" is no store: a database in memory is one per connection; use a temporary file",
            ),
            ("galley.db", "\"galley.db\" is no store: it has no scheme"),
        ] {
            let error = Store::open(url).await.unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }

    fn request(head: u64, body: &str) -> crate::CommitRequest {
        crate::CommitRequest {
            expect_head: head,
            upserts: vec![crate::StoredObject {
                key: crate::StoredKey::new("Thing", "", "a"),
                body: body.into(),
                hash: 1,
                revision: 0,
            }],
            ..crate::CommitRequest::default()
        }
    }

    /// A store, and its single writing connection after `pragma`.
    async fn lite(dir: &tempfile::TempDir, pragma: &'static str) -> Store {
        let store = Store::open(&format!("sqlite://{}", dir.path().join("s.db").display()))
            .await
            .unwrap();
        let Db::Lite { write, .. } = &store.db else {
            panic!("not SQLite")
        };
        sqlx::query(pragma).execute(write).await.unwrap();
        store
    }

    #[tokio::test]
    async fn a_full_disk_loses_nothing_and_later_takes_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let store = lite(&dir, "PRAGMA max_page_count = 60").await;
        store.commit(&request(0, "small")).await.unwrap();
        let large = request(1, &"x".repeat(1 << 20));
        let error = store.commit(&large).await.unwrap_err();
        assert!(
            matches!(error, crate::CommitError::Store(StoreError::Full(_))),
            "{error:?}"
        );
        store.verify().await.unwrap();
        assert_eq!(store.load().await.unwrap().objects[0].body, "small");
        // The limit went with the connection: there is space again.
        assert_eq!(store.commit(&large).await.unwrap(), 2);
        store.verify().await.unwrap();
    }

    #[tokio::test]
    async fn a_store_that_takes_no_writes_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let store = lite(&dir, "PRAGMA query_only = 1").await;
        let error = store.commit(&request(0, "x")).await.unwrap_err();
        assert!(
            matches!(error, crate::CommitError::Store(StoreError::ReadOnly(_))),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_writer_in_the_way_is_busy_and_readers_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let store = lite(&dir, "PRAGMA busy_timeout = 0").await;
        let other = lite(&dir, "PRAGMA busy_timeout = 0").await;
        let Db::Lite { write, .. } = &other.db else {
            panic!("not SQLite")
        };
        let held = write.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let error = store.commit(&request(0, "x")).await.unwrap_err();
        assert!(
            matches!(error, crate::CommitError::Store(StoreError::Busy(_))),
            "{error:?}"
        );
        assert_eq!(store.load().await.unwrap().revision, 0);
        held.rollback().await.unwrap();
        assert_eq!(store.commit(&request(0, "x")).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("s.db"),
            "not a database, but long enough to have a header. ".repeat(100),
        )
        .unwrap();
        let error = Store::open(&format!("sqlite://{}", dir.path().join("s.db").display()))
            .await
            .unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
        let error = Store::open("sqlite:///proc/no/such/folder/s.db")
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::Unavailable(_) | StoreError::Denied(_)),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn objects_that_are_not_the_sum_of_changes_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let store = lite(&dir, "PRAGMA user_version = 1").await;
        store.commit(&request(0, "x")).await.unwrap();
        let Db::Lite { write, .. } = &store.db else {
            panic!("not SQLite")
        };
        sqlx::query("UPDATE object SET body = 'y'")
            .execute(write)
            .await
            .unwrap();
        assert!(matches!(store.verify().await, Err(StoreError::Corrupt(_))));
    }
}
