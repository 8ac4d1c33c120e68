//! Writing the journal: entries of many requests, one transaction. Whoever asks is answered after the commit.

use std::sync::Arc;
use std::time::Duration;

use citadel_core::journal::{Entry, Event, Position};
use citadel_core::revocation::{Caller, InForce};
use store::{Db, StoreError};
use tokio::sync::{mpsc, oneshot, watch};

use super::transaction::{append, write_transaction};
use super::{Known, Ledger, revocations};

/// Most entries of one transaction.
const BATCH: usize = 512;

/// Entries that wait for a transaction; further callers wait for room.
const QUEUE: usize = 4096;

/// How long an entry may wait until it is committed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an entry is not in the journal. Nothing may be handed out that it was about.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The caller, its node or the certificate it showed was revoked meanwhile.
    #[error("revocation {0} is in force")]
    Revoked(u64),
    /// Another key signs by now: sign anew with the present one.
    #[error("another key signs by now")]
    Overtaken,
    /// The join token was used before, has expired, or never was.
    #[error("the join token is used up")]
    TokenUsed,
    /// The database did not do it, or nobody knows whether it did.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for RecordError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

#[derive(Debug)]
struct Order {
    entry: Entry,
    token: Option<String>,
    done: oneshot::Sender<Result<(), RecordError>>,
}

/// The way to the task that writes.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    orders: mpsc::Sender<Order>,
}

impl Writer {
    /// Starts the task. It ends when every clone is gone.
    pub(super) fn start(db: Db, revoked: watch::Sender<Known>) -> Self {
        let (orders, queue) = mpsc::channel(QUEUE);
        tokio::spawn(run(db, revoked, queue));
        Self { orders }
    }

    async fn write(&self, entry: Entry, token: Option<String>) -> Result<(), RecordError> {
        let (done, answer) = oneshot::channel();
        let gone = || StoreError::Unavailable("the journal is closed".into());
        let order = Order {
            entry: entry.tidy(),
            token,
            done,
        };
        let wait = async {
            self.orders.send(order).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(result) => result,
            Err(_) => {
                Err(StoreError::Unavailable("the journal took no entry in time".into()).into())
            }
        }
    }
}

impl Ledger {
    /// Records a certificate; returns after that is committed. Only then may the certificate be handed out.
    ///
    /// `entry.issuer` must be the key that signed it, `entry.replaces` the serial number of the certificate that was shown, if one was;
    /// `token` the join token that was, which is used up by this.
    ///
    /// # Errors
    /// See [`RecordError`]. After [`RecordError::Store`] the entry may be there or not.
    pub async fn record_issued(
        &self,
        entry: Entry,
        token: Option<String>,
    ) -> Result<(), RecordError> {
        debug_assert_eq!(entry.event, Event::Issued);
        self.writer.write(entry, token).await
    }

    /// Records anything else.
    ///
    /// # Errors
    /// [`RecordError::Store`] alone.
    pub async fn record(&self, entry: Entry) -> Result<(), RecordError> {
        self.writer.write(entry, None).await
    }
}

async fn run(db: Db, revoked: watch::Sender<Known>, mut queue: mpsc::Receiver<Order>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        // Nobody waits for those any more: time ran out.
        batch.retain(|order| !order.done.is_closed());
        let outcome = commit(&db, &revoked, &batch).await;
        match outcome {
            Ok(verdicts) => {
                for (order, verdict) in batch.drain(..).zip(verdicts) {
                    let _ = order.done.send(verdict);
                }
            }
            Err(error) => {
                tracing::warn!(%error, entries = batch.len(), "the journal took no entries");
                for order in batch.drain(..) {
                    let _ = order.done.send(Err(again(&error).into()));
                }
            }
        }
    }
}

/// The same error for another caller; details are in the log.
fn again(error: &StoreError) -> StoreError {
    let text = error.to_string();
    match error {
        StoreError::Busy(_) => StoreError::Busy(text),
        StoreError::Full(_) => StoreError::Full(text),
        StoreError::ReadOnly(_) => StoreError::ReadOnly(text),
        StoreError::Corrupt(_) => StoreError::Corrupt(text),
        _ => StoreError::Unavailable(text),
    }
}

/// Why a transaction was not made.
enum Undone {
    /// Revocations have changed: load them and try again.
    Stale,
    Store(StoreError),
}

impl<E: Into<StoreError>> From<E> for Undone {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

type Verdicts = Vec<Result<(), RecordError>>;

async fn commit(
    db: &Db,
    revoked: &watch::Sender<Known>,
    batch: &[Order],
) -> Result<Verdicts, StoreError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    // Revocations do not change faster than they can be read, in practice; if they do, callers try again.
    for _ in 0..5 {
        let known = revoked.borrow().clone();
        match attempt(db, &known, batch).await {
            Ok(verdicts) => return Ok(verdicts),
            Err(Undone::Stale) => {
                revocations::reload(db, revoked).await?;
            }
            Err(Undone::Store(error)) => return Err(error),
        }
    }
    Err(StoreError::Busy("revocations change all the time".into()))
}

async fn attempt(db: &Db, known: &Known, batch: &[Order]) -> Result<Verdicts, Undone> {
    write_transaction!(db, t, head => {
        if head.revocations != known.version {
            Err(Undone::Stale)
        } else {
            let mut verdicts = Vec::with_capacity(batch.len());
            for order in batch {
                let mut verdict = judge(&order.entry, &head.issuer, &known.in_force);
                if let (Ok(()), Some(token)) = (&verdict, &order.token) {
                    let used = sqlx::query(
                        "UPDATE citadel_token SET used_at = $1 WHERE id = $2 AND used_at = 0 AND not_after > $1",
                    )
                    .bind(order.entry.at)
                    .bind(token)
                    .execute(&mut *t)
                    .await?;
                    if used.rows_affected() == 0 {
                        verdict = Err(RecordError::TokenUsed);
                    }
                }
                verdicts.push(verdict);
            }
            let accepted = batch.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_ok());
            let _: Position = append!(t, head, accepted.map(|(order, _)| order.entry.clone()));
            Ok(verdicts)
        }
    })
}

fn judge(entry: &Entry, issuer: &str, in_force: &Arc<InForce>) -> Result<(), RecordError> {
    if entry.event != Event::Issued {
        return Ok(());
    }
    if !issuer.is_empty() && entry.issuer != issuer {
        return Err(RecordError::Overtaken);
    }
    let caller = Caller {
        spiffe_id: &entry.spiffe_id,
        node: &entry.node,
        serial: &entry.replaces,
    };
    // Who asks for somebody else must be in good standing too.
    let requester = Caller {
        spiffe_id: &entry.requester,
        ..Caller::default()
    };
    let refused = in_force
        .refuses(caller)
        .or_else(|| in_force.refuses(requester));
    refused.map_or(Ok(()), |id| Err(RecordError::Revoked(id)))
}
