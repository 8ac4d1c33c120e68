//! Facts that expire, inside one process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, sleep_until};

use crate::error::check_size;
use crate::subject::key as check_key;
use crate::{BusError, CAPACITY, Kv, KvEvent, KvWatch};

#[derive(Debug)]
pub(super) struct MemoryKv(pub(super) Arc<Bucket>);

#[derive(Debug)]
pub(super) struct Bucket {
    ttl: Duration,
    facts: Mutex<BTreeMap<String, Fact>>,
    /// Sent to under the lock of `facts`, so that a watcher's snapshot and its changes fit together.
    changes: broadcast::Sender<KvEvent>,
    /// Tells the expiring task to look again.
    nudge: Arc<Notify>,
}

#[derive(Debug)]
struct Fact {
    value: Bytes,
    until: Instant,
}

impl Bucket {
    pub(super) fn start(ttl: Duration) -> Arc<Self> {
        let bucket = Arc::new(Self {
            ttl,
            facts: Mutex::default(),
            changes: broadcast::Sender::new(CAPACITY),
            nudge: Arc::default(),
        });
        tokio::spawn(expire(Arc::downgrade(&bucket), bucket.nudge.clone()));
        bucket
    }

    /// Removes what has expired and says when the next fact will.
    fn expire(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut facts = self.facts.lock();
        let gone: Vec<String> = facts
            .iter()
            .filter(|(_, fact)| fact.until <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            facts.remove(&key);
            // Nobody watching is no error, here and below.
            let _ = self.changes.send(KvEvent::Gone { key });
        }
        facts.values().map(|fact| fact.until).min()
    }

    fn snapshot(&self) -> (VecDeque<KvEvent>, broadcast::Receiver<KvEvent>) {
        let now = Instant::now();
        let facts = self.facts.lock();
        let mut events = VecDeque::from([KvEvent::Reset]);
        events.extend(
            facts
                .iter()
                .filter(|(_, fact)| fact.until > now)
                .map(|(key, fact)| KvEvent::Put {
                    key: key.clone(),
                    value: fact.value.clone(),
                }),
        );
        events.push_back(KvEvent::Synced);
        (events, self.changes.subscribe())
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.nudge.notify_one();
    }
}

async fn expire(bucket: Weak<Bucket>, nudge: Arc<Notify>) {
    while let Some(alive) = bucket.upgrade() {
        let next = alive.expire();
        // Not for every single fact: with many of them that would be a scan of all for each.
        let soonest = Instant::now() + alive.ttl / 50;
        drop(alive);
        match next {
            // A put only makes a fact live longer or adds a later one, as all live equally long: no need to look earlier.
            Some(at) => sleep_until(at.max(soonest)).await,
            None => nudge.notified().await,
        }
    }
}

#[async_trait]
impl Kv for MemoryKv {
    async fn put(&self, key: &str, value: Bytes) -> Result<(), BusError> {
        check_key(key)?;
        check_size(&value)?;
        let fact = Fact {
            value: value.clone(),
            until: Instant::now() + self.0.ttl,
        };
        let mut facts = self.0.facts.lock();
        facts.insert(key.to_owned(), fact);
        let _ = self.0.changes.send(KvEvent::Put {
            key: key.to_owned(),
            value,
        });
        drop(facts);
        self.0.nudge.notify_one();
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, BusError> {
        check_key(key)?;
        let now = Instant::now();
        let facts = self.0.facts.lock();
        Ok(facts
            .get(key)
            .filter(|fact| fact.until > now)
            .map(|fact| fact.value.clone()))
    }

    async fn delete(&self, key: &str) -> Result<(), BusError> {
        check_key(key)?;
        let mut facts = self.0.facts.lock();
        if facts.remove(key).is_some() {
            let _ = self.0.changes.send(KvEvent::Gone {
                key: key.to_owned(),
            });
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<(String, Bytes)>, BusError> {
        let now = Instant::now();
        let facts = self.0.facts.lock();
        Ok(facts
            .iter()
            .filter(|(_, fact)| fact.until > now)
            .map(|(key, fact)| (key.clone(), fact.value.clone()))
            .collect())
    }

    fn watch(&self) -> KvWatch {
        let (events, changes) = self.0.snapshot();
        KvWatch::new(stream::unfold(
            (self.0.clone(), events, changes),
            |(bucket, mut events, mut changes)| async {
                loop {
                    if let Some(event) = events.pop_front() {
                        return Some((event, (bucket, events, changes)));
                    }
                    match changes.recv().await {
                        Ok(event) => return Some((event, (bucket, events, changes))),
                        // Too slow, changes were missed: from the start.
                        Err(broadcast::error::RecvError::Lagged(_)) => {
                            (events, changes) = bucket.snapshot()
                        }
                        Err(broadcast::error::RecvError::Closed) => return None,
                    }
                }
            },
        ))
    }
}
