//! Listeners by conformance case, as compact text.

mod accepted;
mod gateways;
mod inbounds;
mod limits;
mod outbounds;
mod summary;
mod world;

pub(crate) use accepted::check as accepted_by_envoy;
pub use summary::{listener, message};
pub use world::World;
