//! Resources as written, their checked form, and the one parser of the plane.
//!
//! Galley's sources and webhook, Pilot and the command line all decode through this crate. It must never know where a text came from
//! or what a resource means together with others: that is `mesh-model`.
//!
//! Start reading at [`Object`].

mod object;
pub mod resource;
mod wire;

pub use object::{Body, Meta, Object};
pub use wire::{WireError, decode_wire, encode};
