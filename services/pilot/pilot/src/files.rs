//! Configuration straight from folders, without Galley: for tests, debugging and a Pilot that stands alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use config_source::{FolderOptions, Scan};
use mesh_config::Object;
use mesh_model::Change;
use mesh_registry::{ChangeSet, Options, Registry};
use mesh_types::{Key, Revision};
use service_kit::Stop;
use tokio::sync::{mpsc, watch};

use crate::galley::Arrived;

/// Objects in force, normalized as Galley would.
#[derive(Debug, Default)]
pub struct Files {
    revision: Revision,
    objects: BTreeMap<Key, Arc<Object>>,
    registry: Registry,
}

impl Files {
    /// Empty, for a cluster domain.
    pub fn new(options: Options) -> Files {
        Files {
            registry: Registry::new(options),
            ..Files::default()
        }
    }

    /// Takes a scan; what changed in normal form, and the next revision. `None` if nothing did.
    ///
    /// Of an object defined twice the first definition counts; an object that is refused keeps its last good version.
    pub fn take(&mut self, scan: &Scan) -> Option<Arrived> {
        let mut now: BTreeMap<Key, Arc<Object>> = BTreeMap::new();
        for file in scan.files.values() {
            for object in &file.objects {
                now.entry(object.meta.key.clone())
                    .or_insert_with(|| object.clone());
            }
            for key in &file.refused {
                if let Some(good) = self.objects.get(key) {
                    now.entry(key.clone()).or_insert_with(|| good.clone());
                }
            }
        }
        let mut changes = ChangeSet::new();
        for (key, object) in &now {
            if self
                .objects
                .get(key)
                .is_none_or(|old| old.version != object.version)
            {
                changes.insert(key.clone(), Some(object.clone()));
            }
        }
        changes.extend(
            self.objects
                .keys()
                .filter(|key| !now.contains_key(*key))
                .map(|key| (key.clone(), None)),
        );
        self.objects = now;
        if changes.is_empty() && self.revision > Revision(0) {
            return None;
        }
        self.revision = Revision(self.revision.0 + 1);
        let changes = self.registry.apply(&changes).into_iter();
        let changes = changes
            .map(|(key, object)| object.map_or(Change::Delete(key), Change::Upsert))
            .collect();
        Some(Arrived {
            revision: self.revision,
            changes,
        })
    }
}

/// Follows folders until `stop`.
pub async fn follow(
    folders: FolderOptions,
    registry: Options,
    out: mpsc::Sender<Arrived>,
    stop: Stop,
) {
    let (scans, mut changed) = watch::channel(None);
    let watcher = config_source::watch(folders, scans, stop.clone());
    let reader = async {
        let mut files = Files::new(registry);
        while changed.changed().await.is_ok() {
            let Some(scan) = changed.borrow_and_update().clone() else {
                continue;
            };
            for finding in scan.findings() {
                tracing::warn!(file = finding.file, code = %finding.code, path = %finding.path, "{}", finding.message);
            }
            let taken = tokio::task::block_in_place(|| files.take(&scan));
            if let Some(arrived) = taken
                && out.send(arrived).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = watcher => {}
        () = reader => {}
        () = stop.wait() => {}
    }
}
