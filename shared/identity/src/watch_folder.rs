//! A certificate that somebody else keeps: read, and read again when it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mesh_api::citadel::TrustBundle;
use notify::{RecursiveMode, Watcher as _};
use service_kit::tls::{Identities, TlsIdentity};
use service_kit::{Ready, Stop};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::folder::{self, FolderError, Material};
use crate::renew::Out;

/// Whoever writes may need that long for all files.
const QUIET: Duration = Duration::from_millis(100);
/// How long changes that do not end may put off reading.
const PATIENCE: Duration = Duration::from_secs(1);
/// The folder is read this often in case nothing told us.
const RESCAN: Duration = Duration::from_secs(30);

/// An identity in a folder that somebody else keeps.
#[derive(Debug)]
pub struct FolderIdentity {
    folder: PathBuf,
    out: Out,
}

impl FolderIdentity {
    /// Not read yet.
    pub fn new(folder: PathBuf) -> FolderIdentity {
        FolderIdentity {
            folder,
            out: Out::new(),
        }
    }

    /// The newest identity.
    pub fn identities(&self) -> Identities {
        self.out.identity.subscribe()
    }

    /// The newest key, chain and roots.
    pub fn material(&self) -> watch::Receiver<Option<Arc<Material>>> {
        self.out.material.subscribe()
    }

    /// Never anything.
    pub(crate) fn bundle(&self) -> watch::Receiver<Option<Arc<TrustBundle>>> {
        self.out.bundle.subscribe()
    }

    /// Reads the folder now and whenever it changes, until `stop`. What cannot be used, or does not belong together, leaves what was read
    /// before in force. The condition `identity` of `ready` is met once there is an identity.
    pub async fn run(self, ready: Ready, stop: Stop) {
        let condition = ready.condition(
            "identity",
            format!("a certificate in {}", self.folder.display()),
        );
        let (nudges, mut events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |_| {
            let _ = nudges.try_send(());
        });
        let mut watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "the folder is polled, not watched"))
            .ok();
        let mut watched = false;
        let mut held: Option<Material> = None;
        loop {
            // A folder that is not there yet, or was made anew, is watched when it is.
            if let Some(watcher) = &mut watcher
                && !watched
            {
                watched = watcher
                    .watch(&self.folder, RecursiveMode::NonRecursive)
                    .is_ok();
            }
            match read(&self.folder, held.as_ref()).await {
                Ok(None) => ready.clear_note("identity"),
                Ok(Some((material, identity))) => {
                    tracing::info!(
                        id = %identity.id(),
                        serial = %identity.certificate().serial(),
                        not_after = %identity.certificate().not_after(),
                        folder = %self.folder.display(),
                        "certificate read"
                    );
                    held = Some(material.clone());
                    self.out.material.send_replace(Some(Arc::new(material)));
                    self.out.identity.send_replace(Some(Arc::new(identity)));
                    condition.met();
                    ready.clear_note("identity");
                }
                Err(error) if held.is_some() => {
                    if ready.report().degraded.get("identity") != Some(&error) {
                        tracing::warn!(error, "the certificate before stays");
                    }
                    ready.note("identity", error);
                }
                Err(error) => condition.unmet(error),
            }
            // A folder that went away is not told of.
            if watched && !self.folder.is_dir() {
                watched = false;
                if let Some(watcher) = &mut watcher {
                    let _ = watcher.unwatch(&self.folder);
                }
            }
            let again = if watched { RESCAN } else { RESCAN / 15 };
            tokio::select! {
                () = stop.wait() => return,
                () = tokio::time::sleep(again) => {}
                Some(()) = events.recv() => settle(&mut events).await,
            }
        }
    }
}

/// Waits until nothing more happens for a while.
async fn settle(events: &mut mpsc::Receiver<()>) {
    let latest = Instant::now() + PATIENCE;
    while let Ok(Some(())) = timeout_at(latest.min(Instant::now() + QUIET), events.recv()).await {}
}

/// What the folder has, if it is something else than before.
async fn read(
    folder: &Path,
    held: Option<&Material>,
) -> Result<Option<(Material, TlsIdentity)>, String> {
    let (folder, held) = (folder.to_owned(), held.cloned());
    let read = tokio::task::spawn_blocking(move || {
        let material = folder::read(&folder)?;
        if held.as_ref() == Some(&material) {
            return Ok(None);
        }
        let identity = material.identity()?;
        Ok::<_, FolderError>(Some((material, identity)))
    });
    match read.await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err("reading failed".into()),
    }
}
