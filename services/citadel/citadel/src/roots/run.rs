//! Following what other replicas, operators and the folder change.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus::Bus;
use notify::RecursiveMode;
use rand::RngExt as _;
use service_kit::Stop;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::folder::FolderError;
use super::{Change, Plugged, Roots, RootsError, compose, start};
use crate::ledger::{Mode, Trust};
use crate::trust_service::TRUST_SUBJECT;

/// A folder is read after it was quiet for so long.
const QUIET: Duration = Duration::from_millis(100);
/// At the latest so long after the first event.
const PATIENCE: Duration = Duration::from_secs(2);
/// A folder is read so often without any event.
const RESCAN: Duration = Duration::from_secs(30);
/// How often revocation lists are looked at: whether one is to be made anew, or to go.
const LISTS: Duration = Duration::from_secs(600);
/// No call to the ledger keeps the loop longer.
const BOUND: Duration = Duration::from_secs(20);

impl Roots {
    /// Follows the ledger and the folder, and does root operations while this replica is elected, until `stop`.
    pub async fn run(self: Arc<Self>, bus: Arc<dyn Bus>, stop: Stop) {
        let folder = self.clone().follow_folder(stop.clone());
        let ledger = self.clone().follow_ledger(bus, stop.clone());
        tokio::join!(folder, ledger);
        let lease = self.lease.send_replace(None);
        if let Some(lease) = lease {
            // Not given back, it ends by itself.
            let _ = timeout(Duration::from_secs(1), self.ledger.release(&lease)).await;
        }
    }

    async fn follow_ledger(self: Arc<Self>, bus: Arc<dyn Bus>, stop: Stop) {
        let mut news = bus.subscribe(TRUST_SUBJECT).await.ok();
        let mut revoked = self.ledger.revocations_changed();
        let mut poll = tokio::time::interval(self.config.poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now = Instant::now();
        let mut due = Due {
            lease: now,
            lists: now,
            reissue: now + self.first_check(),
        };
        let mut trouble = false;
        loop {
            let heard = async {
                match &mut news {
                    Some(news) => match news.next().await {
                        Some(_) => {}
                        None => std::future::pending().await,
                    },
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.wait() => return,
                () = heard => {}
                () = self.nudge.notified() => {}
                Ok(()) = revoked.changed() => {}
                _ = poll.tick() => {}
            }
            let outcome = tokio::select! {
                () = stop.wait() => return,
                outcome = timeout(BOUND, self.turn(&mut due)) => outcome,
            };
            match outcome {
                Ok(Ok(())) => {
                    if std::mem::take(&mut trouble) {
                        tracing::info!("the ledger answers again");
                    }
                }
                Ok(Err(error)) => {
                    if !std::mem::replace(&mut trouble, true) {
                        tracing::warn!(%error, "what is trusted cannot be followed; what was read last stays");
                    }
                    self.lose_lease_in_time(&due);
                }
                Err(_) => {
                    if !std::mem::replace(&mut trouble, true) {
                        tracing::warn!(
                            "the ledger does not answer in time; what was read last stays"
                        );
                    }
                    self.lose_lease_in_time(&due);
                }
            }
        }
    }

    fn first_check(&self) -> Duration {
        let interval = self.config.check_interval;
        if self.config.check_jitter && !interval.is_zero() {
            interval.mul_f64(rand::rng().random_range(0.0..1.0))
        } else {
            Duration::ZERO
        }
    }

    /// A lease that could not be renewed ends here no later than in the database.
    fn lose_lease_in_time(&self, due: &Due) {
        let ttl = self.config.lease_ttl;
        // Renewed at `due.lease - ttl / 3`.
        if Instant::now() + ttl / 3 >= due.lease + ttl {
            self.lease.send_if_modified(|lease| lease.take().is_some());
        }
    }

    /// One look at everything.
    async fn turn(&self, due: &mut Due) -> Result<(), RootsError> {
        let now = Instant::now();
        if now >= due.lease {
            let lease = self
                .ledger
                .lease(&self.holder, self.config.lease_ttl)
                .await?;
            due.lease = now + self.config.lease_ttl / 3;
            self.lease.send_if_modified(|known| {
                let differs = *known != lease;
                if differs {
                    match &lease {
                        Some(lease) => {
                            tracing::info!(epoch = lease.epoch, "elected for root operations")
                        }
                        None => tracing::info!("another replica does root operations"),
                    }
                    known.clone_from(&lease);
                }
                differs
            });
        }
        let versions = self.ledger.versions().await?;
        if versions.revocations != self.ledger.in_force().0 {
            self.ledger.reload_revocations().await?;
        }
        let shared = self.shared.borrow().clone();
        let behind = shared
            .as_ref()
            .is_none_or(|shared| shared.versions.trust != versions.trust);
        if behind {
            self.adopt(self.ledger.trust().await?)?;
        }
        let bundle_of = self.shared.borrow().as_ref().map(|shared| shared.bundle_of);
        if bundle_of != Some(versions.revocations) {
            self.refresh().await?;
        }
        if self.lease.borrow().is_none() {
            return Ok(());
        }
        if now >= due.lists {
            self.refresh().await?;
            due.lists = now + LISTS;
        }
        if now >= due.reissue && !self.config.check_interval.is_zero() {
            self.reissue_if_due().await?;
            self.tidy_plugged(None).await?;
            due.reissue = now + self.config.check_interval;
        }
        Ok(())
    }

    /// Makes the bundle anew from what is trusted and revoked; nothing happens if it would be the same.
    ///
    /// # Errors
    /// See [`RootsError`].
    pub async fn refresh(&self) -> Result<(), RootsError> {
        let known = self.known().await?;
        let plugged = self.plugged.lock().clone();
        let now = self.now();
        self.change(|before| {
            let Some(before) = before else {
                return Ok(None);
            };
            let change = same(before);
            let (next, _) = compose::update(
                &self.config,
                Some(before),
                change.clone(),
                plugged.as_deref(),
                &known,
                now,
            )?;
            let differs = next.bundle.digest != before.bundle.digest
                || before.bundle_of != before.versions.revocations;
            Ok::<_, RootsError>(differs.then_some(change))
        })
        .await
    }

    /// Brings what is trusted to what the folder says, as the elected replica. `gone`: roots the folder had before. Other roots stay as long
    /// as certificates of other issuers live.
    async fn tidy_plugged(&self, gone: Option<&Plugged>) -> Result<(), RootsError> {
        let Some(plugged) = self.plugged.lock().clone() else {
            return Ok(());
        };
        let now = self.now();
        let live = self.ledger.live_issuers(now).await?;
        let alone = live.iter().all(|issuer| *issuer == plugged.issuer);
        self.change(|before| {
            Ok::<_, RootsError>(before.and_then(|before| {
                let all = plugged.authority.roots().roots();
                let mut state = before.state.clone();
                if alone {
                    state.trusted.clear();
                }
                for root in gone.iter().flat_map(|gone| gone.authority.roots().roots()) {
                    state.trusted.remove(&root.fingerprint());
                }
                state
                    .trusted
                    .extend(all.iter().map(pki::Certificate::fingerprint));
                state.signing = plugged.root.fingerprint();
                if state == before.state && before.mode == Mode::PluggedIn {
                    return None;
                }
                let detail = format!(
                    "the folder's roots are trusted: {}",
                    state.trusted.iter().cloned().collect::<Vec<_>>().join(", ")
                );
                let rows = all
                    .iter()
                    .filter(|root| !before.roots.contains_key(&root.fingerprint()));
                // Of roots that are trusted no longer.
                let destroy = before
                    .roots
                    .values()
                    .filter(|row| {
                        row.private_key.is_some() && !state.trusted.contains(&row.fingerprint)
                    })
                    .map(|row| row.fingerprint.clone())
                    .collect();
                Some(Change {
                    mode: Mode::PluggedIn,
                    roots: rows.map(|root| compose::row(root, None, now)).collect(),
                    state,
                    destroy,
                    entries: vec![self.note(detail, now)],
                })
            }))
        })
        .await
    }

    async fn follow_folder(self: Arc<Self>, stop: Stop) {
        let Some(folder) = self.config.folder.clone() else {
            return;
        };
        if self.plugged.lock().is_none() {
            // Roots are made here: an authority that appears later is a restart's decision.
            return;
        }
        let (events, mut nudges) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |_| {
            let _ = events.try_send(());
        });
        let mut watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "the folder is polled, not watched"))
            .ok();
        loop {
            if let Some(watcher) = &mut watcher {
                rewatch(watcher, &folder);
            }
            tokio::select! {
                () = stop.wait() => return,
                _ = tokio::time::sleep(RESCAN) => {}
                Some(()) = nudges.recv() => {
                    let latest = Instant::now() + PATIENCE;
                    while Instant::now() < latest
                        && let Ok(Some(())) = timeout(QUIET, nudges.recv()).await
                    {}
                }
            }
            let reloaded = tokio::select! {
                () = stop.wait() => return,
                reloaded = self.reload_folder() => reloaded,
            };
            if let Err(error) = reloaded {
                self.refused_reloads.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "what the folder holds now is refused; the authority before stays");
            }
        }
    }

    /// Takes what the folder holds now, or refuses it.
    async fn reload_folder(&self) -> Result<(), RootsError> {
        let found = start::read_folder(&self.config, self.now()).await?;
        let path = || {
            let folder = self.config.folder.as_ref();
            folder.map_or_else(String::new, |folder| folder.display().to_string())
        };
        let Some(found) = found else {
            return Err(RootsError::Unplugged(path()));
        };
        let Some(before) = self.plugged.lock().clone() else {
            return Ok(());
        };
        if before.same(&found) {
            return Ok(());
        }
        let (old, new) = (before.authority.roots(), found.authority.roots());
        let exchanged = old.roots() != new.roots();
        if exchanged && !(self.config.multi_root && old.overlaps_with(new)) {
            return Err(FolderError::Roots(path()).into());
        }
        tracing::info!(
            authority = found.authority.certificate().fingerprint(),
            "the folder holds another authority, or other roots or lists: taken over"
        );
        let found = Arc::new(found);
        *self.plugged.lock() = Some(found.clone());
        let shared = if self.lease.borrow().is_some() {
            self.tidy_plugged(Some(&before)).await
        } else {
            let now = self.now();
            self.change(|trust| {
                Ok::<_, RootsError>(trust.and_then(|trust| self.join(trust, &found, now)))
            })
            .await
        };
        if let Err(error) = shared {
            // The signer must not change before its root is trusted.
            *self.plugged.lock() = Some(before);
            return Err(error);
        }
        self.refresh().await
    }
}

/// When what is next.
struct Due {
    lease: Instant,
    lists: Instant,
    reissue: Instant,
}

/// No change but of the bundle.
fn same(before: &Trust) -> Change {
    Change {
        mode: before.mode,
        state: before.state.clone(),
        roots: Vec::new(),
        destroy: Vec::new(),
        entries: Vec::new(),
    }
}

/// The folder and the one it is in, which tells when the folder itself is exchanged.
fn rewatch(watcher: &mut impl notify::Watcher, folder: &Path) {
    for path in [Some(folder), folder.parent()].into_iter().flatten() {
        // What cannot be watched, because it is not there, is read on the period.
        let _ = watcher.watch(path, RecursiveMode::NonRecursive);
    }
}
