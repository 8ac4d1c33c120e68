//! A service's own identity: a certificate from Citadel, renewed in time, and the roots to believe.
//!
//! Must never know: what the service does with it. Whom to trust and when to renew is decided in `pki`; listeners and clients that use the
//! identity are in `service_kit::tls`.
//!
//! Start reading at [`IdentityArgs`], the flags of every service, and [`Identity`], what they make. [`Renewer`] keeps a certificate of
//! Citadel's, asking by [`CaClient`]; [`FolderIdentity`] follows one that somebody else keeps; [`folder`] is how both lie on disk.

pub mod args;
mod ca_client;
mod clock;
pub mod folder;
mod follow;
mod options;
mod reload;
mod renew;
mod service;
mod watch_folder;

pub use args::{ArgsError, IdentityArgs, accounts};
pub use ca_client::{CaClient, Call, Credential, Issued, SignError};
pub use clock::Clock;
pub use folder::{FolderError, Material};
pub use options::{Proof, RenewOptions};
pub use reload::hang_up_on_change;
pub use renew::Renewer;
pub use service::Identity;
pub use watch_folder::FolderIdentity;
