//! Leases: who may write, for how long, by the database's clock.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use crate::StoreError;
use crate::db::{Store, from_db, now_us, write};

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
        let ttl_us = i64::try_from(ttl.as_micros())
            .unwrap_or(i64::MAX / 4)
            .min(i64::MAX / 4);
        let now = now_us(&self.db);
        // One statement: whoever comes second waits for the row and sees the first one's holder.
        let sql = format!(
            "INSERT INTO lease (name, holder, epoch, until_us) VALUES ($1, $2, 1, {now} + $3) ON CONFLICT (name) DO UPDATE SET
             holder = excluded.holder, until_us = excluded.until_us,
             epoch = CASE WHEN lease.holder = excluded.holder THEN lease.epoch ELSE lease.epoch + 1 END
             WHERE lease.holder = excluded.holder OR lease.until_us < {now} RETURNING epoch"
        );
        let epoch: Option<i64> = write!(&self.db, p => sqlx::query_scalar(AssertSqlSafe(sql))
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
    pub async fn lease_release(&self, lease: &Lease) -> Result<(), StoreError> {
        // The holder goes, the epoch stays: the old holder must not come back with its old epoch.
        write!(&self.db, p => sqlx::query("UPDATE lease SET until_us = 0, holder = '' WHERE name = $1 AND holder = $2 AND epoch = $3")
            .bind(&lease.name).bind(&lease.holder).bind(lease.epoch.cast_signed()).execute(p).await.map(drop))?;
        Ok(())
    }
}
