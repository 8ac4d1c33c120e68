//! The identity of a process: obtained from a certificate authority, renewed before it ends, and read by TLS listeners and clients.
//!
//! It must never know which service it runs in, or what the identity is good for.
