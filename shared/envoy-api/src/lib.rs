//! Envoy's xDS v3 messages, compiled so that equal values encode to equal bytes.
//!
//! What is here: the generated messages (`envoy_api::envoy::config::cluster::v3::Cluster` and so on), the names of
//! the resource types ([`type_url`]) and of resources ([`resource_name`]), and packing into `google.protobuf.Any`
//! ([`any`]). Feature `json` adds, for every message Envoy knows and without its Rust type, the proto3 JSON form
//! (`json`) and the one encoding (`reflect`). Feature `grpc` adds the gRPC stubs of the discovery, secret, health and
//! status services, and with them tonic; without it nothing here reaches a runtime or a socket.
//!
//! What it must never know: the mesh. No Istio resource, no default of ours, no name we give to a cluster.
//!
//! Maps are `BTreeMap`, `bytes` fields are [`bytes::Bytes`], messages have no `Debug` (a quarter of the
//! compile time: print them with `json::to_json`). Wrappers are options: `UInt32Value` is `Option<u32>`.
//!
//! Start with `build.rs`, which says which proto packages become Rust types, then [`any`].

pub mod any;
#[cfg(feature = "json")]
pub mod json;
#[cfg(feature = "json")]
pub mod reflect;
mod resource;
pub mod type_url;

pub use resource::resource_name;

#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/mod.rs"));
}

pub use generated::*;
