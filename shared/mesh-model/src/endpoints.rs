//! Endpoints of the services in a view.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use mesh_types::Hostname;

use crate::{Endpoints, Service};

/// Every endpoint set of a mesh, by namespace and host.
pub(crate) type ByNamespace<T> = OrdMap<Arc<str>, OrdMap<Hostname, Arc<T>>>;

/// The endpoints of the services in a view. Reads the mesh's own map, so a view costs nothing for its endpoints, and a view with new
/// endpoints is made by swapping that map.
#[derive(Debug, Clone, Default)]
pub struct ScopedEndpoints {
    services: Arc<BTreeMap<Hostname, Arc<Service>>>,
    all: ByNamespace<Endpoints>,
}

impl ScopedEndpoints {
    pub(crate) fn new(
        services: Arc<BTreeMap<Hostname, Arc<Service>>>,
        all: ByNamespace<Endpoints>,
    ) -> ScopedEndpoints {
        ScopedEndpoints { services, all }
    }

    /// The endpoints of the service in scope with that host; `None` if the host is not in scope or nothing is known of its endpoints.
    pub fn get(&self, host: &Hostname) -> Option<&Arc<Endpoints>> {
        self.all
            .get(&self.services.get(host)?.key.namespace)?
            .get(host)
    }

    /// Every service in scope with known endpoints, by host.
    pub fn iter(&self) -> impl Iterator<Item = (&Hostname, &Arc<Endpoints>)> {
        self.services
            .keys()
            .filter_map(|host| Some((host, self.get(host)?)))
    }

    /// Whether endpoints of that host are known.
    pub fn contains_key(&self, host: &Hostname) -> bool {
        self.get(host).is_some()
    }

    /// How many services in scope have known endpoints.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether no service in scope has known endpoints.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// Equal where the endpoints of the services in scope are. The cost follows what differs between the meshes they were made from, if they
/// share their services.
impl PartialEq for ScopedEndpoints {
    fn eq(&self, other: &ScopedEndpoints) -> bool {
        let known = |namespace: &Arc<str>, host: &Hostname| {
            let service = self.services.get(host);
            service.is_some_and(|service| service.key.namespace == *namespace)
        };
        let concerns =
            |namespace: &DiffItem<'_, '_, Arc<str>, OrdMap<Hostname, Arc<Endpoints>>>| {
                match namespace {
                    DiffItem::Add(namespace, hosts) | DiffItem::Remove(namespace, hosts) => {
                        hosts.keys().any(|host| known(namespace, host))
                    }
                    DiffItem::Update { old, new } => old.1.diff(new.1).any(|item| match item {
                        DiffItem::Add(host, _) | DiffItem::Remove(host, _) => known(old.0, host),
                        DiffItem::Update { old: (host, _), .. } => known(old.0, host),
                    }),
                }
            };
        self.services == other.services && !self.all.diff(&other.all).any(|item| concerns(&item))
    }
}

impl Eq for ScopedEndpoints {}
