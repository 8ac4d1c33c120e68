//! Findings that need more than one object to see: what is referred to and not there, and what can never take effect beside something else.
//!
//! One file per kind of object. They never refuse anything: an object may come before what it refers to.

mod authorization_policies;
mod destination_rules;
mod gateways;
mod peer_authentications;
mod ports;
mod sidecars;
mod virtual_services;

use mesh_types::{Code, FieldPath, Finding, Hostname, Key};

use crate::virtual_services::covering;
use crate::{Mesh, Service, services};

/// Every finding about the mesh, by object and place.
pub(crate) fn all(mesh: &Mesh) -> Vec<Finding> {
    let mut report = Report::default();
    virtual_services::check(mesh, &mut report);
    destination_rules::check(mesh, &mut report);
    gateways::check(mesh, &mut report);
    sidecars::check(mesh, &mut report);
    ports::check(mesh, &mut report);
    peer_authentications::check(mesh, &mut report);
    authorization_policies::check(mesh, &mut report);
    let mut found = report.0;
    let place = |f: &Finding| (f.key.clone(), f.path.clone(), f.code);
    found.sort_by(|a, b| (place(a), &a.message).cmp(&(place(b), &b.message)));
    found.dedup();
    found
}

/// Findings as they are made.
#[derive(Default)]
struct Report(Vec<Finding>);

impl Report {
    fn say(&mut self, key: &Key, path: FieldPath, code: Code, message: impl Into<String>) {
        self.0.push(Finding::new(key, path, code, message));
    }
}

/// A field of `spec`.
fn spec(field: &str) -> FieldPath {
    FieldPath::root().field("spec").field(field)
}

/// Services that requests for a host can reach from a namespace.
enum Reachable<'a> {
    /// No service has the host, nor a wildcard that covers it.
    Unknown,
    /// Services have it, but are exported elsewhere.
    Hidden,
    /// These have it, and can be seen.
    Seen(Vec<&'a Service>),
}

fn reachable<'a>(mesh: &'a Mesh, namespace: &str, host: &Hostname) -> Reachable<'a> {
    let mut known = false;
    let mut seen = Vec::new();
    for name in covering(host) {
        let same = mesh.services.by_host.get(name.as_str());
        for service in same.into_iter().flat_map(|same| same.values()) {
            known = true;
            if services::audience(service, &mesh.config).has(namespace) {
                seen.push(&**service);
            }
        }
        if !seen.is_empty() {
            return Reachable::Seen(seen);
        }
    }
    if known {
        Reachable::Hidden
    } else {
        Reachable::Unknown
    }
}
