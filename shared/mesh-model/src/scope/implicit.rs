//! Services that a Sidecar does not ask for but that imported VirtualServices send traffic to (XDS-TRAFFIC 10.3).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_config::resource::normal::Registry;
use mesh_config::resource::virtual_service::{Destination, VirtualService};
use mesh_types::Hostname;

use crate::scope::services::only_ports;
use crate::services;
use crate::{Mesh, Service};

/// Ports asked of a destination; `None` means at least one reference names no port, so all of them.
type Ports = Option<BTreeSet<u16>>;

/// Every destination of a VirtualService that proxies of a namespace can reach through it.
pub(crate) fn destinations<'a>(
    spec: &'a VirtualService,
    namespace: &'a str,
) -> impl Iterator<Item = &'a Destination> {
    let reachable = move |source: &String| source.is_empty() || source == namespace;
    let http = spec.http.iter().filter(move |r| {
        r.matches.is_empty() || r.matches.iter().any(|m| reachable(&m.source_namespace))
    });
    let http = http.flat_map(|r| {
        let routes = r.route.iter().filter_map(|r| r.destination.as_ref());
        routes
            .chain(&r.mirror)
            .chain(r.mirrors.iter().filter_map(|m| m.destination.as_ref()))
    });
    let tls = spec.tls.iter().filter(move |r| {
        r.matches.is_empty() || r.matches.iter().any(|m| reachable(&m.source_namespace))
    });
    let tcp = spec.tcp.iter().filter(move |r| {
        r.matches.is_empty() || r.matches.iter().any(|m| reachable(&m.source_namespace))
    });
    let opaque = tls
        .flat_map(|r| &r.route)
        .chain(tcp.flat_map(|r| &r.route))
        .filter_map(|r| r.destination.as_ref());
    http.chain(opaque)
}

/// The services behind the destinations of VirtualServices, in host order, restricted to the ports that are named.
pub(crate) fn services<'a>(
    mesh: &Mesh,
    namespace: &str,
    virtual_services: impl Iterator<Item = &'a VirtualService>,
) -> Vec<Arc<Service>> {
    let mut wanted: BTreeMap<Hostname, Ports> = BTreeMap::new();
    for destination in virtual_services.flat_map(|spec| destinations(spec, namespace)) {
        let Ok(host) = Hostname::new(&destination.host) else {
            continue;
        };
        let port = destination
            .port
            .as_ref()
            .and_then(|p| u16::try_from(p.number).ok())
            .filter(|n| *n != 0);
        let ports = wanted.entry(host).or_insert_with(|| Some(BTreeSet::new()));
        match (port, ports.as_mut()) {
            (Some(port), Some(ports)) => {
                ports.insert(port);
            }
            (None, _) => *ports = None,
            (Some(_), None) => {}
        }
    }
    wanted
        .iter()
        .filter_map(|(host, ports)| service(mesh, namespace, host, ports))
        .collect()
}

fn service(mesh: &Mesh, namespace: &str, host: &Hostname, ports: &Ports) -> Option<Arc<Service>> {
    let found = match mesh.services.get(namespace, host) {
        Some(own) => own.clone(),
        None => best(mesh, namespace, host)?,
    };
    match ports {
        None => Some(found),
        Some(ports) => only_ports(&found, |port| ports.contains(&port.number)),
    }
}

/// The service with a host that a namespace sees: a Kubernetes one, else the oldest.
fn best(mesh: &Mesh, namespace: &str, host: &Hostname) -> Option<Arc<Service>> {
    let candidates = mesh.services.by_host.get(host)?.values();
    let visible =
        candidates.filter(|service| services::audience(service, &mesh.config).has(namespace));
    visible
        .min_by_key(|service| service.registry != Registry::Kubernetes)
        .cloned()
}
