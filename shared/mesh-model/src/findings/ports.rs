//! Services that meet on one address and port: the first has what cannot be told apart (XDS-TRAFFIC 3.2).
//!
//! What proxies really do depends on what each may see; told is what happens wherever all of them are seen.

use std::collections::BTreeMap;

use mesh_config::resource::normal::{Registry, ServiceResolution};
use mesh_types::{Code, Key, Kind, Protocol};

use super::{Report, spec};
use crate::order::Audience;
use crate::{Mesh, Service, services};

/// Where connections to a port of a service are taken: at an address or network of its own, or, `None`, at every address.
type Place<'a> = (Option<&'a str>, u16);

/// Who has a place so far.
struct Taken<'a> {
    protocol: Protocol,
    first: &'a Service,
    /// Who gets every connection that nothing else tells apart.
    everything: Option<&'a Service>,
}

pub(super) fn check(mesh: &Mesh, report: &mut Report) {
    let mut places: BTreeMap<Place<'_>, Taken<'_>> = BTreeMap::new();
    for service in mesh.services.pools.visible("") {
        if services::audience(service, &mesh.config) != Audience::Everyone {
            continue;
        }
        for (index, port) in service.ports.iter().enumerate() {
            for address in addresses(mesh, service, port.protocol, &port.name) {
                let winner = take(&mut places, (address, port.number), service, port.protocol);
                if let Some(winner) = winner {
                    say(service, index, address, winner, report);
                }
            }
        }
    }
}

/// Gives a service its part of a place; the service that has it already, if nothing is left.
fn take<'a>(
    places: &mut BTreeMap<Place<'a>, Taken<'a>>,
    place: Place<'a>,
    service: &'a Service,
    protocol: Protocol,
) -> Option<&'a Service> {
    let takes_all = !protocol.is_http() && !protocol.is_tls();
    let Some(taken) = places.get_mut(&place) else {
        let taken = Taken {
            protocol,
            first: service,
            everything: takes_all.then_some(service),
        };
        places.insert(place, taken);
        return None;
    };
    let alone = |p: Protocol| matches!(p, Protocol::Mongo | Protocol::Mysql);
    let http_joins =
        protocol.is_http() && (taken.protocol.is_http() || taken.protocol == Protocol::Auto);
    if !http_joins && taken.protocol != protocol && (alone(taken.protocol) || alone(protocol)) {
        Some(taken.first)
    } else if takes_all {
        let winner = taken.everything;
        taken.everything = winner.or(Some(service));
        winner
    } else {
        None
    }
    // Two ports of one service are no quarrel.
    .filter(|winner| winner.hostname != service.hostname)
}

/// At which addresses a port is listened for; none if at those of endpoints, or not at all.
fn addresses<'a>(
    mesh: &Mesh,
    service: &'a Service,
    protocol: Protocol,
    port_name: &str,
) -> Vec<Option<&'a str>> {
    if protocol == Protocol::Udp || service.resolution == ServiceResolution::Alias {
        return Vec::new();
    }
    if protocol.is_http() {
        return vec![None];
    }
    if !service.addresses.is_empty() {
        return service.addresses.iter().map(|a| Some(&**a)).collect();
    }
    // Headless services are listened for at their endpoints, if there can be any.
    let per_endpoint = service.resolution == ServiceResolution::Passthrough
        && (service.registry == Registry::Kubernetes
            || service.selects_workloads
            || mesh
                .services
                .endpoints_of(&service.key.namespace, &service.hostname)
                .is_some_and(|e| e.spec.endpoints.iter().any(|e| *e.port_name == *port_name)));
    // An allotted address is nobody else's.
    if per_endpoint || !service.auto_addresses.is_empty() {
        return Vec::new();
    }
    vec![None]
}

fn say(
    service: &Service,
    port: usize,
    address: Option<&str>,
    winner: &Service,
    report: &mut Report,
) {
    let (host, number) = (&service.hostname, service.ports[port].number);
    let message = match address {
        None => format!(
            "{host} has no address, and port {number} of every address belongs to {}, which is older; give it addresses, or another port",
            winner.hostname
        ),
        Some(address) => format!(
            "port {number} of {address} belongs to {}, which is older; give {host} another address, or another port",
            winner.hostname
        ),
    };
    report.say(
        &declared(service),
        spec("ports").index(port),
        Code::NoEffect,
        message,
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
