//! The agent as a process, with a real Envoy, an authority and Pilots of its own.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests may fail, wait and look at the clock"
)]

mod authority;
mod chain;
mod drain;
mod files;
mod names;
mod pilot;
mod probes;
mod rig;
mod secrets;
mod status;
mod trust;
