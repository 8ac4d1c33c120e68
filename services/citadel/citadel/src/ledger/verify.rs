//! Whether the journal is whole: at start from its first entry on, later what was added, and that nothing has gone.

use std::time::Duration;

use citadel_core::journal::{Broken, Position, verify};
use service_kit::Stop;
use store::StoreError;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::{Ledger, journal};

/// How often the journal is verified.
pub const VERIFY_PERIOD: Duration = Duration::from_secs(300);

/// Entries of one page.
const PAGE: u32 = 2000;

/// What is known about the journal's chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Integrity {
    /// Not verified to its end yet.
    #[default]
    Unknown,
    /// Whole up to here.
    Whole(Position),
    /// Tampered with, or damaged.
    Broken(Broken),
}

/// Why verification did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The chain is broken.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ledger {
    /// What is known about the chain of the journal, now and later.
    pub fn integrity(&self) -> watch::Receiver<Integrity> {
        self.integrity.subscribe()
    }

    /// Verifies the journal behind `from`, which was found whole before, to its end; returns where that is. `from` must still be there.
    ///
    /// # Errors
    /// [`VerifyError::Broken`] at the first entry that does not follow, is missing, or differs from `from`.
    pub async fn verify(&self, from: Position) -> Result<Position, VerifyError> {
        let broken = |sequence, why| VerifyError::Broken(Broken { sequence, why });
        // Before the pages: entries that come meanwhile are for the next time.
        let end = self.position().await?;
        if end.sequence < from.sequence {
            return Err(broken(end.sequence + 1, "entries that were there are gone"));
        }
        if from.sequence > 0 {
            let rows = journal::rows_after(&self.db, from.sequence - 1, 1).await?;
            let same = rows
                .first()
                .is_some_and(|row| row.0 == from.sequence.cast_signed() && row.12 == from.hash.0);
            if !same {
                return Err(broken(from.sequence, "it was another entry before"));
            }
        }
        let mut last = from;
        loop {
            let rows = journal::rows_after(&self.db, last.sequence, PAGE).await?;
            if rows.is_empty() {
                break;
            }
            let mut page = Vec::with_capacity(rows.len());
            for row in rows {
                let linked = journal::linked(row);
                page.push(linked.map_err(|n| broken(n, "it is no entry of a journal"))?);
            }
            let passes = page
                .iter()
                .find(|linked| linked.sequence == end.sequence)
                .map(|linked| linked.hash);
            last = verify(last, &page)?;
            if passes.is_some_and(|hash| hash != end.hash) {
                return Err(broken(end.sequence, "the head knows another hash of it"));
            }
        }
        if last.sequence < end.sequence {
            return Err(broken(last.sequence + 1, "it is missing"));
        }
        Ok(last)
    }

    /// Verifies the journal at once and then each [`VERIFY_PERIOD`], until `stop`. The hash it ends with is logged, so that a later
    /// forgery of the whole chain differs from the log.
    pub async fn keep_verifying(&self, stop: Stop) {
        let mut timer = tokio::time::interval(VERIFY_PERIOD);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut from = Position::START;
        loop {
            tokio::select! {
                () = stop.wait() => return,
                _ = timer.tick() => {}
            }
            match self.verify(from).await {
                Ok(position) => {
                    if position != from || position.sequence == 0 {
                        tracing::info!(sequence = position.sequence, hash = %position.hash, "the journal is whole");
                    }
                    from = position;
                    self.integrity.send_replace(Integrity::Whole(position));
                }
                Err(VerifyError::Broken(broken)) => {
                    tracing::error!(
                        sequence = broken.sequence,
                        "{broken}: somebody changed the database; compare it with a backup"
                    );
                    self.integrity.send_replace(Integrity::Broken(broken));
                }
                Err(VerifyError::Store(error)) => {
                    tracing::warn!(%error, "the journal could not be verified");
                }
            }
        }
    }
}
