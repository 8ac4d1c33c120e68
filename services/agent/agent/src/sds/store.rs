//! The workload's two secrets, and who has taken them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_core::secrets::{KeyPair, ROOT, Trusted, WORKLOAD, certificate_secret, trust_secret};
use envoy_api::any::{Any, pack};
use tokio::sync::watch;

/// A secret at one moment.
#[derive(Clone)]
pub struct Material {
    /// Grows with each change.
    pub version: u64,
    /// The secret, encoded; or why there is none.
    pub secret: Result<Any, String>,
}

/// Where a secret appears. `None` while it has never been there.
pub type Materials = watch::Receiver<Option<Arc<Material>>>;

/// The workload's secrets. Clones share them.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    versions: AtomicU64,
    workload: watch::Sender<Option<Arc<Material>>>,
    root: watch::Sender<Option<Arc<Material>>>,
    /// Streams that asked for `ROOTCA`, and what each said about it last.
    streams: watch::Sender<BTreeMap<u64, Taken>>,
}

/// What a stream said about `ROOTCA`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Taken {
    acked: u64,
    rejected: Option<(u64, String)>,
}

impl Default for Store {
    fn default() -> Store {
        Store(Arc::new(Inner {
            versions: AtomicU64::new(0),
            workload: watch::Sender::new(None),
            root: watch::Sender::new(None),
            streams: watch::Sender::new(BTreeMap::new()),
        }))
    }
}

impl Store {
    /// The workload's certificate and key. The same again changes nothing.
    pub fn set_workload(&self, pair: &KeyPair) {
        let secret = pack(&certificate_secret(WORKLOAD, pair));
        self.put(&self.0.workload, secret);
    }

    /// Whom it trusts: the version that has it. The same again changes nothing.
    pub fn set_trusted(&self, trusted: &Trusted) -> u64 {
        let secret = pack(&trust_secret(ROOT, trusted));
        self.put(&self.0.root, secret)
    }

    fn put(&self, place: &watch::Sender<Option<Arc<Material>>>, secret: Any) -> u64 {
        let mut version = 0;
        place.send_if_modified(|now| {
            if let Some(now) = now
                && now.secret.as_ref() == Ok(&secret)
            {
                version = now.version;
                return false;
            }
            version = self.0.versions.fetch_add(1, Ordering::Relaxed) + 1;
            *now = Some(Arc::new(Material {
                version,
                secret: Ok(secret.clone()),
            }));
            true
        });
        version
    }

    /// Where the workload's certificate appears.
    pub fn workload(&self) -> Materials {
        self.0.workload.subscribe()
    }

    /// Where whom it trusts appears.
    pub fn root(&self) -> Materials {
        self.0.root.subscribe()
    }

    /// A stream asks for `ROOTCA`; it counts until the guard is dropped.
    pub(super) fn root_stream(&self, id: u64) -> RootStream {
        self.0.streams.send_modify(|streams| {
            streams.entry(id).or_default();
        });
        RootStream {
            store: self.clone(),
            id,
        }
    }

    /// Returns when every stream that asked for `ROOTCA` has taken this version or a later one; at once if there is none.
    ///
    /// # Errors
    /// What Envoy said when it rejected it.
    pub async fn trusted_by_envoy(&self, version: u64) -> Result<(), String> {
        let mut streams = self.0.streams.subscribe();
        loop {
            {
                let now = streams.borrow_and_update();
                let rejected = now.values().find_map(|taken| match &taken.rejected {
                    Some((rejected, why)) if *rejected >= version => Some(why.clone()),
                    _ => None,
                });
                if let Some(why) = rejected {
                    return Err(why);
                }
                if now.values().all(|taken| taken.acked >= version) {
                    return Ok(());
                }
            }
            if streams.changed().await.is_err() {
                // The store is gone, and with it everybody who could take it.
                return Ok(());
            }
        }
    }
}

/// A stream that asked for `ROOTCA`.
pub(super) struct RootStream {
    store: Store,
    id: u64,
}

impl RootStream {
    /// What it said about a version.
    pub(super) fn said(&self, version: u64, rejected: Option<String>) {
        self.store.0.streams.send_modify(|streams| {
            if let Some(taken) = streams.get_mut(&self.id) {
                match rejected {
                    Some(why) => taken.rejected = Some((version, why)),
                    None => {
                        taken.acked = taken.acked.max(version);
                        taken.rejected = None;
                    }
                }
            }
        });
    }
}

impl Drop for RootStream {
    fn drop(&mut self) {
        self.store.0.streams.send_modify(|streams| {
            streams.remove(&self.id);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn trusted(root: &str) -> Trusted {
        Trusted {
            roots: [root.to_owned()].into(),
            crls: Default::default(),
        }
    }

    /// Case 25: the same root again is no news.
    #[tokio::test]
    async fn equal_content_is_the_same_version() {
        let store = Store::default();
        let mut root = store.root();
        let first = store.set_trusted(&trusted("a"));
        assert!(root.has_changed().unwrap());
        root.mark_unchanged();
        assert_eq!(store.set_trusted(&trusted("a")), first);
        assert!(!root.has_changed().unwrap());
        assert!(store.set_trusted(&trusted("b")) > first);
        assert!(root.has_changed().unwrap());
    }

    #[tokio::test]
    async fn trust_counts_when_every_stream_that_asked_has_taken_it() {
        let store = Store::default();
        let version = store.set_trusted(&trusted("a"));
        let now = |store: &Store| store.trusted_by_envoy(version).now_or_never();
        assert_eq!(now(&store), Some(Ok(())));
        let (one, two) = (store.root_stream(1), store.root_stream(2));
        assert_eq!(now(&store), None);
        one.said(version, None);
        assert_eq!(now(&store), None);
        two.said(version, Some("bad".into()));
        assert_eq!(now(&store), Some(Err("bad".into())));
        two.said(version, None);
        assert_eq!(now(&store), Some(Ok(())));
        let later = store.set_trusted(&trusted("b"));
        assert_eq!(store.trusted_by_envoy(later).now_or_never(), None);
        drop((one, two));
        assert_eq!(store.trusted_by_envoy(later).now_or_never(), Some(Ok(())));
    }
}
