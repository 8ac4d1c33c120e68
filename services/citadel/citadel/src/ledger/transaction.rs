//! What every transaction that writes is made of, for both databases.

/// Runs `$body` in a transaction `$t` that holds the head; `$head` is what it found. `$body` evaluates to `Result<T, E>`: an error undoes
/// everything. `E` is made from [`StoreError`](store::StoreError) and `sqlx::Error`.
macro_rules! write_transaction {
    ($db:expr, $t:ident, $head:ident => $body:block) => {{
        match $db {
            store::Db::Lite { write, .. } => store::sql_lite!(write, c => {
                let mut $t = sqlx::Connection::begin_with(&mut *c, "BEGIN IMMEDIATE").await?;
                let $head = $crate::ledger::transaction::hold!($t);
                let result = $body;
                match result {
                    Ok(value) => {
                        $t.commit().await?;
                        Ok(value)
                    }
                    Err(error) => {
                        $t.rollback().await?;
                        Err(error)
                    }
                }
            }),
            store::Db::Pg(pool) => {
                async {
                    let mut $t = pool.begin().await?;
                    // Another writer that hangs must not hang us.
                    sqlx::query("SET LOCAL lock_timeout = '5s'")
                        .execute(&mut *$t)
                        .await?;
                    let $head = $crate::ledger::transaction::hold!($t);
                    let result = $body;
                    match result {
                        Ok(value) => {
                            $t.commit().await?;
                            Ok(value)
                        }
                        Err(error) => {
                            $t.rollback().await?;
                            Err(error)
                        }
                    }
                }
                .await
            }
        }
    }};
}

/// Takes the head: whoever comes second waits here, and then sees what the first one did.
macro_rules! hold {
    ($t:ident) => {{
        let row: $crate::ledger::HeadRow = sqlx::query_as(
            "UPDATE citadel_head SET id = 1 WHERE id = 1 RETURNING sequence, hash, issuer, revocations, trust",
        )
        .fetch_one(&mut *$t)
        .await?;
        $crate::ledger::head(row)?
    }};
}

/// Appends entries to the journal behind `$head.position`, and moves the head behind them. Evaluates to the new position.
macro_rules! append {
    ($t:ident, $head:expr, $entries:expr) => {{
        let linked = citadel_core::journal::chain($head.position, $entries);
        let mut rest = linked.as_slice();
        while !rest.is_empty() {
            // Few sizes: the database keeps the prepared statement of each.
            let rows = $crate::ledger::transaction::ROWS
                .into_iter()
                .find(|rows| *rows <= rest.len())
                .unwrap_or(1);
            let (part, later) = rest.split_at(rows);
            rest = later;
            let mut insert = sqlx::QueryBuilder::new(
                "INSERT INTO citadel_journal (sequence, at, event, serial, spiffe_id, requester, attestation, node, not_after, detail, \
                 issuer, replaces, hash) ",
            );
            insert.push_values(part, |mut row, linked| {
                let entry = &linked.entry;
                row.push_bind(linked.sequence.cast_signed())
                    .push_bind(entry.at)
                    .push_bind(entry.event.as_str())
                    .push_bind(entry.serial.as_str())
                    .push_bind(entry.spiffe_id.as_str())
                    .push_bind(entry.requester.as_str())
                    .push_bind(entry.attestation.as_str())
                    .push_bind(entry.node.as_str())
                    .push_bind(entry.not_after)
                    .push_bind(entry.detail.as_str())
                    .push_bind(entry.issuer.as_str())
                    .push_bind(entry.replaces.as_str())
                    .push_bind(linked.hash.0.as_slice());
            });
            insert.build().execute(&mut *$t).await?;
        }
        let position = linked
            .last()
            .map_or($head.position, |last| citadel_core::journal::Position {
                sequence: last.sequence,
                hash: last.hash,
            });
        sqlx::query("UPDATE citadel_head SET sequence = $1, hash = $2 WHERE id = 1")
            .bind(position.sequence.cast_signed())
            .bind(position.hash.to_string())
            .execute(&mut *$t)
            .await?;
        position
    }};
}

/// Rows of one statement, largest first.
pub(super) const ROWS: [usize; 4] = [64, 16, 4, 1];

pub(super) use {append, hold, write_transaction};
