//! Configuration straight from folders, without Galley: for tests, debugging and a Pilot that stands alone.

use std::sync::Arc;

use config_source::{FolderOptions, Scan};
use galley_core::{Lost, Place, Scanned, Sources, World, admit};
use mesh_model::Change;
use mesh_registry::{Options, Registry};
use mesh_types::{Finding, Revision};
use service_kit::Stop;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::galley::Arrived;
use crate::planner::Planner;

/// Objects in force, admitted and normalized as Galley would.
#[derive(Debug, Default)]
pub struct Files {
    revision: Revision,
    world: World,
    registry: Registry,
    findings: Vec<Finding>,
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
    /// The rules are Galley's, see [`admit`]. A first scan that could not read everything is no revision: what cannot be read is unknown,
    /// not empty.
    pub fn take(&mut self, scan: &Scan) -> Option<Arrived> {
        // One source is enough: nobody takes folders away from a running Pilot.
        let source: Arc<str> = "folders".into();
        let place = |file: &Arc<str>| Place {
            source: source.clone(),
            file: file.clone(),
        };
        let sources = Sources {
            sources: std::slice::from_ref(&source),
            files: scan
                .files
                .values()
                .map(|file| Scanned {
                    place: place(&file.file),
                    objects: &file.objects,
                    refused: &file.refused,
                    unidentified: file.unidentified,
                })
                .collect(),
            lost: scan
                .unreadable
                .iter()
                .map(|finding| Lost {
                    source: source.clone(),
                    path: finding.file.clone(),
                })
                .collect(),
        };
        let admission = admit(&sources, &self.world);
        self.findings = scan.findings().cloned().collect();
        self.findings.extend(admission.findings);
        if self.revision == Revision(0) && !scan.unreadable.is_empty() {
            return None;
        }
        let changes = self.world.apply(admission.changes);
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
            at: Instant::now(),
        })
    }

    /// What there is to tell about the files of the last scan.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

/// Follows folders until `stop`. What there is to tell about them goes to the log, once, and to the planner.
pub async fn follow(
    folders: FolderOptions,
    registry: Options,
    planner: Planner,
    out: mpsc::Sender<Arrived>,
    stop: Stop,
) {
    let (scans, changed) = watch::channel(None);
    let watcher = config_source::watch(folders, scans, stop.clone());
    tokio::select! {
        () = watcher => {}
        () = read(registry, planner, out, changed) => {}
        () = stop.wait() => {}
    }
}

async fn read(
    registry: Options,
    planner: Planner,
    out: mpsc::Sender<Arrived>,
    mut changed: watch::Receiver<Option<Scan>>,
) {
    let mut files = Files::new(registry);
    let mut told: Vec<Finding> = Vec::new();
    while changed.changed().await.is_ok() {
        let Some(scan) = changed.borrow_and_update().clone() else {
            continue;
        };
        let taken = tokio::task::spawn_blocking(move || {
            let arrived = files.take(&scan);
            (files, arrived)
        });
        let Ok((back, arrived)) = taken.await else {
            return;
        };
        files = back;
        for finding in files.findings().iter().filter(|f| !told.contains(f)) {
            tracing::warn!(file = finding.file, code = %finding.code, path = %finding.path, "{}", finding.message);
        }
        told = files.findings().to_vec();
        planner.report_sources(told.clone());
        if let Some(arrived) = arrived
            && out.send(arrived).await.is_err()
        {
            return;
        }
    }
}
