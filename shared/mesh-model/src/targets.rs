//! What the mesh knows of a proxy: its workload, and the services it is an instance of (XDS-TRAFFIC 1.3, 1.4).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_config::resource::normal::{MeshPort, MeshWorkload};
use mesh_types::{Key, Kind, Protocol};

use crate::services::order_of;
use crate::{Mesh, Proxy, Service, ServiceTarget};

/// The workload of a proxy: by the pod's name and namespace in the node id, else the first at one of its addresses in its namespace and
/// cluster.
pub(crate) fn workload<'a>(
    mesh: &'a Mesh,
    proxy: &Proxy,
) -> Option<(&'a Key, &'a Arc<MeshWorkload>)> {
    if let Some((name, namespace)) = proxy.id.rsplit_once('.') {
        let key = Key::new(Kind::MeshWorkload, namespace, name);
        if let Some((key, workload)) = mesh.workloads.get(&key)
            && same_cluster(&workload.cluster, &proxy.cluster_id)
        {
            return Some((key, workload));
        }
    }
    let at = proxy
        .addresses
        .iter()
        .flat_map(|address| mesh.workloads.at(address));
    at.into_iter().find(|(key, workload)| {
        key.namespace == proxy.namespace && same_cluster(&workload.cluster, &proxy.cluster_id)
    })
}

fn same_cluster(workload: &str, proxy: &str) -> bool {
    workload.is_empty() || proxy.is_empty() || workload == proxy
}

/// Labels, locality and what follows from them.
pub(crate) fn complete(mesh: &Mesh, proxy: &mut Proxy) {
    if let Some((_, workload)) = workload(mesh, proxy) {
        proxy.labels = workload.labels.clone();
        if !workload.locality.is_empty() {
            proxy.locality = workload.locality.clone();
        }
        if proxy.network.is_empty() {
            proxy.network = workload.network.clone();
        }
    }
    crate::node::locate(proxy);
}

/// The service ports a proxy is an instance of, oldest service first. A service of the proxy's namespace counts if it has an endpoint at an
/// address of the proxy, or else if its selector is among the proxy's labels; then a target port that is not a number is looked up in
/// POD_PORTS by the service port's name. UDP ports are left out, as are further ports of a service that lead to the same place.
pub(crate) fn service_targets(mesh: &Mesh, proxy: &Proxy) -> Vec<ServiceTarget> {
    let mut found: BTreeMap<_, Vec<ServiceTarget>> = BTreeMap::new();
    let ids: BTreeSet<_> = proxy
        .addresses
        .iter()
        .flat_map(|address| mesh.services_at(address))
        .collect();
    for (namespace, host) in ids
        .into_iter()
        .filter(|(namespace, _)| *namespace == proxy.namespace)
    {
        if let Some(service) = mesh.services.get(namespace, host) {
            found.insert(order_of(service), by_endpoints(mesh, proxy, service));
        }
    }
    for service in mesh
        .services
        .all
        .get(&proxy.namespace)
        .into_iter()
        .flat_map(|services| services.iter().map(|(_, s)| s))
    {
        if !service.selector.is_empty() && service.selector.matches(&proxy.labels) {
            let targets = found.entry(order_of(service)).or_default();
            if targets.is_empty() {
                *targets = by_selector(proxy, service);
            }
        }
    }
    found.into_values().flatten().collect()
}

fn by_endpoints(mesh: &Mesh, proxy: &Proxy, service: &Arc<Service>) -> Vec<ServiceTarget> {
    let Some(endpoints) = mesh
        .services
        .endpoints_of(&service.key.namespace, &service.hostname)
    else {
        return Vec::new();
    };
    let own = endpoints.spec.endpoints.iter().filter(|endpoint| {
        same_cluster(&endpoint.cluster, &proxy.cluster_id)
            && endpoint
                .addresses
                .iter()
                .any(|a| a.parse().is_ok_and(|a| proxy.addresses.contains(&a)))
    });
    let own: Vec<_> = own.collect();
    let ports = service.ports.iter().flat_map(|port| {
        own.iter()
            .filter(|endpoint| endpoint.port_name == port.name)
            .map(move |endpoint| (port, endpoint.port))
    });
    targets(service, ports)
}

fn by_selector(proxy: &Proxy, service: &Arc<Service>) -> Vec<ServiceTarget> {
    let ports = service.ports.iter().filter_map(|port| {
        let named = || {
            proxy
                .pod_ports
                .get(&*port.name)
                .copied()
                .unwrap_or_default()
        };
        let target = if port.target_port == 0 {
            named()
        } else {
            port.target_port
        };
        (target != 0).then_some((port, target))
    });
    targets(service, ports)
}

/// Targets of one service, each (target port, protocol) once.
fn targets<'a>(
    service: &Arc<Service>,
    ports: impl Iterator<Item = (&'a MeshPort, u16)>,
) -> Vec<ServiceTarget> {
    let mut seen = BTreeSet::new();
    ports
        .filter(|(port, target)| {
            port.protocol != Protocol::Udp && seen.insert((*target, port.protocol))
        })
        .map(|(port, target)| ServiceTarget {
            service: service.clone(),
            port: port.clone(),
            target_port: target,
        })
        .collect()
}

/// Label of services whose ports gateways open as they are written.
const NO_TRANSLATION: &str = "experimental.istio.io/disable-gateway-port-translation";

/// How the services of a router translate ports; the oldest service with a port decides.
pub(crate) fn gateway_ports(targets: &[ServiceTarget]) -> Vec<(u16, u16)> {
    let mut ports = BTreeMap::new();
    for target in targets
        .iter()
        .filter(|t| t.service.labels.get(NO_TRANSLATION) != Some("true"))
    {
        ports
            .entry(target.port.number)
            .or_insert(target.target_port);
    }
    ports
        .into_iter()
        .filter(|(port, target)| port != target)
        .collect()
}
