//! Resources as written, their checked form, and the one parser of the plane.
//!
//! Galley's sources and webhook, Pilot and the command line all decode through this crate. It must never know where a text came from
//! or what a resource means together with others: that is `mesh-model`.
//!
//! Start reading at [`decode_text`], which makes [`Object`]s and findings of a text; [`encode`] carries objects between our own parts.

mod check;
mod crd;
mod decode;
mod mesh_config;
mod object;
pub mod resource;
mod schema;
mod support;
mod wire;

pub use crd::crds;
pub use decode::{Decoded, Limits, Origin, Place, decode_bytes, decode_text, decode_value};
pub use mesh_config::{MESH_CONFIG_NAME, decode_mesh_config};
pub use object::{Body, Meta, Object};
pub use wire::{WireError, decode_wire, encode};
