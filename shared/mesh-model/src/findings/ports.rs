//! Services without an address of their own that meet on one port: the first has what cannot be told apart (XDS-TRAFFIC 3.2).
//!
//! What proxies really do depends on what each may see; told is what happens wherever all of them are seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_config::resource::normal::{Registry, ServiceResolution};
use mesh_types::{Code, Key, Kind, Protocol};

use super::{Report, spec};
use crate::order::Audience;
use crate::{Mesh, Service, services};

/// Who has a port of the wildcard address so far.
struct Taken<'a> {
    protocol: Protocol,
    first: &'a Service,
    /// Who gets every connection that nothing else tells apart.
    everything: Option<&'a Service>,
}

pub(super) fn check(mesh: &Mesh, report: &mut Report) {
    let mut ports: BTreeMap<u16, Taken<'_>> = BTreeMap::new();
    for service in mesh.services.pools.visible("") {
        if services::audience(service, &mesh.config) != Audience::Everyone {
            continue;
        }
        for (index, port) in service.ports.iter().enumerate() {
            if !on_wildcard(mesh, service, port.protocol, &port.name) {
                continue;
            }
            let takes_all = !port.protocol.is_http() && !port.protocol.is_tls();
            let Some(taken) = ports.get_mut(&port.number) else {
                let taken = Taken {
                    protocol: port.protocol,
                    first: service,
                    everything: takes_all.then_some(&**service),
                };
                ports.insert(port.number, taken);
                continue;
            };
            let alone = |p: Protocol| matches!(p, Protocol::Mongo | Protocol::Mysql);
            let http_joins = port.protocol.is_http()
                && (taken.protocol.is_http() || taken.protocol == Protocol::Auto);
            let winner = if !http_joins
                && taken.protocol != port.protocol
                && (alone(taken.protocol) || alone(port.protocol))
            {
                Some(taken.first)
            } else if takes_all {
                let winner = taken.everything;
                taken.everything = winner.or(Some(service));
                winner
            } else {
                None
            };
            if let Some(winner) = winner {
                say(service, index, winner, report);
            }
        }
    }
}

/// Whether a port is listened for at every address, since the service has none of its own.
fn on_wildcard(mesh: &Mesh, service: &Service, protocol: Protocol, port_name: &str) -> bool {
    if protocol == Protocol::Udp || service.resolution == ServiceResolution::Alias {
        return false;
    }
    if protocol.is_http() {
        return true;
    }
    let has_address = !service.addresses.is_empty() || !service.auto_addresses.is_empty();
    // Headless services are listened for at their endpoints, if there can be any.
    let per_endpoint = service.resolution == ServiceResolution::Passthrough
        && (service.registry == Registry::Kubernetes
            || service.selects_workloads
            || mesh
                .services
                .endpoints_of(&service.key.namespace, &service.hostname)
                .is_some_and(|e| e.spec.endpoints.iter().any(|e| *e.port_name == *port_name)));
    !has_address && !per_endpoint
}

fn say(service: &Arc<Service>, port: usize, winner: &Service, report: &mut Report) {
    let number = service.ports[port].number;
    report.say(
        &declared(service),
        spec("ports").index(port),
        Code::NoEffect,
        format!(
            "{} has no address, and port {number} of every address belongs to {}, which is older; give it addresses, or another port",
            service.hostname, winner.hostname
        ),
    );
}

/// The object that declares a service: what its author wrote.
fn declared(service: &Service) -> Key {
    let (kind, name) = match service.registry {
        Registry::Kubernetes => (Kind::Service, &service.name),
        Registry::External => (Kind::ServiceEntry, &service.entry),
    };
    Key::new(kind, service.key.namespace.clone(), name.clone())
}
