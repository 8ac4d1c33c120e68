//! PeerAuthentication as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{MatchingSelector, resource};

resource! {
/// Whether workloads take connections with mutual TLS, without, or both.
pub struct PeerAuthentication {
    /// Workloads the object is for; unset or empty means the whole namespace, or the whole mesh in the root namespace.
    pub selector: Option<MatchingSelector>,
    /// What is taken; unset inherits.
    pub mtls: Option<MutualTls>,
    /// What single ports take, by port number of the workload (not of the service), in decimal. Needs a selector.
    pub port_level_mtls: Option<BTreeMap<String, MutualTls>>,
}
}

resource! {
/// What is taken.
pub struct MutualTls {
    /// Mode.
    pub mode: MtlsMode,
}
}

/// Whether connections are taken with mutual TLS. The order is that of protobuf's numbers.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MtlsMode {
    /// As the next wider object says; PERMISSIVE if none does.
    #[default]
    Unset,
    /// Only without.
    Disable,
    /// With and without.
    Permissive,
    /// Only with.
    Strict,
}

impl PeerAuthentication {
    /// Modes of single ports, by port number. Keys that are no port are left out: the check refuses them.
    pub fn ports(&self) -> impl Iterator<Item = (u16, MtlsMode)> {
        let ports = self.port_level_mtls.iter().flatten();
        ports.filter_map(|(port, tls)| Some((port.parse().ok()?, tls.mode)))
    }
}
