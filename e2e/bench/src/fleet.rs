//! Many clients at once, and waiting until they have nothing more to tell.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::args::Variant;
use crate::client::{Client, Shared};
use crate::door::Door;
use crate::tally::Tally;

/// How often the fleet is looked at.
const GLANCE: Duration = Duration::from_millis(10);

/// Connected clients; they leave when it is dropped.
pub struct Fleet {
    shared: Arc<Shared>,
    size: usize,
    clients: JoinSet<()>,
}

impl Fleet {
    /// Starts one client for each node, all at once.
    pub fn start(door: &Door, variant: Variant, nodes: Vec<Bytes>) -> Fleet {
        let shared = Arc::<Shared>::default();
        let size = nodes.len();
        let mut clients = JoinSet::new();
        for (index, node) in nodes.into_iter().enumerate() {
            clients.spawn(
                Client {
                    index,
                    door: door.clone(),
                    variant,
                    node,
                    shared: shared.clone(),
                    awaited: None,
                }
                .run(),
            );
        }
        Fleet {
            shared,
            size,
            clients,
        }
    }

    /// Waits until every client has everything.
    ///
    /// # Errors
    /// It took longer than `limit`; the message says how far it came and what was in the way.
    pub async fn configured(&self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        while self.shared.tally().configured.len() < self.size {
            if Instant::now() > deadline {
                let tally = self.shared.tally();
                bail!(
                    "{} of {} proxies had everything after {limit:?}; refused: {:?}; so far {:?}",
                    tally.configured.len(),
                    self.size,
                    tally.refused,
                    tally.by_kind
                );
            }
            sleep(GLANCE).await;
        }
        Ok(())
    }

    /// Starts a new count.
    pub fn begin(&self) {
        self.shared.tally().begin();
    }

    /// Waits until nothing came for `quiet`; the first message may take `patience`. Returns what was seen.
    pub async fn settled(&self, quiet: Duration, patience: Duration) -> Tally {
        let started = Instant::now();
        loop {
            let last = self.shared.tally().last();
            let now = Instant::now();
            let over = match last {
                Some(last) => now.duration_since(last) >= quiet,
                None => now.duration_since(started) >= patience,
            };
            // However talkative the server is, this ends.
            if over || now.duration_since(started) > patience + 10 * quiet + Duration::from_secs(60)
            {
                return self.shared.tally().clone();
            }
            sleep(GLANCE).await;
        }
    }

    /// Ends all connections.
    pub async fn leave(mut self) {
        self.clients.shutdown().await;
    }
}

/// Connects one proxy and waits until it has a cluster of this name.
///
/// # Errors
/// It took longer than `limit`.
pub async fn await_cluster(
    door: &Door,
    node: Bytes,
    name: String,
    limit: Duration,
) -> anyhow::Result<()> {
    let shared = Arc::<Shared>::default();
    let (found, mut seen) = mpsc::unbounded_channel();
    let client = Client {
        index: 0,
        door: door.clone(),
        variant: Variant::Sotw,
        node,
        shared: shared.clone(),
        awaited: Some((name.clone(), found)),
    };
    let mut clients = JoinSet::new();
    clients.spawn(client.run());
    let outcome = timeout(limit, seen.recv()).await;
    clients.shutdown().await;
    if outcome.is_err() {
        let tally = shared.tally();
        bail!(
            "no cluster {name} at {} after {limit:?}; refused: {:?}; so far {:?}",
            door.address,
            tally.refused,
            tally.by_kind
        );
    }
    Ok(())
}
