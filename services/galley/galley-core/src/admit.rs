//! What of a scan is in force: the change set, and what its authors should know.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use mesh_config::Object;
use mesh_types::{Code, FieldPath, Finding, Key, Kind};

use crate::world::{Change, Held, Place, World};

/// Largest object that is stored, in bytes of its JSON: 4 MiB, what the store takes.
pub const MAX_ROW: usize = 4 << 20;

/// What one file says.
#[derive(Debug, Clone)]
pub struct Scanned<'a> {
    /// Which file of which source.
    pub place: Place,
    /// Objects that were decoded without error, in the order of the file.
    pub objects: &'a [Arc<Object>],
    /// Objects of the file that were refused.
    pub refused: &'a [Key],
    /// Whether some document could not even be identified, so that any object last seen in the file may be meant.
    pub unidentified: bool,
}

/// A file or folder that could not be read: what was last seen there stays in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The source it belongs to.
    pub source: Arc<str>,
    /// The file or folder, as findings name it.
    pub path: String,
}

impl Lost {
    fn holds(&self, place: &Place) -> bool {
        self.source == place.source && Path::new(&*place.file).starts_with(&self.path)
    }
}

/// Everything the sources say now.
#[derive(Debug, Clone, Default)]
pub struct Sources<'a> {
    /// Every source there is, in order.
    pub sources: &'a [Arc<str>],
    /// Every file, in order: of an object defined twice, the first definition counts.
    pub files: Vec<Scanned<'a>>,
    /// What could not be read.
    pub lost: Vec<Lost>,
}

/// The outcome of [`admit`].
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// What changes.
    pub changes: BTreeMap<Key, Change>,
    /// Rows for the store of every object in `changes` that is not gone.
    pub rows: BTreeMap<Key, String>,
    /// Findings that only the whole shows, besides those of each file.
    pub findings: Vec<Finding>,
}

impl Admission {
    /// One line for people.
    pub fn summary(&self, world: &World) -> String {
        let (mut new, mut changed, mut moved, mut gone) = (0, 0, 0, 0);
        for (key, change) in &self.changes {
            let count = match (world.objects().get(key), change) {
                (None, _) => &mut new,
                (Some(old), Some(held)) if old.object.version == held.object.version => &mut moved,
                (Some(_), Some(_)) => &mut changed,
                (Some(_), None) => &mut gone,
            };
            *count += 1;
        }
        let parts: Vec<String> = [
            (new, "new"),
            (changed, "changed"),
            (gone, "gone"),
            (moved, "moved to another file"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
        if parts.is_empty() {
            "no objects".into()
        } else {
            parts.join(", ")
        }
    }
}

/// Decides what is in force, given what the sources say now and what was in force before.
///
/// Of an object defined twice the first definition counts. A refused object keeps its last good version, a file that cannot be read or
/// understood keeps all of its objects, and what stood in a source that is no longer configured goes only once every source that is
/// configured can be read: a mistyped folder must not empty the mesh.
pub fn admit(sources: &Sources<'_>, world: &World) -> Admission {
    let mut wanted = Wanted {
        world,
        claims: HashMap::with_capacity(world.objects().len()),
        out: Admission::default(),
    };
    for file in &sources.files {
        for object in file.objects {
            // Checked, and nothing more: keys are neither stored in readable form nor handed to Pilots.
            if object.meta.key.kind != Kind::Secret {
                wanted.define(object, &file.place);
            }
        }
        for key in file.refused {
            if world
                .objects()
                .get(key)
                .is_some_and(|held| held.place == file.place)
            {
                wanted.keep(key);
            }
        }
    }
    // A refused object that was last seen elsewhere (moved and broken at once) is better kept than lost.
    for key in sources.files.iter().flat_map(|file| file.refused) {
        wanted.keep(key);
    }
    let unclear: BTreeSet<&Place> = sources
        .files
        .iter()
        .filter(|file| file.unidentified)
        .map(|file| &file.place)
        .collect();
    for (key, held) in world.objects() {
        let configured = sources.sources.contains(&held.place.source);
        if unclear.contains(&held.place)
            || sources.lost.iter().any(|lost| lost.holds(&held.place))
            || !configured && !sources.lost.is_empty()
        {
            wanted.keep(key);
        }
    }
    wanted.finish()
}

struct Wanted<'a> {
    world: &'a World,
    /// Every object that stays or comes, and the place that decides about it. Never gone through in its own order, which is no order.
    claims: HashMap<&'a Key, &'a Place>,
    out: Admission,
}

impl<'a> Wanted<'a> {
    fn define(&mut self, object: &'a Arc<Object>, place: &'a Place) {
        let key = &object.meta.key;
        if let Some(first) = self.claims.get(key) {
            let message = format!(
                "{key} is defined in {} already, and that one is in force; remove one of them",
                first.file
            );
            let finding = Finding::new(key, FieldPath::root(), Code::DuplicateObject, message);
            self.out.findings.push(finding.at(&place.file, 0));
            return;
        }
        let held = Held {
            object: object.clone(),
            place: place.clone(),
        };
        if self.world.objects().get(key) != Some(&held) {
            let row = held.to_row();
            if row.len() > MAX_ROW {
                let message = format!(
                    "it takes {} bytes, and at most {MAX_ROW} are stored; split it, or shorten it",
                    row.len()
                );
                let finding = Finding::new(key, FieldPath::root(), Code::TooLarge, message);
                self.out.findings.push(finding.at(&place.file, 0));
                return self.keep(key);
            }
            self.out.rows.insert(key.clone(), row);
            self.out.changes.insert(key.clone(), Some(held));
        }
        self.claims.insert(key, place);
    }

    /// The version in force stays, if there is one and nobody else defines the object.
    fn keep(&mut self, key: &Key) {
        if let Some((key, held)) = self.world.objects().get_key_value(key) {
            self.claims.entry(key).or_insert(&held.place);
        }
    }

    fn finish(mut self) -> Admission {
        let gone = self
            .world
            .objects()
            .keys()
            .filter(|key| !self.claims.contains_key(*key));
        self.out.changes.extend(gone.map(|key| (key.clone(), None)));
        self.out
    }
}

#[cfg(test)]
mod tests;
