//! Galley's memory: every accepted change set as a numbered revision, in SQLite or PostgreSQL.
//!
//! Must never know: what an object means. Bodies are opaque JSON text, kinds are names, hashes are the caller's. It keeps
//! three promises: a revision is whole or absent, revisions have no gaps, and a writer that lost its lease writes nothing.
//!
//! Start reading at [`Store`] (what can be asked), then [`CommitRequest`] and `commit.rs` (how a revision is made), then
//! `migrations/` (the tables). [`sql`] is the ground below: opening either database, for the stores of other services too.

mod commit;
mod db;
mod error;
mod findings;
mod lease;
mod prune;
mod read;
pub mod sql;
mod types;

pub use commit::{CommitError, CommitRequest, MAX_BODY, MAX_CHANGES, WRITER_LEASE};
pub use db::Store;
pub use error::StoreError;
pub use lease::Lease;
pub use sql::Db;
pub use types::{Change, Changes, Loaded, Revision, StoredKey, StoredObject};
