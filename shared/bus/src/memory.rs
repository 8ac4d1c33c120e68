//! The bus inside one process.

mod kv;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::error::check_size;
use crate::subject::check_bucket;
use crate::{
    Bus, BusError, BusState, CAPACITY, Gather, Kv, MAX_REPLIES, Message, Pattern, Subscription,
    check_subject,
};

/// A bus inside this process. Clones are the same bus. Time runs by tokio's clock.
#[derive(Clone, Debug)]
pub struct MemoryBus(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    subscribers: Mutex<Vec<Subscriber>>,
    buckets: Mutex<HashMap<String, Arc<kv::Bucket>>>,
    state: watch::Sender<BusState>,
    inboxes: AtomicU64,
}

#[derive(Debug)]
struct Subscriber {
    pattern: Pattern,
    to: mpsc::Sender<Message>,
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBus {
    /// A bus nobody uses yet.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            subscribers: Mutex::default(),
            buckets: Mutex::default(),
            state: watch::Sender::new(BusState {
                connected: true,
                connects: 1,
            }),
            inboxes: AtomicU64::new(1),
        }))
    }

    /// Delivers to whoever wants it; returns how many did.
    fn deliver(&self, message: &Message) -> usize {
        let mut count = 0;
        self.0.subscribers.lock().retain(|subscriber| {
            if subscriber.to.is_closed() {
                return false;
            }
            if subscriber.pattern.matches(&message.subject) {
                count += 1;
                if subscriber.to.try_send(message.clone()).is_err() {
                    tracing::warn!(
                        subject = message.subject,
                        "a slow subscriber loses a message"
                    );
                }
            }
            true
        });
        count
    }

    fn listen(&self, pattern: Pattern) -> mpsc::Receiver<Message> {
        let (to, from) = mpsc::channel(CAPACITY);
        self.0.subscribers.lock().push(Subscriber { pattern, to });
        from
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check_subject(subject)?;
        check_size(&payload)?;
        self.deliver(&Message {
            subject: subject.to_owned(),
            payload,
            reply: None,
        });
        Ok(())
    }

    async fn subscribe(&self, pattern: &str) -> Result<Subscription, BusError> {
        let from = self.listen(Pattern::new(pattern)?);
        Ok(Subscription::new(stream::unfold(from, |mut from| async {
            let message = from.recv().await?;
            Some((message, from))
        })))
    }

    async fn request_many(
        &self,
        subject: &str,
        payload: Bytes,
        gather: Gather,
    ) -> Result<Vec<Bytes>, BusError> {
        check_subject(subject)?;
        check_size(&payload)?;
        let deadline = Instant::now() + gather.timeout;
        let inbox = format!("_INBOX.{}", self.0.inboxes.fetch_add(1, Ordering::Relaxed));
        let mut answers = self.listen(Pattern::new(&inbox)?);
        let asked = self.deliver(&Message {
            subject: subject.to_owned(),
            payload,
            reply: Some((Arc::new(self.clone()), inbox)),
        });
        let mut gathered = Vec::new();
        if asked == 0 {
            return Ok(gathered);
        }
        let most = gather.expect.unwrap_or(MAX_REPLIES).min(MAX_REPLIES);
        while gathered.len() < most {
            match timeout_at(deadline, answers.recv()).await {
                Ok(Some(answer)) => gathered.push(answer.payload),
                Ok(None) | Err(_) => break,
            }
        }
        Ok(gathered)
    }

    async fn kv(&self, bucket: &str, ttl: Duration) -> Result<Arc<dyn Kv>, BusError> {
        check_bucket(bucket, ttl)?;
        let mut buckets = self.0.buckets.lock();
        let bucket = buckets
            .entry(bucket.to_owned())
            .or_insert_with(|| kv::Bucket::start(ttl))
            .clone();
        Ok(Arc::new(kv::MemoryKv(bucket)))
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.0.state.subscribe()
    }
}
