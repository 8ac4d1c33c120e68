//! Endpoints of the services in a view.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
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
