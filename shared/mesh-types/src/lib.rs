//! Names and numbers of the mesh that cannot be wrong.
//!
//! This crate knows what a host name, a port, a label set, a field path or a finding *is*; it must never know where any of
//! them comes from (files, Kubernetes, proxies) or what they turn into (Envoy messages).
//!
//! Start reading at [`Key`], the identity of every configuration object, and [`Finding`], what we tell its author.

mod code;
mod finding;
mod hash;
mod host;
mod key;
mod labels;
mod locality;
mod path;
mod port;
mod revision;
mod spiffe;

pub use code::Code;
pub use finding::{FieldError, Finding, Level};
pub use hash::{Version, version_of, version_of_json};
pub use host::{Hostname, HostnameError};
pub use key::{Key, Kind};
pub use labels::{Labels, Selector};
pub use locality::Locality;
pub use path::{FieldPath, Segment};
pub use port::{Port, PortError, Protocol};
pub use revision::Revision;
pub use spiffe::{
    SpiffeError, SpiffeId, TrustDomain, WorkloadId, check_configured_trust_domain, expand,
};
