//! Features of resources that this version does not act on.

use mesh_types::FieldError;

use crate::Body;

/// A `not-supported` warning for every such feature that an object uses.
pub(crate) fn notes(_body: &Body) -> Vec<FieldError> {
    Vec::new()
}
