//! Any bytes decode to objects and findings, and objects survive the wire.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_config::{Object, Origin, decode_bytes};

fuzz_target!(|data: &[u8]| {
    for (object, _) in decode_bytes(data, &Origin::default()).objects {
        assert_eq!(Object::from_wire(&object.to_wire()).ok().as_ref(), Some(&object));
    }
});
