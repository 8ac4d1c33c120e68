//! What Galley decides: which objects are in force, what a change set is, and what a subscriber is owed.
//!
//! Values in, values out: scans and the objects held go in, a change set and findings come out; snapshots and requests go in, chunks come
//! out. The crate must never know a file system, a database, a socket or a clock.
//!
//! Two forms of every object. *Stored* is what was accepted, as written, with the file it stands in ([`world`]): what a restart resumes
//! from and a rollback brings back. *Distributed* is the normal form that `mesh-registry` makes of it ([`distribute`]): derived, never stored,
//! so that a newer version may normalize better.
//!
//! Start reading at [`admit::admit`], then [`state::State`], [`distribute::Snapshot`] and [`subscriber::Subscriber`].

pub mod admit;
pub mod analyze;
pub mod distribute;
pub mod state;
pub mod subscriber;
#[cfg(test)]
mod testing;
pub mod world;

pub use admit::{Admission, Lost, Scanned, Sources, admit};
pub use distribute::{Item, Snapshot};
pub use state::State;
pub use subscriber::{Chunk, Heard, Refusal, Subscriber};
pub use world::{Change, Held, Place, RowError, World};
