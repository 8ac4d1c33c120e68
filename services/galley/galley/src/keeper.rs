//! The one owner of the state: sources in, revisions out.
//!
//! One loop, whatever happens: be at the store's newest revision, hold the lease if there is something to write, commit what the sources
//! say. Whatever fails is tried again from there, so a conflict, a fenced writer, a commit whose outcome is unknown and a database that
//! comes back are all the same road. What was published stays published meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use config_source::Scan;
use galley_core::{Admission, Change, State};
use mesh_types::{Finding, Key};
use service_kit::{Backoff, Condition, Ready, Stop};
use store::{CommitError, CommitRequest, Lease, Store, StoreError, WRITER_LEASE};
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::published::{Inputs, KeeperOptions, Published};
use crate::rows::{read, stored, upserts};
use crate::source::log;

/// Longest time one call of the store may take, loading everything included; then its outcome is unknown.
const CALL: Duration = Duration::from_secs(60);
/// How long a turn may still take after the stop signal.
const LAST_TURN: Duration = Duration::from_secs(3);
/// History is cut back every so many commits.
const PRUNE_EVERY: u64 = 100;
/// Under which name the findings are kept in the store.
const FINDINGS: &str = "sources";

/// Why a turn did not end well.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Commit(#[from] CommitError),
    #[error("the store did not answer within {CALL:?}")]
    Silent,
}

/// The keeper.
pub struct Keeper {
    options: KeeperOptions,
    inputs: Inputs,
    out: Published,
    metrics: Metrics,
    ready: Ready,
    revision_known: Condition,
    state: State,
    /// The scan that was last weighed, the revision it was weighed against, and whether something was to be committed.
    weighed: Option<(Scan, u64, bool)>,
    /// Whether anything was loaded from the store yet.
    resumed: bool,
    /// Whether the store may be ahead of `state`.
    behind: bool,
    lease: Option<Lease>,
    renew_at: Instant,
    saved_findings: Option<Arc<Vec<Finding>>>,
}

impl Keeper {
    /// A keeper that has done nothing yet.
    pub fn new(
        options: KeeperOptions,
        inputs: Inputs,
        out: Published,
        metrics: Metrics,
        ready: &Ready,
    ) -> Keeper {
        Keeper {
            state: State::new(options.registry.clone()),
            options,
            inputs,
            out,
            metrics,
            ready: ready.clone(),
            revision_known: ready.condition("revision", "the store"),
            weighed: None,
            resumed: false,
            behind: true,
            lease: None,
            renew_at: Instant::now(),
            saved_findings: None,
        }
    }

    /// Works until `stop`.
    ///
    /// # Errors
    /// The store can never be used as it is: before anything was served, a human has to look.
    pub async fn run(mut self, stop: Stop) -> Result<(), StoreError> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let turned = tokio::select! {
                turned = self.turn() => turned,
                () = async { stop.wait().await; tokio::time::sleep(LAST_TURN).await } => break,
            };
            let wait = match turned {
                Ok(()) => {
                    backoff.reset();
                    self.ready.clear_note("store");
                    self.rest()
                }
                Err(Trouble::Store(error)) if !self.resumed && is_fatal(&error) => {
                    return Err(error);
                }
                Err(trouble) => {
                    self.behind = true;
                    self.metrics.store_error();
                    let revision = self.state.revision();
                    self.ready
                        .note("store", format!("{trouble}; serving revision {revision}"));
                    tracing::warn!(error = %trouble, revision, "the store cannot be used; trying again");
                    backoff.next_delay()
                }
            };
            let failed = self.behind;
            tokio::select! {
                () = stop.wait() => break,
                () = tokio::time::sleep(wait) => {}
                // After a failure nothing but time helps.
                Ok(()) = self.inputs.scans.changed(), if !failed => {}
                Ok(()) = self.inputs.heard.changed(), if !failed => {}
            }
        }
        self.leave().await;
        Ok(())
    }

    /// How long there is nothing to do unless something happens.
    fn rest(&self) -> Duration {
        let renewal = self.renew_at.saturating_duration_since(Instant::now());
        if self.lease.is_some() {
            renewal
        } else {
            self.options.poll
        }
    }

    async fn leave(&mut self) {
        let store = self.out.store.borrow().clone();
        let Some(store) = store else { return };
        if let Some(lease) = self.lease.take() {
            // The next writer need not wait for the lease to end. If it cannot be given back, it will.
            let given = tokio::time::timeout(Duration::from_secs(1), store.lease_release(&lease));
            if !matches!(given.await, Ok(Ok(()))) {
                tracing::info!("the lease was not given back; it ends by itself");
            }
        }
        self.out.store.send_replace(None);
        let _ = tokio::time::timeout(Duration::from_secs(1), store.close()).await;
    }

    /// One turn: be up to date, hold the lease, commit what there is.
    async fn turn(&mut self) -> Result<(), Trouble> {
        let store = self.store().await?;
        let heard = *self.inputs.heard.borrow_and_update();
        if self.behind || self.lease.is_none() || heard > self.state.revision() {
            self.catch_up(&store).await?;
        }
        if self.options.sources.is_empty() {
            self.load_findings(&store).await?;
            return Ok(());
        }
        self.renew(&store).await?;
        while let Some(admission) = self.weigh().await {
            if self.lease.is_none() || !self.commit(&store, admission).await? {
                break;
            }
        }
        self.save_findings(&store).await
    }

    async fn store(&mut self) -> Result<Store, Trouble> {
        let open = self.out.store.borrow().clone();
        if let Some(store) = open {
            return Ok(store);
        }
        let store = bounded(Store::open(&self.options.store_url)).await?;
        self.out.store.send_replace(Some(store.clone()));
        Ok(store)
    }

    /// Goes on to the store's newest revision.
    async fn catch_up(&mut self, store: &Store) -> Result<(), Trouble> {
        let since = if self.resumed {
            match bounded(store.changes_since(self.state.revision())).await {
                Ok(since) => Some(since),
                // Pruned meanwhile, or another database.
                Err(Trouble::Store(StoreError::NoRevision { .. })) => None,
                Err(trouble) => return Err(trouble),
            }
        } else {
            self.load_findings(store).await?;
            None
        };
        let (head, changes) = match since {
            Some(since) => {
                let mut changes = BTreeMap::new();
                for change in since.changes {
                    let row = change.now.map(|(body, _)| body);
                    changes.extend(read(&change.key, row.as_deref()));
                }
                (since.head, changes)
            }
            None => {
                let loaded = bounded(store.load()).await?;
                let rows: BTreeMap<Key, Change> = loaded
                    .objects
                    .iter()
                    .filter_map(|object| read(&object.key, Some(&object.body)))
                    .collect();
                let gone = self.state.world().objects().keys();
                let gone: Vec<Key> = gone.filter(|k| !rows.contains_key(*k)).cloned().collect();
                let mut changes = rows;
                changes.extend(gone.into_iter().map(|key| (key, None)));
                (loaded.revision, changes)
            }
        };
        self.behind = false;
        let first = !std::mem::replace(&mut self.resumed, true);
        if head == 0 {
            self.revision_known.unmet("the sources");
        }
        if head == self.state.revision() {
            return Ok(());
        }
        let committed = bounded(store.revision(head)).await?;
        let digest = committed.as_ref().map(|r| r.digest.clone());
        self.advance(changes, head, committed.map_or(0, |r| r.committed_us))
            .await;
        if digest.is_some_and(|digest| digest != self.state.world().digest()) {
            // Objects that a newer version wrote, or damage; what can be read is served.
            tracing::warn!(
                revision = head,
                "not every object of the store's revision can be read"
            );
        }
        tracing::info!(
            revision = head,
            objects = self.state.world().objects().len(),
            "{}",
            if first {
                "resumed from the store"
            } else {
                "took over a revision of another Galley"
            }
        );
        Ok(())
    }

    /// Acquires or renews the lease when it is time.
    async fn renew(&mut self, store: &Store) -> Result<(), Trouble> {
        let now = Instant::now();
        if self.lease.is_some() && now < self.renew_at {
            return Ok(());
        }
        let ttl = self.options.lease_ttl;
        let lease = bounded(store.lease_acquire(WRITER_LEASE, &self.options.holder, ttl)).await?;
        self.renew_at = now + ttl / 3;
        let had = self.lease.as_ref().map(|lease| lease.epoch);
        if lease.as_ref().map(|lease| lease.epoch) != had {
            match &lease {
                Some(lease) => tracing::info!(epoch = lease.epoch, "writing"),
                None => tracing::info!("another Galley writes; following it"),
            }
        }
        let new_epoch = lease.is_some() && lease.as_ref().map(|l| l.epoch) != had;
        self.hold(lease);
        if new_epoch {
            // Whoever wrote before may have committed since we looked.
            self.catch_up(store).await?;
        }
        Ok(())
    }

    fn hold(&mut self, lease: Option<Lease>) {
        let writes = lease.is_some();
        self.lease = lease;
        self.metrics.writer(writes);
        self.out
            .writer
            .send_if_modified(|known| std::mem::replace(known, writes) != writes);
    }

    /// Weighs the newest scan against the state; what is to be committed, if anything.
    async fn weigh(&mut self) -> Option<Admission> {
        let scan = self.inputs.scans.borrow_and_update().clone()?;
        let revision = self.state.revision();
        if let Some((weighed, against, due)) = &self.weighed
            && *against == revision
            && weighed.same(&scan)
            && (!due || self.lease.is_none())
        {
            return None;
        }
        let sources = self.options.sources.clone();
        let (scan, admission) = self
            .compute(move |state| {
                let admission = galley_core::admit(&sources.view(&scan), state.world());
                (scan, admission)
            })
            .await;
        let known = !scan.files.is_empty() || scan.lost.is_empty();
        self.tell(&scan, &admission);
        // The first revision may be an empty one, but not because nothing could be read.
        let due = !admission.changes.is_empty() || revision == 0 && known;
        self.weighed = Some((scan, revision, due));
        if !known && revision == 0 {
            self.revision_known
                .unmet("the sources: none of them can be read");
        }
        due.then_some(admission)
    }

    /// Logs, counts and publishes what the authors should know, if it is news.
    fn tell(&mut self, scan: &Scan, admission: &Admission) {
        let now: Vec<Finding> = scan
            .findings()
            .chain(&admission.findings)
            .cloned()
            .collect();
        let before = self.out.findings.borrow().clone();
        if *before == now {
            return;
        }
        let told: BTreeSet<String> = before.iter().map(Finding::to_string).collect();
        for finding in &now {
            if !told.contains(&finding.to_string()) {
                self.metrics.found(finding);
                log(finding);
            }
        }
        self.out.findings.send_replace(Arc::new(now));
    }

    /// Commits a change set. Returns whether to weigh again: the state has moved.
    async fn commit(&mut self, store: &Store, mut admission: Admission) -> Result<bool, Trouble> {
        let Some(lease) = &self.lease else {
            return Ok(false);
        };
        let world = self.state.world();
        let request = CommitRequest {
            epoch: lease.epoch,
            expect_head: self.state.revision(),
            source: self.options.sources.urls.join(","),
            summary: admission.summary(world),
            digest: world.digest_after(&admission.changes),
            upserts: upserts(&mut admission),
            deletes: admission
                .changes
                .iter()
                .filter(|(_, change)| change.is_none())
                .map(|(key, _)| stored(key))
                .collect(),
        };
        let began = Instant::now();
        // Unknown until proven otherwise, also if this future is dropped.
        self.behind = true;
        let outcome = tokio::time::timeout(CALL, store.commit(&request)).await;
        let revision = match outcome.map_err(|_| Trouble::Silent)? {
            Ok(revision) => revision,
            Err(error @ (CommitError::Fenced { .. } | CommitError::Conflict { .. })) => {
                tracing::warn!(%error, "not committed; looking again");
                if matches!(error, CommitError::Fenced { .. }) {
                    self.hold(None);
                }
                self.catch_up(store).await?;
                return Ok(self.lease.is_some());
            }
            Err(error) => return Err(error.into()),
        };
        self.behind = false;
        let committed_us = match bounded(store.revision(revision)).await {
            Ok(Some(committed)) => committed.committed_us,
            // It is stored; only its time could not be read.
            Ok(None) | Err(_) => 0,
        };
        let took = began.elapsed();
        self.metrics.committed(request.upserts.len(), took);
        tracing::info!(revision, summary = request.summary, ?took, "committed");
        self.advance(admission.changes, revision, committed_us)
            .await;
        self.out.committed.send_replace(revision);
        if self.options.keep_revisions > 0 && revision.is_multiple_of(PRUNE_EVERY) {
            bounded(store.prune(self.options.keep_revisions)).await?;
        }
        Ok(true)
    }

    /// Publishes a revision that is in the store.
    async fn advance(&mut self, changes: BTreeMap<Key, Change>, revision: u64, committed_us: i64) {
        let normal = self
            .compute(move |state| state.advance(changes, revision, committed_us))
            .await;
        let snapshot = self.state.snapshot().clone();
        self.metrics.published(&snapshot);
        self.out.snapshot.send_replace(snapshot);
        self.out.news.send_modify(|news| {
            news.changes.extend(normal);
            news.world = self.state.world().clone();
        });
        self.revision_known.met();
    }

    /// Runs something that takes a while off the async workers.
    async fn compute<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> T {
        let mut state = std::mem::take(&mut self.state);
        let done = tokio::task::spawn_blocking(move || {
            let out = work(&mut state);
            (state, out)
        });
        match done.await {
            Ok((state, out)) => {
                self.state = state;
                out
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going away, and we with it.
                Err(_) => std::future::pending().await,
            },
        }
    }

    async fn load_findings(&mut self, store: &Store) -> Result<(), Trouble> {
        let saved = bounded(store.load_findings()).await?;
        let found: Vec<Finding> = saved
            .into_iter()
            .filter(|(source, _)| source == FINDINGS)
            .filter_map(|(_, text)| serde_json::from_str::<Vec<Finding>>(&text).ok())
            .flatten()
            .collect();
        self.out.findings.send_if_modified(|known| {
            let news = **known != found;
            if news {
                *known = Arc::new(found);
            }
            news
        });
        Ok(())
    }

    async fn save_findings(&mut self, store: &Store) -> Result<(), Trouble> {
        let now = self.out.findings.borrow().clone();
        let known = self.saved_findings.as_ref();
        if self.lease.is_none()
            || self.weighed.is_none()
            || known.is_some_and(|k| Arc::ptr_eq(k, &now))
        {
            return Ok(());
        }
        // Findings are plain data; JSON escapes what the store does not take.
        let text = serde_json::to_string(&*now).unwrap_or_default();
        bounded(store.save_findings(FINDINGS, Some(&text))).await?;
        self.saved_findings = Some(now);
        Ok(())
    }
}

/// Whether only a human can help, so that starting is no use.
fn is_fatal(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Url { .. } | StoreError::Newer(_) | StoreError::Corrupt(_)
    )
}

/// A call of the store that does not take for ever.
async fn bounded<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, Trouble> {
    match tokio::time::timeout(CALL, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Trouble::Silent),
    }
}
