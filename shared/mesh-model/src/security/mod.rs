//! Who may talk to whom: what mutual TLS workloads take, and who they are.

pub(crate) mod identities;
pub(crate) mod peer;
pub(crate) mod secrets;
