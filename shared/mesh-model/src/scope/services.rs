//! The services of egress listeners, and of the whole scope (XDS-TRAFFIC 10.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_config::resource::normal::{MeshPort, MeshService, Registry};
use mesh_types::{Hostname, version_of};

use crate::order::Order;
use crate::scope::imports::Imports;
use crate::{Mesh, Service, services};

/// The services that a listener imports, in conflict order, one per host. With a port, services without it are left out and the others
/// have no other port.
pub(crate) fn import(
    mesh: &Mesh,
    namespace: &str,
    imports: &Imports,
    port: Option<u16>,
) -> Vec<Arc<Service>> {
    let asked = if imports.names_all() {
        named(mesh, namespace, imports)
    } else {
        scanned(mesh, namespace, imports)
    };
    let found: Vec<_> = match port {
        None => asked,
        Some(port) => asked
            .iter()
            .filter_map(|service| only_ports(service, |p| p.number == port))
            .collect(),
    };
    if mesh.services.shared_hosts == 0 {
        found
    } else {
        one_per_host(found, namespace)
    }
}

/// What is asked for, found by looking at every service.
pub(crate) fn scanned(mesh: &Mesh, namespace: &str, imports: &Imports) -> Vec<Arc<Service>> {
    let visible = mesh.services.pools.visible(namespace);
    visible
        .filter(|service| imports.service(service))
        .cloned()
        .collect()
}

/// The same, found by the namespaces and hosts that are named: costs follow what is asked for, not the mesh.
pub(crate) fn named(mesh: &Mesh, namespace: &str, imports: &Imports) -> Vec<Arc<Service>> {
    let mut found = BTreeMap::new();
    let mut add = |service: &Arc<Service>| {
        if services::audience(service, &mesh.config).has(namespace) && imports.service(service) {
            found.insert(rank(mesh, namespace, service), service.clone());
        }
    };
    for host in imports.any_plain() {
        let same = mesh.services.by_host.get(host).into_iter();
        same.flat_map(|same| same.values()).for_each(&mut add);
    }
    for (from, hosts) in imports.namespaces() {
        let Some(own) = mesh.services.all.get(from) else {
            continue;
        };
        match hosts {
            Some(hosts) => hosts.filter_map(|host| own.get(host)).for_each(&mut add),
            None => own.values().for_each(&mut add),
        }
    }
    found.into_values().collect()
}

/// Where a service stands among those that a namespace sees: private ones first, then those exported to the namespace, then public ones.
pub(crate) fn rank(mesh: &Mesh, namespace: &str, service: &Service) -> (u8, Order) {
    let audience = services::audience(service, &mesh.config);
    let pool = audience.pool(*service.key.namespace == *namespace);
    (pool, services::order_of(service))
}

/// Of services with one host: that of the proxy's namespace, else a Kubernetes one, else the first.
fn one_per_host(found: Vec<Arc<Service>>, namespace: &str) -> Vec<Arc<Service>> {
    let rank = |service: &Service| {
        (
            *service.key.namespace != *namespace,
            service.registry != Registry::Kubernetes,
        )
    };
    let mut winners: BTreeMap<Hostname, Arc<Service>> = BTreeMap::new();
    for service in &found {
        let winner = winners
            .entry(service.hostname.clone())
            .or_insert_with(|| service.clone());
        if rank(service) < rank(winner) {
            *winner = service.clone();
        }
    }
    found
        .into_iter()
        .filter(|service| {
            winners
                .get(&service.hostname)
                .is_some_and(|w| Arc::ptr_eq(w, service))
        })
        .collect()
}

/// The service with the ports that `keep` wants; itself if that is all of them, `None` if it is none.
pub(crate) fn only_ports(
    service: &Arc<Service>,
    keep: impl Fn(&MeshPort) -> bool,
) -> Option<Arc<Service>> {
    let kept: Vec<_> = service
        .ports
        .iter()
        .filter(|port| keep(port))
        .cloned()
        .collect();
    if kept.len() == service.ports.len() {
        return (!kept.is_empty()).then(|| service.clone());
    }
    (!kept.is_empty()).then(|| with_ports(service, kept))
}

/// The service with other ports; its version tells them.
fn with_ports(service: &Service, ports: Vec<MeshPort>) -> Arc<Service> {
    let mut text = service.version.to_le_bytes().to_vec();
    text.extend(ports.iter().flat_map(|port| port.number.to_le_bytes()));
    Arc::new(Service {
        key: service.key.clone(),
        version: version_of(&text),
        created_us: service.created_us,
        spec: Arc::new(MeshService {
            ports,
            ..MeshService::clone(&service.spec)
        }),
    })
}

/// The union over listeners: services by host, and the order they were met in.
#[derive(Debug, Default)]
pub(crate) struct Union {
    order: Vec<Hostname>,
    by_host: BTreeMap<Hostname, Arc<Service>>,
}

impl Union {
    /// Adds a service. A known one gets further ports; of two that share a host the first stays, unless only the second is Kubernetes'.
    pub(crate) fn add(&mut self, mesh: &Mesh, service: &Arc<Service>) {
        let Some(known) = self.by_host.get_mut(&service.hostname) else {
            self.order.push(service.hostname.clone());
            self.by_host
                .insert(service.hostname.clone(), service.clone());
            return;
        };
        if known.key.namespace != service.key.namespace {
            if known.registry != Registry::Kubernetes && service.registry == Registry::Kubernetes {
                *known = service.clone();
            }
            return;
        }
        if service.ports.iter().all(|port| known.ports.contains(port)) {
            return;
        }
        let whole = mesh
            .services
            .get(&service.key.namespace, &service.hostname)
            .unwrap_or(service);
        if let Some(both) = only_ports(whole, |port| {
            known.ports.contains(port) || service.ports.contains(port)
        }) {
            *known = both;
        }
    }

    /// The services by host, and in order.
    pub(crate) fn finish(self) -> (BTreeMap<Hostname, Arc<Service>>, Vec<Arc<Service>>) {
        let in_order = self
            .order
            .iter()
            .filter_map(|host| self.by_host.get(host).cloned())
            .collect();
        (self.by_host, in_order)
    }
}
