//! The resolved mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use mesh_config::resource::mesh::MeshConfig;
use mesh_config::resource::normal::{JwksSource, MeshWorkload, ServiceResolution};
use mesh_config::{Body, Object};
use mesh_types::{Finding, Hostname, Key, Labels, Revision};

use crate::destination_rules::DestinationRuleIndex;
use crate::gateways::GatewayIndex;
use crate::label_use::LabelUse;
use crate::policies::PolicyIndex;
use crate::security::peer::PeerIndex;
use crate::services::{ServiceId, ServiceIndex};
use crate::sidecars::SidecarIndex;
use crate::virtual_services::VirtualServiceIndex;
use crate::workloads::WorkloadIndex;
use crate::{
    Change, Delta, Endpoints, PolicySettings, Proxy, ProxyKind, Service, ServiceTarget, Touch,
    View, ViewKey,
};

/// Every object of one revision, resolved and indexed. Cheap to clone: maps are persistent.
#[derive(Debug, Clone)]
pub struct Mesh {
    revision: Revision,
    pub(crate) domain: Arc<str>,
    pub(crate) config: Arc<MeshConfig>,
    /// Everything as it was given.
    pub(crate) objects: OrdMap<Key, Arc<Object>>,
    pub(crate) services: ServiceIndex,
    pub(crate) virtual_services: VirtualServiceIndex,
    pub(crate) rules: DestinationRuleIndex,
    pub(crate) sidecars: SidecarIndex,
    pub(crate) gateways: GatewayIndex,
    pub(crate) workloads: WorkloadIndex,
    pub(crate) peers: PeerIndex,
    pub(crate) policies: PolicyIndex,
    pub(crate) label_use: LabelUse,
}

impl Default for Mesh {
    fn default() -> Mesh {
        Mesh::new("cluster.local")
    }
}

/// A change set with one change per object: the object as it is afterwards, `None` if it is gone.
type Changes = BTreeMap<Key, Option<Arc<Object>>>;

impl Mesh {
    /// An empty mesh whose short names end in `svc.<domain>`; the default is `cluster.local`.
    pub fn new(domain: &str) -> Mesh {
        Mesh {
            revision: Revision::default(),
            domain: domain.into(),
            config: Arc::default(),
            objects: OrdMap::new(),
            services: ServiceIndex::default(),
            virtual_services: VirtualServiceIndex::default(),
            rules: DestinationRuleIndex::default(),
            sidecars: SidecarIndex::default(),
            gateways: GatewayIndex::default(),
            workloads: WorkloadIndex::default(),
            peers: PeerIndex::default(),
            policies: PolicyIndex::default(),
            label_use: LabelUse::default(),
        }
    }

    /// The same mesh under other settings for policies. For an empty mesh: nothing tells that they changed.
    pub fn with_policies(mut self, settings: PolicySettings) -> Mesh {
        self.policies.settings = settings;
        self
    }

    /// The next mesh: this one with a change set applied, and what that changed. Costs follow the change, not the mesh, except for a change
    /// of MeshConfig, which resolves everything anew.
    ///
    /// Of several changes of one object the last counts. An upsert with the version that is there already changes nothing, and neither does
    /// any object of a kind that the mesh does not read (platform objects, ServiceEntries: `mesh-registry` turns them into records).
    pub fn apply(&self, revision: Revision, changes: &[Change]) -> (Mesh, Delta) {
        let mut last = Changes::new();
        for change in changes {
            match change {
                Change::Upsert(object) => {
                    last.insert(object.meta.key.clone(), Some(object.clone()))
                }
                Change::Delete(key) => last.insert(key.clone(), None),
            };
        }
        last.retain(|key, object| match (self.objects.get(key), object) {
            (Some(old), Some(new)) => old.version != new.version,
            (None, Some(new)) => is_read(new),
            (old, None) => old.is_some(),
        });
        let mut next = self.clone();
        next.revision = revision;
        let mut delta = Delta::default();
        if last.values().flatten().any(is_config)
            || last
                .keys()
                .any(|key| self.objects.get(key).is_some_and(is_config))
        {
            next.index(&last, &mut delta);
            if let Some(config) = next
                .written_config()
                .filter(|config| **config != *self.config)
            {
                delta.mesh_config = true;
                next = next.rebuilt(config);
                delta.selectors |= next.label_use != self.label_use;
            }
        } else {
            next.index(&last, &mut delta);
        }
        (next, delta)
    }

    /// The settings as written; the first object by name if there are several, defaults if there is none.
    fn written_config(&self) -> Option<Arc<MeshConfig>> {
        let written = self
            .objects
            .iter()
            .take_while(|(_, object)| is_config(object))
            .find_map(|(_, o)| match &o.body {
                Body::MeshConfig(config) => Some(config.clone()),
                _ => None,
            });
        Some(written.unwrap_or_default())
    }

    /// The same objects under other settings.
    fn rebuilt(&self, config: Arc<MeshConfig>) -> Mesh {
        let mut next = Mesh {
            config,
            revision: self.revision,
            ..Mesh::new(&self.domain).with_policies(self.policies.settings)
        };
        let all = self
            .objects
            .iter()
            .map(|(key, object)| (key.clone(), Some(object.clone())))
            .collect();
        next.index(&all, &mut Delta::default());
        next
    }

    /// Applies changes that are known to be changes.
    fn index(&mut self, changes: &Changes, delta: &mut Delta) {
        let config = self.config.clone();
        let mut virtual_services = Changes::new();
        let mut rules = BTreeSet::new();
        let forbade = self.peers.forbids();
        for (key, object) in changes {
            let old = match object {
                Some(object) => self.objects.insert(key.clone(), object.clone()),
                None => self.objects.remove(key),
            };
            if let Some(old) = &old {
                delta.selectors |= self.label_use.remove(old, &config.root_namespace);
                self.unindex(old, object.as_deref(), &config, &mut rules, delta);
            }
            if let Some(new) = object {
                delta.selectors |= self.label_use.add(new, &config.root_namespace);
                self.index_one(new, &config, &mut rules, delta);
            }
            if is_virtual_service(old.as_deref()) || is_virtual_service(object.as_deref()) {
                virtual_services.insert(key.clone(), object.clone());
            }
        }
        for changed in self
            .virtual_services
            .apply(&virtual_services, &config, &self.domain)
        {
            let hosts = changed
                .before
                .iter()
                .chain(&changed.after)
                .flat_map(|item| &item.hosts);
            delta.virtual_service_hosts.extend(hosts.cloned());
            delta.virtual_services.insert(changed.key);
        }
        delta.virtual_services.extend(virtual_services.into_keys());
        for at in &rules {
            self.rules.merge(at, &config);
        }
        delta
            .destination_rule_hosts
            .extend(rules.into_iter().map(|(_, host)| host));
        self.resolve_peers(forbade, delta);
        delta.endpoints.retain(|id| !delta.services.contains(id));
    }

    /// Applies PeerAuthentications to endpoints that are new, and those that changed to all they may concern.
    fn resolve_peers(&mut self, forbade: bool, delta: &mut Delta) {
        // Whether workloads must or may take mutual TLS makes no difference to clients.
        if !forbade && !self.peers.forbids() {
            return;
        }
        let config = self.config.clone();
        let root = &*config.root_namespace;
        let namespaces: BTreeSet<&str> = delta
            .peer_authentications
            .iter()
            .map(|key| &*key.namespace)
            .collect();
        let all = &self.services.endpoints;
        let concerned = all
            .iter()
            .filter(|(namespace, _)| {
                namespaces.contains(root) || namespaces.contains(&***namespace)
            })
            .flat_map(|(namespace, hosts)| {
                hosts.keys().map(|host| (namespace.clone(), host.clone()))
            });
        let ids: BTreeSet<ServiceId> = concerned.chain(delta.endpoints.iter().cloned()).collect();
        for id in ids {
            let Some(known) = self.services.endpoints_of(&id.0, &id.1) else {
                continue;
            };
            let version = self
                .objects
                .get(&known.key)
                .map_or(known.version, |o| o.version);
            if self.services.set_peers(&id, version, &self.peers, root) {
                delta.endpoints.insert(id);
            }
        }
    }

    /// Takes one object out of the indexes. A successor of the same host is put in its place by [`Mesh::index_one`].
    fn unindex(
        &mut self,
        old: &Arc<Object>,
        new: Option<&Object>,
        config: &MeshConfig,
        rules: &mut BTreeSet<(Arc<str>, Hostname)>,
        delta: &mut Delta,
    ) {
        let key = &old.meta.key;
        match &old.body {
            Body::MeshService(spec) => {
                let id = (key.namespace.clone(), spec.hostname.clone());
                self.services.remove_service(&id, config);
                delta.services.insert(id);
            }
            Body::MeshEndpoints(spec) => {
                let same = new.is_some_and(|new| matches!(&new.body, Body::MeshEndpoints(e) if e.hostname == spec.hostname));
                if !same {
                    let id = (key.namespace.clone(), spec.hostname.clone());
                    delta
                        .addresses
                        .extend(self.services.replace_endpoints(&id, None));
                    delta.endpoints.insert(id);
                }
            }
            Body::MeshWorkload(_) => {
                delta.addresses.extend(self.workloads.remove(key));
                delta.workloads.insert(key.clone());
            }
            Body::DestinationRule(_) => {
                rules.extend(self.rules.write(old, false, &self.domain));
                delta.destination_rules.insert(key.clone());
            }
            Body::Sidecar(spec) => {
                self.sidecars.remove(old, spec);
                delta.sidecars.insert(key.clone());
            }
            Body::Gateway(_) => {
                self.gateways.remove(old);
                delta.gateways.insert(key.clone());
            }
            Body::Secret(_) => {
                delta.secrets.insert(key.clone());
            }
            Body::PeerAuthentication(spec) => {
                self.peers.remove(old, spec);
                delta.peer_authentications.insert(key.clone());
            }
            _ => self.policies.write(old, false, delta),
        }
    }

    fn index_one(
        &mut self,
        object: &Arc<Object>,
        config: &MeshConfig,
        rules: &mut BTreeSet<(Arc<str>, Hostname)>,
        delta: &mut Delta,
    ) {
        let key = &object.meta.key;
        match &object.body {
            Body::MeshService(spec) => {
                delta
                    .services
                    .insert(self.services.set_service(object, spec, config));
            }
            Body::MeshEndpoints(spec) => {
                let (id, addresses) = self.services.set_endpoints(object, spec);
                delta.endpoints.insert(id);
                delta.addresses.extend(addresses);
            }
            Body::MeshWorkload(spec) => {
                delta.addresses.extend(self.workloads.insert(key, spec));
                delta.workloads.insert(key.clone());
            }
            Body::DestinationRule(_) => {
                rules.extend(self.rules.write(object, true, &self.domain));
                delta.destination_rules.insert(key.clone());
            }
            Body::Sidecar(spec) => {
                self.sidecars.insert(object, spec);
                delta.sidecars.insert(key.clone());
            }
            Body::Gateway(spec) => {
                self.gateways.insert(object, spec);
                delta.gateways.insert(key.clone());
            }
            Body::Secret(_) => {
                delta.secrets.insert(key.clone());
            }
            Body::PeerAuthentication(spec) => {
                self.peers.insert(object, spec);
                delta.peer_authentications.insert(key.clone());
            }
            _ => self.policies.write(object, true, delta),
        }
    }

    /// The revision this mesh was built from.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Settings of the mesh.
    pub fn config(&self) -> &Arc<MeshConfig> {
        &self.config
    }

    /// What short names end in after `svc.`; `cluster.local` by default.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The namespace whose objects apply to the whole mesh.
    pub(crate) fn root(&self) -> &str {
        &self.config.root_namespace
    }

    /// Every object as it was given, by key.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    /// The object with a key, as it was given.
    pub fn object(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// The service of a namespace with a host, whoever sees it.
    pub fn service(&self, namespace: &str, host: &Hostname) -> Option<&Arc<Service>> {
        self.services.get(namespace, host)
    }

    /// Every service, by namespace and host.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.all.values().flat_map(OrdMap::values)
    }

    /// The endpoints of a service.
    pub fn endpoints(&self, namespace: &str, host: &Hostname) -> Option<&Arc<Endpoints>> {
        self.services.endpoints_of(namespace, host)
    }

    /// Completes a proxy by what the mesh knows of its workload: labels and locality (XDS-TRAFFIC 1.3).
    pub fn complete(&self, proxy: &mut Proxy) {
        crate::targets::complete(self, proxy);
    }

    /// The workload at a proxy, if known: by pod name and namespace, else by address.
    pub fn workload(&self, proxy: &Proxy) -> Option<Arc<MeshWorkload>> {
        crate::targets::workload(self, proxy).map(|(_, workload)| workload.clone())
    }

    /// The class of a proxy as far as scoping goes.
    pub fn view_key(&self, proxy: &Proxy) -> ViewKey {
        ViewKey {
            kind: proxy.kind,
            namespace: proxy.namespace.clone(),
            labels: self
                .label_use
                .restrict(proxy.kind, &proxy.namespace, &proxy.labels),
            cluster_id: proxy.cluster_id.clone(),
            gateway_ports: match proxy.kind {
                ProxyKind::Sidecar => Vec::new(),
                ProxyKind::Router => crate::targets::gateway_ports(&self.service_targets(proxy)),
            },
        }
    }

    /// What proxies of a class may see.
    pub fn view(&self, key: &ViewKey) -> View {
        crate::scope::view(self, key)
    }

    /// Whether and how a change concerns a view of the mesh before it; `self` is the mesh after it.
    pub fn touch(&self, view: &View, delta: &Delta) -> Touch {
        crate::scope::touch::touch(self, view, delta)
    }

    /// The view after a change: what [`Mesh::view`] gives, but whatever is equal is shared with the view before. Costs follow what is touched:
    /// new endpoints cost nothing, other changes a fraction of a new view.
    pub fn update_view(&self, view: &View, touch: &Touch) -> View {
        crate::scope::update::update(self, view, touch)
    }

    /// The service ports a proxy is an instance of, oldest service first (XDS-TRAFFIC 1.4).
    pub fn service_targets(&self, proxy: &Proxy) -> Vec<ServiceTarget> {
        crate::targets::service_targets(self, proxy)
    }

    /// Where keys must be fetched for the RequestAuthentications of the mesh.
    pub fn wanted_keys(&self) -> BTreeSet<JwksSource> {
        self.policies.wanted_keys()
    }

    /// Findings that need more than one object to see: shadowed objects, missing references, merges.
    ///
    /// By object and place; costs follow the mesh, so ask when somebody wants to know. Files and lines are for the caller to fill in.
    pub fn findings(&self) -> Vec<Finding> {
        crate::findings::all(self)
    }

    /// The PeerAuthentications that a workload follows, the widest first: of the mesh, of its namespace, of itself.
    pub fn peer_authentications(&self, namespace: &str, labels: &Labels) -> Vec<Key> {
        let policies = self.peers.of(namespace, self.root(), labels);
        policies
            .into_iter()
            .flatten()
            .map(|policy| policy.key.clone())
            .collect()
    }

    /// Whether an address is an endpoint of a service that callers reach at its endpoints' own addresses (headless): a proxy there must not
    /// listen at its own.
    pub fn is_headless_endpoint(&self, address: &IpAddr) -> bool {
        self.services_at(address).any(|(namespace, host)| {
            self.services
                .get(namespace, host)
                .is_some_and(|service| service.resolution == ServiceResolution::Passthrough)
        })
    }

    /// Whether some service may only be reached on the caller's own node.
    pub fn has_node_local_services(&self) -> bool {
        self.services.node_local > 0
    }

    /// Services that have an endpoint at an address.
    pub(crate) fn services_at(&self, address: &IpAddr) -> impl Iterator<Item = &ServiceId> {
        self.services.by_address.get(address).into_iter().flatten()
    }
}

/// Whether the mesh reads objects of this kind.
fn is_read(object: &Arc<Object>) -> bool {
    match &object.body {
        Body::MeshConfig(_)
        | Body::VirtualService(_)
        | Body::DestinationRule(_)
        | Body::Gateway(_)
        | Body::Sidecar(_)
        | Body::Secret(_)
        | Body::PeerAuthentication(_)
        | Body::RequestAuthentication(_)
        | Body::AuthorizationPolicy(_)
        | Body::MeshTrust(_)
        | Body::MeshJwks(_)
        | Body::MeshService(_)
        | Body::MeshEndpoints(_)
        | Body::MeshWorkload(_) => true,
        Body::Namespace(_)
        | Body::Node(_)
        | Body::Service(_)
        | Body::EndpointSlice(_)
        | Body::Pod(_)
        | Body::ConfigMap(_)
        | Body::ServiceEntry(_)
        | Body::WorkloadEntry(_) => false,
    }
}

fn is_config(object: &Arc<Object>) -> bool {
    matches!(object.body, Body::MeshConfig(_))
}

fn is_virtual_service(object: Option<&Object>) -> bool {
    object.is_some_and(|object| matches!(object.body, Body::VirtualService(_)))
}
