//! Everything Galley holds of the newest revision, and how it gets from one to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_registry::{ChangeSet, Options, Registry};
use mesh_types::Key;

use crate::distribute::Snapshot;
use crate::world::{Change, World};

/// The newest revision: as written, and in normal form.
#[derive(Debug, Default)]
pub struct State {
    world: World,
    registry: Registry,
    snapshot: Arc<Snapshot>,
}

impl State {
    /// Nothing yet, revision 0.
    pub fn new(options: Options) -> State {
        State {
            registry: Registry::new(options),
            ..State::default()
        }
    }

    /// The number of the revision.
    pub fn revision(&self) -> u64 {
        self.snapshot.revision
    }

    /// The objects as written.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// What is distributed.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Goes on to a revision that is in the store. Returns what changes in normal form.
    pub fn advance(
        &mut self,
        changes: BTreeMap<Key, Change>,
        revision: u64,
        committed_us: i64,
    ) -> ChangeSet {
        let written = self.world.apply(changes);
        let normal = self.registry.apply(&written);
        self.snapshot = Arc::new(self.snapshot.next(revision, committed_us, &normal));
        normal
    }
}
