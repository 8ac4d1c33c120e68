//! Sidecars: several where one applies, hosts that are not there.

use std::sync::Arc;

use mesh_types::{Code, FieldPath, Hostname};

use super::{Reachable, Report, reachable, spec};
use crate::{Mesh, Sidecar};

pub(super) fn check(mesh: &Mesh, report: &mut Report) {
    for sidecars in mesh.sidecars.namespaces() {
        let all: Vec<&Arc<Sidecar>> = sidecars.collect();
        for (at, sidecar) in all.iter().enumerate() {
            // They come in the order in which they are tried.
            if let Some(older) = all[..at].iter().find(|s| s.selector == sidecar.selector) {
                report.say(
                    &sidecar.key,
                    FieldPath::root().field("spec"),
                    Code::NoEffect,
                    format!(
                        "Sidecar {} is for the same workloads and older; merge the two",
                        older.key.path()
                    ),
                );
            }
            hosts(mesh, sidecar, report);
        }
    }
}

/// Plain hosts of egress listeners that no service and no VirtualService has.
fn hosts(mesh: &Mesh, sidecar: &Sidecar, report: &mut Report) {
    let own = &sidecar.key.namespace;
    for (i, egress) in sidecar.spec.egress.iter().enumerate() {
        for (j, entry) in egress.hosts.iter().enumerate() {
            let Some((namespace, host)) = entry.split_once('/') else {
                continue;
            };
            let Ok(host) = Hostname::new(host) else {
                continue;
            };
            if namespace.starts_with('~') || host.is_wildcard() {
                continue;
            }
            let namespace = if namespace == "." { own } else { namespace };
            let there = |candidate: &str| namespace == "*" || candidate == namespace;
            let service = match reachable(mesh, own, &host) {
                Reachable::Seen(services) => services.iter().any(|s| there(&s.key.namespace)),
                Reachable::Hidden | Reachable::Unknown => false,
            };
            let routed = mesh.virtual_services.all.values().any(|item| {
                there(&item.key.namespace) && item.hosts.iter().any(|h| h.matches(&host))
            });
            if !service && !routed {
                report.say(
                    &sidecar.key,
                    spec("egress").index(i).field("hosts").index(j),
                    Code::MissingReference,
                    format!("no service that namespace {own} sees has this host; hosts are written in full, as name.namespace.svc.{}", mesh.domain()),
                );
            }
        }
    }
}
