//! PeerAuthentications that nobody follows: an older one of the same level is followed instead (SECURITY-INJECTION C.2).

use std::collections::BTreeMap;

use mesh_types::{Code, FieldPath};

use super::{Report, spec};
use crate::Mesh;

pub(super) fn check(mesh: &Mesh, report: &mut Report) {
    for (namespace, policies) in mesh.peers.namespaces() {
        let root = **namespace == *mesh.root();
        let mut wide = policies.wide.values();
        if let Some(first) = wide.next() {
            for later in wide {
                let scope = if root { "the mesh" } else { "its namespace" };
                report.say(
                    &later.key,
                    FieldPath::root().field("spec"),
                    Code::NoEffect,
                    format!(
                        "{} is older and decides for {scope}; keep one of them",
                        first.key.name
                    ),
                );
            }
        }
        let mut by_selector = BTreeMap::new();
        for policy in policies.selecting.values() {
            if root {
                let says = "the mesh's policy has no selector, and this namespace is where the mesh's policies are; this one is ignored";
                report.say(&policy.key, spec("selector"), Code::NoEffect, says);
            } else if let Some(first) = by_selector.get(&policy.selector.0) {
                let says = format!("{first} is older and selects the same workloads; it decides");
                report.say(&policy.key, spec("selector"), Code::NoEffect, says);
            } else {
                by_selector.insert(policy.selector.0.clone(), policy.key.name.clone());
            }
        }
    }
}
