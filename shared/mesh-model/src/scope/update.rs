//! The next view of a class, from the one before and what concerns it. Parts that stay equal stay the same allocation.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_types::Hostname;

use crate::scope::services::rank;
use crate::scope::{self, Ask, asks, rules};
use crate::{EgressListener, Mesh, ProxyKind, ScopedEndpoints, Service, Touch, View};
use crate::{policies, services};

/// The view after a change; what [`scope::view`] would give, sharing with `old` whatever is equal.
pub(crate) fn update(mesh: &Mesh, old: &View, touch: &Touch) -> View {
    if touch.everything || touch.sidecar {
        return share(old, scope::view(mesh, &old.key));
    }
    let restricted = old.sidecar.is_some();
    let mut view = old.clone();
    if !touch.services.is_empty() || (restricted && !touch.virtual_services.is_empty()) {
        match (!restricted).then(|| patched(mesh, old, touch)).flatten() {
            Some((by_host, in_order)) => in_default_scope(mesh, &mut view, by_host, in_order),
            None => return share(old, scope::view(mesh, &old.key)),
        }
        let concerned = touch.services.iter().chain(&touch.rules);
        update_rules(mesh, &mut view, concerned);
    } else {
        if !touch.virtual_services.is_empty() && view.key.kind == ProxyKind::Sidecar {
            let all = asks(view.sidecar.as_deref(), &view.key.namespace);
            view.egress = view
                .egress
                .iter()
                .zip(&all)
                .map(|(old, ask)| with_virtual_services(mesh, &view, old, ask))
                .collect();
        }
        update_rules(mesh, &mut view, touch.rules.iter());
    }
    if view.key.kind == ProxyKind::Router
        && (!touch.gateways.is_empty() || !touch.virtual_services.is_empty())
    {
        view.servers = crate::servers::merge(mesh, &view.key).0.into();
    }
    if touch.policies {
        view.policies = Arc::new(policies::of(mesh, &view.key, &view.services));
    }
    if touch.peers {
        view.peers = Arc::new(scope::peers(mesh, &view.key));
    }
    if view.key.kind == ProxyKind::Router {
        view.secrets = Arc::new(scope::secrets(mesh, &view));
    }
    view.endpoints = ScopedEndpoints::new(view.services.clone(), mesh.services.endpoints.clone());
    share(old, view)
}

/// Services by host, and in order.
type Services = (BTreeMap<Hostname, Arc<Service>>, Vec<Arc<Service>>);

/// The services of a scope that asks for everything, with those that changed put in their places. `None` where hosts are shared between
/// namespaces: then who wins must be found out anew.
fn patched(mesh: &Mesh, old: &View, touch: &Touch) -> Option<Services> {
    if mesh.services.shared_hosts > 0 || view_has_shared(old, mesh, touch) {
        return None;
    }
    let namespace = &old.key.namespace;
    let mut by_host = BTreeMap::clone(&old.services);
    let mut in_order = old.services_in_order.to_vec();
    let rank = |service: &Service| rank(mesh, namespace, service);
    in_order.retain(|service| !touch.services.contains(&service.hostname));
    for host in &touch.services {
        by_host.remove(host);
        let found = mesh
            .services
            .by_host
            .get(host)
            .and_then(|same| same.values().next());
        let Some(new) = found.filter(|new| services::audience(new, &mesh.config).has(namespace))
        else {
            continue;
        };
        let place = rank(new);
        let at = in_order.partition_point(|service| rank(service) < place);
        in_order.insert(at, new.clone());
        by_host.insert(host.clone(), new.clone());
    }
    Some((by_host, in_order))
}

/// Whether a changed host belonged to another namespace before.
fn view_has_shared(old: &View, mesh: &Mesh, touch: &Touch) -> bool {
    touch.services.iter().any(|host| {
        let now = mesh.services.by_host.get(host).and_then(|same| same.values().next());
        matches!((old.services.get(host), now), (Some(old), Some(new)) if old.key.namespace != new.key.namespace)
    })
}

/// Puts services into a view without Sidecar, and what follows from them.
fn in_default_scope(
    mesh: &Mesh,
    view: &mut View,
    by_host: BTreeMap<Hostname, Arc<Service>>,
    in_order: Vec<Arc<Service>>,
) {
    view.services = Arc::new(by_host);
    view.services_in_order = in_order.into();
    let all = asks(None, &view.key.namespace);
    view.egress = all
        .iter()
        .map(|ask| {
            let found = match view.key.kind {
                ProxyKind::Sidecar => scope::virtual_services(mesh, &view.key, ask),
                ProxyKind::Router => Vec::new(),
            };
            let best = scope::index(&found, &view.services_in_order, Some(&view.services));
            ask.listener(view.services_in_order.clone(), found.into(), best)
        })
        .collect();
    view.aliases = Arc::new(scope::aliases(mesh, &view.services));
}

fn with_virtual_services(
    mesh: &Mesh,
    view: &View,
    old: &EgressListener,
    ask: &Ask,
) -> EgressListener {
    let found = scope::virtual_services(mesh, &view.key, ask);
    let best = scope::index(&found, &old.services, Some(&view.services));
    ask.listener(old.services.clone(), found.into(), best)
}

/// Looks the rules of these hosts up again.
fn update_rules<'a>(mesh: &Mesh, view: &mut View, hosts: impl Iterator<Item = &'a Hostname>) {
    for host in hosts {
        let (outbound, inbound) = match view.services.get(host) {
            Some(service) => rules::of_service(mesh, &view.key, service),
            None => (None, None),
        };
        for (map, rule) in [
            (&mut view.destination_rules, outbound),
            (&mut view.inbound_destination_rules, inbound),
        ] {
            if map.get(host) == rule.as_ref() {
                continue;
            }
            match rule {
                Some(rule) => Arc::make_mut(map).insert(host.clone(), rule),
                None => Arc::make_mut(map).remove(host),
            };
        }
    }
}

/// Keeps the old allocation of every part that is equal.
fn share(old: &View, mut new: View) -> View {
    keep(&old.mesh, &mut new.mesh);
    keep(&old.services, &mut new.services);
    keep(&old.services_in_order, &mut new.services_in_order);
    keep(&old.destination_rules, &mut new.destination_rules);
    keep(
        &old.inbound_destination_rules,
        &mut new.inbound_destination_rules,
    );
    keep(&old.aliases, &mut new.aliases);
    keep(&old.servers, &mut new.servers);
    keep(&old.peers, &mut new.peers);
    keep(&old.secrets, &mut new.secrets);
    keep(&old.policies, &mut new.policies);
    keep(&old.ingress, &mut new.ingress);
    let pairs = new.egress.iter().zip(old.egress.iter()).map(|(new, old)| {
        let mut new = new.clone();
        keep(&old.services, &mut new.services);
        keep(&old.virtual_services, &mut new.virtual_services);
        keep(&old.most_specific, &mut new.most_specific);
        new
    });
    if new.egress.len() == old.egress.len() && !Arc::ptr_eq(&new.egress, &old.egress) {
        new.egress = pairs.collect();
    }
    new
}

fn keep<T: ?Sized + PartialEq>(old: &Arc<T>, new: &mut Arc<T>) {
    if !Arc::ptr_eq(old, new) && **old == **new {
        *new = old.clone();
    }
}
