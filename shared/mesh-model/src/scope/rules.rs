//! The DestinationRule of each service in a view.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_types::Hostname;

use crate::destination_rules::select;
use crate::{DestinationRule, Mesh, Service, ViewKey};

/// Rules by service host.
pub(crate) type Rules = BTreeMap<Hostname, Arc<DestinationRule>>;

/// The rule for clients of a service, and the one for its own side where that is another.
pub(crate) type Pair = (Option<Arc<DestinationRule>>, Option<Arc<DestinationRule>>);

/// The rules of one service as seen by proxies of a class.
pub(crate) fn of_service(mesh: &Mesh, key: &ViewKey, service: &Service) -> Pair {
    let entries = mesh.rules.find(&key.namespace, mesh.root(), service);
    if entries.is_empty() {
        return (None, None);
    }
    let outbound = select(&entries, &key.namespace, Some(&key.labels));
    let inbound = match &outbound {
        Some(rule) if rule.spec.workload_selector.is_some() => {
            select(&entries, &key.namespace, None)
        }
        _ => None,
    };
    (outbound, inbound)
}

/// The rules of every service.
pub(crate) fn all<'a>(
    mesh: &Mesh,
    key: &ViewKey,
    services: impl Iterator<Item = &'a Arc<Service>>,
) -> (Rules, Rules) {
    let (mut outbound, mut inbound) = (Rules::new(), Rules::new());
    if mesh.rules.is_empty() {
        return (outbound, inbound);
    }
    for service in services {
        let (out, own) = of_service(mesh, key, service);
        if let Some(rule) = out {
            outbound.insert(service.hostname.clone(), rule);
        }
        if let Some(rule) = own {
            inbound.insert(service.hostname.clone(), rule);
        }
    }
    (outbound, inbound)
}
