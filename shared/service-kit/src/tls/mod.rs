//! TLS between the parts of a mesh: who is at the other end is a SPIFFE ID, and certificates and trust are replaced while it runs.
//!
//! A [`TlsIdentity`] is one moment of it: key, chain, and the roots of each trust domain ([`Trust`]). Whoever keeps an identity (a
//! renewal task, a folder that is watched) hands moments over as [`Identities`]; listeners ([`serve_tls`]) and clients ([`connect`],
//! [`client_config`]) take the newest for every new connection, and end old ones that it would refuse.
//!
//! A certificate counts only under the roots of the trust domain that it names, whatever other roots are known.

mod channel;
mod client;
mod handshakes;
mod identity;
mod peer;
mod plaintext;
mod server;
mod settings;
mod trust;
mod verifier;

pub use channel::{Channel, ConnectError, connect, connect_with, endpoint};
pub use client::{ClientTls, ServerId, client_config};
pub use identity::{Identities, IdentityError, TlsIdentity};
pub use peer::Peer;
pub use pki::Trust;
pub use server::{Clients, TlsServer, serve_tls};
pub use settings::{TlsSettings, TlsVersion, install_provider};
pub use trust::{Refused, TrustError, read_trust};

#[cfg(test)]
mod tests;
