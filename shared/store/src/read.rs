//! Reading: the head, all objects, the history.

use sqlx::Row as _;

use crate::db::Store;
use crate::sql::{from_db, to_db};
use crate::{Change, Changes, Loaded, Revision, StoreError, StoredKey, StoredObject};
use crate::{sql_read, sql_snapshot};

type RevisionRow = (i64, i64, String, String, String);

fn revision((n, committed_us, source, summary, digest): RevisionRow) -> Revision {
    Revision {
        n: from_db(n),
        committed_us,
        source,
        summary,
        digest,
    }
}

type ChangeRow = (i64, String, String, String, Option<String>, Option<i64>);

fn change((revision, kind, namespace, name, body, hash): ChangeRow) -> Change {
    Change {
        revision: from_db(revision),
        key: StoredKey {
            kind,
            namespace,
            name,
        },
        now: body.zip(hash.map(from_db)),
    }
}

type ObjectRow = (String, String, String, String, i64, i64);

/// In key order. Sorted here: databases sort text by their own rules.
fn objects(rows: Vec<ObjectRow>) -> Vec<StoredObject> {
    let mut objects: Vec<StoredObject> = rows
        .into_iter()
        .map(
            |(kind, namespace, name, body, hash, revision)| StoredObject {
                key: StoredKey {
                    kind,
                    namespace,
                    name,
                },
                body,
                hash: from_db(hash),
                revision: from_db(revision),
            },
        )
        .collect();
    objects.sort_by(|a, b| a.key.cmp(&b.key));
    objects
}

fn changes(rows: Vec<ChangeRow>) -> Vec<Change> {
    let mut changes: Vec<Change> = rows.into_iter().map(change).collect();
    changes.sort_by(|a, b| (a.revision, &a.key).cmp(&(b.revision, &b.key)));
    changes
}

impl Store {
    /// The youngest revision; `None` if nothing was ever committed.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn head(&self) -> Result<Option<Revision>, StoreError> {
        let row: Option<RevisionRow> = sql_read!(&self.db, p => sqlx::query_as(
            "SELECT n, committed_us, source, summary, digest FROM revision WHERE n = (SELECT revision FROM head WHERE id = 1)"
        ).fetch_optional(p).await)?;
        Ok(row.map(revision))
    }

    /// What is known about revision `n`; `None` if it never was, or was pruned.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn revision(&self, n: u64) -> Result<Option<Revision>, StoreError> {
        let row: Option<RevisionRow> = sql_read!(&self.db, p => sqlx::query_as(
            "SELECT n, committed_us, source, summary, digest FROM revision WHERE n = $1"
        ).bind(to_db(n)).fetch_optional(p).await)?;
        Ok(row.map(revision))
    }

    /// The youngest revisions, youngest first, `limit` at most.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn history(&self, limit: u32) -> Result<Vec<Revision>, StoreError> {
        let rows: Vec<RevisionRow> = sql_read!(&self.db, p => sqlx::query_as(
            "SELECT n, committed_us, source, summary, digest FROM revision ORDER BY n DESC LIMIT $1"
        ).bind(i64::from(limit)).fetch_all(p).await)?;
        Ok(rows.into_iter().map(revision).collect())
    }

    /// All objects as of head.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn load(&self) -> Result<Loaded, StoreError> {
        let (head, rows): (i64, Vec<ObjectRow>) = sql_snapshot!(&self.db, t => {
            let head = sqlx::query_scalar("SELECT revision FROM head WHERE id = 1").fetch_one(&mut *t).await?;
            let rows = sqlx::query_as("SELECT kind, namespace, name, body, hash, revision FROM object")
                .fetch_all(&mut *t).await?;
            (head, rows)
        });
        Ok(Loaded {
            revision: from_db(head),
            objects: objects(rows),
        })
    }

    /// All objects as they were at revision `n`: what a rollback commits again.
    ///
    /// # Errors
    /// [`StoreError::NoRevision`] if it never was, or was pruned.
    pub async fn load_at(&self, n: u64) -> Result<Loaded, StoreError> {
        let rows: Vec<ObjectRow> = sql_snapshot!(&self.db, t => {
            let (head, floor): (i64, i64) =
                sqlx::query_as("SELECT revision, floor FROM head WHERE id = 1").fetch_one(&mut *t).await?;
            check_range(n, from_db(floor), from_db(head))?;
            sqlx::query_as(
                "SELECT c.kind, c.namespace, c.name, c.body, c.hash, c.revision FROM change c
                 JOIN (SELECT kind, namespace, name, MAX(revision) AS last FROM change WHERE revision <= $1
                       GROUP BY kind, namespace, name) l
                 ON l.kind = c.kind AND l.namespace = c.namespace AND l.name = c.name AND l.last = c.revision
                 WHERE c.op = 'upsert'",
            )
            .bind(to_db(n)).fetch_all(&mut *t).await?
        });
        Ok(Loaded {
            revision: n,
            objects: objects(rows),
        })
    }

    /// Every change after revision `n` up to head.
    ///
    /// # Errors
    /// [`StoreError::NoRevision`] if `n` is younger than head, or so old that changes after it were pruned: load all.
    pub async fn changes_since(&self, n: u64) -> Result<Changes, StoreError> {
        let (head, rows): (i64, Vec<ChangeRow>) = sql_snapshot!(&self.db, t => {
            let (head, floor): (i64, i64) =
                sqlx::query_as("SELECT revision, floor FROM head WHERE id = 1").fetch_one(&mut *t).await?;
            check_range(n, from_db(floor), from_db(head))?;
            let rows = sqlx::query_as(
                "SELECT revision, kind, namespace, name, body, hash FROM change WHERE revision > $1",
            )
            .bind(to_db(n)).fetch_all(&mut *t).await?;
            (head, rows)
        });
        Ok(Changes {
            head: from_db(head),
            changes: changes(rows),
        })
    }

    /// What revision `n` changed.
    ///
    /// # Errors
    /// [`StoreError::NoRevision`] if it never was, or was pruned.
    pub async fn changes_of(&self, n: u64) -> Result<Vec<Change>, StoreError> {
        let rows: Vec<ChangeRow> = sql_snapshot!(&self.db, t => {
            let (head, floor): (i64, i64) =
                sqlx::query_as("SELECT revision, floor FROM head WHERE id = 1").fetch_one(&mut *t).await?;
            // The floor itself holds what was left over from revisions before it.
            check_range(n, if floor == 0 { 0 } else { from_db(floor) + 1 }, from_db(head))?;
            sqlx::query_as("SELECT revision, kind, namespace, name, body, hash FROM change WHERE revision = $1")
                .bind(to_db(n)).fetch_all(&mut *t).await?
        });
        Ok(changes(rows))
    }

    /// Checks that what was read is what was written: head has its revision, revisions have no gaps, and the objects are
    /// the sum of the changes. Reads everything: for start and tests, not for every request.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] says what does not fit.
    pub async fn verify(&self) -> Result<(), StoreError> {
        let (head, floor, count): (i64, i64, i64) = sql_read!(&self.db, p => sqlx::query(
            "SELECT revision, floor, (SELECT COUNT(*) FROM revision WHERE n >= floor AND n >= 1 AND n <= head.revision) FROM head WHERE id = 1"
        ).fetch_one(p).await.and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))))?;
        let want = head - floor.max(1) + 1;
        if count != want {
            return Err(StoreError::Corrupt(format!(
                "{count} of {want} revisions from {floor} to {head} are there"
            )));
        }
        let loaded = self.load().await?;
        if loaded.revision != from_db(head) {
            // Somebody commits meanwhile; there is nothing wrong with that.
            return Ok(());
        }
        let summed = self.load_at(loaded.revision).await?;
        if summed.objects != loaded.objects {
            return Err(StoreError::Corrupt(format!(
                "the {} objects are not the sum of the changes, which is {} objects",
                loaded.objects.len(),
                summed.objects.len()
            )));
        }
        Ok(())
    }
}

fn check_range(asked: u64, floor: u64, head: u64) -> Result<(), StoreError> {
    if (floor..=head).contains(&asked) {
        Ok(())
    } else {
        Err(StoreError::NoRevision { asked, floor, head })
    }
}
