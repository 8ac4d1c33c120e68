//! Any bytes decode to objects and findings; objects survive the wire, and the mesh can be built from whatever was accepted.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use mesh_config::{Object, Origin, decode_bytes, decode_mesh_config, decode_wire, encode};
use mesh_model::{Change, Mesh};
use mesh_registry::{ChangeSet, Options, Registry};
use mesh_types::Revision;

fuzz_target!(|data: &[u8]| {
    let decoded = decode_bytes(data, &Origin::default());
    for finding in &decoded.findings {
        assert!(!finding.to_string().is_empty());
    }
    let mut changes = ChangeSet::new();
    for (object, _) in decoded.objects {
        assert_eq!(
            Object::from_wire(&object.to_wire()).ok().as_ref(),
            Some(&object)
        );
        assert_eq!(
            decode_wire(encode(&object)).ok().map(|again| again.version),
            Some(object.version)
        );
        changes.insert(object.meta.key.clone(), Some(Arc::new(object)));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = decode_mesh_config(text);
    }

    let mut registry = Registry::new(Options::default());
    let normal: Vec<Change> = registry
        .apply(&changes)
        .into_iter()
        .map(|(key, object)| object.map_or(Change::Delete(key), Change::Upsert))
        .collect();
    let (mesh, _) = Mesh::default().apply(Revision(1), &normal);
    let _ = mesh.findings();

    // All gone again.
    changes.values_mut().for_each(|object| *object = None);
    let gone: Vec<Change> = registry
        .apply(&changes)
        .into_iter()
        .map(|(key, object)| object.map_or(Change::Delete(key), Change::Upsert))
        .collect();
    let (mesh, _) = mesh.apply(Revision(2), &gone);
    assert_eq!(mesh.services().count(), 0);
});
