//! Galley's store in a database.

use sqlx::SqlStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

use crate::{Db, StoreError};

/// A store of revisions. Cheap to clone; all clones share their connections.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) db: Db,
}

impl Store {
    /// Opens the store at `url`, makes it if it does not exist (SQLite), and brings its tables up to date. URLs and errors as
    /// [`Db::open`] has them.
    ///
    /// # Errors
    /// See [`Db::open`].
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let db = Db::open(url, &migrations(), false).await?;
        Ok(Self { db })
    }

    /// Closes all connections and waits until they are closed.
    pub async fn close(&self) {
        self.db.close().await;
    }
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
