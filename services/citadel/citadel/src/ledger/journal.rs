//! Reading the journal.

use citadel_core::journal::{Entry, Hash, Linked, Position};
use citadel_core::revocation::serial_form;
use sqlx::AssertSqlSafe;
use store::{Db, StoreError, sql_read};
use time::OffsetDateTime;

use super::{Ledger, head, trace};

/// Most entries of one answer.
pub const MAX_PAGE: u32 = 1000;

/// Which entries are wanted. What is empty or zero does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only this SPIFFE ID.
    pub spiffe_id: String,
    /// Only this serial number, in any usual spelling.
    pub serial: String,
    /// Only this node.
    pub node: String,
    /// Only what is older than this sequence number.
    pub before: u64,
    /// At most that many, 1 to [`MAX_PAGE`]; 0 means 100.
    pub limit: u32,
}

/// Live certificates of a key that nothing has replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OldLeaves {
    /// How many.
    pub count: u64,
    /// Whose, each identity once with its node: the first hundred.
    pub holders: Vec<String>,
}

pub(super) const COLUMNS: &str = "sequence, at, event, serial, spiffe_id, requester, attestation, node, not_after, detail, issuer, \
     replaces, hash";

pub(super) type Row = (
    i64,
    i64,
    String,
    String,
    String,
    String,
    String,
    String,
    i64,
    String,
    String,
    String,
    Vec<u8>,
);

/// `Err`: the entry cannot be one that was written, by its sequence number.
pub(super) fn linked(row: Row) -> Result<Linked, u64> {
    let sequence = row.0.cast_unsigned();
    let entry = Entry {
        at: row.1,
        event: row.2.parse().map_err(|_| sequence)?,
        serial: row.3,
        spiffe_id: row.4,
        requester: row.5,
        attestation: row.6,
        node: row.7,
        not_after: row.8,
        detail: row.9,
        issuer: row.10,
        replaces: row.11,
    };
    Ok(Linked {
        sequence,
        entry,
        hash: Hash::try_from(row.12.as_slice()).map_err(|_| sequence)?,
    })
}

fn all(rows: Vec<Row>) -> Result<Vec<Linked>, StoreError> {
    let broken = |n| StoreError::Corrupt(format!("entry {n} of the journal is unreadable"));
    rows.into_iter()
        .map(|row| linked(row).map_err(broken))
        .collect()
}

/// Certificates of a key that are neither expired, replaced nor revoked. Whatever replaces one of them came later than the first of them.
const IN_USE: &str = "FROM citadel_journal j LEFT JOIN (SELECT DISTINCT s.replaces FROM citadel_journal s \
     WHERE s.event = 'issued' AND s.replaces <> '' AND s.sequence > (SELECT min(o.sequence) FROM citadel_journal o \
     WHERE o.event = 'issued' AND o.not_after > $1 AND o.issuer = $2)) later ON later.replaces = j.serial \
     LEFT JOIN (SELECT DISTINCT r.serial FROM citadel_revoked r JOIN citadel_revocation v ON v.id = r.revocation \
     WHERE v.lifted_at = 0) revoked ON revoked.serial = j.serial \
     WHERE j.event = 'issued' AND j.not_after > $1 AND j.issuer = $2 AND later.replaces IS NULL AND revoked.serial IS NULL";

impl Ledger {
    /// Entries of the journal, newest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn journal(&self, query: &Query) -> Result<Vec<Linked>, StoreError> {
        // What nobody wrote must not be found by an empty text.
        let serial = serial_form(&query.serial);
        if !query.serial.is_empty() && serial.is_none() {
            return Ok(Vec::new());
        }
        let before = match query.before {
            0 => i64::MAX,
            n => i64::try_from(n).unwrap_or(i64::MAX),
        };
        let limit = match query.limit {
            0 => 100,
            n => n.min(MAX_PAGE),
        };
        let limit = i64::from(limit);
        let rows: Vec<Row> = if let Some(serial) = serial {
            sql_read!(&self.db, p => sqlx::query_as(AssertSqlSafe(format!(
                "SELECT {COLUMNS} FROM citadel_journal WHERE serial = $1 AND serial <> '' AND sequence < $2
                 AND (CAST($3 AS TEXT) = '' OR spiffe_id = $3) AND (CAST($4 AS TEXT) = '' OR node = $4)
                 ORDER BY sequence DESC LIMIT $5")))
                .bind(serial).bind(before).bind(&query.spiffe_id).bind(&query.node).bind(limit).fetch_all(p).await)?
        } else if query.spiffe_id.is_empty() && query.node.is_empty() {
            sql_read!(&self.db, p => sqlx::query_as(AssertSqlSafe(format!(
                "SELECT {COLUMNS} FROM citadel_journal WHERE sequence < $1 ORDER BY sequence DESC LIMIT $2")))
                .bind(before).bind(limit).fetch_all(p).await)?
        } else {
            let columns: Vec<String> = COLUMNS
                .split(", ")
                .map(|name| format!("j.{name}"))
                .collect();
            // SQLite takes the tables of a cross join in this order: the narrow one is looked through.
            sql_read!(&self.db, p => sqlx::query_as(AssertSqlSafe(format!(
                "SELECT {} FROM citadel_trace t CROSS JOIN citadel_journal j WHERE t.sequence < $1 AND j.sequence = t.sequence
                 AND (CAST($2 AS BIGINT) = 0 OR t.spiffe_id = $2) AND (CAST($3 AS BIGINT) = 0 OR t.node = $3)
                 AND (CAST($4 AS TEXT) = '' OR j.spiffe_id = $4) AND (CAST($5 AS TEXT) = '' OR j.node = $5)
                 ORDER BY t.sequence DESC LIMIT $6", columns.join(", "))))
                .bind(before).bind(trace(&query.spiffe_id)).bind(trace(&query.node)).bind(&query.spiffe_id).bind(&query.node)
                .bind(limit).fetch_all(p).await)?
        };
        all(rows)
    }

    /// Up to `limit` entries from `after` on, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn journal_after(&self, after: u64, limit: u32) -> Result<Vec<Linked>, StoreError> {
        all(rows_after(&self.db, after, limit).await?)
    }

    /// Where the journal ends.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn position(&self) -> Result<Position, StoreError> {
        let row = sql_read!(&self.db, p => sqlx::query_as(
            "SELECT sequence, hash, issuer, revocations, trust FROM citadel_head WHERE id = 1").fetch_one(p).await)?;
        Ok(head(row)?.position)
    }

    /// Certificates that have been issued and not expired.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn live_certificates(&self, now: OffsetDateTime) -> Result<u64, StoreError> {
        let count: i64 = sql_read!(&self.db, p => sqlx::query_scalar(
            "SELECT count(*) FROM citadel_journal WHERE event = 'issued' AND not_after > $1")
            .bind(now.unix_timestamp()).fetch_one(p).await)?;
        Ok(count.cast_unsigned())
    }

    /// Keys that signed certificates which have not expired, sorted.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn live_issuers(&self, now: OffsetDateTime) -> Result<Vec<String>, StoreError> {
        Ok(sql_read!(&self.db, p => sqlx::query_scalar(
            "SELECT DISTINCT issuer FROM citadel_journal WHERE event = 'issued' AND not_after > $1 ORDER BY issuer")
            .bind(now.unix_timestamp()).fetch_all(p).await)?)
    }

    /// Live certificates of the key `issuer` that no later certificate replaces and nobody has revoked.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn old_leaves(
        &self,
        issuer: &str,
        now: OffsetDateTime,
    ) -> Result<OldLeaves, StoreError> {
        let now = now.unix_timestamp();
        let count: i64 = sql_read!(&self.db, p => sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) {IN_USE}")))
            .bind(now).bind(issuer).fetch_one(p).await)?;
        if count == 0 {
            return Ok(OldLeaves::default());
        }
        let holders: Vec<(String, String)> = sql_read!(&self.db, p => sqlx::query_as(AssertSqlSafe(
            format!("SELECT DISTINCT j.spiffe_id, j.node {IN_USE} ORDER BY j.spiffe_id, j.node LIMIT 100")))
            .bind(now).bind(issuer).fetch_all(p).await)?;
        let holders = holders.into_iter().map(|(id, node)| match node.as_str() {
            "" => id,
            node => format!("{id} on {node}"),
        });
        Ok(OldLeaves {
            count: count.cast_unsigned(),
            holders: holders.collect(),
        })
    }
}

/// Rows as they are, oldest first.
pub(super) async fn rows_after(db: &Db, after: u64, limit: u32) -> Result<Vec<Row>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM citadel_journal WHERE sequence > $1 ORDER BY sequence LIMIT $2"
    );
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    Ok(
        sql_read!(db, p => sqlx::query_as(AssertSqlSafe(sql)).bind(after).bind(i64::from(limit)).fetch_all(p).await)?,
    )
}
