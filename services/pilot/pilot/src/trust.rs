//! The trust bundle: followed from Citadel, kept for the day Citadel is away, served to agents, and its denied identities to every proxy.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_api::citadel::TrustBundle;
use mesh_api::istio::mesh::ProxyConfig;
use mesh_config::Body;
use mesh_config::resource::normal::MeshTrust;
use mesh_model::Change;
use prost::Message as _;
use service_kit::Stop;
use tokio::sync::watch;
use xds_core::{Encoded, Layers, Set, Snapshot, TypeId};

use crate::jwks::fact;
use crate::metrics::Metrics;
use crate::planner::{Command, Planner};

/// Name of the one resource of either type.
const NAME: &str = "default";
/// Largest file that is read. Unit: bytes.
const MAX_FILE: u64 = 16 << 20;

/// A trust bundle as agents get it: ours for our agents, the roots alone for Istio's.
#[derive(Debug)]
pub struct ServedTrust {
    bundle: Arc<TrustBundle>,
    trust: Layers,
    roots: Layers,
}

impl ServedTrust {
    /// Encodes a bundle.
    pub fn of(bundle: Arc<TrustBundle>) -> ServedTrust {
        let one = |type_id, message: Vec<u8>| {
            let resource = Arc::new(Encoded::new(NAME, type_id, &message));
            Layers::new([Arc::new(Set::new(vec![resource]))])
        };
        let config = ProxyConfig {
            ca_certificates_pem: bundle.roots.clone(),
        };
        ServedTrust {
            trust: one(TypeId::Trust, bundle.encode_to_vec()),
            roots: one(TypeId::Pcds, config.encode_to_vec()),
            bundle,
        }
    }

    /// A snapshot with the bundle in it.
    pub fn add_to(&self, snapshot: Snapshot) -> Snapshot {
        snapshot
            .with(TypeId::Trust, self.trust.clone())
            .with(TypeId::Pcds, self.roots.clone())
    }

    /// Whether a snapshot holds this very bundle.
    pub fn is_in(&self, snapshot: &Snapshot) -> bool {
        snapshot.layers(TypeId::Trust).same(&self.trust)
    }

    /// The bundle.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// Whom every proxy refuses, as a fact of the mesh.
    pub fn denied(&self) -> Change {
        if self.bundle.denied.is_empty() {
            return Change::Delete(MeshTrust::key());
        }
        let denied = MeshTrust {
            denied: self.bundle.denied.iter().map(|id| (**id).into()).collect(),
        };
        fact(MeshTrust::key(), Body::MeshTrust(Arc::new(denied)))
    }
}

/// What is served now.
pub type Served = watch::Receiver<Option<Arc<ServedTrust>>>;

/// Whom bundles go to.
#[derive(Clone)]
pub struct Servants {
    /// Tells proxies.
    pub planner: Planner,
    /// What is served now.
    pub served: watch::Sender<Option<Arc<ServedTrust>>>,
    /// Counters.
    pub metrics: Metrics,
}

impl Servants {
    fn serve(&self, bundle: Arc<TrustBundle>) {
        self.metrics.trust(bundle.generation);
        let trust = Arc::new(ServedTrust::of(bundle));
        self.served.send_replace(Some(trust.clone()));
        self.planner.send(Command::Trust(trust));
    }

    /// Serves the bundle that was kept, if there is one. Comes before any configuration, or proxies would be told for a moment that nobody is
    /// denied.
    pub fn begin(&self, file: &Path) {
        match read(file) {
            Ok(Some(bundle)) => self.serve(Arc::new(bundle)),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the kept trust bundle cannot be read");
            }
        }
    }
}

/// Hands every bundle on, and keeps the newest in the file, until `stop`.
///
/// A bundle without roots is none: it is left out, since nobody could be trusted by it.
pub async fn follow(
    mut bundles: watch::Receiver<Option<Arc<TrustBundle>>>,
    file: Option<PathBuf>,
    servants: Servants,
    stop: Stop,
) {
    loop {
        let newest = bundles.borrow_and_update().clone();
        let known = servants
            .served
            .borrow()
            .as_ref()
            .map(|s| s.bundle.digest.clone());
        if let Some(bundle) = newest.filter(|b| !b.roots.is_empty())
            && known.as_ref() != Some(&bundle.digest)
        {
            tracing::info!(
                generation = bundle.generation,
                digest = bundle.digest,
                roots = bundle.roots.len(),
                denied = bundle.denied.len(),
                "trust bundle"
            );
            if let Some(file) = &file
                && let Err(error) = keep(file, &bundle).await
            {
                tracing::warn!(file = %file.display(), %error, "the trust bundle cannot be kept");
            }
            servants.serve(bundle);
        }
        tokio::select! {
            () = stop.wait() => return,
            // Its sender lives as long as the process: an end is the end of that.
            changed = bundles.changed() => if changed.is_err() {
                stop.wait().await;
                return;
            },
        }
    }
}

fn read(file: &Path) -> io::Result<Option<TrustBundle>> {
    let len = match std::fs::metadata(file) {
        Ok(facts) => facts.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if len > MAX_FILE {
        return Err(io::Error::other("it is too large to be one"));
    }
    let bytes = std::fs::read(file)?;
    let bundle = TrustBundle::decode(&*bytes).map_err(io::Error::other)?;
    Ok(Some(bundle).filter(|bundle| !bundle.roots.is_empty()))
}

/// Whole or not at all.
async fn keep(file: &Path, bundle: &TrustBundle) -> io::Result<()> {
    let (file, bytes) = (file.to_owned(), bundle.encode_to_vec());
    let write = move || service_kit::replace_file(&file, &bytes, 0o644);
    tokio::task::spawn_blocking(write)
        .await
        .map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> TrustBundle {
        TrustBundle {
            trust_domain: "cluster.local".into(),
            generation: 7,
            digest: "d".into(),
            roots: vec!["-----BEGIN".into()],
            denied: vec!["spiffe://cluster.local/ns/a/sa/b".into()],
            ..TrustBundle::default()
        }
    }

    #[tokio::test]
    async fn a_kept_bundle_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trust.pb");
        assert!(read(&file).unwrap().is_none());
        keep(&file, &bundle()).await.unwrap();
        assert_eq!(read(&file).unwrap(), Some(bundle()));
        std::fs::write(&file, b"\xff\xff").unwrap();
        assert!(read(&file).is_err());
        keep(&file, &TrustBundle::default()).await.unwrap();
        assert!(read(&file).unwrap().is_none(), "empty is not known");
    }

    #[test]
    fn a_snapshot_says_which_bundle_it_holds() {
        let trust = ServedTrust::of(Arc::new(bundle()));
        let other = ServedTrust::of(Arc::new(TrustBundle {
            generation: 8,
            ..bundle()
        }));
        let snapshot = trust.add_to(Snapshot::new(1));
        assert!(trust.is_in(&snapshot) && !other.is_in(&snapshot));
        assert!(!trust.is_in(&Snapshot::new(1)));
        assert!(matches!(trust.denied(), Change::Upsert(_)));
        let none = ServedTrust::of(Arc::new(TrustBundle {
            denied: Vec::new(),
            ..bundle()
        }));
        assert!(matches!(none.denied(), Change::Delete(_)));
    }
}
