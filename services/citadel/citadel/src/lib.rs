//! Citadel: who is who. Issues SPIFFE certificates, keeps the journal of them, announces whom to trust, rotates roots.
//!
//! This crate listens, stores and asks; what is decided is decided in `citadel-core`.

mod callers;
mod https;
pub mod ledger;
mod metrics;
