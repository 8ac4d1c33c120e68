//! Database errors by what a caller would do about them.

use std::io;

/// Why the store did not do as asked. Nothing was changed, unless said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL cannot be used: a mistake in a flag.
    #[error(
        "{url:?} is no store: {reason}; write sqlite:///var/lib/flotilla/galley.db or postgres://user@host/database"
    )]
    Url {
        /// The URL, without its password.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// Somebody else holds a lock, or all connections are in use: try again after a while.
    #[error("the store is busy ({0}); trying again will help")]
    Busy(String),
    /// No space left: somebody must make room, then trying again will help.
    #[error("the store is full ({0}); free some disk space")]
    Full(String),
    /// The store or its file system takes no writes: a standby database, or missing permissions.
    #[error(
        "the store takes no writes ({0}); check the file's permissions, or that the database is no standby"
    )]
    ReadOnly(String),
    /// The database refuses us: wrong password, no such database, missing rights.
    #[error("the store refuses access ({0}); check user, password, database and rights")]
    Denied(String),
    /// The content contradicts itself or the file is damaged: restore a backup.
    #[error(
        "the store is damaged ({0}); restore it from a backup, or move it away to start anew from the sources"
    )]
    Corrupt(String),
    /// The tables were made by a newer version of this program.
    #[error("the store was written by a newer version ({0}); use that version or newer")]
    Newer(String),
    /// The database cannot be reached at present: try again.
    #[error("the store cannot be reached ({0}); trying again")]
    Unavailable(String),
    /// The revision asked for was pruned, or never was.
    #[error("revision {asked} is not in the store, which has {floor} to {head}")]
    NoRevision {
        /// The revision asked for.
        asked: u64,
        /// The oldest that can be rebuilt.
        floor: u64,
        /// The youngest.
        head: u64,
    },
    /// A value the database cannot hold.
    #[error("{0}")]
    Invalid(String),
}

impl StoreError {
    /// Whether the same call may work later without anybody's doing.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Unavailable(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let text = error.to_string();
        match &error {
            sqlx::Error::Database(db) => {
                let code = db.code().unwrap_or_default();
                if db
                    .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
                    .is_some()
                {
                    from_postgres(&code, text)
                } else {
                    from_sqlite(&code, text)
                }
            }
            // The pool says the same for a database that is away and for one that is too busy.
            sqlx::Error::PoolTimedOut => Self::Unavailable("no connection in time".into()),
            sqlx::Error::Io(io) => from_io(io, text),
            sqlx::Error::Tls(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_) => Self::Unavailable(text),
            sqlx::Error::Configuration(_)
            | sqlx::Error::InvalidArgument(_)
            | sqlx::Error::Encode(_) => Self::Invalid(text),
            sqlx::Error::RowNotFound
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_) => Self::Corrupt(text),
            sqlx::Error::Migrate(_) => Self::Corrupt(text),
            // The enum is open: whatever else it will hold is no reason to claim damage.
            _ => Self::Unavailable(text),
        }
    }
}

fn from_io(error: &io::Error, text: String) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full(text),
        io::ErrorKind::PermissionDenied => StoreError::Denied(text),
        io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly(text),
        _ => StoreError::Unavailable(text),
    }
}

/// SQLite's result codes: the low byte is the class.
fn from_sqlite(code: &str, text: String) -> StoreError {
    const IOERR_WRITE: i32 = 778;
    match code.parse::<i32>().map(|code| (code & 0xff, code)) {
        Ok((5 | 6, _)) => StoreError::Busy(text),
        Ok((8, _)) => StoreError::ReadOnly(text),
        // Some file systems report a full disk as a failed write.
        Ok((13, _) | (_, IOERR_WRITE)) => StoreError::Full(text),
        Ok((11 | 26, _)) => StoreError::Corrupt(text),
        Ok((19, _)) => StoreError::Corrupt(format!("a constraint is broken: {text}")),
        Ok((3 | 23, _)) => StoreError::Denied(text),
        Ok((18 | 20 | 25, _)) => StoreError::Invalid(text),
        // 10 I/O, 14 cannot open, 7 out of memory, and the rest.
        _ => StoreError::Unavailable(text),
    }
}

/// PostgreSQL's SQLSTATE.
fn from_postgres(code: &str, text: String) -> StoreError {
    match code {
        "53100" | "53200" => StoreError::Full(text),
        "25006" => StoreError::ReadOnly(text),
        "55P03" | "40001" | "40P01" | "57014" | "25P03" => StoreError::Busy(text),
        "3D000" | "42501" => StoreError::Denied(text),
        "22021" | "22P05" | "54000" => StoreError::Invalid(text),
        _ => match code.get(..2).unwrap_or_default() {
            "53" => StoreError::Busy(text),
            "28" => StoreError::Denied(text),
            "22" => StoreError::Invalid(text),
            "XX" | "23" | "42" => StoreError::Corrupt(text),
            // 08 connection, 57 shutdown, 58 system, and the rest.
            _ => StoreError::Unavailable(text),
        },
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError;
        let text = error.to_string();
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => Self::Newer(text),
            _ => Self::Corrupt(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_codes() {
        let class = |error: StoreError| format!("{error:?}").split('(').next().unwrap().to_owned();
        for (code, want) in [
            ("5", "Busy"),
            ("517", "Busy"),
            ("8", "ReadOnly"),
            ("13", "Full"),
            ("778", "Full"),
            ("26", "Corrupt"),
            ("14", "Unavailable"),
            ("x", "Unavailable"),
        ] {
            assert_eq!(class(from_sqlite(code, String::new())), want, "{code}");
        }
        for (code, want) in [
            ("53100", "Full"),
            ("53300", "Busy"),
            ("57P01", "Unavailable"),
            ("28P01", "Denied"),
            ("XX001", "Corrupt"),
            ("40P01", "Busy"),
            ("", "Unavailable"),
        ] {
            assert_eq!(class(from_postgres(code, String::new())), want, "{code}");
        }
    }
}
