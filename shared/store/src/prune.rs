//! Forgetting old revisions.

use sqlx::Connection as _;

use crate::StoreError;
use crate::db::Store;
use crate::sql::{Db, from_db, to_db};
use crate::sql_lite;

/// The steps of pruning in transaction `$t`; evaluates to the new floor.
macro_rules! steps {
    ($t:ident, $keep:expr) => {{
        let (head, floor): (i64, i64) = sqlx::query_as("SELECT revision, floor FROM head WHERE id = 1")
            .fetch_one(&mut *$t)
            .await?;
        let target = head.saturating_sub(to_db($keep)).max(floor);
        if target > floor {
            sqlx::query("UPDATE head SET floor = $1 WHERE id = 1").bind(target).execute(&mut *$t).await?;
            // Of each object only its last change up to the floor is kept: enough to rebuild the floor. In two statements,
            // so that nothing depends on whether a statement sees what it deletes.
            sqlx::query(
                "DELETE FROM change WHERE revision <= $1 AND EXISTS (SELECT 1 FROM change later
                 WHERE later.kind = change.kind AND later.namespace = change.namespace AND later.name = change.name
                 AND later.revision > change.revision AND later.revision <= $1)",
            )
            .bind(target)
            .execute(&mut *$t)
            .await?;
            sqlx::query("DELETE FROM change WHERE revision <= $1 AND op = 'delete'").bind(target).execute(&mut *$t).await?;
            sqlx::query("DELETE FROM revision WHERE n < $1").bind(target).execute(&mut *$t).await?;
        }
        target
    }};
}

impl Store {
    /// Forgets all but the last `keep` steps of history: afterwards [`Store::load_at`] and [`Store::changes_since`] work from
    /// the returned revision on. Current objects are never touched. Doing it again changes nothing.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn prune(&self, keep: u64) -> Result<u64, StoreError> {
        let keep = keep.min(i64::MAX as u64);
        let floor = match &self.db {
            Db::Lite { write, .. } => sql_lite!(write, c => {
                let mut t = c.begin_with("BEGIN IMMEDIATE").await?;
                let floor = steps!(t, keep);
                t.commit().await?;
                Ok::<_, StoreError>(floor)
            })?,
            Db::Pg(pool) => {
                // One state throughout: a commit between the steps must not be seen by half of them.
                let mut t = pool
                    .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
                    .await?;
                let floor = steps!(t, keep);
                t.commit().await?;
                floor
            }
        };
        Ok(from_db(floor))
    }
}
