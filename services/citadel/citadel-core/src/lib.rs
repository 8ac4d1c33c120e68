//! What Citadel decides: who a caller is, whether a request is signed, what the certificate says, how a root rotates, what is revoked.
//!
//! The time, keys and randomness are arguments. The crate must never know a socket, a database or a task.
//!
//! Start reading at [`policy`] (who asks), then [`issue`] (what it is given).
//! [`rotation`] is the life of the roots, [`revocation`] what is taken back, [`crl`] how proxies are told, [`journal`] how all of it is remembered.

pub mod bundle;
pub mod crl;
pub mod issue;
pub mod journal;
pub mod limits;
pub mod names;
pub mod policy;
pub mod revocation;
pub mod rotation;
