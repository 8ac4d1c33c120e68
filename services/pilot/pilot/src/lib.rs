//! Pilot: what each proxy should run, served over xDS.
//!
//! This crate reads and sends; what is decided, is decided in `pilot-core` and `xds-core`. It must never talk to a platform: configuration
//! comes from Galley, or from folders.
//!
//! Start reading at [`run`], then [`planner`] (who owns the mesh) and [`ads`] (what a stream does).

pub mod admit;
pub mod ads;
pub mod args;
mod clock;
pub mod debounce;
pub mod debug;
pub mod files;
mod frames;
pub mod galley;
mod held;
pub mod jwks;
pub mod link;
pub mod metrics;
pub mod node;
pub mod peers;
pub mod planner;
pub mod roster;
mod run;
pub mod status;
pub mod trust;
mod unprotected;
mod whole;

pub use args::Args;
pub use run::{RunError, run, run_alone};
