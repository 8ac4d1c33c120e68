//! Leases: who may write, for how long, by the database's clock.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use crate::db::Store;
use crate::sql::{from_db, now_us};
use crate::{Db, StoreError, sql_write};

/// A lease that was granted. It ends by itself; keep it by acquiring it again well before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What is leased: [`WRITER_LEASE`](crate::WRITER_LEASE) for commits.
    pub name: String,
    /// Who has it.
    pub holder: String,
    /// Grows by one with every change of holder, never falls. From 1.
    pub epoch: u64,
}

impl Db {
    /// Acquires or renews the lease `name` in `table` (columns as of table `lease` in `migrations/`) for `ttl` from now, by the
    /// database's clock. `None`: somebody else has it.
    ///
    /// `holder` must differ between processes, also between a process and its successor.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn lease_acquire(
        &self,
        table: &'static str,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        let ttl_us = i64::try_from(ttl.as_micros())
            .unwrap_or(i64::MAX / 4)
            .min(i64::MAX / 4);
        let now = now_us(self);
        // One statement: whoever comes second waits for the row and sees the first one's holder.
        let sql = format!(
            "INSERT INTO {table} (name, holder, epoch, until_us) VALUES ($1, $2, 1, {now} + $3) ON CONFLICT (name) DO UPDATE SET
             holder = excluded.holder, until_us = excluded.until_us,
             epoch = CASE WHEN {table}.holder = excluded.holder THEN {table}.epoch ELSE {table}.epoch + 1 END
             WHERE {table}.holder = excluded.holder OR {table}.until_us < {now} RETURNING epoch"
        );
        let epoch: Option<i64> = sql_write!(self, p => sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(name).bind(holder).bind(ttl_us).fetch_optional(p).await)?;
        Ok(epoch.map(|epoch| Lease {
            name: name.to_owned(),
            holder: holder.to_owned(),
            epoch: from_db(epoch),
        }))
    }

    /// Gives a lease back before it ends, so that the next holder need not wait. Does nothing if it is in other hands.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn lease_release(
        &self,
        table: &'static str,
        lease: &Lease,
    ) -> Result<(), StoreError> {
        // The holder goes, the epoch stays: the old holder must not come back with its old epoch.
        let sql = format!(
            "UPDATE {table} SET until_us = 0, holder = '' WHERE name = $1 AND holder = $2 AND epoch = $3"
        );
        sql_write!(self, p => sqlx::query(AssertSqlSafe(sql)).bind(&lease.name).bind(&lease.holder)
            .bind(lease.epoch.cast_signed()).execute(p).await.map(drop))?;
        Ok(())
    }
}

impl Store {
    /// Acquires or renews the lease `name` for `ttl` from now. `None`: somebody else has it.
    ///
    /// `holder` must differ between processes, also between a process and its successor.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn lease_acquire(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        self.db.lease_acquire("lease", name, holder, ttl).await
    }

    /// Gives a lease back before it ends, so that the next holder need not wait. Does nothing if it is in other hands.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn lease_release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.db.lease_release("lease", lease).await
    }
}
