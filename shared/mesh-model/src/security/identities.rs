//! Who the servers of a service are: what clients accept in their certificates (secure naming, XDS-TRAFFIC 7.10).

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_config::resource::mesh::MeshConfig;
use mesh_config::resource::normal::MeshEndpoints;
use mesh_types::{Labels, Version, version_of};

use super::peer::{PeerIndex, PeerMode};
use crate::{Endpoints, Service};

/// What a client must know of a service's endpoints to speak mutual TLS with them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct EndpointPeers {
    /// Their service accounts, sorted, all in the service's namespace.
    pub accounts: Arc<[Arc<str>]>,
    /// Whether there is an endpoint, and every one of them has a sidecar that takes mutual TLS.
    pub all_mtls: bool,
    /// Indices of endpoints that have a sidecar, but take no mutual TLS at their port by a PeerAuthentication; ascending.
    pub plaintext: Arc<[u32]>,
    /// Whether the PeerAuthentication of their namespace or of the mesh says that no mutual TLS is taken.
    pub plaintext_namespace: bool,
}

impl EndpointPeers {
    /// What depends on the endpoints alone.
    pub(crate) fn of(spec: &MeshEndpoints) -> EndpointPeers {
        let accounts = spec.endpoints.iter().map(|e| &e.service_account);
        let accounts: BTreeSet<&Arc<str>> = accounts.filter(|name| !name.is_empty()).collect();
        EndpointPeers {
            accounts: accounts.into_iter().cloned().collect(),
            all_mtls: !spec.endpoints.is_empty() && spec.endpoints.iter().all(|e| e.mtls),
            ..EndpointPeers::default()
        }
    }

    /// What of it is written in clusters; the rest in endpoints.
    pub fn in_clusters(&self) -> (&[Arc<str>], bool, bool) {
        (&self.accounts, self.all_mtls, self.plaintext_namespace)
    }

    /// The version of endpoints whose own is given, under these policies.
    pub(crate) fn version(&self, own: Version) -> Version {
        if self.plaintext.is_empty() && !self.plaintext_namespace {
            return own;
        }
        let mut text = own.to_le_bytes().to_vec();
        text.push(u8::from(self.plaintext_namespace));
        text.extend(self.plaintext.iter().flat_map(|index| index.to_le_bytes()));
        version_of(&text)
    }

    /// The same with what PeerAuthentications of a namespace say.
    pub(crate) fn under(
        &self,
        peers: &PeerIndex,
        spec: &MeshEndpoints,
        namespace: &str,
        root: &str,
    ) -> EndpointPeers {
        let mut out = EndpointPeers {
            plaintext: Arc::default(),
            plaintext_namespace: false,
            ..self.clone()
        };
        if !peers.forbids() {
            return out;
        }
        out.plaintext_namespace = peers.of_namespace(namespace, root) == PeerMode::Disable;
        let mut last: Option<(&Labels, _)> = None;
        let mut mode = |labels, port| {
            // Ports of one workload stand together.
            let modes = match last.take() {
                Some((known, modes)) if known == labels => modes,
                _ => peers.modes(namespace, root, labels),
            };
            let mode = modes.at(port);
            last = Some((labels, modes));
            mode
        };
        out.plaintext = (0..)
            .zip(&spec.endpoints)
            .filter(|(_, e)| e.mtls && mode(&e.labels, e.port) == PeerMode::Disable)
            .map(|(index, _)| index)
            .collect();
        out
    }
}

/// The identities that the servers of a service may have: those of its endpoints and those given in its declaration, in every trust domain
/// that means the mesh's. Sorted; empty if none is known.
pub fn service_identities(
    service: &Service,
    endpoints: Option<&Endpoints>,
    mesh: &MeshConfig,
) -> Vec<Arc<str>> {
    let namespace = &service.key.namespace;
    let domain = mesh.trust_domain.replace('@', ".");
    let domains = || std::iter::once(&domain).chain(&mesh.trust_domain_aliases);
    let mut out = BTreeSet::<Arc<str>>::new();
    let accounts = endpoints.map_or(&[][..], |e| &e.peers.accounts);
    for account in accounts.iter().chain(&service.service_accounts) {
        for domain in domains() {
            out.insert(format!("spiffe://{domain}/ns/{namespace}/sa/{account}").into());
        }
    }
    for name in &service.subject_alt_names {
        // Any name is taken as it is; one of the mesh's own form is known by its other names too.
        if let Some((_, path)) = istio_identity(name) {
            out.extend(
                domains()
                    .skip(1)
                    .map(|d| format!("spiffe://{d}{path}").into()),
            );
        }
        out.insert(name.clone());
    }
    out.into_iter().collect()
}

/// Trust domain, and path with its leading `/`, of `spiffe://td/ns/N/sa/A`.
fn istio_identity(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix("spiffe://")?;
    let (domain, path) = rest.split_at(rest.find('/')?);
    let parts: Vec<&str> = path.split('/').collect();
    matches!(parts[..], ["", "ns", _, "sa", _]).then_some((domain, path))
}
