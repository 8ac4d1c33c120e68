//! Listeners of routers: HTTP and TCP, plaintext or with TLS that ends here, and TLS passed through (XDS-TRAFFIC 9.2, 9.3).
//!
//! Servers that choose the service by server name alone (AUTO_PASSTHROUGH) make no chain; their authors are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_config::resource::gateway::{ServerTlsMode, ServerTlsSettings};
use mesh_model::{GatewayServer, MergedServer, View, VirtualService};
use mesh_types::{Hostname, Protocol};

use super::chains;
use super::facts::Facts;
use super::hcm::Side;
use super::plan::{ChainPlan, ListenerPlan, Match, Stack, add_chains};
use crate::tls::{MeshTls, Own, ServerTls, Source, alpn};
use crate::{Memos, OutboundKey};

/// The listeners of a class of routers, by bind and port.
pub fn plan(view: &View, key: &OutboundKey, facts: &Facts, memo: &Memos) -> Vec<ListenerPlan> {
    let mesh = Arc::new(MeshTls::of(&view.mesh, memo.options.compliance));
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
        add_chains(&mut listener.chains, chains_of(view, key, &mesh, merged));
    }
    out.into_values()
        .filter(|listener| !listener.chains.is_empty())
        .collect()
}

fn chains_of(
    view: &View,
    key: &OutboundKey,
    mesh: &Arc<MeshTls>,
    merged: &MergedServer,
) -> Vec<ChainPlan> {
    if merged.protocol.is_http() {
        return vec![ChainPlan {
            matching: Match::default(),
            stack: Stack::Http {
                route: merged.route_name.clone(),
                protocol: merged.protocol,
                forward_proxy: false,
            },
            source: None,
            tls: None,
        }];
    }
    let mut out = Vec::new();
    let mut names = BTreeSet::new();
    for server in &merged.servers {
        let Some(tls) = &server.spec.tls else {
            out.extend(tcp(view, key, server));
            continue;
        };
        match tls.mode {
            ServerTlsMode::Passthrough => out.extend(passthrough(view, key, server, &mut names)),
            ServerTlsMode::AutoPassthrough => {}
            ServerTlsMode::Simple
            | ServerTlsMode::Mutual
            | ServerTlsMode::OptionalMutual
            | ServerTlsMode::IstioMutual => {
                let matching = Match::of(server.hosts.iter().map(|host| Arc::from(bare(host))), []);
                let inside = if merged.protocol == Protocol::Https {
                    Some(ChainPlan {
                        matching: matching.clone(),
                        stack: Stack::Http {
                            route: merged.route_name.clone(),
                            protocol: Protocol::Http,
                            forward_proxy: false,
                        },
                        source: None,
                        tls: None,
                    })
                } else {
                    tcp(view, key, server)
                };
                let ends = ends(key, mesh, tls, merged.protocol);
                out.extend(inside.zip(ends).map(|(chain, ends)| ChainPlan {
                    matching,
                    tls: Some(Arc::new(ends)),
                    ..chain
                }));
            }
        }
    }
    out
}

/// What ends TLS of a server; `None` if that takes the workload's own certificate, and there is none.
fn ends(
    key: &OutboundKey,
    mesh: &Arc<MeshTls>,
    tls: &ServerTlsSettings,
    protocol: Protocol,
) -> Option<ServerTls> {
    let mutual = tls.mode == ServerTlsMode::IstioMutual;
    if mutual && !key.agent {
        return None;
    }
    let http = protocol == Protocol::Https;
    Some(ServerTls {
        mesh: mesh.clone(),
        source: match key.agent {
            true => Source::Agent,
            false => Source::Direct,
        },
        own: match mutual {
            true => Own::Workload(tls.subject_alt_names.clone()),
            false => Own::Written(Arc::new(tls.clone())),
        },
        alpn: alpn(http, mutual && !key.vanilla),
    })
}

/// A host without the namespace before it.
fn bare(host: &str) -> &str {
    host.split_once('/').map_or(host, |(_, host)| host)
}

/// The port as the Gateway's author wrote it, which is what VirtualServices match.
fn written_port(server: &GatewayServer) -> u32 {
    server.spec.port.as_ref().map_or(0, |port| port.number)
}

/// TCP: the first VirtualService with a rule for it takes the port.
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
        tls: None,
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
