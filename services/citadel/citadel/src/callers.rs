//! Who is asking: the authenticators that need files or other servers.

pub mod jwks;
pub mod kubernetes;
