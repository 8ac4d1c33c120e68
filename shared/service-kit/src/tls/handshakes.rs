//! A bound on handshakes that are under way, which those that lead nowhere cannot fill.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Places for handshakes. When all are taken, whoever waits takes the place of the oldest one, once that had `patience`: a handshake
/// takes milliseconds, so one that is older is of somebody who does not go on.
#[derive(Clone, Debug)]
pub(super) struct Handshakes(Arc<Places>);

#[derive(Debug)]
struct Places {
    free: Arc<Semaphore>,
    patience: Duration,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    by: BTreeMap<u64, (Instant, CancellationToken)>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    evicted: CancellationToken,
    places: Arc<Places>,
    _permit: OwnedSemaphorePermit,
}

impl Handshakes {
    pub(super) fn new(most: usize, patience: Duration) -> Handshakes {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Handshakes(Arc::new(Places {
            free: Arc::new(Semaphore::new(most)),
            patience,
            taken: Mutex::default(),
        }))
    }

    /// Waits for a place.
    pub(super) async fn enter(&self) -> Place {
        let mut free = std::pin::pin!(self.0.free.clone().acquire_owned());
        loop {
            let permit = tokio::select! {
                biased;
                permit = free.as_mut() => permit,
                () = self.0.oldest_is_due() => {
                    self.0.evict();
                    continue;
                }
            };
            // The semaphore is never closed.
            let Ok(permit) = permit else {
                return std::future::pending().await;
            };
            return self.0.clone().take(permit);
        }
    }
}

impl Places {
    fn take(self: Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        let evicted = CancellationToken::new();
        let number = {
            let mut taken = self.taken.lock();
            let number = taken.next;
            taken.next += 1;
            taken.by.insert(number, (Instant::now(), evicted.clone()));
            number
        };
        Place {
            number,
            evicted,
            places: self,
            _permit: permit,
        }
    }

    async fn oldest_is_due(&self) {
        let oldest = self
            .taken
            .lock()
            .by
            .first_key_value()
            .map(|(_, (since, _))| *since);
        match oldest {
            Some(since) => sleep_until(since + self.patience).await,
            // All were told to go: their places are about to be free.
            None => std::future::pending().await,
        }
    }

    fn evict(&self) {
        let mut taken = self.taken.lock();
        if let Some(entry) = taken.by.first_entry()
            && entry.get().0.elapsed() >= self.patience
        {
            entry.remove().1.cancel();
        }
    }
}

impl Place {
    /// Returns when the place was given to somebody else.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.lock().by.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_go_on_makes_room() {
        let handshakes = Handshakes::new(2, Duration::from_secs(2));
        let started = Instant::now();
        let (first, second) = (handshakes.enter().await, handshakes.enter().await);
        let holder = tokio::spawn(async move {
            first.evicted().await;
            started.elapsed()
        });
        let third = handshakes.enter().await;
        assert_eq!(started.elapsed(), Duration::from_secs(2));
        assert_eq!(holder.await.unwrap(), Duration::from_secs(2));
        drop(second);
        let _fourth = handshakes.enter().await;
        assert_eq!(started.elapsed(), Duration::from_secs(2));
        drop(third);
        assert_eq!(handshakes.0.taken.lock().by.len(), 1);
    }
}
