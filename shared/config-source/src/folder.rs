//! Watching folders: a scan whenever something happened, and every so often in case nothing told us.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use parking_lot::Mutex;
use service_kit::Stop;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::scan::{Scan, Scanner};
use crate::walk::Watched;

/// How folders are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderOptions {
    /// Folders or single files, in order: of an object defined twice, the first definition wins.
    pub roots: Vec<PathBuf>,
    /// File of bare mesh settings.
    pub mesh_config: Option<PathBuf>,
    /// Namespace of objects that name none. Default `default`.
    pub default_namespace: Arc<str>,
    /// After an event, how long nothing more must happen before the folders are read. Default 20 ms.
    pub quiet: Duration,
    /// After an event, how long reading is put off at most. Default 200 ms.
    pub patience: Duration,
    /// How often the folders are read without any event. Default 30 s.
    pub rescan: Duration,
}

impl FolderOptions {
    /// Defaults for some folders.
    pub fn new(roots: Vec<PathBuf>) -> FolderOptions {
        FolderOptions {
            roots,
            mesh_config: None,
            default_namespace: "default".into(),
            quiet: Duration::from_millis(20),
            patience: Duration::from_millis(200),
            rescan: Duration::from_secs(30),
        }
    }
}

/// Reads folders now and on every change until `stop`; the newest scan is in `scans`, which starts as `None`.
///
/// Scans that say the same as the one before are not sent. A folder that cannot be watched is still read on the period.
pub async fn watch(options: FolderOptions, scans: watch::Sender<Option<Scan>>, stop: Stop) {
    let (nudges, mut events) = mpsc::channel(1);
    let interest = Arc::new(Mutex::new(Watched::default()));
    let interested = interest.clone();
    // Any event that matters is a nudge, and one waiting nudge is enough: the scan looks at everything.
    let watcher = notify::recommended_watcher(move |event| {
        if matters(&event, &interested) {
            let _ = nudges.try_send(());
        }
    });
    let mut watcher = watcher
        .inspect_err(|error| tracing::warn!(%error, "folders are polled, not watched"))
        .ok();
    let mut watched = BTreeSet::new();
    let mut scanner = Scanner::new(options.roots.clone(), options.default_namespace.clone())
        .with_mesh_config(options.mesh_config.clone());
    // Until when changes that come while reading may put off what was read.
    let mut patience = Instant::now() + options.patience;
    while !stop.triggered() {
        let scanned = tokio::task::spawn_blocking(move || {
            let found = scanner.scan();
            (scanner, found)
        });
        let Ok((back, (scan, wanted))) = scanned.await else {
            return;
        };
        scanner = back;
        let folders = wanted.all();
        *interest.lock() = wanted;
        if let Some(watcher) = &mut watcher {
            // A folder that appeared between reading and watching may have changed in between: read once more.
            if rewatch(watcher, &mut watched, folders) {
                continue;
            }
        }
        // Something happened while reading: what was read may be half of it.
        let unsettled = events.try_recv().is_ok();
        if unsettled && Instant::now() < patience {
            settle(&mut events, options.quiet, patience).await;
            continue;
        }
        scans.send_if_modified(|current| {
            let differs = current.as_ref().is_none_or(|current| !current.same(&scan));
            if differs {
                *current = Some(scan);
            }
            differs
        });
        if unsettled {
            patience = Instant::now() + options.patience;
            settle(&mut events, options.quiet, patience).await;
            continue;
        }
        tokio::select! {
            () = stop.wait() => return,
            () = tokio::time::sleep(options.rescan) => {}
            Some(()) = events.recv() => {
                patience = Instant::now() + options.patience;
                settle(&mut events, options.quiet, patience).await;
            }
        }
    }
}

/// Waits until nothing more happens for a while.
async fn settle(events: &mut mpsc::Receiver<()>, quiet: Duration, latest: Instant) {
    while let Ok(Some(())) = timeout_at(latest.min(Instant::now() + quiet), events.recv()).await {}
}

/// Whether an event may change what is read. Our own reading makes events, too.
fn matters(event: &notify::Result<Event>, interest: &Mutex<Watched>) -> bool {
    let Ok(event) = event else { return true };
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => {}
    }
    let interest = interest.lock();
    // Without a path, events were lost.
    event.paths.is_empty() || event.paths.iter().any(|path| interest.concerns(path))
}

/// Watches exactly `wanted`. Returns whether some were added.
fn rewatch(
    watcher: &mut impl Watcher,
    watched: &mut BTreeSet<PathBuf>,
    wanted: BTreeSet<PathBuf>,
) -> bool {
    for gone in watched.difference(&wanted) {
        // A folder that no longer exists has lost its watch by itself.
        let _ = watcher.unwatch(gone);
    }
    let mut added = false;
    let mut now = BTreeSet::new();
    for folder in wanted {
        let known = watched.contains(&folder);
        // Watching again is harmless, and needed when a folder was removed and made anew.
        match watcher.watch(&folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                added |= !known;
                now.insert(folder);
            }
            Err(error) => {
                tracing::debug!(folder = %folder.display(), %error, "not watched, polled")
            }
        }
    }
    *watched = now;
    added
}

#[cfg(test)]
mod tests;
