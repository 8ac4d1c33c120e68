//! Checks beyond types and ranges: what fields of one object mean together.

pub(crate) mod names;

use mesh_types::FieldError;

use crate::{Body, Meta};

/// Everything wrong or doubtful about an object's spec, with paths in canonical spelling.
pub(crate) fn check(_meta: &Meta, _body: &Body) -> Vec<FieldError> {
    Vec::new()
}
