//! Citadel: who is who. Issues SPIFFE certificates, keeps the journal of them, announces whom to trust, rotates roots.
//!
//! This crate listens, stores and asks; what is decided is decided in `citadel-core`.
//!
//! Start reading at [`run`](run()), then `desk` (from a caller's request to its certificate) and [`ledger`] (what is kept).

pub mod args;
mod ca_service;
mod callers;
mod desk;
mod https;
pub mod ledger;
mod metrics;
mod operator;
mod own;
pub mod roots;
pub mod rotate;
mod run;
mod settings;
mod socket;
mod trust_service;

pub use args::Args;
pub use own::OwnIdentity;
pub use run::{RunError, connect, run, run_as};
pub use trust_service::TRUST_SUBJECT;
