//! The xDS protocol as a pure state machine: requests and snapshots in, responses out.
//!
//! It knows subscriptions, nonces, versions, ACK and NACK, in the state-of-the-world and the delta protocol, and the wire form of
//! shared resources. It must never know what a cluster or a listener is, where a snapshot comes from, or how bytes
//! reach a socket: no Envoy message, no async, no clock.
//!
//! Start reading at [`Snapshot`] (what a proxy should have), then [`Session`] (what one stream has been told).

mod encoded;
mod intern;
mod limits;
mod names;
mod nonce;
mod proto;
mod response;
mod session;
mod set;
mod snapshot;
#[cfg(test)]
mod testing;
mod type_id;
pub mod wire;

pub use encoded::Encoded;
pub use intern::SetInterner;
pub use limits::{GrpcCode, Limits, Refusal};
pub use names::{NameSet, NameSetInterner};
pub use nonce::Nonce;
pub use response::Response;
pub use session::{
    Answer, InterestChange, MAX_BLAMED, Missing, Nack, Outcome, Session, Setup, WatchStatus,
};
pub use set::{Change, LARGE, Set};
pub use snapshot::{Layers, Snapshot};
pub use type_id::TypeId;
pub use wire::{ErrorDetail, Request, Span, TypeUrl};
