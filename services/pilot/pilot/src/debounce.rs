//! When a change goes out: a lone one at once, a burst together.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::galley::Arrived;
use crate::planner::{Command, Planner};

/// Debounce of change sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debounce {
    /// A burst goes out when nothing more came for this long. Default 100 ms (`PILOT_DEBOUNCE_AFTER`).
    pub after: Duration,
    /// A burst goes out at the latest this long after it began. Default 10 s (`PILOT_DEBOUNCE_MAX`).
    pub max: Duration,
}

/// Hands change sets to the planner, the first after a quiet time at once, those that follow closely together.
pub async fn debounce(mut arriving: mpsc::Receiver<Arrived>, planner: Planner, debounce: Debounce) {
    let mut quiet_until = Instant::now();
    while let Some(mut batch) = arriving.recv().await {
        if Instant::now() < quiet_until {
            let latest = Instant::now() + debounce.max;
            while let Ok(Some(more)) =
                timeout_at(latest.min(Instant::now() + debounce.after), arriving.recv()).await
            {
                merge(&mut batch, more);
            }
        } else {
            while let Ok(more) = arriving.try_recv() {
                merge(&mut batch, more);
            }
        }
        planner.send(Command::Apply {
            revision: batch.revision,
            changes: batch.changes,
        });
        quiet_until = Instant::now() + debounce.after;
    }
}

/// Later changes of the same object win where they are applied in order.
fn merge(batch: &mut Arrived, more: Arrived) {
    batch.revision = more.revision;
    batch.changes.extend(more.changes);
}
