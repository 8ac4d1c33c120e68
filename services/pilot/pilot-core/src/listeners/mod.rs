//! LDS: the listeners of a class of proxies.
//!
//! Outbound listeners are planned first (which addresses, which filter chains, who wins a conflict) and written for Envoy afterwards; the
//! plan of one listener, with the facts of the class, is the key of its encoding. Start at [`hcm`] for what every HTTP chain has.

mod access_log;
mod convert;
mod facts;
pub mod hcm;
mod istio_filters;
mod settings;

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_model::View;
use xds_core::Encoded;

use crate::memo::Stats;
use crate::{InboundKey, Memos, OutboundKey};

pub use facts::Facts;
pub use settings::{ClientCertDetails, ConnectionSettings, HttpSettings, ProxyHeaders};

/// Memos of this module.
#[derive(Default)]
pub struct ListenerMemos {}

impl ListenerMemos {
    /// Adds how each memo did, with its name.
    pub fn stats(&self, out: &mut Vec<(&'static str, Stats)>) {
        let _ = out;
    }
}

/// Listeners of one class.
#[derive(Debug, Clone, Default)]
pub struct Listeners {
    /// The listeners, in any order.
    pub resources: Vec<Arc<Encoded>>,
    /// Names of the RouteConfigurations that they refer to.
    pub route_names: BTreeSet<Arc<str>>,
}

/// Outbound listeners of a sidecar, virtualOutbound included.
pub fn outbound(view: &View, key: &OutboundKey, memo: &Memos) -> Listeners {
    let _ = (view, key, memo);
    Listeners::default()
}

/// Inbound listeners of a sidecar.
pub fn inbound(view: &View, key: &InboundKey, memo: &Memos) -> Vec<Arc<Encoded>> {
    let _ = (view, key, memo);
    Vec::new()
}

/// Listeners of a router.
pub fn gateway(view: &View, key: &OutboundKey, memo: &Memos) -> Listeners {
    let _ = (view, key, memo);
    Listeners::default()
}
