//! Facts that expire, in a JetStream key-value bucket.
//!
//! What can go missing and how it comes back: a server that restarts with an empty store has no bucket, tells nobody, and lets
//! old watches fall silent. So on every connect, and every [`LOOK`] besides, the bucket is looked at (and made again), what
//! this process put is put again, and watches start anew.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy, push};
use async_nats::jetstream::kv::{Config, Store};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::{NatsBus, PATIENCE, answer};
use crate::error::check_size;
use crate::subject::{key as encode, text as decode};
use crate::{BusError, CAPACITY, Kv, KvEvent, KvWatch};

/// How often a bucket is looked at without a reason.
const LOOK: Duration = Duration::from_secs(15);

/// Longest wait of a whole call.
const WHOLE: Duration = Duration::from_secs(5);

/// How long a watch waits for the next fact of its first batch: facts that expire meanwhile are announced but never come.
const BATCH: Duration = Duration::from_secs(1);

/// Does `$work` with the bucket `$seen`; if that fails although the server is there, looks whether the bucket is and does it again.
/// Waits [`WHOLE`] at most.
macro_rules! with {
    ($shared:expr, $seen:ident => $work:expr) => {{
        let both = async {
            let $seen = $shared.look(false).await?;
            match $work.await {
                Err(BusError::Unknown(_)) if $shared.bus.connected().is_ok() => {
                    let $seen = $shared.look(true).await?;
                    $work.await
                }
                done => done,
            }
        };
        let late = |_| Err(BusError::Unknown("timed out".into()));
        timeout(WHOLE, both).await.unwrap_or_else(late)
    }};
}

/// Handles share one of these; the tasks end with it.
#[derive(Debug)]
pub(super) struct NatsKv(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bus: NatsBus,
    bucket: String,
    ttl: Duration,
    /// What was put through this handle, by encoded key.
    own: Mutex<HashMap<String, Own>>,
    /// The bucket as last seen; `None`: not seen since the last connect.
    seen: watch::Sender<Option<Arc<Seen>>>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct Own {
    value: Bytes,
    until: Instant,
    landed: bool,
}

#[derive(Debug)]
struct Seen {
    store: Store,
    /// When the server made it, in nanoseconds: tells a bucket from its successor.
    created: i128,
    /// Which connection it was seen on.
    connects: u64,
}

impl NatsKv {
    pub(super) fn start(bus: NatsBus, bucket: &str, ttl: Duration) -> Arc<Self> {
        let state = bus.state.subscribe();
        let shared = Arc::new(Shared {
            bus,
            bucket: bucket.to_owned(),
            ttl,
            own: Mutex::default(),
            seen: watch::Sender::new(None),
            looking: tokio::sync::Mutex::default(),
        });
        tokio::spawn(keep(
            Arc::downgrade(&shared),
            state,
            shared.seen.subscribe(),
        ));
        Arc::new(Self(shared))
    }
}

/// Looks at the bucket after every connect and every [`LOOK`], until the last handle is gone.
async fn keep(
    shared: Weak<Shared>,
    mut state: watch::Receiver<crate::BusState>,
    mut alive: watch::Receiver<Option<Arc<Seen>>>,
) {
    loop {
        let connected = state.borrow_and_update().connected;
        let mut next = LOOK;
        if connected {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            if let Err(error) = shared.look(true).await {
                tracing::debug!(bucket = shared.bucket, %error, "bucket is not there yet");
                next = Duration::from_secs(1);
            }
        }
        // `alive` ends when the last handle is dropped.
        let ended = async { while alive.changed().await.is_ok() {} };
        tokio::select! {
            () = ended => return,
            changed = state.changed() => if changed.is_err() { return },
            () = sleep(next) => {}
        }
    }
}

impl Shared {
    /// The bucket, made if it is not there. With `anew` the server is asked even if nothing suggests that it changed.
    async fn look(&self, anew: bool) -> Result<Arc<Seen>, BusError> {
        self.bus.connected()?;
        // Without waiting for a look that is under way: it may have thousands of facts to put again.
        if !anew && let Some(seen) = self.current() {
            return Ok(seen);
        }
        let _one = self.looking.lock().await;
        if !anew && let Some(seen) = self.current() {
            return Ok(seen);
        }
        let connects = self.bus.state.borrow().connects;
        let before = self.seen.borrow().clone();
        let config = Config {
            bucket: self.bucket.clone(),
            description: "Flotilla: facts that expire, safe to delete".into(),
            history: 1,
            max_age: self.ttl,
            // Makes the server tell watches about facts that expired.
            limit_markers: Some(self.ttl.max(Duration::from_secs(1))),
            num_replicas: 1,
            ..Config::default()
        };
        let made = self.bus.jetstream.create_or_update_key_value(config);
        let store = match timeout(PATIENCE * 2, made).await {
            Ok(Err(error)) if !self.bus.state.borrow().connected => {
                return Err(BusError::Unknown(error.to_string()));
            }
            Ok(Err(error)) => {
                return Err(BusError::Refused(format!(
                    "bucket {}: {error}",
                    self.bucket
                )));
            }
            other => answer(other)?,
        };
        let created = store.stream.cached_info().created.unix_timestamp_nanos();
        let seen = Arc::new(Seen {
            store,
            created,
            connects,
        });
        let same = before
            .as_ref()
            .is_some_and(|before| before.created == created);
        if !same || before.is_some_and(|before| before.connects != connects) {
            // Watches start anew when this changes.
            self.seen.send_replace(Some(seen.clone()));
        }
        self.put_again(&seen, !same).await;
        Ok(seen)
    }

    /// The bucket as seen on this connection.
    fn current(&self) -> Option<Arc<Seen>> {
        let connects = self.bus.state.borrow().connects;
        self.seen
            .borrow()
            .clone()
            .filter(|seen| seen.connects == connects)
    }

    /// All facts there are now.
    async fn list(&self, seen: &Seen) -> Result<Vec<(String, Bytes)>, BusError> {
        let mut facts = std::collections::BTreeMap::new();
        let mut batch = Batch::open(self, seen).await?;
        while let Some(event) = batch.next().await? {
            match event {
                KvEvent::Put { key, value } => {
                    facts.insert(key, value);
                }
                KvEvent::Gone { key } => {
                    facts.remove(&key);
                }
                KvEvent::Synced => break,
                KvEvent::Reset => {}
            }
        }
        Ok(facts.into_iter().collect())
    }

    /// Puts again what did not land, or everything of ours, into a bucket that is new.
    async fn put_again(&self, seen: &Seen, all: bool) {
        let now = Instant::now();
        let todo: Vec<(String, Bytes)> = {
            let mut own = self.own.lock();
            own.retain(|_, fact| fact.until > now);
            own.iter()
                .filter(|(_, fact)| all || !fact.landed)
                .map(|(key, fact)| (key.clone(), fact.value.clone()))
                .collect()
        };
        for (key, value) in todo {
            // It may have been deleted or replaced meanwhile.
            if self
                .own
                .lock()
                .get(&key)
                .is_none_or(|fact| fact.value != value)
            {
                continue;
            }
            if let Err(error) = self.put_once(seen, &key, value).await {
                tracing::debug!(bucket = self.bucket, %error, "a fact is not put again yet");
                return;
            }
        }
    }

    async fn put_once(&self, seen: &Seen, key: &str, value: Bytes) -> Result<(), BusError> {
        answer(timeout(PATIENCE, seen.store.put(key, value.clone())).await)?;
        if let Some(fact) = self
            .own
            .lock()
            .get_mut(key)
            .filter(|fact| fact.value == value)
        {
            fact.landed = true;
        }
        Ok(())
    }
}

#[async_trait]
impl Kv for NatsKv {
    async fn put(&self, key: &str, value: Bytes) -> Result<(), BusError> {
        let key = encode(key)?;
        check_size(&value)?;
        let fact = Own {
            value: value.clone(),
            until: Instant::now() + self.0.ttl,
            landed: false,
        };
        self.0.own.lock().insert(key.clone(), fact);
        with!(self.0, seen => self.0.put_once(&seen, &key, value.clone()))
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, BusError> {
        let key = encode(key)?;
        with!(self.0, seen => async { answer(timeout(PATIENCE, seen.store.get(key.clone())).await) })
    }

    async fn delete(&self, key: &str) -> Result<(), BusError> {
        let key = encode(key)?;
        self.0.own.lock().remove(&key);
        with!(self.0, seen => async { answer(timeout(PATIENCE, seen.store.delete(&key)).await) })
    }

    async fn list(&self) -> Result<Vec<(String, Bytes)>, BusError> {
        with!(self.0, seen => self.0.list(&seen))
    }

    fn watch(&self) -> KvWatch {
        let (to, from) = mpsc::channel(CAPACITY);
        tokio::spawn(watch_for_ever(self.0.clone(), to));
        KvWatch::new(stream::unfold(from, |mut from| async {
            let event = from.recv().await?;
            Some((event, from))
        }))
    }
}

/// Follows the bucket through connections and successors until the reader is gone.
async fn watch_for_ever(shared: Arc<Shared>, to: mpsc::Sender<KvEvent>) {
    let mut seen = shared.seen.subscribe();
    loop {
        let current = seen.borrow_and_update().clone();
        if let Some(current) =
            current.filter(|current| current.connects == shared.bus.state.borrow().connects)
        {
            tokio::select! {
                () = to.closed() => return,
                // A new connection or a new bucket: from the start.
                changed = seen.changed() => {
                    if changed.is_err() { return }
                    seen.mark_changed();
                }
                ended = follow(&shared, &current, &to) => {
                    tracing::debug!(bucket = shared.bucket, ?ended, "watch starts anew");
                    tokio::select! { () = to.closed() => return, () = sleep(Duration::from_millis(200)) => {} }
                    seen.mark_changed();
                }
            }
        }
        tokio::select! {
            () = to.closed() => return,
            changed = seen.changed() => if changed.is_err() { return },
            // In case this connection's bucket was seen between the two looks above.
            () = sleep(LOOK) => {}
        }
    }
}

async fn follow(shared: &Shared, seen: &Seen, to: &mpsc::Sender<KvEvent>) -> Result<(), BusError> {
    let mut batch = Batch::open(shared, seen).await?;
    while let Some(event) = batch.next().await? {
        // Full means the reader is slow: waiting holds the server's messages back.
        if to.send(event).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The facts of a bucket, then its changes.
struct Batch {
    messages: push::Ordered,
    prefix: String,
    ready: VecDeque<KvEvent>,
    synced: bool,
}

impl Batch {
    async fn open(shared: &Shared, seen: &Seen) -> Result<Self, BusError> {
        let consumer = seen.store.stream.create_consumer(push::OrderedConfig {
            deliver_subject: shared.bus.client.new_inbox(),
            filter_subject: format!("{}>", seen.store.prefix),
            replay_policy: ReplayPolicy::Instant,
            deliver_policy: DeliverPolicy::LastPerSubject,
            ..Default::default()
        });
        let consumer = answer(timeout(PATIENCE, consumer).await)?;
        let synced = consumer.cached_info().num_pending == 0;
        let messages = answer(timeout(PATIENCE, consumer.messages()).await)?;
        let mut ready = VecDeque::from([KvEvent::Reset]);
        if synced {
            ready.push_back(KvEvent::Synced);
        }
        Ok(Self {
            messages,
            prefix: seen.store.prefix.clone(),
            ready,
            synced,
        })
    }

    /// The next event; `None` if the server ended the watch.
    async fn next(&mut self) -> Result<Option<KvEvent>, BusError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let message = if self.synced {
                self.messages.next().await
            } else {
                match timeout(BATCH, self.messages.next()).await {
                    Ok(message) => message,
                    Err(_) => {
                        self.synced = true;
                        return Ok(Some(KvEvent::Synced));
                    }
                }
            };
            let Some(message) = message else {
                return Ok(None);
            };
            let message = message.map_err(|error| BusError::Unknown(error.to_string()))?;
            let last = message.info().map_or(true, |info| info.pending == 0);
            let key = message.subject.strip_prefix(&self.prefix).and_then(decode);
            // Keys that we did not write are none of ours.
            if let Some(key) = key {
                let headers = message.headers.as_ref();
                let removed = headers.is_some_and(|headers| {
                    headers.get("Nats-Marker-Reason").is_some()
                        || headers
                            .get("KV-Operation")
                            .is_some_and(|operation| operation.as_str() != "PUT")
                });
                self.ready.push_back(if removed {
                    KvEvent::Gone { key }
                } else {
                    KvEvent::Put {
                        key,
                        value: message.message.payload.clone(),
                    }
                });
            }
            if last && !self.synced {
                self.synced = true;
                self.ready.push_back(KvEvent::Synced);
            }
        }
    }
}
