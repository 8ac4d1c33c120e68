//! Making a revision: one transaction, fenced by the writer's epoch and by the head it was computed from.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Connection as _, QueryBuilder};

use crate::db::Store;
use crate::sql::{Db, from_db, now_us, to_db};
use crate::sql_lite;
use crate::{StoreError, StoredKey, StoredObject};

/// Name of the lease whose epoch fences commits.
pub const WRITER_LEASE: &str = "writer";

/// Most bytes of one object's body: 4 MiB.
pub const MAX_BODY: usize = 4 << 20;

/// Most objects changed by one revision: one million.
pub const MAX_CHANGES: usize = 1_000_000;

/// Rows per statement: the fewest parameters either database takes in one is 32 766, a row has up to six.
const ROWS: usize = 500;

/// A change set, to become one revision.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    /// The writer's epoch, from its [`Lease`](crate::Lease) of [`WRITER_LEASE`].
    pub epoch: u64,
    /// The revision the change set was computed from.
    pub expect_head: u64,
    /// Where it comes from ("file:///etc/mesh").
    pub source: String,
    /// One line for people.
    pub summary: String,
    /// The caller's digest of the whole state afterwards.
    pub digest: String,
    /// Objects made or replaced.
    pub upserts: Vec<StoredObject>,
    /// Objects removed. Those that do not exist leave no trace.
    pub deletes: Vec<StoredKey>,
}

/// Why there is no new revision.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another writer holds or held a younger lease: stop writing and acquire the lease anew.
    #[error("another writer took over: epoch {current} is in force, ours is {ours}")]
    Fenced {
        /// The epoch of the request.
        ours: u64,
        /// The epoch in force.
        current: u64,
    },
    /// Head moved since the change set was computed: load what happened and compute it again.
    #[error("revision {head} is the head, the change set was computed from {expected}")]
    Conflict {
        /// The head the request expected.
        expected: u64,
        /// The head there is.
        head: u64,
    },
    /// The change set itself is wrong: a bug of the caller, or an object that is too large.
    #[error("the change set cannot be stored: {0}")]
    Invalid(String),
    /// The database was asked to commit and did not answer: the revision may or may not be there. Read
    /// [`Store::revision`] of `expect_head + 1` and compare its digest.
    #[error("it is unknown whether the revision was stored: {0}")]
    Unknown(StoreError),
    /// The database did not do it. Nothing was changed.
    #[error(transparent)]
    Store(StoreError),
}

impl<E: Into<StoreError>> From<E> for CommitError {
    fn from(error: E) -> Self {
        match error.into() {
            StoreError::Invalid(text) => Self::Invalid(text),
            error => Self::Store(error),
        }
    }
}

/// The steps of a commit in transaction `$t`, for both databases; evaluates to the new revision.
macro_rules! steps {
    ($t:ident, $request:expr, $now:expr) => {{
        let request: &CommitRequest = $request;
        let moved: Option<i64> = sqlx::query_scalar(
            "UPDATE head SET revision = revision + 1, epoch = $1 WHERE id = 1 AND epoch <= $1 AND revision = $2
             AND NOT EXISTS (SELECT 1 FROM lease WHERE name = $3 AND epoch > $1) RETURNING revision",
        )
        .bind(to_db(request.epoch))
        .bind(to_db(request.expect_head))
        .bind(WRITER_LEASE)
        .fetch_optional(&mut *$t)
        .await?;
        let Some(n) = moved else {
            let (head, epoch, lease): (i64, i64, Option<i64>) = sqlx::query_as(
                "SELECT revision, epoch, (SELECT epoch FROM lease WHERE name = $1) FROM head WHERE id = 1",
            )
            .bind(WRITER_LEASE)
            .fetch_one(&mut *$t)
            .await?;
            $t.rollback().await?;
            return Err(refusal(request, from_db(head), from_db(epoch.max(lease.unwrap_or(0)))));
        };
        sqlx::query(AssertSqlSafe(format!(
            "INSERT INTO revision (n, committed_us, source, summary, digest) VALUES ($1, {}, $2, $3, $4)",
            $now
        )))
        .bind(n)
        .bind(&request.source)
        .bind(&request.summary)
        .bind(&request.digest)
        .execute(&mut *$t)
        .await?;
        for part in request.deletes.chunks(ROWS) {
            let mut log = QueryBuilder::new("INSERT INTO change (revision, kind, namespace, name, op) SELECT ");
            log.push_bind(n)
                .push(", kind, namespace, name, 'delete' FROM object WHERE (kind, namespace, name) IN (");
            log.push_values(part, |mut row, key| {
                row.push_bind(&key.kind).push_bind(&key.namespace).push_bind(&key.name);
            });
            log.push(")").build().execute(&mut *$t).await?;
            let mut gone = QueryBuilder::new("DELETE FROM object WHERE (kind, namespace, name) IN (");
            gone.push_values(part, |mut row, key| {
                row.push_bind(&key.kind).push_bind(&key.namespace).push_bind(&key.name);
            });
            gone.push(")").build().execute(&mut *$t).await?;
        }
        for part in request.upserts.chunks(ROWS) {
            let mut log = QueryBuilder::new("INSERT INTO change (revision, kind, namespace, name, op, body, hash) ");
            log.push_values(part, |mut row, object| {
                row.push_bind(n)
                    .push_bind(&object.key.kind)
                    .push_bind(&object.key.namespace)
                    .push_bind(&object.key.name)
                    .push("'upsert'")
                    .push_bind(&object.body)
                    .push_bind(to_db(object.hash));
            });
            log.build().execute(&mut *$t).await?;
            let mut put = QueryBuilder::new("INSERT INTO object (kind, namespace, name, body, hash, revision) ");
            put.push_values(part, |mut row, object| {
                row.push_bind(&object.key.kind)
                    .push_bind(&object.key.namespace)
                    .push_bind(&object.key.name)
                    .push_bind(&object.body)
                    .push_bind(to_db(object.hash))
                    .push_bind(n);
            });
            put.push(
                " ON CONFLICT (kind, namespace, name) DO UPDATE SET body = excluded.body, hash = excluded.hash, revision = excluded.revision",
            );
            put.build().execute(&mut *$t).await?;
        }
        n
    }};
}

impl Store {
    /// Stores `request` as the next revision and returns its number. All of it is stored, or nothing.
    ///
    /// # Errors
    /// See [`CommitError`]. Dropping the returned future before it is ready leaves the outcome unknown, too.
    pub async fn commit(&self, request: &CommitRequest) -> Result<u64, CommitError> {
        check(request)?;
        let now = now_us(&self.db);
        match &self.db {
            Db::Lite { write, .. } => {
                sql_lite!(write, c => {
                    let mut t = c.begin_with("BEGIN IMMEDIATE").await?;
                    let n = steps!(t, request, now);
                    // SQLite's COMMIT answers with what it did; an error means rolled back.
                    t.commit().await?;
                    Ok::<_, CommitError>(from_db(n))
                })
            }
            Db::Pg(pool) => {
                let mut t = pool.begin().await?;
                // Another writer that hangs must not hang us.
                sqlx::query("SET LOCAL lock_timeout = '5s'")
                    .execute(&mut *t)
                    .await?;
                let n = steps!(t, request, now);
                match t.commit().await.map_err(StoreError::from) {
                    Ok(()) => Ok(from_db(n)),
                    Err(error @ StoreError::Unavailable(_)) => Err(CommitError::Unknown(error)),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}

fn refusal(request: &CommitRequest, head: u64, epoch: u64) -> CommitError {
    if epoch > request.epoch {
        CommitError::Fenced {
            ours: request.epoch,
            current: epoch,
        }
    } else {
        CommitError::Conflict {
            expected: request.expect_head,
            head,
        }
    }
}

fn check(request: &CommitRequest) -> Result<(), CommitError> {
    let invalid = |text: String| Err(CommitError::Invalid(text));
    let count = request.upserts.len() + request.deletes.len();
    if count > MAX_CHANGES {
        return invalid(format!(
            "{count} changes at once, the most is {MAX_CHANGES}"
        ));
    }
    if to_db(request.epoch) < 0 || to_db(request.expect_head) < 0 {
        return invalid("an epoch or revision beyond 2^63".into());
    }
    let mut seen = BTreeSet::new();
    for key in request
        .upserts
        .iter()
        .map(|object| &object.key)
        .chain(&request.deletes)
    {
        if !seen.insert(key) {
            return invalid(format!("{key} is changed twice"));
        }
    }
    for object in &request.upserts {
        let size = object.body.len();
        if size > MAX_BODY {
            return invalid(format!(
                "{} has {size} bytes, the most is {MAX_BODY}",
                object.key
            ));
        }
    }
    let texts = [&request.source, &request.summary, &request.digest];
    let keys = seen
        .iter()
        .flat_map(|key| [&key.kind, &key.namespace, &key.name]);
    let bodies = request.upserts.iter().map(|object| &object.body);
    if let Some(text) = texts
        .into_iter()
        .chain(keys)
        .chain(bodies)
        .find(|text| text.contains('\0'))
    {
        let start: String = text.chars().take(40).collect();
        return invalid(format!("{start:?}.. contains a NUL character"));
    }
    Ok(())
}
