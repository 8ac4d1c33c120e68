//! Databases: opening one, and the one place where SQLite and PostgreSQL differ in handling. For stores of other services too.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::StoreError;

/// How long a call waits for a free connection or for another writer.
const WAIT: Duration = Duration::from_secs(5);

/// A database with its connections. Cheap to clone; all clones share them.
#[derive(Clone, Debug)]
pub enum Db {
    /// SQLite takes one writer at a time; readers do not wait for it (write-ahead log).
    Lite {
        /// Connections that read.
        read: SqlitePool,
        /// The one connection that writes.
        write: SqlitePool,
    },
    /// PostgreSQL.
    Pg(PgPool),
}

/// Runs `$body` with `$pool` bound to the pool for reading.
#[macro_export]
macro_rules! sql_read {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            $crate::Db::Lite { read: $pool, .. } => $body,
            $crate::Db::Pg($pool) => $body,
        }
    };
}

/// Runs `$body` with `$pool` bound to the pool for single statements that write.
#[macro_export]
macro_rules! sql_write {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            $crate::Db::Lite { write: $pool, .. } => $body,
            $crate::Db::Pg($pool) => $body,
        }
    };
}

/// Runs `$body` in a transaction that sees one state of the database and changes nothing.
#[macro_export]
macro_rules! sql_snapshot {
    ($db:expr, $tx:ident => $body:block) => {
        match $db {
            $crate::Db::Lite { read, .. } => {
                let mut $tx = read.begin().await?;
                let result = $body;
                $tx.rollback().await?;
                result
            }
            $crate::Db::Pg(pool) => {
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
#[macro_export]
macro_rules! sql_lite {
    ($write:expr, $connection:ident => $body:block) => {{
        let mut $connection = $write.acquire().await?;
        let result = async $body.await;
        if result.is_err() {
            $connection.close_on_drop();
        }
        result
    }};
}

impl Db {
    /// Opens the database at `url`, makes it if it does not exist (SQLite), and runs `migrations` on it.
    ///
    /// `sqlite:///absolute/file.db`, `sqlite:relative/file.db` or `postgres://user:password@host:port/database` (with the
    /// usual parameters, as `?sslmode=verify-full`). A new SQLite file is its owner's alone (mode 0600) if `private`.
    ///
    /// # Errors
    /// [`StoreError::Url`], [`StoreError::Denied`] and [`StoreError::Newer`] want somebody's attention; after
    /// [`StoreError::Unavailable`] and [`StoreError::Busy`] try again.
    pub async fn open(url: &str, migrations: &Migrator, private: bool) -> Result<Self, StoreError> {
        let wrong = |reason: &str| StoreError::Url {
            url: without_password(url),
            reason: reason.to_owned(),
        };
        match url.split_once(':') {
            Some(("sqlite", rest)) => {
                open_lite(&lite_path(rest).map_err(wrong)?, migrations, private).await
            }
            Some(("postgres" | "postgresql", _)) => {
                let options =
                    PgConnectOptions::from_str(url).map_err(|error| wrong(&error.to_string()))?;
                open_pg(options, migrations).await
            }
            Some(_) => Err(wrong("its scheme is neither sqlite nor postgres")),
            None => Err(wrong("it has no scheme")),
        }
    }

    /// Closes all connections and waits until they are closed.
    pub async fn close(&self) {
        match self {
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

async fn open_lite(path: &Path, migrations: &Migrator, private: bool) -> Result<Db, StoreError> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder)
            .map_err(|error| StoreError::from(sqlx::Error::Io(error)))?;
    }
    if private {
        // Before SQLite does; what it keeps beside it takes the mode of this file.
        let made = std::fs::File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path);
        made.map_err(|error| StoreError::from(sqlx::Error::Io(error)))?;
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A committed revision survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        // What is deleted is overwritten, a key that was destroyed above all.
        .pragma("secure_delete", "fast")
        .busy_timeout(WAIT);
    let write = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(WAIT)
        .connect_with(options.clone())
        .await?;
    migrations.run(&write).await?;
    let read = SqlitePoolOptions::new()
        .max_connections(4)
        .acquire_timeout(WAIT)
        .connect_with(options.create_if_missing(false).read_only(true))
        .await?;
    Ok(Db::Lite { read, write })
}

async fn open_pg(options: PgConnectOptions, migrations: &Migrator) -> Result<Db, StoreError> {
    let pool = PgPoolOptions::new()
        .max_connections(8)
        .acquire_timeout(WAIT)
        .connect_with(options.application_name("flotilla"))
        .await?;
    migrations.run(&pool).await?;
    Ok(Db::Pg(pool))
}

/// The database's clock, in microseconds since the epoch: an expression for either database.
pub fn now_us(db: &Db) -> &'static str {
    match db {
        Db::Lite { .. } => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
        Db::Pg(_) => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
    }
}

/// Numbers are stored as BIGINT. Revisions and epochs never get near the sign; hashes are reinterpreted bit by bit.
pub fn to_db(n: u64) -> i64 {
    n.cast_signed()
}

/// The reverse of [`to_db`].
pub fn from_db(n: i64) -> u64 {
    n.cast_unsigned()
}
