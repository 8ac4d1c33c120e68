//! Services and endpoints by everything the plane asks for.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use mesh_config::Object;
use mesh_config::resource::mesh::MeshConfig;
use mesh_config::resource::normal::{MeshEndpoints, MeshService};
use mesh_types::{Hostname, Version};

use crate::endpoints::ByNamespace;
use crate::order::{Audience, Order, Pools};
use crate::security::peer::PeerIndex;
use crate::{EndpointPeers, Endpoints, Service};

/// Where a service lives: namespace and host.
pub(crate) type ServiceId = (Arc<str>, Hostname);

/// Services and endpoints of the mesh.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceIndex {
    /// By namespace and host.
    pub(crate) all: ByNamespace<Service>,
    /// By who sees them.
    pub(crate) pools: Pools<Arc<Service>>,
    /// By host, oldest first; more than one if namespaces share a host.
    pub(crate) by_host: OrdMap<Hostname, OrdMap<Order, Arc<Service>>>,
    /// How many hosts have more than one service.
    pub(crate) shared_hosts: usize,
    /// How many services may only be reached on the caller's own node.
    pub(crate) node_local: usize,
    /// By the host an alias stands for: the aliases, in order.
    pub(crate) aliases: OrdMap<Hostname, BTreeSet<ServiceId>>,
    /// Endpoints, by namespace and host of their service.
    pub(crate) endpoints: ByNamespace<Endpoints>,
    /// By address: the services that have an endpoint there.
    pub(crate) by_address: OrdMap<IpAddr, BTreeSet<ServiceId>>,
}

/// The place of a service among others.
pub(crate) fn order_of(service: &Service) -> Order {
    Order::new(
        service.created_us,
        service.name.clone(),
        &service.key.namespace,
        &service.hostname.to_arc(),
    )
}

/// Who sees a service.
pub(crate) fn audience(service: &Service, config: &MeshConfig) -> Audience {
    Audience::new(
        &service.export_to,
        &config.default_service_export_to,
        &service.key.namespace,
    )
}

/// One address with a port, and the service port that is served there.
type Served<'a> = (IpAddr, u16, &'a str);

fn served(endpoints: &MeshEndpoints) -> BTreeSet<Served<'_>> {
    let each = endpoints
        .endpoints
        .iter()
        .flat_map(|e| e.addresses.iter().map(move |address| (address, e)));
    each.filter_map(|(address, e)| Some((address.parse().ok()?, e.port, &*e.port_name)))
        .collect()
}

/// Sets or clears one item of a map of maps.
pub(crate) fn put<T>(
    map: &mut ByNamespace<T>,
    namespace: &Arc<str>,
    host: &Hostname,
    item: Option<Arc<T>>,
) {
    match item {
        Some(item) => {
            map.entry(namespace.clone())
                .or_default()
                .insert(host.clone(), item);
        }
        None => {
            if let Some(inner) = map.get_mut(namespace) {
                inner.remove(host);
                if inner.is_empty() {
                    map.remove(namespace);
                }
            }
        }
    }
}

impl ServiceIndex {
    /// The service of a namespace with a host.
    pub(crate) fn get(&self, namespace: &str, host: &Hostname) -> Option<&Arc<Service>> {
        self.all.get(namespace)?.get(host)
    }

    /// The endpoints of a service.
    pub(crate) fn endpoints_of(&self, namespace: &str, host: &Hostname) -> Option<&Arc<Endpoints>> {
        self.endpoints.get(namespace)?.get(host)
    }

    /// Puts a service in place of the one that was there; `object` holds `spec`. Gives its identity.
    pub(crate) fn set_service(
        &mut self,
        object: &Object,
        spec: &Arc<MeshService>,
        config: &MeshConfig,
    ) -> ServiceId {
        let id = (object.meta.key.namespace.clone(), spec.hostname.clone());
        self.remove_service(&id, config);
        let service = Arc::new(Service {
            key: object.meta.key.clone(),
            version: object.version,
            created_us: object.meta.created_us,
            spec: spec.clone(),
        });
        let order = order_of(&service);
        self.pools.insert(
            &id.0,
            &audience(&service, config),
            order.clone(),
            service.clone(),
        );
        let same_host = self.by_host.entry(id.1.clone()).or_default();
        same_host.insert(order, service.clone());
        self.shared_hosts += usize::from(same_host.len() == 2);
        if let Some(target) = &service.alias_of {
            self.aliases
                .entry(target.clone())
                .or_default()
                .insert(id.clone());
        }
        self.node_local += usize::from(service.node_local);
        put(&mut self.all, &id.0, &id.1, Some(service));
        id
    }

    /// Removes a service, if it is there.
    pub(crate) fn remove_service(&mut self, id: &ServiceId, config: &MeshConfig) {
        let Some(old) = self.get(&id.0, &id.1).cloned() else {
            return;
        };
        let order = order_of(&old);
        self.pools.remove(&id.0, &audience(&old, config), &order);
        if let Some(same_host) = self.by_host.get_mut(&id.1) {
            same_host.remove(&order);
            self.shared_hosts -= usize::from(same_host.len() == 1);
            if same_host.is_empty() {
                self.by_host.remove(&id.1);
            }
        }
        if let Some(target) = &old.alias_of
            && let Some(ids) = self.aliases.get_mut(target)
        {
            ids.remove(id);
            if ids.is_empty() {
                self.aliases.remove(target);
            }
        }
        self.node_local -= usize::from(old.node_local);
        put(&mut self.all, &id.0, &id.1, None);
    }

    /// Applies PeerAuthentications to the endpoints of a service; `version` is that of the endpoints as written. Whether something differs.
    pub(crate) fn set_peers(
        &mut self,
        id: &ServiceId,
        version: Version,
        policies: &PeerIndex,
        root: &str,
    ) -> bool {
        let Some(old) = self.endpoints_of(&id.0, &id.1) else {
            return false;
        };
        let peers = old.peers.under(policies, &old.spec, &id.0, root);
        if peers == old.peers {
            return false;
        }
        let new = Endpoints {
            version: peers.version(version),
            peers,
            ..Endpoints::clone(old)
        };
        put(&mut self.endpoints, &id.0, &id.1, Some(Arc::new(new)));
        true
    }

    /// Puts endpoints in place of those that were there. Gives the identity of their service, and the addresses that serve other ports now.
    pub(crate) fn set_endpoints(
        &mut self,
        object: &Object,
        spec: &Arc<MeshEndpoints>,
    ) -> (ServiceId, Vec<IpAddr>) {
        let id = (object.meta.key.namespace.clone(), spec.hostname.clone());
        let endpoints = Endpoints {
            key: object.meta.key.clone(),
            version: object.version,
            spec: spec.clone(),
            peers: EndpointPeers::of(spec),
        };
        let addresses = self.replace_endpoints(&id, Some(Arc::new(endpoints)));
        (id, addresses)
    }

    /// Replaces or removes the endpoints of a service; only addresses that came or went are touched. Gives those that serve other ports now.
    pub(crate) fn replace_endpoints(
        &mut self,
        id: &ServiceId,
        new: Option<Arc<Endpoints>>,
    ) -> Vec<IpAddr> {
        let old = self.endpoints_of(&id.0, &id.1).cloned();
        let before_ports = old.as_ref().map(|e| served(&e.spec)).unwrap_or_default();
        let after_ports = new.as_ref().map(|e| served(&e.spec)).unwrap_or_default();
        let changed = before_ports
            .symmetric_difference(&after_ports)
            .map(|(address, ..)| *address)
            .collect();
        let at = |served: &BTreeSet<Served<'_>>| {
            served
                .iter()
                .map(|(address, ..)| *address)
                .collect::<BTreeSet<_>>()
        };
        let (before, after) = (at(&before_ports), at(&after_ports));
        for gone in before.difference(&after) {
            if let Some(ids) = self.by_address.get_mut(gone) {
                ids.remove(id);
                if ids.is_empty() {
                    self.by_address.remove(gone);
                }
            }
        }
        for come in after.difference(&before) {
            self.by_address.entry(*come).or_default().insert(id.clone());
        }
        drop((before_ports, after_ports));
        put(&mut self.endpoints, &id.0, &id.1, new);
        changed
    }
}
