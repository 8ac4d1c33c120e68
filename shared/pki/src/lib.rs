//! X.509 as SPIFFE has it: keys, certificate requests, authorities, leaves, bundles, revocation lists and the checks of each.
//!
//! Values in, values out: the time and serial numbers are arguments; only keys are made with randomness of the cryptographic library's own.
//! The crate must never know who asks for a certificate, where keys are kept, or a socket.
//!
//! Start reading at [`Authority::issue`]: [`csr::check`] → [`Authority::template`] → [`Authority::sign`] → [`lint_leaf`]. The other side is
//! [`Trust::verify`]. What is written is written by the crate itself ([`Template`]), so that an issuer's name goes into what it signs byte
//! for byte; what is read is read by parsers that others fuzz, and so do we.

mod authority;
mod bundle;
mod certificate;
pub mod crl;
pub mod csr;
mod der;
mod key;
mod lint;
mod pem;
mod public_key;
mod renewal;
mod serial;
mod template;
mod verify;

pub use authority::{
    Authority, AuthorityError, BACKDATE, IssueError, LeafRequest, Material, ROOT_LIFE,
};
pub use bundle::{Bundle, BundleError};
pub use certificate::{Certificate, CertificateError, IdentityError};
pub use key::{KeyError, KeyType, PrivateKey};
pub use lint::{Lint, lint_ca, lint_leaf};
pub use pem::PemError;
pub use public_key::PublicKey;
pub use renewal::Renewal;
pub use serial::{Serial, SerialError};
pub use template::{Name, Purpose, Template};
pub use verify::{Trust, Use, VerifyError, offset_time, unix_time};
