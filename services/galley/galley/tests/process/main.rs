//! The galley program as a process of its own: real folders, real stores, a real client, real signals.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod client;
mod failures;
mod harness;
mod kill;
mod road;
mod secure;
mod writers;
