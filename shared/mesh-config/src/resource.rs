//! Resources as written: one file per resource, every field, protobuf JSON names.

pub mod authorization_policy;
mod common;
pub mod destination_rule;
pub mod ext_authz;
pub mod gateway;
mod grpc_status;
pub mod mesh;
pub mod normal;
pub mod peer_authentication;
pub mod platform;
pub mod request_authentication;
pub mod service_entry;
pub mod sidecar;
pub mod tls;
pub mod virtual_service;

pub(crate) use common::is_unset;
pub use common::{
    Double, Duration, MatchingSelector, Percent, StringMatch, UInt32Value, WorkloadSelector,
};
pub use grpc_status::grpc_status;
