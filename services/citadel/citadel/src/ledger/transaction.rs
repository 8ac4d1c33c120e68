//! What every transaction that writes is made of, for both databases.

/// Runs `$body` in a transaction `$t` that holds the head; `$head` is what it found. `$body` evaluates to `Result<T, E>`: an error undoes
/// everything. `E` is made from [`StoreError`](store::StoreError) and `sqlx::Error`.
macro_rules! write_transaction {
    ($db:expr, $t:ident, $head:ident => $body:block) => {{
        match $db {
            store::Db::Lite { write, .. } => store::sql_lite!(write, c => {
                // Each call costs two changes of threads here.
                const TOGETHER: bool = true;
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
                    // It prepares one statement at a time.
                    const TOGETHER: bool = false;
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
            let rows = $crate::ledger::transaction::rows(rest.len(), TOGETHER);
            let (part, later) = rest.split_at(rows);
            rest = later;
            let mut sql = sqlx::QueryBuilder::new(
                "INSERT INTO citadel_journal (sequence, at, event, serial, spiffe_id, requester, attestation, node, not_after, detail, \
                 issuer, replaces, hash) ",
            );
            sql.push_values(part, |mut row, linked| {
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
            $crate::ledger::transaction::next!($t, sql);
            sql.push("INSERT INTO citadel_trace (sequence, spiffe_id, node) ");
            sql.push_values(part, |mut row, linked| {
                let entry = &linked.entry;
                row.push_bind(linked.sequence.cast_signed())
                    .push_bind($crate::ledger::trace(&entry.spiffe_id))
                    .push_bind($crate::ledger::trace(&entry.node));
            });
            // What is left of entries that somebody removed is nothing to stop for: the chain tells of them.
            sql.push(
                " ON CONFLICT (sequence) DO UPDATE SET spiffe_id = excluded.spiffe_id, node = excluded.node",
            );
            $crate::ledger::transaction::next!($t, sql);
            if let Some(last) = part.last() {
                sql.push("UPDATE citadel_head SET sequence = ");
                sql.push_bind(last.sequence.cast_signed());
                sql.push(", hash = ");
                sql.push_bind(last.hash.to_string());
                sql.push(" WHERE id = 1");
            }
            sql.build().execute(&mut *$t).await?;
        }
        linked
            .last()
            .map_or($head.position, |last| citadel_core::journal::Position {
                sequence: last.sequence,
                hash: last.hash,
            })
    }};
}

/// Between two statements: goes on in the same text, or runs it and begins another.
macro_rules! next {
    ($t:ident, $sql:ident) => {
        if TOGETHER {
            $sql.push("; ");
        } else {
            $sql.build().execute(&mut *$t).await?;
            $sql = sqlx::QueryBuilder::new("");
        }
    };
}

/// Rows of the next statements, of so many that are left. The connection keeps the prepared statements of each number, a hundred at most:
/// if they are not prepared together, there are few numbers.
pub(super) fn rows(left: usize, together: bool) -> usize {
    match left {
        64.. => 64,
        few if together => few,
        32.. => 32,
        16.. => 16,
        few => few,
    }
}

pub(super) use {append, hold, next, write_transaction};
