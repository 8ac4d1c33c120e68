//! PeerAuthentication: with or without mutual TLS (SECURITY-INJECTION C.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use mesh_config::Object;
use mesh_config::resource::peer_authentication as pa;
use mesh_types::{Key, Labels, Selector};

use crate::destination_rules::labels;
use crate::order::Order;

/// What connections a port of a workload takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerMode {
    /// Only those without mutual TLS.
    Disable,
    /// Those with and those without; where nothing is said.
    #[default]
    Permissive,
    /// Only those with mutual TLS.
    Strict,
}

impl PeerMode {
    /// A mode as written; `None` for one that leaves things as they are.
    fn of(written: pa::MtlsMode) -> Option<PeerMode> {
        match written {
            pa::MtlsMode::Unset => None,
            pa::MtlsMode::Disable => Some(PeerMode::Disable),
            pa::MtlsMode::Permissive => Some(PeerMode::Permissive),
            pa::MtlsMode::Strict => Some(PeerMode::Strict),
        }
    }
}

/// What connections a workload takes, by port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct PeerModes {
    /// Where nothing else is said.
    pub workload: PeerMode,
    /// Of single ports, by port number of the workload.
    pub ports: BTreeMap<u16, PeerMode>,
}

impl PeerModes {
    /// The mode of a port of the workload.
    pub fn at(&self, port: u16) -> PeerMode {
        self.ports.get(&port).copied().unwrap_or(self.workload)
    }
}

/// A PeerAuthentication, read.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(crate) key: Key,
    pub(crate) selector: Selector,
    mode: Option<PeerMode>,
    ports: BTreeMap<u16, Option<PeerMode>>,
}

/// Those of one namespace, each list oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct InNamespace {
    /// Without selector.
    pub(crate) wide: OrdMap<Order, Arc<Policy>>,
    /// With selector.
    pub(crate) selecting: OrdMap<Order, Arc<Policy>>,
}

impl InNamespace {
    fn list(&mut self, policy: &Policy) -> &mut OrdMap<Order, Arc<Policy>> {
        if policy.selector.is_empty() {
            &mut self.wide
        } else {
            &mut self.selecting
        }
    }
}

/// PeerAuthentications of the mesh.
#[derive(Debug, Clone, Default)]
pub(crate) struct PeerIndex {
    by_namespace: OrdMap<Arc<str>, InNamespace>,
    /// How many forbid mutual TLS somewhere: without any, no client needs to know more than who has a sidecar.
    forbidding: usize,
}

/// The workloads a PeerAuthentication is for.
pub(crate) fn selector_of(spec: &pa::PeerAuthentication) -> Selector {
    spec.selector
        .as_ref()
        .map(|s| Selector(labels(&s.match_labels)))
        .unwrap_or_default()
}

fn read(object: &Object, spec: &pa::PeerAuthentication) -> Policy {
    Policy {
        key: object.meta.key.clone(),
        selector: selector_of(spec),
        mode: spec.mtls.as_ref().and_then(|mtls| PeerMode::of(mtls.mode)),
        ports: spec
            .ports()
            .map(|(port, mode)| (port, PeerMode::of(mode)))
            .collect(),
    }
}

fn forbids(policy: &Policy) -> bool {
    let disable = Some(PeerMode::Disable);
    policy.mode == disable || policy.ports.values().any(|mode| *mode == disable)
}

impl PeerIndex {
    pub(crate) fn insert(&mut self, object: &Object, spec: &pa::PeerAuthentication) {
        let policy = Arc::new(read(object, spec));
        self.forbidding += usize::from(forbids(&policy));
        self.by_namespace
            .entry(policy.key.namespace.clone())
            .or_default()
            .list(&policy.clone())
            .insert(Order::of(&object.meta), policy);
    }

    pub(crate) fn remove(&mut self, object: &Object, spec: &pa::PeerAuthentication) {
        let policy = read(object, spec);
        self.forbidding -= usize::from(forbids(&policy));
        let namespace = &policy.key.namespace;
        if let Some(known) = self.by_namespace.get_mut(namespace) {
            known.list(&policy).remove(&Order::of(&object.meta));
            if known.wide.is_empty() && known.selecting.is_empty() {
                self.by_namespace.remove(namespace);
            }
        }
    }

    /// Whether some policy forbids mutual TLS to somebody.
    pub(crate) fn forbids(&self) -> bool {
        self.forbidding > 0
    }

    /// Each namespace with its policies.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = (&Arc<str>, &InNamespace)> {
        self.by_namespace.iter()
    }

    /// The policies that a workload follows, widest first: of the mesh, of its namespace, of itself; the oldest of each.
    pub(crate) fn of(
        &self,
        namespace: &str,
        root: &str,
        workload: &Labels,
    ) -> [Option<&Arc<Policy>>; 3] {
        let wide = |namespace| {
            let known = self.by_namespace.get(namespace)?;
            known.wide.get_min().map(|(_, policy)| policy)
        };
        if namespace == root {
            // One with a selector would be for the whole mesh; it is ignored.
            return [wide(root), None, None];
        }
        let selecting = self
            .by_namespace
            .get(namespace)
            .into_iter()
            .flat_map(|known| known.selecting.values());
        let own = selecting
            .into_iter()
            .find(|policy| policy.selector.matches(workload));
        [wide(root), wide(namespace), own]
    }

    /// What a workload takes.
    pub(crate) fn modes(&self, namespace: &str, root: &str, workload: &Labels) -> PeerModes {
        let policies = self.of(namespace, root, workload);
        let mut said = policies.iter().flatten().filter_map(|policy| policy.mode);
        let mode = said.next_back().unwrap_or_default();
        let [_, _, own] = policies;
        let ports = own.map(|policy| &policy.ports).into_iter().flatten();
        PeerModes {
            workload: mode,
            ports: ports
                .map(|(port, own)| (*port, own.unwrap_or(mode)))
                .collect(),
        }
    }

    /// What clients expect of a namespace: selectors do not count.
    pub(crate) fn of_namespace(&self, namespace: &str, root: &str) -> PeerMode {
        self.modes(namespace, root, &Labels::default()).workload
    }
}

#[cfg(test)]
mod tests;
