//! What Citadel decides: who a caller is, whether a request is signed, what the certificate says, how a root rotates, what is revoked.
//!
//! The time, keys and randomness are arguments. The crate must never know a socket, a database or a task.
//!
//! Start reading at [`policy`] (who asks), then `issue` (what it is given).

pub mod limits;
pub mod policy;
