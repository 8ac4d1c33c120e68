//! What Pilot decides: the Envoy resources of a class of proxies, from what the class may see of the mesh.
//!
//! Everything here is a function of values: a [`mesh_model::View`] and a class key in, encoded resources out. The crate must never know a
//! socket, a clock, a stream or an acknowledgement, nor where configuration comes from.
//!
//! Start reading at [`generate`] (which resources exist and what a change makes anew), then one of [`clusters`], [`endpoints`],
//! [`listeners`], [`routes`]. `tls` is what all of them say of certificates. [`class`] says what of a proxy
//! may be read at all, [`memo`] how classes share their encodings.

pub mod class;
pub mod clusters;
pub mod endpoints;
pub mod generate;
pub mod listeners;
pub mod memo;
pub mod name_table;
pub mod naming;
mod proto;
pub mod proxy_config;
pub mod routes;
pub mod secrets;
pub mod security;
#[cfg(test)]
mod testing;
mod tls;

pub use class::{InboundKey, OutboundKey};
pub use memo::{Memo, Memos, Options};
pub use tls::Compliance;
