//! Whether and how a change concerns a view (XDS-TRAFFIC 11.7): only what is in the view now, or would be in the next one, counts.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_types::{Hostname, Key};

use crate::scope::{Ask, asks, implicit, peers, rules, secrets};
use crate::{Delta, Mesh, ProxyKind, Service, View, VirtualService, policies, services};

/// What of a [`Delta`] concerns one view. [`Mesh::update_view`] turns it into the next view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touch {
    /// Anything may be different: the mesh's settings are.
    pub everything: bool,
    /// Another Sidecar applies, or it says something else.
    pub sidecar: bool,
    /// Hosts of services that enter, leave or differ.
    pub services: BTreeSet<Hostname>,
    /// Hosts of services in scope whose endpoints differ.
    pub endpoints: BTreeSet<Hostname>,
    /// VirtualServices that enter, leave or differ.
    pub virtual_services: BTreeSet<Key>,
    /// Hosts of services in scope whose DestinationRule is another.
    pub rules: BTreeSet<Hostname>,
    /// Router: Gateways that enter, leave or differ.
    pub gateways: BTreeSet<Key>,
    /// Router: whether a Secret it refers to enters, leaves or differs.
    pub secrets: bool,
    /// Sidecar: whether mutual TLS is taken differently.
    pub peers: bool,
    /// What decides about requests differs, or may.
    pub policies: bool,
}

impl Touch {
    /// Whether the change does not concern the view at all.
    pub fn is_none(&self) -> bool {
        *self == Touch::default()
    }

    /// Whether nothing but endpoints is different.
    pub fn only_endpoints(&self) -> bool {
        !self.endpoints.is_empty()
            && Touch {
                endpoints: BTreeSet::new(),
                ..self.clone()
            }
            .is_none()
    }

    /// Whether the DestinationRule of some service in scope is another.
    pub fn rules_changed(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Whether another Sidecar applies, or it says something else.
    pub fn sidecar_changed(&self) -> bool {
        self.sidecar
    }
}

/// What of a change concerns a view; `mesh` is the one after the change.
pub(crate) fn touch(mesh: &Mesh, view: &View, delta: &Delta) -> Touch {
    let mut touch = Touch {
        everything: delta.mesh_config,
        sidecar: sidecar(mesh, view, delta),
        ..Touch::default()
    };
    if touch.everything || touch.sidecar {
        return touch;
    }
    let namespace = &view.key.namespace;
    if !delta.services.is_empty() || !delta.virtual_services.is_empty() {
        let asks = asks(view.sidecar.as_deref(), namespace);
        let concerned = delta
            .services
            .iter()
            .filter(|(ns, host)| service(mesh, view, &asks, ns, host));
        touch.services = concerned.map(|(_, host)| host.clone()).collect();
        let concerned = delta
            .virtual_services
            .iter()
            .filter(|key| virtual_service(mesh, view, &asks, key));
        touch.virtual_services = concerned.cloned().collect();
    }
    let in_scope = |(ns, host): &&(Arc<str>, Hostname)| {
        view.services
            .get(host)
            .is_some_and(|s| s.key.namespace == *ns)
    };
    touch.endpoints = delta
        .endpoints
        .iter()
        .filter(in_scope)
        .map(|(_, host)| host.clone())
        .collect();
    for host in &delta.destination_rule_hosts {
        touch.rules.extend(
            covered(view, host)
                .filter(|service| rule(mesh, view, service))
                .map(|s| s.hostname.clone()),
        );
    }
    let concerns = |key: &Key| key.namespace == *namespace || *key.namespace == *mesh.root();
    touch.policies = policies::touched(mesh, view, delta, &touch);
    touch.peers =
        delta.peer_authentications.iter().any(concerns) && peers(mesh, &view.key) != *view.peers;
    if view.key.kind == ProxyKind::Router {
        touch.secrets = delta.secrets.iter().any(|key| key.namespace == *namespace)
            && secrets(mesh, view) != *view.secrets;
        touch.gateways = delta
            .gateways
            .iter()
            .filter(|key| gateway(mesh, view, key))
            .cloned()
            .collect();
    }
    touch
}

fn sidecar(mesh: &Mesh, view: &View, delta: &Delta) -> bool {
    let namespace = &view.key.namespace;
    view.key.kind == ProxyKind::Sidecar
        && delta
            .sidecars
            .iter()
            .any(|key| key.namespace == *namespace || *key.namespace == *mesh.root())
        && mesh.sidecars.of(namespace, mesh.root(), &view.key.labels) != view.sidecar.as_ref()
}

/// Whether a service is in the view, or is asked for now.
fn service(mesh: &Mesh, view: &View, asks: &[Ask], namespace: &Arc<str>, host: &Hostname) -> bool {
    if view
        .services
        .get(host)
        .is_some_and(|known| known.key.namespace == *namespace)
    {
        return true;
    }
    // Whoever it is an alias of, or for, may get or lose a name.
    if mesh.services.aliases.contains_key(host) {
        return true;
    }
    let Some(new) = mesh.services.get(namespace, host) else {
        return false;
    };
    let own = *namespace == view.key.namespace;
    if !own && !services::audience(new, &mesh.config).has(&view.key.namespace) {
        return false;
    }
    asks.iter().any(|ask| ask.imports.service(new))
        || (view.sidecar.is_some() && is_destination(view, host))
}

/// Whether some VirtualService in the view sends traffic to a host.
fn is_destination(view: &View, host: &Hostname) -> bool {
    let specs = view
        .egress
        .iter()
        .flat_map(|listener| listener.virtual_services.iter())
        .map(|item| &*item.spec);
    specs
        .flat_map(|spec| implicit::destinations(spec, &view.key.namespace))
        .any(|destination| destination.host.eq_ignore_ascii_case(host.as_str()))
}

/// Every VirtualService in a view.
fn virtual_services(view: &View) -> impl Iterator<Item = &Arc<VirtualService>> {
    let bound = view
        .servers
        .iter()
        .flat_map(|merged| &merged.servers)
        .flat_map(|server| &server.virtual_services);
    view.egress
        .iter()
        .flat_map(|listener| listener.virtual_services.iter())
        .chain(bound)
}

/// Whether a VirtualService is in the view, or is asked for now.
fn virtual_service(mesh: &Mesh, view: &View, asks: &[Ask], key: &Key) -> bool {
    if virtual_services(view).any(|item| item.key == *key) {
        return true;
    }
    let Some(new) = mesh.virtual_services.all.get(key) else {
        return false;
    };
    let seen = crate::virtual_services::audience(&new.spec.export_to, &key.namespace, &mesh.config);
    if !seen.has(&view.key.namespace) {
        return false;
    }
    let applies = |gateway: &str| new.spec.gateways.iter().any(|name| name == gateway);
    match view.key.kind {
        ProxyKind::Sidecar => {
            applies("mesh") && asks.iter().any(|ask| ask.imports.virtual_service(new))
        }
        ProxyKind::Router => view
            .servers
            .iter()
            .flat_map(|merged| &merged.servers)
            .any(|server| applies(&server.gateway)),
    }
}

/// Services in scope that a rule's host covers.
fn covered<'a>(view: &'a View, host: &'a Hostname) -> impl Iterator<Item = &'a Arc<Service>> {
    let plain = (!host.is_wildcard())
        .then(|| view.services.get(host))
        .flatten();
    let wild = host.is_wildcard().then(|| {
        view.services
            .values()
            .filter(|service| service.hostname.is_subset_of(host))
    });
    plain.into_iter().chain(wild.into_iter().flatten())
}

fn rule(mesh: &Mesh, view: &View, service: &Service) -> bool {
    let (outbound, inbound) = rules::of_service(mesh, &view.key, service);
    let host = &service.hostname;
    outbound.as_ref() != view.destination_rules.get(host)
        || inbound.as_ref() != view.inbound_destination_rules.get(host)
}

/// Whether a Gateway is among those of the router, or is now.
fn gateway(mesh: &Mesh, view: &View, key: &Key) -> bool {
    let name = key.path();
    view.servers
        .iter()
        .flat_map(|merged| &merged.servers)
        .any(|server| *server.gateway == *name)
        || mesh
            .gateways
            .of(&view.key.labels)
            .any(|gateway| gateway.key == *key)
}
