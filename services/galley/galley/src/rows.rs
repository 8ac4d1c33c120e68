//! Objects as rows of the store, and back.

use galley_core::{Admission, Change, Held};
use mesh_types::{Key, Kind};
use store::{StoredKey, StoredObject};

/// A key as the store has it.
pub(crate) fn stored(key: &Key) -> StoredKey {
    StoredKey::new(key.kind.as_str(), &*key.namespace, &*key.name)
}

/// A row of the store as a change, `None` in it for a deletion; nothing if this version cannot read it.
pub(crate) fn read(key: &StoredKey, row: Option<&str>) -> Option<(Key, Change)> {
    let Some(kind) = Kind::parse(&key.kind) else {
        tracing::warn!(object = %key, "a kind of a newer version is left alone");
        return None;
    };
    let name = Key::new(kind, &*key.namespace, &*key.name);
    let Some(row) = row else {
        return Some((name, None));
    };
    match Held::from_row(row) {
        Ok(held) => Some((name, Some(held))),
        Err(error) => {
            tracing::error!(object = %key, %error, "an object of the store cannot be read");
            None
        }
    }
}

/// The rows of a change set, taken out of it.
pub(crate) fn upserts(admission: &mut Admission) -> Vec<StoredObject> {
    let rows = std::mem::take(&mut admission.rows);
    rows.into_iter()
        .map(|(key, body)| StoredObject {
            hash: admission
                .changes
                .get(&key)
                .and_then(Option::as_ref)
                .map_or(0, |held| held.object.version),
            key: stored(&key),
            body,
            revision: 0,
        })
        .collect()
}
