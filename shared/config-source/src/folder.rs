//! Watching folders: a scan whenever something happened, and every so often in case nothing told us.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use service_kit::Stop;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::scan::{Scan, Scanner};

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
    // Any event is a nudge, and one waiting nudge is enough: the scan looks at everything.
    let watcher = notify::recommended_watcher(move |_event| {
        let _ = nudges.try_send(());
    });
    let mut watcher = watcher
        .inspect_err(|error| tracing::warn!(%error, "folders are polled, not watched"))
        .ok();
    let mut watched = BTreeSet::new();
    let mut scanner = Scanner::new(options.roots.clone(), options.default_namespace.clone())
        .with_mesh_config(options.mesh_config.clone());
    loop {
        let scanned = tokio::task::spawn_blocking(move || {
            let found = scanner.scan();
            (scanner, found)
        });
        let Ok((back, (mut scan, folders))) = scanned.await else {
            return;
        };
        scanner = back;
        if let Some(watcher) = &mut watcher {
            // A folder that appeared between reading and watching may have changed in between: read once more.
            if rewatch(watcher, &mut watched, folders) {
                let again = tokio::task::spawn_blocking(move || {
                    let found = scanner.scan();
                    (scanner, found)
                });
                let Ok((back, (second, _))) = again.await else {
                    return;
                };
                (scanner, scan) = (back, second);
            }
        }
        scans.send_if_modified(|current| {
            let differs = current.as_ref().is_none_or(|current| !current.same(&scan));
            if differs {
                *current = Some(scan);
            }
            differs
        });
        tokio::select! {
            () = stop.wait() => return,
            () = tokio::time::sleep(options.rescan) => {}
            Some(()) = events.recv() => {
                let latest = Instant::now() + options.patience;
                while let Ok(Some(())) = timeout_at(latest.min(Instant::now() + options.quiet), events.recv()).await {}
            }
        }
    }
}

/// Watches exactly `folders`. Returns whether some were added.
fn rewatch(
    watcher: &mut impl Watcher,
    watched: &mut BTreeSet<PathBuf>,
    folders: Vec<PathBuf>,
) -> bool {
    let wanted: BTreeSet<PathBuf> = folders.into_iter().collect();
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
