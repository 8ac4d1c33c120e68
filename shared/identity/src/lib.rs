//! A service's own identity: a certificate from Citadel, renewed in time, and the roots to believe.
//!
//! Must never know: what the service does with it. Whom to trust and when to renew is decided in `pki`; listeners and clients that use the
//! identity are in `service_kit::tls`.
//!
//! Start reading at [`IdentityArgs`], the flags of every service.

pub mod args;

pub use args::{ArgsError, IdentityArgs, accounts};
