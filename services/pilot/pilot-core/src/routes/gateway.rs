//! The virtual hosts of a router's RouteConfiguration (XDS-TRAFFIC 9.4).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use mesh_model::{GatewayServer, MergedServer, View, VirtualService};
use mesh_types::{Hostname, Protocol};
use smallvec::SmallVec;

use super::domains::{bracketed, host_and_port};
use super::facts::Facts;
use super::rule::{Input, Place, Routes};
use super::wire::{Frame, Host};
use super::{HashMap, routes};
use crate::{Memos, OutboundKey};

/// The virtual hosts of a RouteConfiguration in their order, and how it is framed; `None` if no server has that name.
pub(super) fn hosts<'a>(
    view: &'a View,
    key: &'a OutboundKey,
    name: &str,
    memo: &'a Memos,
) -> Option<(Vec<Host<'a>>, Frame)> {
    let named = |merged: &&MergedServer| !name.is_empty() && *merged.route_name == *name;
    let servers: Vec<(&GatewayServer, Protocol)> = view
        .servers
        .iter()
        .filter(named)
        .flat_map(|merged| {
            merged
                .servers
                .iter()
                .map(|server| (server, merged.protocol))
        })
        .collect();
    let (first, _) = servers.first()?;
    let facts = Arc::new(Facts::of(view, key));
    let mut found = BTreeMap::new();
    for (server, protocol) in &servers {
        add(view, server, *protocol, &facts, memo, &mut found);
    }
    let mut hosts = collapsed(found);
    if hosts.is_empty() {
        hosts.push(Host {
            name: host_and_port("blackhole", written_port(first)),
            domains: vec!["*".into()],
            routes: SmallVec::new(),
            require_tls: false,
        });
    }
    hosts.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let frame = Frame {
        ignore_port: true,
        attempt_count: !key.proxy_config.http.headers.attempt_count_disabled,
    };
    Some((hosts, frame))
}

/// One host of the servers, with the rules of every VirtualService for it, oldest first.
struct Found {
    /// The port its server was written with.
    port: u16,
    routes: SmallVec<[Arc<Routes>; 1]>,
    require_tls: bool,
}

/// The port as the Gateway's author wrote it, which is what VirtualServices match.
fn written_port(server: &GatewayServer) -> u16 {
    let port = server.spec.port.as_ref().map_or(0, |port| port.number);
    u16::try_from(port).unwrap_or(0)
}

fn add(
    view: &View,
    server: &GatewayServer,
    protocol: Protocol,
    facts: &Arc<Facts>,
    memo: &Memos,
    found: &mut BTreeMap<Hostname, Found>,
) {
    let port = written_port(server);
    let redirects = server
        .spec
        .tls
        .as_ref()
        .is_some_and(|tls| tls.https_redirect);
    let mut entry = |host: Hostname, new: Option<&Arc<Routes>>| {
        let known = match found.entry(host) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => free.insert(Found {
                port,
                routes: SmallVec::new(),
                require_tls: false,
            }),
        };
        // Two servers of one Gateway may both bring the same rules.
        if let Some(new) =
            new.filter(|new| !known.routes.iter().any(|known| Arc::ptr_eq(known, new)))
        {
            known.routes.push(new.clone());
        }
        known.require_tls |= redirects;
    };
    for vs in &server.virtual_services {
        let hosts = common_hosts(server, vs);
        if hosts.is_empty() {
            continue;
        }
        let place = Place {
            gateway: server.gateway.clone(),
            port,
            tls: server.spec.tls.is_some() && !protocol.is_http(),
        };
        let rules = routes(Input::rules(view, vs, place, facts), memo);
        if rules.is_empty() {
            continue;
        }
        for host in hosts {
            entry(host, Some(&rules));
        }
    }
    if redirects {
        let bare = |host: &Arc<str>| {
            Hostname::new(host.split_once('/').map_or(host, |(_, bare)| bare)).ok()
        };
        server
            .hosts
            .iter()
            .filter_map(bare)
            .for_each(|host| entry(host, None));
    }
}

/// The names that a server and a VirtualService have in common: of two that overlap the narrower one.
fn common_hosts(server: &GatewayServer, vs: &VirtualService) -> Vec<Hostname> {
    let mut out = Vec::new();
    let open = server
        .hosts
        .iter()
        .filter_map(|host| match host.split_once('/') {
            Some((namespace, bare)) => (*namespace == *vs.key.namespace).then_some(bare),
            None => Some(host),
        });
    for own in open.filter_map(|host| Hostname::new(host).ok()) {
        for asked in &vs.hosts {
            let narrower = if own.is_subset_of(asked) {
                &own
            } else if asked.is_subset_of(&own) {
                asked
            } else {
                continue;
            };
            if !out.contains(narrower) {
                out.push(narrower.clone());
            }
        }
    }
    out
}

/// Hosts with the same rules become one virtual host, named after the most specific of them.
fn collapsed(found: BTreeMap<Hostname, Found>) -> Vec<Host<'static>> {
    let mut found: Vec<(Hostname, Found)> = found.into_iter().collect();
    found.sort_by(|(a, _), (b, _)| a.specificity(b));
    let mut out: Vec<Host<'static>> = Vec::with_capacity(found.len());
    let mut same: HashMap<(SmallVec<[*const Routes; 1]>, bool), usize> = HashMap::default();
    for (host, found) in found {
        let domain = bracketed(host.as_str()).into_owned().into();
        let rules = found.routes.iter().map(Arc::as_ptr).collect();
        let index = *same.entry((rules, found.require_tls)).or_insert(out.len());
        match out.get_mut(index) {
            Some(known) => known.domains.push(domain),
            None => out.push(Host {
                name: host_and_port(host.as_str(), found.port),
                domains: vec![domain],
                routes: found.routes,
                require_tls: found.require_tls,
            }),
        }
    }
    out
}
