//! VirtualServices: gateways, delegates and destinations that are not there, hosts that an older one has.

use std::sync::Arc;

use mesh_config::resource::virtual_service as vs;
use mesh_config::{Body, Object};
use mesh_types::{Code, FieldPath, Hostname, Key, Kind};

use super::{Reachable, Report, reachable, spec};
use crate::virtual_services::{audience, delegate_key, order_of, resolve};
use crate::{Mesh, VirtualService, servers};

pub(super) fn check(mesh: &Mesh, report: &mut Report) {
    for object in mesh.virtual_services.all_written() {
        let Body::VirtualService(written) = &object.body else {
            continue;
        };
        let (resolved, _) = resolve::resolve(written, &object.meta.key.namespace, mesh.domain());
        if written.hosts.is_empty() {
            unused_delegate(mesh, &object.meta.key, report);
        }
        delegates(mesh, object, written, report);
        for (path, destination) in destinations(&resolved) {
            check_destination(mesh, &object.meta.key, &path, destination, report);
        }
        if let Some(item) = mesh.virtual_services.all.get(&object.meta.key) {
            gateways(mesh, item, report);
            shadowed(mesh, item, written, report);
        }
    }
}

fn unused_delegate(mesh: &Mesh, key: &Key, report: &mut Report) {
    if !mesh.virtual_services.is_delegate(key) {
        report.say(
            key,
            FieldPath::root().field("spec"),
            Code::NoEffect,
            "it has no hosts and no VirtualService delegates to it; give it hosts, or name it in a delegate",
        );
    }
}

fn delegates(mesh: &Mesh, object: &Object, written: &vs::VirtualService, report: &mut Report) {
    let namespace = &object.meta.key.namespace;
    for (index, route) in written.http.iter().enumerate() {
        let Some(reference) = &route.delegate else {
            continue;
        };
        let key = delegate_key(reference, namespace);
        let usable = mesh
            .virtual_services
            .delegate(&key, namespace, &mesh.config);
        if usable.is_some() {
            continue;
        }
        let why = match mesh.virtual_services.written(&key).map(|o| &o.body) {
            Some(Body::VirtualService(it)) if !it.hosts.is_empty() => {
                "has hosts of its own, which no delegate may"
            }
            Some(_) => "is not exported to this namespace",
            None => "does not exist",
        };
        report.say(
            &object.meta.key,
            spec("http").index(index).field("delegate"),
            Code::MissingReference,
            format!("VirtualService {} {why}; the rule is left out", key.path()),
        );
    }
}

/// Every destination with its place.
fn destinations(spec_: &vs::VirtualService) -> Vec<(FieldPath, &vs::Destination)> {
    let mut out = Vec::new();
    for (i, http) in spec_.http.iter().enumerate() {
        let at = spec("http").index(i);
        for (j, route) in http.route.iter().enumerate() {
            let path = at.field("route").index(j).field("destination");
            out.extend(route.destination.iter().map(|d| (path.clone(), d)));
        }
        out.extend(http.mirror.iter().map(|d| (at.field("mirror"), d)));
        for (j, mirror) in http.mirrors.iter().enumerate() {
            let path = at.field("mirrors").index(j).field("destination");
            out.extend(mirror.destination.iter().map(|d| (path.clone(), d)));
        }
    }
    let tls = spec_.tls.iter().map(|rule| &rule.route);
    let tcp = spec_.tcp.iter().map(|rule| &rule.route);
    let opaque = tls
        .enumerate()
        .map(|(i, routes)| ("tls", i, routes))
        .chain(tcp.enumerate().map(|(i, routes)| ("tcp", i, routes)));
    for (kind, i, routes) in opaque {
        for (j, route) in routes.iter().enumerate() {
            let path = spec(kind)
                .index(i)
                .field("route")
                .index(j)
                .field("destination");
            out.extend(route.destination.iter().map(|d| (path.clone(), d)));
        }
    }
    out
}

fn check_destination(
    mesh: &Mesh,
    key: &Key,
    path: &FieldPath,
    to: &vs::Destination,
    report: &mut Report,
) {
    let Ok(host) = Hostname::new(&to.host) else {
        return; // refused by the check of the object itself
    };
    let mut missing = |path: FieldPath, message: String| {
        report.say(key, path, Code::MissingReference, message);
    };
    let services = match reachable(mesh, &key.namespace, &host) {
        Reachable::Seen(services) => services,
        Reachable::Unknown => {
            return missing(
                path.field("host"),
                format!("no service has host {host}; what is routed there fails"),
            );
        }
        Reachable::Hidden => {
            return missing(
                path.field("host"),
                format!(
                    "service {host} is not exported to namespace {}",
                    key.namespace
                ),
            );
        }
    };
    let wanted = to.port.as_ref().map_or(0, |port| port.number);
    let ports = || services.iter().flat_map(|service| &service.ports);
    if wanted != 0 && !ports().any(|port| u32::from(port.number) == wanted) {
        let known: Vec<_> = ports().map(|port| port.number.to_string()).collect();
        missing(
            path.field("port").field("number"),
            format!("{host} has no port {wanted}; it has {}", known.join(", ")),
        );
    }
    let has_subset = services.iter().any(|service| {
        let found = mesh.rules.find(&key.namespace, mesh.root(), service);
        found
            .iter()
            .any(|entry| entry.rule.spec.subsets.iter().any(|s| s.name == to.subset))
    });
    if !to.subset.is_empty() && !has_subset {
        missing(
            path.field("subset"),
            format!(
                "no DestinationRule of {host} that namespace {} uses has subset {}; what is routed there fails",
                key.namespace, to.subset
            ),
        );
    }
}

fn gateways(mesh: &Mesh, item: &VirtualService, report: &mut Report) {
    for (index, name) in item.spec.gateways.iter().enumerate() {
        let Some((namespace, gateway)) = name.split_once('/') else {
            continue;
        };
        let at = spec("gateways").index(index);
        let key = Key::new(Kind::Gateway, namespace, gateway);
        let Some(Body::Gateway(found)) = mesh.object(&key).map(|o| &o.body) else {
            report.say(
                &item.key,
                at,
                Code::MissingReference,
                format!("there is no Gateway {name}"),
            );
            continue;
        };
        let accepts = |host: &Hostname| {
            found.servers.iter().any(|server| {
                servers::hosts(server, namespace)
                    .iter()
                    .any(|own| servers::serves(own, &item.key.namespace, host))
            })
        };
        if !item.hosts.iter().any(accepts) {
            report.say(
                &item.key,
                at,
                Code::NoEffect,
                format!("no server of Gateway {name} accepts any of its hosts"),
            );
        }
    }
}

/// Hosts whose HTTP rules sidecars take from an older VirtualService with the same audience.
fn shadowed(mesh: &Mesh, item: &VirtualService, written: &vs::VirtualService, report: &mut Report) {
    let in_mesh = |item: &VirtualService| {
        item.spec.gateways.iter().any(|g| g == "mesh")
            && !item.gateway_semantics
            && !item.spec.http.is_empty()
    };
    if !in_mesh(item) {
        return;
    }
    let seen_by =
        |item: &VirtualService| audience(&item.spec.export_to, &item.key.namespace, &mesh.config);
    for (index, text) in written.hosts.iter().enumerate() {
        let Ok(host) = Hostname::resolve(text, &item.key.namespace, mesh.domain()) else {
            continue;
        };
        let others = mesh
            .virtual_services
            .by_host
            .get(&host)
            .into_iter()
            .flatten();
        let older = others
            .filter_map(|key| mesh.virtual_services.all.get(key))
            .filter(|other| in_mesh(other) && order_of(other) < order_of(item))
            .find(|other: &&Arc<VirtualService>| seen_by(other) == seen_by(item));
        if let Some(older) = older {
            report.say(
                &item.key,
                spec("hosts").index(index),
                Code::NoEffect,
                format!(
                    "sidecars route {host} by VirtualService {}, which is older; merge the two, or delegate",
                    older.key.path()
                ),
            );
        }
    }
}
