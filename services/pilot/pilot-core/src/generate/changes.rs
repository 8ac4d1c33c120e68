//! What differs between two views of a class, and which resources that can reach (XDS-TRAFFIC 11.8, finer where it is cheap).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_config::resource::normal::ServiceResolution;
use mesh_model::{Delta, ProxyKind, View, VirtualService};
use mesh_types::{Hostname, Protocol};

use crate::routes::hash::hashes;

/// What must be made anew.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Hosts whose clusters may differ, and with them their endpoints.
    pub(super) cluster_hosts: BTreeSet<Hostname>,
    /// Hosts whose endpoints may differ.
    pub(super) endpoint_hosts: BTreeSet<Hostname>,
    /// Whether listeners may differ.
    pub(super) listeners: bool,
    routes: Routes,
}

/// Which RouteConfigurations may differ.
#[derive(Debug, Default)]
enum Routes {
    #[default]
    None,
    /// Those in which these hosts may stand; numbered ones by the ports of these hosts.
    Of {
        hosts: Vec<Hostname>,
        ports: BTreeSet<u16>,
    },
    All,
}

impl Changes {
    /// What differs; `None` if that may be everything.
    pub(super) fn between(old: &View, new: &View, delta: &Delta) -> Option<Changes> {
        let comparable = old.key == new.key
            && same(&old.mesh, &new.mesh)
            && old.sidecar == new.sidecar
            && old.outbound_policy == new.outbound_policy
            && old.ingress == new.ingress
            && same_shape(old, new);
        if !comparable {
            return None;
        }
        let router = new.key.kind == ProxyKind::Router;
        let mut changes = Changes::default();
        changes.services(old, new);
        changes.rules(old, new);
        changes.endpoints(new, delta, router);
        changes.virtual_services(old, new, router);
        if router && old.servers != new.servers {
            changes.listeners = true;
            changes.routes = Routes::All;
        }
        // Short names, ports of destinations and aliases all depend on services: anything may follow.
        if !same(&old.aliases, &new.aliases) {
            changes.listeners = true;
            changes.routes = Routes::All;
        }
        Some(changes)
    }

    /// Whether some RouteConfiguration may differ.
    pub(super) fn routes_at_all(&self) -> bool {
        !matches!(self.routes, Routes::None)
    }

    /// Whether the RouteConfiguration of that name may differ.
    pub(super) fn route(&self, name: &str) -> bool {
        match &self.routes {
            Routes::None => false,
            Routes::All => true,
            Routes::Of { hosts, ports } => {
                if let Ok(port) = name.parse::<u16>() {
                    return ports.contains(&port);
                }
                // `<host>:<port>`; anything else (http_proxy, a socket's path) has every port's hosts in it.
                match name
                    .rsplit_once(':')
                    .and_then(|(host, _)| Hostname::new(host).ok())
                {
                    Some(host) => hosts.iter().any(|h| h.matches(&host)),
                    None => true,
                }
            }
        }
    }

    fn services(&mut self, old: &View, new: &View) {
        let mut changed = BTreeSet::new();
        differences(&old.services, &new.services, |host| {
            changed.insert(host.clone());
        });
        let order = same(&old.services_in_order, &new.services_in_order);
        if changed.is_empty() && order {
            return;
        }
        self.cluster_hosts.extend(changed);
        self.listeners = true;
        self.routes = Routes::All;
    }

    fn rules(&mut self, old: &View, new: &View) {
        differences(&old.destination_rules, &new.destination_rules, |host| {
            let (before, after) = (
                old.destination_rules.get(host),
                new.destination_rules.get(host),
            );
            self.cluster_hosts.insert(host.clone());
            // Idle timeouts, tunnels and hashing of TCP connections are written in listeners.
            self.listeners = true;
            if before.is_some_and(|r| hashes(r)) || after.is_some_and(|r| hashes(r)) {
                self.routes = Routes::All;
            }
        });
    }

    fn endpoints(&mut self, new: &View, delta: &Delta, router: bool) {
        let touched = delta.services.iter().chain(&delta.endpoints);
        for (namespace, host) in touched {
            let Some(service) = new
                .services
                .get(host)
                .filter(|s| s.key.namespace == *namespace)
            else {
                continue;
            };
            self.endpoint_hosts.insert(host.clone());
            // Without an address of its own, a service is listened for at each of its endpoints.
            if service.resolution == ServiceResolution::Passthrough && !router {
                self.listeners = true;
            }
        }
    }

    fn virtual_services(&mut self, old: &View, new: &View, router: bool) {
        let mut changed: Vec<Arc<VirtualService>> = Vec::new();
        for (before, after) in old.egress.iter().zip(new.egress.iter()) {
            changed_between(
                &before.virtual_services,
                &after.virtual_services,
                &mut changed,
            );
            let index = same(&before.most_specific, &after.most_specific);
            let services = same(&before.services, &after.services);
            if changed.is_empty() && !index || !services {
                // Not explained by a VirtualService: other services, or their order.
                self.listeners = true;
                self.routes = Routes::All;
            }
        }
        if changed.is_empty() {
            return;
        }
        if router
            || changed
                .iter()
                .any(|vs| !vs.spec.tcp.is_empty() || !vs.spec.tls.is_empty())
        {
            self.listeners = true;
        }
        if router || !matches!(self.routes, Routes::None) || forwards(new) {
            self.routes = Routes::All;
            return;
        }
        let hosts: Vec<Hostname> = changed
            .iter()
            .flat_map(|vs| vs.hosts.iter().cloned())
            .collect();
        // Hosts of no service get their virtual host on port 80 alone.
        let mut ports = BTreeSet::from([80]);
        for view in [old, new] {
            for host in &hosts {
                if host.is_wildcard() || !view.services.contains_key(host) {
                    let matching = view.services.values().filter(|s| s.hostname.matches(host));
                    ports.extend(matching.flat_map(|s| s.ports.iter().map(|p| p.number)));
                } else if let Some(service) = view.services.get(host) {
                    ports.extend(service.ports.iter().map(|p| p.number));
                }
                let wildcards = view
                    .services
                    .values()
                    .filter(|s| s.hostname.is_wildcard() && s.hostname.matches(host));
                ports.extend(wildcards.flat_map(|s| s.ports.iter().map(|p| p.number)));
            }
        }
        self.routes = Routes::Of { hosts, ports };
    }
}

/// Whether some listener is a forward proxy, whose RouteConfiguration has every port's hosts in it whatever its name.
fn forwards(view: &View) -> bool {
    view.egress
        .iter()
        .any(|l| matches!(l.port, Some((_, Protocol::HttpProxy))))
}

/// Whether the listeners that a Sidecar asks for are the same ones.
fn same_shape(old: &View, new: &View) -> bool {
    old.egress.len() == new.egress.len()
        && old.egress.iter().zip(new.egress.iter()).all(|(a, b)| {
            (a.port, &a.port_name, &a.bind, a.capture_mode)
                == (b.port, &b.port_name, &b.bind, b.capture_mode)
        })
}

fn same<T: PartialEq + ?Sized>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b) || **a == **b
}

/// Keys whose values differ, in order. Maps that are one, and values that are one, cost a pointer comparison.
fn differences<V: PartialEq>(
    old: &Arc<BTreeMap<Hostname, Arc<V>>>,
    new: &Arc<BTreeMap<Hostname, Arc<V>>>,
    mut each: impl FnMut(&Hostname),
) {
    if Arc::ptr_eq(old, new) {
        return;
    }
    let (mut a, mut b) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (a.peek(), b.peek()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((x, xv)), Some((y, yv))) => {
                if Arc::ptr_eq(xv, yv) && x == y {
                    (a.next(), b.next());
                    continue;
                }
                x.cmp(y)
            }
        };
        let from_a = if order.is_le() { a.next() } else { None };
        let from_b = if order.is_ge() { b.next() } else { None };
        match (from_a, from_b) {
            (Some((_, x)), Some((_, y))) if same(x, y) => {}
            (Some((host, _)), _) | (None, Some((host, _))) => each(host),
            (None, None) => return,
        }
    }
}

/// Adds the VirtualServices that are in one list and not, or elsewhere, in the other: everything between the common start and the common end.
fn changed_between(
    old: &Arc<[Arc<VirtualService>]>,
    new: &Arc<[Arc<VirtualService>]>,
    out: &mut Vec<Arc<VirtualService>>,
) {
    if Arc::ptr_eq(old, new) {
        return;
    }
    let start = old
        .iter()
        .zip(new.iter())
        .take_while(|(a, b)| same(a, b))
        .count();
    let (old, new) = (&old[start..], &new[start..]);
    let end = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(|(a, b)| same(a, b))
        .count();
    out.extend(
        old[..old.len() - end]
            .iter()
            .chain(&new[..new.len() - end])
            .cloned(),
    );
}
