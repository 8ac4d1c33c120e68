//! RDS: the RouteConfigurations of a class of proxies.
//!
//! [`sidecar()`] and [`gateway()`] find out which virtual hosts there are and which routes each has (`sidecar`, `gateway`; `domains` for the
//! names of a host). The routes of one VirtualService on one port are made and encoded once (`rule`; `target` is what they read of other
//! objects), whichever classes they are for; `wire` joins encoded routes and names to the whole. `matching`, `action`, `retry` and the like
//! translate one block of a rule each.

mod action;
mod catch_all;
mod claims;
mod cors;
mod domains;
mod facts;
mod fault;
mod gateway;
pub(crate) mod hash;
mod headers;
mod matching;
mod patch;
mod redirect;
mod retry;
mod rule;
mod share;
mod sidecar;
pub(crate) mod target;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use envoy_api::envoy::config::route::v3::RouteConfiguration;
use mesh_model::View;
use prost::Message;
use xds_core::{Encoded, TypeId};

use crate::memo::{Memo, Piece, Stats};
use crate::{Memos, OutboundKey};
use rule::{Input, Routes};
use wire::{Frame, Host};

type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::FixedState>;
type HashSet<T> = std::collections::HashSet<T, foldhash::fast::FixedState>;

/// Memos of this module.
#[derive(Default)]
pub struct RouteMemos {
    routes: Memo<Input, Routes>,
    /// By name and content version, so that classes that come to the same share it.
    configurations: Memo<(Arc<str>, u64)>,
}

impl RouteMemos {
    /// Adds how each memo did, with its name.
    pub fn stats(&self, out: &mut Vec<(&'static str, Stats)>) {
        out.push(("routes", self.routes.stats()));
        out.push(("route_configurations", self.configurations.stats()));
    }
}

/// The RouteConfiguration of a sidecar; an unknown name gives one without virtual hosts.
pub fn sidecar(view: &View, key: &OutboundKey, route_name: &str, memo: &Memos) -> Arc<Encoded> {
    assembled(
        route_name,
        sidecar::hosts(view, key, route_name, memo),
        memo,
    )
}

/// As [`sidecar()`], from the one that `old`, the class's view before a change, gave.
pub fn sidecar_update(
    old: (&View, &Arc<Encoded>),
    view: &View,
    key: &OutboundKey,
    memo: &Memos,
) -> Arc<Encoded> {
    let (old, known) = old;
    let name = known.name();
    let exchanges = patch::exchanges(old, view, key, name, memo);
    let patched = exchanges.and_then(|exchanges| {
        if exchanges.is_empty() {
            return Some(known.clone());
        }
        let message = patch::exchange(patch::message_of(known.any())?, &exchanges)?;
        let made = Encoded::new(name.clone(), TypeId::Rds, &message);
        Some(shared(made, memo, |whole| {
            let gone = exchanges.iter().map(|e| e.before.clone() as Piece);
            let come = exchanges.iter().map(|e| e.after.clone() as Piece);
            memo.keep_like(whole, known, &gone.collect::<Vec<_>>(), come.collect());
        }))
    });
    patched.unwrap_or_else(|| sidecar(view, key, name, memo))
}

/// The RouteConfiguration of a router; an unknown name gives one without virtual hosts.
pub fn gateway(view: &View, key: &OutboundKey, route_name: &str, memo: &Memos) -> Arc<Encoded> {
    assembled(
        route_name,
        gateway::hosts(view, key, route_name, memo),
        memo,
    )
}

/// The RouteConfiguration that answers a name nobody has.
pub fn empty(route_name: &str) -> Encoded {
    let message = RouteConfiguration {
        name: route_name.to_owned(),
        validate_clusters: Some(false),
        ..RouteConfiguration::default()
    };
    Encoded::new(route_name, TypeId::Rds, &message.encode_to_vec())
}

fn routes(input: Input, memo: &Memos) -> Arc<Routes> {
    memo.routes.routes.get_or(input, Input::routes)
}

fn assembled(name: &str, hosts: Option<(Vec<Host<'_>>, Frame)>, memo: &Memos) -> Arc<Encoded> {
    let (made, hosts) = match hosts {
        Some((hosts, frame)) => {
            let message = wire::configuration(name, frame, &hosts);
            (Encoded::new(name, TypeId::Rds, &message), hosts)
        }
        None => (empty(name), Vec::new()),
    };
    shared(made, memo, |whole| {
        let pieces = hosts.into_iter().flat_map(|host| host.routes);
        memo.keep(whole, pieces.map(|routes| routes as Piece).collect());
    })
}

/// The one of this name and content that some class has already, else this one; `keep` is told of it if it is new.
fn shared(made: Encoded, memo: &Memos, keep: impl FnOnce(&Arc<Encoded>)) -> Arc<Encoded> {
    let key = (made.name().clone(), made.version());
    let mut new = false;
    let whole = memo.routes.configurations.get_or(key, |_| {
        new = true;
        made
    });
    if new {
        keep(&whole);
    }
    whole
}
