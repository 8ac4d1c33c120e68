//! Which RouteConfigurations a change can reach.
//!
//! A RouteConfiguration reads the services of its port, the VirtualServices that speak for them, and, of each destination of those, the
//! ports and the hash policy. So a change reaches it through a host on its port, or through a VirtualService that has effect there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_model::{MergedServer, ProxyKind, View, VirtualService};
use mesh_types::{Hostname, Protocol};

use crate::routes::target::destinations;

/// The port on which VirtualServices give routes to hosts that are no services.
const HTTP: u16 = 80;

/// RouteConfigurations that may differ.
#[derive(Debug, Default)]
pub(super) struct ChangedRoutes {
    /// Every one.
    pub(super) all: bool,
    /// Of sidecars: numbered ones.
    ports: BTreeSet<u16>,
    /// Of sidecars: those named after one of these hosts. If there are any, those for every port differ too.
    hosts: BTreeSet<Hostname>,
    /// Of routers.
    names: BTreeSet<Arc<str>>,
}

impl ChangedRoutes {
    /// Whether there is any.
    pub(super) fn any(&self) -> bool {
        self.all || !self.hosts.is_empty() || !self.names.is_empty()
    }

    /// Whether the one of that name is among them.
    pub(super) fn has(&self, name: &str) -> bool {
        if self.all || self.names.contains(name) {
            return true;
        }
        if let Ok(port) = name.parse::<u16>() {
            return self.ports.contains(&port);
        }
        match name.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => {
                let host = Hostname::new(host);
                host.is_ok_and(|host| self.hosts.iter().any(|changed| changed.matches(&host)))
            }
            // A forward proxy or a socket.
            _ => !self.hosts.is_empty(),
        }
    }

    /// VirtualServices of sidecars that came, went or differ, seen from the views before and after.
    pub(super) fn virtual_services<'a>(
        &mut self,
        views: [&View; 2],
        changed: impl IntoIterator<Item = &'a Arc<VirtualService>>,
    ) {
        for host in changed.into_iter().flat_map(|vs| &vs.hosts) {
            self.host(views, host);
        }
    }

    /// Hosts whose ports or hash policy may be others: their own routes, and those of VirtualServices that lead there.
    pub(super) fn destinations(&mut self, views: [&View; 2], changed: &BTreeSet<Hostname>) {
        if changed.is_empty() {
            return;
        }
        let mut hosts = changed.clone();
        for view in views {
            let aliases = changed.iter().filter_map(|host| view.aliases.get(host));
            hosts.extend(aliases.flatten().cloned());
        }
        let leads_there = |vs: &VirtualService| {
            let mut all = vs.spec.http.iter().flat_map(destinations).flatten();
            all.any(|destination| hosts.contains(destination.host.as_str()))
        };
        for view in views {
            match view.key.kind {
                ProxyKind::Sidecar => {
                    let rules = view
                        .egress
                        .iter()
                        .flat_map(|listener| listener.virtual_services.iter());
                    self.virtual_services(views, rules.filter(|vs| leads_there(vs)));
                }
                ProxyKind::Router => {
                    let reached = view
                        .servers
                        .iter()
                        .filter(|merged| rules(merged).any(|vs| leads_there(vs)));
                    self.names
                        .extend(reached.map(|merged| merged.route_name.clone()));
                }
            }
        }
        if views[1].key.kind == ProxyKind::Sidecar {
            for host in &hosts {
                self.host(views, host);
            }
        }
    }

    /// Servers of a router, before and after.
    pub(super) fn servers(&mut self, old: &View, new: &View) {
        let (old, new) = (by_name(old), by_name(new));
        let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        let changed = names
            .into_iter()
            .filter(|name| old.get(*name) != new.get(*name));
        self.names.extend(changed.map(|name| Arc::clone(name)));
    }

    /// A host of sidecars that may have other routes.
    fn host(&mut self, views: [&View; 2], host: &Hostname) {
        if !self.hosts.insert(host.clone()) {
            return;
        }
        self.ports.insert(HTTP);
        for view in views {
            // A listener for every port may go by any number.
            self.all |= view
                .egress
                .iter()
                .any(|listener| matches!(listener.port, Some((_, Protocol::HttpProxy))));
            let exact = view.services.get(host);
            let wild = view.services.values().filter(|service| {
                (host.is_wildcard() || service.hostname.is_wildcard())
                    && service.hostname.matches(host)
            });
            let ports = exact
                .into_iter()
                .chain(wild)
                .flat_map(|service| &service.ports);
            self.ports.extend(ports.map(|port| port.number));
        }
    }
}

fn by_name(view: &View) -> BTreeMap<&Arc<str>, Vec<&MergedServer>> {
    let mut out = BTreeMap::<_, Vec<_>>::new();
    for merged in view.servers.iter() {
        out.entry(&merged.route_name).or_default().push(merged);
    }
    out
}

/// VirtualServices bound to a server.
pub(super) fn rules(merged: &MergedServer) -> impl Iterator<Item = &Arc<VirtualService>> {
    merged
        .servers
        .iter()
        .flat_map(|server| &server.virtual_services)
}
