//! What differs between two views of a class, and which resources that can reach (XDS-TRAFFIC 11.8, finer where it is cheap).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_config::resource::normal::ServiceResolution;
use mesh_model::{Delta, GatewayServer, MergedServer, ProxyKind, View, VirtualService};
use mesh_types::Hostname;

use super::changed_routes::{ChangedRoutes, rules};
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
    /// Whether a router's credentials may differ.
    pub(super) secrets: bool,
    routes: ChangedRoutes,
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
        changes.endpoints(old, new, delta, router);
        changes.virtual_services(old, new);
        changes.servers(old, new);
        // At a gateway they are in its listeners; those of sidecars are in the inbound class.
        changes.listeners |= router && !same(&old.policies, &new.policies);
        changes.secrets = router
            && !(same(&old.secrets, &new.secrets)
                && same(&old.servers, &new.servers)
                && Arc::ptr_eq(&old.destination_rules, &new.destination_rules));
        // Which names lead where, and which are left to whom: anything may follow.
        if !same(&old.aliases, &new.aliases) {
            changes.everything();
        }
        Some(changes)
    }

    /// Whether some RouteConfiguration may differ.
    pub(super) fn routes_at_all(&self) -> bool {
        self.routes.any()
    }

    /// Whether the RouteConfiguration of that name may differ.
    pub(super) fn route(&self, name: &str) -> bool {
        self.routes.has(name)
    }

    /// Every listener and RouteConfiguration.
    fn everything(&mut self) {
        self.listeners = true;
        self.routes.all = true;
    }

    fn services(&mut self, old: &View, new: &View) {
        let mut changed = BTreeSet::new();
        differences(&old.services, &new.services, |host| {
            changed.insert(host.clone());
        });
        if changed.is_empty() && same(&old.services_in_order, &new.services_in_order) {
            return;
        }
        self.listeners = true;
        if imports_everything(old) && imports_everything(new) && same_order(old, new, &changed) {
            self.routes.destinations([old, new], &changed);
        } else {
            self.routes.all = true;
        }
        self.cluster_hosts.extend(changed);
    }

    fn rules(&mut self, old: &View, new: &View) {
        let mut hashing = BTreeSet::new();
        differences(&old.destination_rules, &new.destination_rules, |host| {
            let before = old.destination_rules.get(host);
            let after = new.destination_rules.get(host);
            self.cluster_hosts.insert(host.clone());
            // Idle timeouts, tunnels and hashing of TCP connections are written in listeners.
            self.listeners = true;
            if before.is_some_and(|r| hashes(r)) || after.is_some_and(|r| hashes(r)) {
                hashing.insert(host.clone());
            }
        });
        self.routes.destinations([old, new], &hashing);
    }

    fn endpoints(&mut self, old: &View, new: &View, delta: &Delta, router: bool) {
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
            // Who the servers are, and whether they all take mutual TLS, is written in clusters.
            let [before, after] = [old, new].map(|view| {
                let endpoints = view.endpoints.get(host);
                endpoints.map(|e| e.peers.in_clusters())
            });
            if before != after {
                self.cluster_hosts.insert(host.clone());
            }
            // Without an address of its own, a service is listened for at each of its endpoints.
            if service.resolution == ServiceResolution::Passthrough && !router {
                self.listeners = true;
            }
        }
    }

    /// VirtualServices of sidecars.
    fn virtual_services(&mut self, old: &View, new: &View) {
        let mut changed: Vec<Arc<VirtualService>> = Vec::new();
        for (before, after) in old.egress.iter().zip(new.egress.iter()) {
            let own = changed.len();
            changed_between(
                &before.virtual_services,
                &after.virtual_services,
                &mut changed,
            );
            let explained = imports_everything(old) && imports_everything(new);
            if explained {
                continue; // services were compared as those of the whole view
            }
            let index = same(&before.most_specific, &after.most_specific);
            if !same(&before.services, &after.services) || (own == changed.len() && !index) {
                self.everything();
            }
        }
        self.listeners |= changed.iter().any(is_l4);
        self.routes.virtual_services([old, new], &changed);
    }

    /// Servers of routers.
    fn servers(&mut self, old: &View, new: &View) {
        if same(&old.servers, &new.servers) {
            return;
        }
        self.routes.servers(old, new);
        let pairs = || old.servers.iter().zip(new.servers.iter());
        let alike =
            old.servers.len() == new.servers.len() && pairs().all(|(a, b)| same_server(a, b));
        self.listeners |= !alike;
    }
}

/// Whether a view has one listener, with every service of the view.
fn imports_everything(view: &View) -> bool {
    matches!(&view.egress[..], [only] if Arc::ptr_eq(&only.services, &view.services_in_order))
}

/// Whether services other than these stand in the same order.
fn same_order(old: &View, new: &View, changed: &BTreeSet<Hostname>) -> bool {
    let [old, new] = [old, new].map(|view| {
        let hosts = view.services_in_order.iter().map(|s| &s.hostname);
        hosts.filter(|host| !changed.contains(*host))
    });
    old.eq(new)
}

/// Whether a VirtualService has rules that listeners are made from.
fn is_l4(vs: &Arc<VirtualService>) -> bool {
    !vs.spec.tcp.is_empty() || !vs.spec.tls.is_empty()
}

/// Whether two servers make the same listener.
fn same_server(a: &MergedServer, b: &MergedServer) -> bool {
    let place = |m: &MergedServer| {
        (
            m.port,
            m.protocol,
            m.bind.clone(),
            m.route_name.clone(),
            m.servers.len(),
        )
    };
    let alike = |a: &GatewayServer, b: &GatewayServer| {
        (&a.gateway, &a.namespace, &a.hosts, &a.spec)
            == (&b.gateway, &b.namespace, &b.hosts, &b.spec)
    };
    let l4 = |m: &MergedServer| -> Vec<Arc<VirtualService>> {
        rules(m).filter(|vs| is_l4(vs)).cloned().collect()
    };
    place(a) == place(b)
        && a.servers.iter().zip(&b.servers).all(|(a, b)| alike(a, b))
        && l4(a) == l4(b)
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
                    a.next();
                    b.next();
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
