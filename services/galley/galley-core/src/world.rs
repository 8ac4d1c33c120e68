//! The objects in force, as written, and their form in the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use mesh_api::Digest;
use mesh_config::{Body, Meta, Object, WireError, decode_wire};
use mesh_registry::ChangeSet;
use mesh_types::Key;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where an object stands. Kept in the store, so that after a restart a file that cannot be read keeps its objects in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The source, as a URL: `file:///etc/mesh`.
    pub source: Arc<str>,
    /// The file, as findings name it.
    pub file: Arc<str>,
}

/// An object in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The object as written.
    pub object: Arc<Object>,
    /// Where it was last seen.
    pub place: Place,
}

/// A row of the store that is no object for this version of the program.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// The text is no JSON object.
    #[error("the row is damaged: {0}")]
    Json(#[from] serde_json::Error),
    /// The object cannot be read.
    #[error(transparent)]
    Object(#[from] WireError),
}

#[derive(Serialize)]
struct Row<'a> {
    meta: &'a Meta,
    body: &'a Body,
    from: &'a Place,
}

impl Held {
    /// The object as one line of JSON for the store: the wire form, and where it stands.
    pub fn to_row(&self) -> String {
        let row = Row {
            meta: &self.object.meta,
            body: &self.object.body,
            from: &self.place,
        };
        // Our types have no value that JSON cannot carry.
        serde_json::to_string(&row).unwrap_or_default()
    }

    /// The object of a row that [`Held::to_row`] made.
    ///
    /// # Errors
    /// See [`RowError`].
    pub fn from_row(row: &str) -> Result<Held, RowError> {
        let mut json: Value = serde_json::from_str(row)?;
        let place = json.get_mut("from").map(Value::take).unwrap_or_default();
        Ok(Held {
            place: serde_json::from_value(place).unwrap_or_default(),
            object: Arc::new(decode_wire(json)?),
        })
    }
}

/// A change of one object: made or replaced, or (`None`) gone.
pub type Change = Option<Held>;

/// The objects in force at one revision. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct World {
    objects: OrdMap<Key, Held>,
    digest: Digest,
}

impl World {
    /// Every object.
    pub fn objects(&self) -> &OrdMap<Key, Held> {
        &self.objects
    }

    /// Digest of every (kind, name, content), as the store keeps it with the revision.
    pub fn digest(&self) -> String {
        format!("{:016x}", self.digest.0)
    }

    /// The digest after `changes`.
    pub fn digest_after(&self, changes: &BTreeMap<Key, Change>) -> String {
        let mut digest = self.digest;
        for (key, change) in changes {
            self.count(&mut digest, key, change);
        }
        format!("{:016x}", digest.0)
    }

    fn count(&self, digest: &mut Digest, key: &Key, change: &Change) {
        let (url, name) = (key.kind.type_url(), key.path());
        if let Some(old) = self.objects.get(key) {
            digest.remove(&url, &name, old.object.version);
        }
        if let Some(new) = change {
            digest.add(&url, &name, new.object.version);
        }
    }

    /// Takes a change set over, and returns what of it changes content: a file that was renamed changes nothing for those behind.
    pub fn apply(&mut self, changes: BTreeMap<Key, Change>) -> ChangeSet {
        let mut out = ChangeSet::new();
        for (key, change) in changes {
            let mut digest = self.digest;
            self.count(&mut digest, &key, &change);
            self.digest = digest;
            let old = match &change {
                Some(new) => self.objects.insert(key.clone(), new.clone()),
                None => self.objects.remove(&key),
            };
            match (old, change) {
                (Some(old), Some(new)) if old.object.version == new.object.version => {}
                (None, None) => {}
                (_, new) => drop(out.insert(key, new.map(|held| held.object))),
            }
        }
        out
    }

    /// What leads from here to `other`, another process's revision.
    pub fn changes_to(&self, other: &World) -> BTreeMap<Key, Change> {
        let gone = self
            .objects
            .keys()
            .filter(|key| !other.objects.contains_key(*key))
            .map(|key| (key.clone(), None));
        let new = other
            .objects
            .iter()
            .filter(|(key, held)| self.objects.get(*key) != Some(held))
            .map(|(key, held)| (key.clone(), Some(held.clone())));
        gone.chain(new).collect()
    }
}
