//! When a change goes out: a lone one at once, a burst together.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::galley::Arrived;
use crate::metrics::Metrics;
use crate::planner::Planner;

/// Debounce of change sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debounce {
    /// A burst goes out when nothing more came for this long. Default 100 ms (`PILOT_DEBOUNCE_AFTER`).
    pub after: Duration,
    /// A burst goes out at the latest this long after it began. Default 10 s (`PILOT_DEBOUNCE_MAX`).
    pub max: Duration,
}

/// Hands change sets to the planner, the first after a quiet time at once, those that follow closely together.
///
/// One set is built at a time: what arrives meanwhile goes out together afterwards, and beyond the channel's room Galley waits.
pub async fn debounce(
    mut arriving: mpsc::Receiver<Arrived>,
    planner: Planner,
    debounce: Debounce,
    metrics: Metrics,
) {
    let mut quiet_until = Instant::now();
    while let Some(batch) = next_batch(&mut arriving, &debounce, quiet_until).await {
        metrics.debounced(batch.at.elapsed());
        quiet_until = Instant::now() + debounce.after;
        planner.apply(batch.revision, batch.changes, batch.at).await;
    }
}

/// The next change sets that go out together; `None` at the end.
async fn next_batch(
    arriving: &mut mpsc::Receiver<Arrived>,
    debounce: &Debounce,
    quiet_until: Instant,
) -> Option<Arrived> {
    let mut batch = arriving.recv().await?;
    if Instant::now() < quiet_until {
        let latest = Instant::now() + debounce.max;
        while Instant::now() < latest {
            let quiet = latest.min(Instant::now() + debounce.after);
            match timeout_at(quiet, arriving.recv()).await {
                Ok(Some(more)) => merge(&mut batch, more),
                Ok(None) | Err(_) => break,
            }
        }
    } else {
        while let Ok(more) = arriving.try_recv() {
            merge(&mut batch, more);
        }
    }
    Some(batch)
}

/// Later changes of the same object win where they are applied in order.
fn merge(batch: &mut Arrived, more: Arrived) {
    batch.revision = more.revision;
    batch.changes.extend(more.changes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_types::Revision;
    use tokio::time::{advance, sleep};

    const DEBOUNCE: Debounce = Debounce {
        after: Duration::from_millis(100),
        max: Duration::from_secs(10),
    };

    fn arrived(revision: u64) -> Arrived {
        Arrived {
            revision: Revision(revision),
            changes: Vec::new(),
            at: Instant::now(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_change_goes_at_once() {
        let (send, mut arriving) = mpsc::channel(8);
        let quiet_until = Instant::now();
        advance(Duration::from_secs(1)).await;
        let started = Instant::now();
        send.send(arrived(1)).await.unwrap();
        let batch = next_batch(&mut arriving, &DEBOUNCE, quiet_until).await;
        assert_eq!(batch.unwrap().revision, Revision(1));
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    /// C-137: many changes in a second make two pushes, the first at once and the last 100 ms after the last change.
    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_together() {
        let (send, mut arriving) = mpsc::channel(64);
        let quiet_until = Instant::now() + DEBOUNCE.after;
        let sender = tokio::spawn(async move {
            for revision in 2..=50 {
                send.send(arrived(revision)).await.unwrap();
                sleep(Duration::from_millis(20)).await;
            }
            send
        });
        let started = Instant::now();
        let batch = next_batch(&mut arriving, &DEBOUNCE, quiet_until).await;
        assert_eq!(batch.unwrap().revision, Revision(50));
        assert_eq!(started.elapsed(), Duration::from_millis(48 * 20 + 100));
        drop(sender.await.unwrap());
        assert!(
            next_batch(&mut arriving, &DEBOUNCE, quiet_until)
                .await
                .is_none()
        );
    }

    /// C-137: changes that never pause go out every ten seconds.
    #[tokio::test(start_paused = true)]
    async fn an_endless_burst_goes_out_after_ten_seconds() {
        let (send, mut arriving) = mpsc::channel(64);
        let quiet_until = Instant::now() + DEBOUNCE.after;
        let sender = tokio::spawn(async move {
            for revision in 2.. {
                if send.send(arrived(revision)).await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        });
        let started = Instant::now();
        let batch = next_batch(&mut arriving, &DEBOUNCE, quiet_until).await;
        assert_eq!(started.elapsed(), DEBOUNCE.max);
        assert!((Revision(200)..=Revision(203)).contains(&batch.unwrap().revision));
        drop(arriving);
        sender.await.unwrap();
    }
}
