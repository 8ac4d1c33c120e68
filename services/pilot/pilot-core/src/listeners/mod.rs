//! LDS: the listeners of a class of proxies.
//!
//! Outbound listeners are planned first ([`outbound()`]: which addresses, which filter chains, who wins a conflict) and written for Envoy
//! afterwards; the plan of one listener, with the facts of the class, is the key of its encoding. Start at [`hcm`] for what every HTTP chain
//! has, at `chains` for what a TCP or TLS port does.

mod access_log;
mod assembly;
mod catch_all;
mod chains;
mod convert;
mod facts;
mod gateway;
pub mod hcm;
mod http_proxy;
mod inbound;
mod inbound_chains;
mod inbound_ports;
mod inbound_route;
mod istio_filters;
mod outbound;
mod plan;
mod ports;
mod tcp;
#[cfg(test)]
mod tests;
mod vips;

use std::collections::BTreeSet;
use std::sync::Arc;

use envoy_api::envoy::config::listener::v3::Listener;
use mesh_model::{Interception, View};
use prost::Message;
use xds_core::{Encoded, TypeId};

use crate::memo::{Memo, Stats};
use crate::{InboundKey, Memos, OutboundKey};
use plan::{ListenerPlan, Stack};

pub(crate) use convert::cidr;
pub use facts::Facts;
pub(crate) use inbound_ports::captured_targets;
#[cfg(test)]
pub(crate) use tests::{accepted_by_envoy, listener as show};
pub use vips::Vips;

/// Everything that one outbound or gateway listener is made from.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Input {
    facts: Arc<Facts>,
    what: What,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum What {
    Planned(ListenerPlan),
    VirtualOutbound { port: u16, transparent: bool },
}

impl Input {
    fn listener(&self) -> Listener {
        match &self.what {
            What::Planned(plan) => assembly::listener(&self.facts, plan),
            What::VirtualOutbound { port, transparent } => {
                catch_all::virtual_outbound(&self.facts, *port, *transparent)
            }
        }
    }
}

/// Memos of this module.
#[derive(Default)]
pub struct ListenerMemos {
    listeners: Memo<Input>,
}

impl ListenerMemos {
    /// Adds how each memo did, with its name.
    pub fn stats(&self, out: &mut Vec<(&'static str, Stats)>) {
        out.push(("listeners", self.listeners.stats()));
    }
}

/// Listeners of one class.
#[derive(Debug, Clone, Default)]
pub struct Listeners {
    /// The listeners by bind and port, the catch-all last.
    pub resources: Vec<Arc<Encoded>>,
    /// Names of the RouteConfigurations that they refer to.
    pub route_names: BTreeSet<Arc<str>>,
}

/// Outbound listeners of a sidecar, the forward proxy's and virtualOutbound included.
pub fn outbound(view: &View, key: &OutboundKey, memo: &Memos) -> Listeners {
    let facts = Arc::new(Facts::outbound(view, key));
    let mut plans = outbound::plan(view, key, &facts);
    if key.http_proxy_port != 0 {
        plans.push(http_proxy::plan(&facts, key.http_proxy_port));
    }
    let mut out = encode(&facts, plans, memo);
    if key.interception != Interception::None {
        let what = What::VirtualOutbound {
            port: u16::try_from(view.mesh.proxy_listen_port).unwrap_or(15001),
            transparent: key.interception == Interception::Tproxy,
        };
        out.resources.push(encoded(&facts, what, memo));
    }
    out
}

/// Inbound listeners of a sidecar: virtualInbound first, or those that bind their ports.
pub fn inbound(view: &View, key: &InboundKey, memo: &Memos) -> Vec<Arc<Encoded>> {
    // Nothing here is shared: a class is what its services are.
    inbound::listeners(view, key, memo)
        .iter()
        .map(|listener| {
            Arc::new(Encoded::new(
                &*listener.name,
                TypeId::Lds,
                &listener.encode_to_vec(),
            ))
        })
        .collect()
}

/// Listeners of a router.
pub fn gateway(view: &View, key: &OutboundKey, memo: &Memos) -> Listeners {
    let facts = Arc::new(Facts::outbound(view, key));
    encode(&facts, gateway::plan(view, key, &facts, memo), memo)
}

fn encode(facts: &Arc<Facts>, plans: Vec<ListenerPlan>, memo: &Memos) -> Listeners {
    let mut out = Listeners::default();
    for plan in plans {
        for chain in &plan.chains {
            if let Stack::Http { route, .. } = &chain.stack {
                out.route_names.insert(route.clone());
            }
        }
        out.resources
            .push(encoded(facts, What::Planned(plan), memo));
    }
    out
}

fn encoded(facts: &Arc<Facts>, what: What, memo: &Memos) -> Arc<Encoded> {
    let input = Input {
        facts: facts.clone(),
        what,
    };
    memo.listeners.listeners.get_or(input, |input| {
        let listener = input.listener();
        Encoded::new(&*listener.name, TypeId::Lds, &listener.encode_to_vec())
    })
}
