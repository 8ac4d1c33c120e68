//! What this version understands but does not act on, in one place, so that the list can shrink.
//!
//! Whoever teaches the plane one of these deletes its line here. Nothing in these lists is an error: the object stays in force, and its
//! author is told by a `not-supported` warning.

mod kinds;
mod mesh_fields;
mod notes;
mod providers;

pub(crate) use kinds::{OtherKind, is_mesh_group, mistyped_group, other_kind};
pub(crate) use mesh_fields::add_unused_mesh_fields;
pub(crate) use notes::notes;
