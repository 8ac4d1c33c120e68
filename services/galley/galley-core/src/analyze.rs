//! Findings that need more than one object to see.
//!
//! They come from `mesh-model`, which resolves the objects for Pilots too: what it cannot resolve, is told here. They never refuse anything:
//! an object may come before what it refers to.

use mesh_model::{Change, Mesh};
use mesh_registry::ChangeSet;
use mesh_types::{Finding, Revision};

use crate::world::World;

/// What an analyst has not seen yet.
#[derive(Debug, Clone, Default)]
pub struct News {
    /// Changes in normal form since it looked.
    pub changes: ChangeSet,
    /// The objects as written, which know their files.
    pub world: World,
}

/// Keeps a resolved mesh, so that looking again costs what changed and not what there is.
#[derive(Debug, Default)]
pub struct Analyst {
    mesh: Mesh,
}

impl Analyst {
    /// An analyst who has seen nothing, for a domain of Kubernetes services.
    pub fn new(domain: &str) -> Analyst {
        Analyst {
            mesh: Mesh::new(domain),
        }
    }

    /// Every finding after `news`, each at the file of its object.
    pub fn analyze(&mut self, news: News) -> Vec<Finding> {
        let changes: Vec<Change> = news
            .changes
            .into_iter()
            .map(|(key, object)| object.map_or(Change::Delete(key), Change::Upsert))
            .collect();
        self.mesh = self.mesh.apply(Revision::default(), &changes).0;
        let mut findings = self.mesh.findings();
        for finding in findings.iter_mut().filter(|f| f.file.is_empty()) {
            let held = finding
                .key
                .as_ref()
                .and_then(|key| news.world.objects().get(key));
            if let Some(held) = held {
                finding.file = held.place.file.to_string();
            }
        }
        findings
    }
}
