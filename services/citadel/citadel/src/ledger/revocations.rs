//! Revocations: made and lifted in one transaction with the journal, known to every replica by a number that grows.

use std::collections::BTreeMap;
use std::sync::Arc;

use citadel_core::journal::{Entry, Event};
use citadel_core::revocation::{
    InForce, Listed, MAX_CERTIFICATES, MAX_IN_FORCE, Revocation, Target,
};
use sqlx::AssertSqlSafe;
use store::{Db, StoreError, sql_snapshot};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::transaction::{append, write_transaction};
use super::{Known, Ledger};

/// Most revocations of one answer.
const MAX_LISTED: i64 = 1000;

/// Why nothing was revoked or lifted.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// Too many certificates for the lists that proxies are sent.
    #[error(
        "with this, more than {MAX_CERTIFICATES} certificates would be on the lists: revoke fewer, or rotate the root"
    )]
    TooMany,
    /// Too many revocations.
    #[error("{MAX_IN_FORCE} revocations are in force: lift some first")]
    TooManyInForce,
    /// No such revocation, or it was lifted before.
    #[error("revocation {0} is not in force")]
    NotInForce(u64),
    /// A certificate that was revoked for good.
    #[error("revocation {0} is of a certificate, for good: it stays on the list until it expires")]
    ForGood(u64),
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for RevokeError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

type Row = (
    i64,
    i64,
    String,
    String,
    String,
    String,
    bool,
    i64,
    i64,
    i64,
);

/// Revocation, serial, issuer, not after.
type LineRow = (i64, String, String, i64);

const COLUMNS: &str = "id, at, requester, reason, kind, value, hold, from_at, to_at, lifted_at";

fn revocation(row: Row) -> Result<Revocation, StoreError> {
    let (id, at, requester, reason, kind, value, hold, from, to, lifted_at) = row;
    let target = match kind.as_str() {
        "spiffe-id" => Target::SpiffeId(value),
        "serial" => Target::Serial {
            serial: value,
            hold,
        },
        "node" => Target::Node(value),
        "issued" => Target::Issued { from, to },
        other => {
            return Err(StoreError::Corrupt(format!(
                "revocation {id} is of the kind {other:?}"
            )));
        }
    };
    Ok(Revocation {
        id: id.cast_unsigned(),
        target,
        reason,
        requester,
        at,
        lifted_at,
        certificates: Vec::new(),
    })
}

/// Kind, value, hold, from, to.
fn parts(target: &Target) -> (&'static str, &str, bool, i64, i64) {
    match target {
        Target::SpiffeId(id) => ("spiffe-id", id, true, 0, 0),
        Target::Serial { serial, hold } => ("serial", serial, *hold, 0, 0),
        Target::Node(node) => ("node", node, true, 0, 0),
        Target::Issued { from, to } => ("issued", "", true, *from, *to),
    }
}

fn words(target: &Target) -> String {
    match target {
        Target::SpiffeId(id) => format!("identity {id}"),
        Target::Serial {
            serial,
            hold: false,
        } => format!("certificate {serial}"),
        Target::Serial { serial, hold: true } => format!("certificate {serial}, on hold"),
        Target::Node(node) => format!("node {node}"),
        Target::Issued { from, to } => format!("issued from {from} until before {to}"),
    }
}

/// The journal's condition for a target; its texts are bound as $2 and $3.
fn condition(target: &Target) -> &'static str {
    match target {
        Target::SpiffeId(_) => "spiffe_id = $2 AND spiffe_id <> '' AND CAST($3 AS BIGINT) = $4",
        Target::Serial { .. } => "serial = $2 AND serial <> '' AND CAST($3 AS BIGINT) = $4",
        Target::Node(_) => "node = $2 AND node <> '' AND CAST($3 AS BIGINT) = $4",
        Target::Issued { .. } => "CAST($2 AS TEXT) = '' AND at >= $3 AND at < $4",
    }
}

/// Reads what is in force and tells it to whoever follows.
pub(super) async fn reload(db: &Db, known: &watch::Sender<Known>) -> Result<(), StoreError> {
    let (version, rows, lines): (i64, Vec<Row>, Vec<LineRow>) = sql_snapshot!(db, t => {
        let version = sqlx::query_scalar("SELECT revocations FROM citadel_head WHERE id = 1").fetch_one(&mut *t).await?;
        let rows = sqlx::query_as(AssertSqlSafe(format!("SELECT {COLUMNS} FROM citadel_revocation WHERE lifted_at = 0 ORDER BY id")))
            .fetch_all(&mut *t).await?;
        let lines = sqlx::query_as(
            "SELECT r.revocation, r.serial, r.issuer, r.not_after FROM citadel_revoked r JOIN citadel_revocation v ON v.id = r.revocation
             WHERE v.lifted_at = 0").fetch_all(&mut *t).await?;
        (version, rows, lines)
    });
    let mut all = BTreeMap::new();
    for row in rows {
        let one = revocation(row)?;
        all.insert(one.id, one);
    }
    for (id, serial, issuer, not_after) in lines {
        if let Some(one) = all.get_mut(&id.cast_unsigned()) {
            one.certificates.push(Listed {
                serial,
                issuer,
                not_after,
            });
        }
    }
    let read = Known {
        version: version.cast_unsigned(),
        in_force: Arc::new(InForce::new(all.values())),
    };
    // Two may read at once: the later state stays.
    known.send_if_modified(|now| {
        let newer = read.version > now.version;
        if newer {
            *now = read;
        }
        newer
    });
    Ok(())
}

impl Ledger {
    /// Reads the revocations in force anew, for [`Ledger::is_revoked_for_renewal`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn reload_revocations(&self) -> Result<(), StoreError> {
        reload(&self.db, &self.revoked).await
    }

    /// The version of the revocations that this replica knows, and what is in force by them.
    pub fn in_force(&self) -> (u64, Arc<InForce>) {
        let known = self.revoked.borrow();
        (known.version, known.in_force.clone())
    }

    /// Tells when this replica learns of a revocation or a lift.
    pub(crate) fn revocations_changed(&self) -> watch::Receiver<Known> {
        self.revoked.subscribe()
    }

    /// Revokes what was checked by [`citadel_core::revocation::check`]: resolves it to live certificates of the journal, and refuses what
    /// it means from this moment on, on every replica.
    ///
    /// # Errors
    /// See [`RevokeError`].
    pub async fn revoke(
        &self,
        target: Target,
        reason: &str,
        requester: &str,
        now: OffsetDateTime,
    ) -> Result<Revocation, RevokeError> {
        let at = now.unix_timestamp();
        let (kind, value, hold, from, to) = parts(&target);
        let find = format!(
            "SELECT serial, issuer, not_after FROM citadel_journal WHERE event = 'issued' AND not_after > $1 AND {}
             ORDER BY serial LIMIT {}",
            condition(&target),
            MAX_CERTIFICATES + 1
        );
        let result: Result<Revocation, RevokeError> = write_transaction!(&self.db, t, head => {
            let (in_force, listed): (i64, i64) = sqlx::query_as(
                "SELECT (SELECT count(*) FROM citadel_revocation v WHERE v.lifted_at = 0 AND (v.kind IN ('spiffe-id', 'node')
                 OR EXISTS (SELECT 1 FROM citadel_revoked r WHERE r.revocation = v.id AND r.not_after > $1))),
                 (SELECT count(*) FROM citadel_revoked r JOIN citadel_revocation v ON v.id = r.revocation
                 WHERE v.lifted_at = 0 AND r.not_after > $1)",
            ).bind(at).fetch_one(&mut *t).await?;
            let found: Vec<(String, String, i64)> = sqlx::query_as(AssertSqlSafe(find.as_str()))
                .bind(at).bind(value).bind(from).bind(to).fetch_all(&mut *t).await?;
            if in_force >= MAX_IN_FORCE as i64 {
                Err(RevokeError::TooManyInForce)
            } else if listed.cast_unsigned() as usize + found.len() > MAX_CERTIFICATES {
                Err(RevokeError::TooMany)
            } else {
                let id: i64 = sqlx::query_scalar("SELECT CAST(COALESCE(max(id), 0) + 1 AS BIGINT) FROM citadel_revocation")
                    .fetch_one(&mut *t).await?;
                sqlx::query(AssertSqlSafe(format!(
                    "INSERT INTO citadel_revocation ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)")))
                    .bind(id).bind(at).bind(requester).bind(reason).bind(kind).bind(value).bind(hold).bind(from).bind(to)
                    .execute(&mut *t).await?;
                for part in found.chunks(1000) {
                    let mut insert = sqlx::QueryBuilder::new("INSERT INTO citadel_revoked (revocation, serial, issuer, not_after) ");
                    insert.push_values(part, |mut row, (serial, issuer, not_after)| {
                        row.push_bind(id).push_bind(serial.as_str()).push_bind(issuer.as_str()).push_bind(*not_after);
                    });
                    insert.build().execute(&mut *t).await?;
                }
                sqlx::query("UPDATE citadel_head SET revocations = revocations + 1 WHERE id = 1").execute(&mut *t).await?;
                let entry = Entry {
                    requester: requester.to_owned(),
                    detail: format!("revocation {id} of {}, {} certificates: {reason}", words(&target), found.len()),
                    ..about(&target, Entry::new(at, Event::Revoked))
                };
                let _ = append!(t, head, [entry.tidy()]);
                let listed = |(serial, issuer, not_after)| Listed { serial, issuer, not_after };
                Ok(Revocation {
                    id: id.cast_unsigned(),
                    target: target.clone(),
                    reason: reason.to_owned(),
                    requester: requester.to_owned(),
                    at,
                    lifted_at: 0,
                    certificates: found.into_iter().map(listed).collect(),
                })
            }
        });
        let revocation = result?;
        self.reload_revocations().await?;
        Ok(revocation)
    }

    /// Takes a revocation back.
    ///
    /// # Errors
    /// See [`RevokeError`].
    pub async fn lift(
        &self,
        id: u64,
        reason: &str,
        requester: &str,
        now: OffsetDateTime,
    ) -> Result<Revocation, RevokeError> {
        let at = now.unix_timestamp();
        let result: Result<Revocation, RevokeError> = write_transaction!(&self.db, t, head => {
            let row: Option<Row> = sqlx::query_as(AssertSqlSafe(format!("SELECT {COLUMNS} FROM citadel_revocation WHERE id = $1")))
                .bind(id.cast_signed()).fetch_optional(&mut *t).await?;
            match row.map(revocation).transpose()? {
                Some(found) if found.lifted_at == 0 && !found.target.can_be_lifted() => Err(RevokeError::ForGood(id)),
                Some(mut found) if found.lifted_at == 0 => {
                    // 0 would mean that it is in force.
                    found.lifted_at = at.max(1);
                    sqlx::query("UPDATE citadel_revocation SET lifted_at = $1 WHERE id = $2")
                        .bind(found.lifted_at).bind(id.cast_signed()).execute(&mut *t).await?;
                    sqlx::query("UPDATE citadel_head SET revocations = revocations + 1 WHERE id = 1").execute(&mut *t).await?;
                    let entry = Entry {
                        requester: requester.to_owned(),
                        detail: format!("revocation {id} of {} is lifted: {reason}", words(&found.target)),
                        ..about(&found.target, Entry::new(at, Event::Lifted))
                    };
                    let _ = append!(t, head, [entry.tidy()]);
                    Ok(found)
                }
                _ => Err(RevokeError::NotInForce(id)),
            }
        });
        let revocation = result?;
        self.reload_revocations().await?;
        Ok(revocation)
    }

    /// Revocations, newest first, with their certificates that have not expired: the last thousand.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn revocations(&self, now: OffsetDateTime) -> Result<Vec<Revocation>, StoreError> {
        let (rows, lines): (Vec<Row>, Vec<LineRow>) = sql_snapshot!(&self.db, t => {
            let rows = sqlx::query_as(AssertSqlSafe(format!("SELECT {COLUMNS} FROM citadel_revocation ORDER BY id DESC LIMIT $1")))
                .bind(MAX_LISTED).fetch_all(&mut *t).await?;
            let lines = sqlx::query_as("SELECT revocation, serial, issuer, not_after FROM citadel_revoked WHERE not_after > $1 ORDER BY serial")
                .bind(now.unix_timestamp()).fetch_all(&mut *t).await?;
            (rows, lines)
        });
        let mut certificates: BTreeMap<u64, Vec<Listed>> = BTreeMap::new();
        for (id, serial, issuer, not_after) in lines {
            let of = certificates.entry(id.cast_unsigned()).or_default();
            of.push(Listed {
                serial,
                issuer,
                not_after,
            });
        }
        rows.into_iter()
            .map(|row| {
                let mut one = revocation(row)?;
                one.certificates = certificates.remove(&one.id).unwrap_or_default();
                Ok(one)
            })
            .collect()
    }
}

/// The entry with what it is about, so that it is found by that.
fn about(target: &Target, entry: Entry) -> Entry {
    match target {
        Target::SpiffeId(id) => Entry {
            spiffe_id: id.clone(),
            ..entry
        },
        Target::Serial { serial, .. } => Entry {
            serial: serial.clone(),
            ..entry
        },
        Target::Node(node) => Entry {
            node: node.clone(),
            ..entry
        },
        Target::Issued { .. } => entry,
    }
}
