//! Keys of token issuers: what the mesh's policies need is fetched, fetched again, and handed to the planner as facts.
//!
//! A source whose keys cannot be had is a fact too: every token of it is refused, and it is asked again, less and less often. What was had
//! once stays while a later fetch fails.

mod fetch;
mod guard;
mod kept;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mesh_config::resource::normal::{JwksSource, MeshJwks};
use mesh_config::{Body, Meta, Object};
use mesh_model::Change;
use mesh_types::{Key, Labels};
use service_kit::Stop;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::metrics::Metrics;
use crate::planner::{Command, Planner};

pub use fetch::{FetchError, Fetcher, MAX_BODY};
pub use guard::{Blocked, Guard};
pub use kept::Kept;

/// Most sources of a mesh. What is beyond is not fetched, which counts as failed.
const MAX_SOURCES: usize = 1_000;
/// Fetches under way at once.
const AT_ONCE: usize = 8;
/// A source that was never had is asked again so often, a second apart, before it is left alone for longer.
const QUICK: u32 = 7;
/// First pause of a source that fails; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// Longest pause of a source that fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);
/// What nobody needs any more is kept for so long.
const UNUSED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Where the facts go.
pub trait Facts: Send + Sync + 'static {
    /// Takes changes.
    fn take(&self, changes: Vec<Change>);
}

impl Facts for Planner {
    fn take(&self, changes: Vec<Change>) {
        self.send(Command::Facts(changes));
    }
}

/// What is known of one source.
#[derive(Debug)]
struct Entry {
    keys: Option<Arc<str>>,
    failures: u32,
    due: Instant,
    busy: bool,
    unused_since: Option<Instant>,
}

/// Fetches what `wanted` says until `stop`; keys that were had are fetched again after `refresh`. Begins with what was kept, which the mesh
/// must know already, and keeps what it has.
pub async fn follow(
    (fetcher, refresh): (Fetcher, Duration),
    kept: Kept,
    mut wanted: watch::Receiver<Arc<BTreeSet<JwksSource>>>,
    facts: impl Facts,
    metrics: Metrics,
    stop: Stop,
) {
    let mut known: BTreeMap<JwksSource, Entry> = kept.entries(Instant::now());
    let mut running = JoinSet::new();
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let now = Instant::now();
        let changes = adopt(&mut known, &wanted.borrow_and_update(), now);
        if !changes.is_empty() {
            facts.take(changes);
        }
        for (source, entry) in &mut known {
            if entry.busy || entry.unused_since.is_some() || entry.due > now {
                continue;
            }
            entry.busy = true;
            let (source, fetcher, room) = (source.clone(), fetcher.clone(), room.clone());
            running.spawn(async move {
                let _permit = room.acquire_owned().await;
                let result = fetcher.keys(&source).await;
                (source, result)
            });
        }
        let idle = |entry: &&Entry| !entry.busy;
        let next = known.values().filter(idle).map(|entry| entry.next()).min();
        tokio::select! {
            () = stop.wait() => return,
            changed = wanted.changed() => if changed.is_err() {
                stop.wait().await;
                return;
            },
            Some(Ok((source, result))) = running.join_next() => {
                metrics.jwks_fetched(result.is_ok());
                if let Some(entry) = known.get_mut(&source)
                    && entry.learn(&source, result, refresh)
                {
                    facts.take(vec![entry.fact(&source)]);
                    kept.write(&known).await;
                }
            }
            () = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}

/// Brings what is known to what is wanted; what changes in the mesh by that alone.
fn adopt(
    known: &mut BTreeMap<JwksSource, Entry>,
    wanted: &BTreeSet<JwksSource>,
    now: Instant,
) -> Vec<Change> {
    let mut changes = Vec::new();
    known.retain(|source, entry| {
        match (wanted.contains(source), entry.unused_since) {
            (true, Some(_)) => {
                entry.unused_since = None;
                changes.push(entry.fact(source));
            }
            (false, None) => {
                entry.unused_since = Some(now);
                changes.push(Change::Delete(source.key()));
            }
            (false, Some(since)) => return entry.busy || now < since + UNUSED,
            (true, None) => {}
        }
        true
    });
    for source in wanted {
        if known.contains_key(source) {
            continue;
        }
        if known.len() >= MAX_SOURCES {
            // Those that nobody needs make room.
            let unused = known
                .iter()
                .find(|(_, e)| e.unused_since.is_some() && !e.busy);
            let Some(unused) = unused.map(|(source, _)| source.clone()) else {
                tracing::warn!(
                    ?source,
                    most = MAX_SOURCES,
                    "too many sources of keys: tokens of this one are refused"
                );
                break;
            };
            known.remove(&unused);
        }
        let entry = Entry {
            keys: None,
            failures: 0,
            due: now,
            busy: false,
            unused_since: None,
        };
        known.insert(source.clone(), entry);
    }
    changes
}

impl Entry {
    /// When it is to be looked at again.
    fn next(&self) -> Instant {
        match self.unused_since {
            Some(since) => since + UNUSED,
            None => self.due,
        }
    }

    /// Takes the outcome of a fetch; whether the mesh must hear of it.
    fn learn(
        &mut self,
        source: &JwksSource,
        result: Result<Arc<str>, FetchError>,
        refresh: Duration,
    ) -> bool {
        self.busy = false;
        let wanted = self.unused_since.is_none();
        match result {
            Ok(keys) => {
                self.failures = 0;
                self.due = Instant::now() + refresh;
                let news = self.keys.as_ref() != Some(&keys);
                self.keys = Some(keys);
                wanted && news
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                self.due = Instant::now() + pause(self.failures, self.keys.is_some());
                tracing::warn!(?source, %error, failures = self.failures, had = self.keys.is_some(), "keys of a token issuer cannot be fetched");
                wanted && self.keys.is_none() && self.failures == 1
            }
        }
    }

    /// What the mesh is told.
    fn fact(&self, source: &JwksSource) -> Change {
        let jwks = MeshJwks {
            source: source.clone(),
            keys: self.keys.clone(),
        };
        fact(source.key(), Body::MeshJwks(Arc::new(jwks)))
    }
}

/// A fact of the mesh that is no configuration.
pub(crate) fn fact(key: Key, body: Body) -> Change {
    let meta = Meta {
        key,
        created_us: 0,
        labels: Labels::default(),
        annotations: Labels::default(),
    };
    Change::Upsert(Arc::new(Object::new(meta, body)))
}

/// How long a source is left alone after it failed for the nth time in a row.
fn pause(failures: u32, had: bool) -> Duration {
    if !had && failures <= QUICK {
        return Duration::from_secs(1);
    }
    let doublings = failures - if had { 1 } else { QUICK + 1 };
    FIRST_PAUSE
        .saturating_mul(1 << doublings.min(16))
        .min(LONGEST_PAUSE)
}
