//! Listeners of routers: plaintext HTTP, plaintext TCP, and TLS passed through (XDS-TRAFFIC 9.2).
//!
//! Servers that terminate TLS make no chain; the model tells their authors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_config::resource::gateway::ServerTlsMode;
use mesh_model::{GatewayServer, MergedServer, View, VirtualService};
use mesh_types::{Hostname, Protocol};

use super::chains;
use super::facts::Facts;
use super::hcm::Side;
use super::plan::{ChainPlan, ListenerPlan, Match, Stack, add_chains};
use crate::OutboundKey;

/// The listeners of a class of routers, by bind and port.
pub fn plan(view: &View, key: &OutboundKey, facts: &Facts) -> Vec<ListenerPlan> {
    let mut out = BTreeMap::<(Arc<str>, u16), ListenerPlan>::new();
    for merged in view.servers.iter() {
        let bind: Arc<str> = match &*merged.bind {
            "" => facts.wildcard().into(),
            _ => merged.bind.clone(),
        };
        let low = key.unprivileged && merged.port < 1024;
        let own = key.reserved_ports.contains(&merged.port);
        if low || (own && super::convert::is_wildcard(&bind)) {
            continue;
        }
        let place = (bind.clone(), merged.port);
        let listener = out.entry(place).or_insert_with(|| ListenerPlan {
            bind,
            port: merged.port,
            bound: true,
            side: Side::Gateway,
            chains: Vec::new(),
        });
        add_chains(&mut listener.chains, chains_of(view, key, merged));
    }
    out.into_values()
        .filter(|listener| !listener.chains.is_empty())
        .collect()
}

fn chains_of(view: &View, key: &OutboundKey, merged: &MergedServer) -> Vec<ChainPlan> {
    if merged.protocol.is_http() {
        return vec![ChainPlan {
            matching: Match::default(),
            stack: Stack::Http {
                route: merged.route_name.clone(),
                protocol: merged.protocol,
                forward_proxy: false,
            },
            source: None,
        }];
    }
    let mut out = Vec::new();
    let mut names = BTreeSet::new();
    for server in &merged.servers {
        match server.spec.tls.as_ref().map(|tls| tls.mode) {
            None => out.extend(tcp(view, key, server)),
            Some(ServerTlsMode::Passthrough) => {
                out.extend(passthrough(view, key, server, &mut names))
            }
            Some(
                ServerTlsMode::Simple
                | ServerTlsMode::Mutual
                | ServerTlsMode::OptionalMutual
                | ServerTlsMode::IstioMutual
                | ServerTlsMode::AutoPassthrough,
            ) => {}
        }
    }
    out
}

/// The port as the Gateway's author wrote it, which is what VirtualServices match.
fn written_port(server: &GatewayServer) -> u32 {
    server.spec.port.as_ref().map_or(0, |port| port.number)
}

/// Plaintext TCP: the first VirtualService with a rule for it takes the port.
fn tcp(view: &View, key: &OutboundKey, server: &GatewayServer) -> Option<ChainPlan> {
    let port = written_port(server);
    server
        .virtual_services
        .iter()
        .filter(|vs| serves(server, vs))
        .find_map(|vs| {
            let block = vs
                .spec
                .tcp
                .iter()
                .filter(|block| !block.route.is_empty())
                .find(|block| {
                    block.matches.is_empty()
                        || block
                            .matches
                            .iter()
                            .any(|m| holds(server, port, &m.gateways, m.port))
                })?;
            Some(chain(
                view,
                key,
                vs,
                Match::default(),
                &block.route,
                port,
                Protocol::Tcp,
            ))
        })
}

/// TLS passed through: a chain per match, by server name; the first to claim a name has it.
fn passthrough(
    view: &View,
    key: &OutboundKey,
    server: &GatewayServer,
    names: &mut BTreeSet<String>,
) -> Vec<ChainPlan> {
    let port = written_port(server);
    let mut out = Vec::new();
    for vs in server
        .virtual_services
        .iter()
        .filter(|vs| serves(server, vs))
    {
        for block in vs.spec.tls.iter().filter(|block| !block.route.is_empty()) {
            for m in block
                .matches
                .iter()
                .filter(|m| holds(server, port, &m.gateways, m.port))
            {
                if m.sni_hosts.iter().any(|host| names.contains(host)) {
                    continue;
                }
                names.extend(m.sni_hosts.iter().cloned());
                let matching =
                    Match::of(m.sni_hosts.iter().map(|host| Arc::from(host.as_str())), []);
                out.push(chain(
                    view,
                    key,
                    vs,
                    matching,
                    &block.route,
                    port,
                    Protocol::Tls,
                ));
            }
        }
    }
    out
}

fn chain(
    view: &View,
    key: &OutboundKey,
    vs: &VirtualService,
    matching: Match,
    routes: &[mesh_config::resource::virtual_service::RouteDestination],
    port: u32,
    protocol: Protocol,
) -> ChainPlan {
    let port = u16::try_from(port).unwrap_or(0);
    ChainPlan {
        matching,
        stack: Stack::Tcp(chains::forward(view, key, vs, routes, port, protocol)),
        source: Some(vs.key.clone()),
    }
}

fn holds(server: &GatewayServer, port: u32, gateways: &[String], match_port: u32) -> bool {
    (match_port == 0 || match_port == port)
        && (gateways.is_empty() || gateways.iter().any(|g| **g == *server.gateway))
}

/// Whether a server accepts some host of a VirtualService: its hosts without namespace, and those of the VirtualService's namespace.
fn serves(server: &GatewayServer, vs: &VirtualService) -> bool {
    let hosts = server
        .hosts
        .iter()
        .filter_map(|host| match host.split_once('/') {
            Some((namespace, name)) => {
                (namespace == &*vs.key.namespace || namespace == "*").then_some(name)
            }
            None => Some(host),
        });
    let mut hosts = hosts.filter_map(|name| Hostname::new(name).ok());
    hosts.any(|host| vs.hosts.iter().any(|own| own.matches(&host)))
}
