//! Galley: what the mesh's configuration is. Reads sources, keeps every accepted change set as a revision, and distributes it to Pilots.
//!
//! This crate reads, stores and sends; what is in force and what a Pilot is owed is decided in `galley-core`. It must never know what a
//! proxy gets.
//!
//! Start reading at [`run`], then `keeper` (the one owner of the state: sources in, revisions out) and `stream` (what a Pilot's stream does).

mod api;
pub mod args;
mod hints;
mod keeper;
mod metrics;
mod published;
mod rows;
mod run;
mod source;
mod stream;

pub use args::Args;
pub use hints::REVISION_SUBJECT;
pub use run::{RunError, run, run_alone, run_as};
