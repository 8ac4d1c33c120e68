//! Which endpoints of a service a class of proxies may use (XDS-TRAFFIC 8.3).

use std::sync::Arc;

use mesh_config::resource::mesh::MeshConfig;
use mesh_config::resource::normal::MeshEndpoint;
use mesh_model::Service;
use mesh_types::Hostname;

use crate::OutboundKey;

/// Which endpoints of a service a class may use at all. Nearly always everything, and then equal for all classes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reach {
    /// Only those of this node.
    node: Option<Arc<str>>,
    /// Only those of this cluster.
    cluster: Option<Arc<str>>,
    /// Only those of these networks; empty means every one.
    networks: Arc<[Arc<str>]>,
}

impl Reach {
    /// Whether an endpoint is among them.
    pub(super) fn includes(&self, endpoint: &MeshEndpoint) -> bool {
        let unknown_or =
            |actual: &Arc<str>, wanted: &Arc<str>| actual.is_empty() || actual == wanted;
        self.node.as_ref().is_none_or(|node| endpoint.node == *node)
            && self
                .cluster
                .as_ref()
                .is_none_or(|cluster| unknown_or(&endpoint.cluster, cluster))
            && (self.networks.is_empty()
                || endpoint.network.is_empty()
                || self.networks.contains(&endpoint.network))
    }
}

/// Everything of a class that [`Reach`] is decided by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    node: Option<Arc<str>>,
    /// Empty means unknown.
    cluster: Arc<str>,
    networks: Arc<[Arc<str>]>,
    /// Hosts whose endpoints stay in their cluster (or do not), more specific first.
    cluster_local: Vec<(Hostname, bool)>,
}

impl Scope {
    pub(crate) fn of(mesh: &MeshConfig, key: &OutboundKey) -> Scope {
        Scope {
            node: key.node_name.clone(),
            cluster: key.view.cluster_id.clone(),
            networks: key.network_view.clone().into(),
            cluster_local: if key.view.cluster_id.is_empty() {
                Vec::new()
            } else {
                cluster_local(mesh, &key.dns_domain)
            },
        }
    }

    /// Which endpoints of a service the class may use.
    pub(crate) fn reach(&self, service: &Service) -> Reach {
        let host = &service.hostname;
        let stays = service.node_local
            || self
                .cluster_local
                .iter()
                .find(|(pattern, _)| host.is_subset_of(pattern))
                .is_some_and(|(_, local)| *local);
        Reach {
            node: self.node.clone().filter(|_| service.node_local),
            cluster: Some(self.cluster.clone()).filter(|id| stays && !id.is_empty()),
            networks: self.networks.clone(),
        }
    }
}

/// Hosts whose endpoints stay in their cluster (or do not): what the mesh says, and the platform's own services.
fn cluster_local(mesh: &MeshConfig, dns_domain: &str) -> Vec<(Hostname, bool)> {
    let domain = dns_domain
        .split_once(".svc.")
        .map_or("cluster.local", |(_, domain)| domain);
    let discovery = mesh.default_config.discovery_address.split(':').next();
    let said = mesh.service_settings.iter().flat_map(|s| {
        s.hosts
            .iter()
            .map(|h| (h.clone(), s.settings.cluster_local))
    });
    let default = [
        format!("*.kube-system.svc.{domain}"),
        format!("kubernetes.default.svc.{domain}"),
        discovery.unwrap_or_default().to_owned(),
    ];
    let all = said.chain(default.into_iter().map(|host| (host, true)));
    let mut out: Vec<_> = all
        .filter_map(|(host, local)| Some((Hostname::new(&host).ok()?, local)))
        .collect();
    out.sort_by(|a, b| a.0.specificity(&b.0)); // stable: what the mesh says stays before the defaults
    out
}
