//! VirtualServices by gateway and by who sees them, delegates merged (XDS-TRAFFIC 6.1).

mod delegate;
pub(crate) mod resolve;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use mesh_config::resource::mesh::MeshConfig;
use mesh_config::resource::virtual_service as vs;
use mesh_config::{Body, Object};
use mesh_types::{Hostname, Key, Kind, version_of};

use crate::VirtualService;
use crate::order::{Audience, Order, Pools};

/// Annotation of VirtualServices made from other kinds of routes.
const ROUTE_SEMANTICS: &str = "internal.istio.io/route-semantics";

/// VirtualServices of the mesh.
#[derive(Debug, Clone, Default)]
pub(crate) struct VirtualServiceIndex {
    /// As written, roots and delegates.
    written: OrdMap<Key, Arc<Object>>,
    /// Which roots name a delegate, whether or not it exists.
    roots_of: OrdMap<Key, BTreeSet<Key>>,
    /// Resolved roots.
    pub(crate) all: OrdMap<Key, Arc<VirtualService>>,
    /// Resolved roots by gateway (`mesh` or `namespace/name`).
    by_gateway: OrdMap<Arc<str>, Pools<Arc<VirtualService>>>,
    /// How many roots were made from Gateway API routes.
    gateway_api: usize,
    /// Resolved roots by each of their hosts.
    pub(crate) by_host: OrdMap<Hostname, BTreeSet<Key>>,
}

/// What became of one VirtualService: before and after.
pub(crate) struct Changed {
    pub(crate) key: Key,
    pub(crate) before: Option<Arc<VirtualService>>,
    pub(crate) after: Option<Arc<VirtualService>>,
}

fn spec_of(object: &Object) -> Option<&Arc<vs::VirtualService>> {
    match &object.body {
        Body::VirtualService(spec) => Some(spec),
        _ => None,
    }
}

/// Who sees a VirtualService.
pub(crate) fn audience(export_to: &[String], own: &Arc<str>, config: &MeshConfig) -> Audience {
    Audience::new(export_to, &config.default_virtual_service_export_to, own)
}

/// The place of a VirtualService among others.
pub(crate) fn order_of(item: &VirtualService) -> Order {
    Order::new(
        item.created_us,
        item.key.name.clone(),
        &item.key.namespace,
        &item.key.name,
    )
}

/// A host, and the wildcards that cover it, longest first.
pub(crate) fn covering(host: &Hostname) -> Vec<String> {
    let mut names = vec![host.as_str().to_owned()];
    let mut rest = host.as_str().trim_start_matches("*.");
    while let Some((_, suffix)) = rest.split_once('.') {
        names.push(format!("*.{suffix}"));
        rest = suffix;
    }
    names.push("*".to_owned());
    names
}

/// The delegates that a root names.
fn delegates_of(object: &Object) -> BTreeSet<Key> {
    let Some(spec) = spec_of(object).filter(|spec| !spec.hosts.is_empty()) else {
        return BTreeSet::new();
    };
    spec.http
        .iter()
        .filter_map(|r| r.delegate.as_ref())
        .map(|d| delegate_key(d, &object.meta.key.namespace))
        .collect()
}

/// The object a delegate reference names.
pub(crate) fn delegate_key(delegate: &vs::Delegate, root_namespace: &Arc<str>) -> Key {
    let namespace = if delegate.namespace.is_empty() {
        root_namespace.clone()
    } else {
        delegate.namespace.as_str().into()
    };
    Key::new(Kind::VirtualService, namespace, delegate.name.as_str())
}

impl VirtualServiceIndex {
    /// The object as written.
    pub(crate) fn written(&self, key: &Key) -> Option<&Arc<Object>> {
        self.written.get(key)
    }

    /// Every object as written, roots and delegates.
    pub(crate) fn all_written(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.written.values()
    }

    /// Whether some root names it as a delegate.
    pub(crate) fn is_delegate(&self, key: &Key) -> bool {
        self.roots_of.contains_key(key)
    }

    /// VirtualServices that apply to a gateway (or `mesh`) and that a namespace sees: private to it, exported to it, public; each oldest
    /// first. Those made from Gateway API routes of the namespace itself come first in each list.
    pub(crate) fn visible(&self, gateway: &str, namespace: &str) -> Vec<Arc<VirtualService>> {
        let Some(pools) = self.by_gateway.get(gateway) else {
            return Vec::new();
        };
        if self.gateway_api == 0 {
            return pools.visible(namespace).cloned().collect();
        }
        let mut found = Vec::new();
        for list in pools.lists(namespace) {
            let own = |item: &&Arc<VirtualService>| {
                item.gateway_semantics && *item.key.namespace == *namespace
            };
            found.extend(list.clone().filter(own).cloned());
            found.extend(list.filter(|item| !own(item)).cloned());
        }
        found
    }

    /// The same of some VirtualServices, which may come in any order and more than once.
    pub(crate) fn visible_among<'a>(
        &self,
        candidates: impl Iterator<Item = &'a Arc<VirtualService>>,
        gateway: &str,
        namespace: &str,
        config: &MeshConfig,
    ) -> Vec<Arc<VirtualService>> {
        let mut found = BTreeMap::new();
        for item in candidates {
            let audience = audience(&item.spec.export_to, &item.key.namespace, config);
            if item.spec.gateways.iter().any(|name| name == gateway) && audience.has(namespace) {
                let own = *item.key.namespace == *namespace;
                let place = (
                    audience.pool(own),
                    !(own && item.gateway_semantics),
                    order_of(item),
                );
                found.insert(place, item.clone());
            }
        }
        found.into_values().collect()
    }

    /// VirtualServices that live in these namespaces.
    pub(crate) fn of_namespaces<'a>(
        &'a self,
        namespaces: impl Iterator<Item = &'a Arc<str>>,
    ) -> impl Iterator<Item = &'a Arc<VirtualService>> {
        namespaces.flat_map(|namespace| {
            let first = Key::new(Kind::VirtualService, namespace.clone(), "");
            self.all
                .range(first..)
                .take_while(move |(key, _)| key.namespace == *namespace)
                .map(|(_, item)| item)
        })
    }

    /// VirtualServices with one of these hosts, or a wildcard that covers one.
    pub(crate) fn naming<'a>(
        &'a self,
        hosts: impl Iterator<Item = &'a Hostname>,
    ) -> impl Iterator<Item = &'a Arc<VirtualService>> {
        hosts
            .flat_map(covering)
            .filter_map(|name| self.by_host.get(name.as_str()))
            .flatten()
            .filter_map(|key| self.all.get(key))
    }

    /// Replaces objects as written (`None` removes) and gives every root that is different afterwards, through its delegates too.
    pub(crate) fn apply(
        &mut self,
        changes: &BTreeMap<Key, Option<Arc<Object>>>,
        config: &MeshConfig,
        domain: &str,
    ) -> Vec<Changed> {
        let mut touched = BTreeSet::new();
        for (key, object) in changes {
            let before = self
                .written
                .get(key)
                .map(|o| delegates_of(o))
                .unwrap_or_default();
            let after = object.as_ref().map(|o| delegates_of(o)).unwrap_or_default();
            for gone in before.difference(&after) {
                if let Some(roots) = self.roots_of.get_mut(gone) {
                    roots.remove(key);
                    if roots.is_empty() {
                        self.roots_of.remove(gone);
                    }
                }
            }
            for come in after.difference(&before) {
                self.roots_of
                    .entry(come.clone())
                    .or_default()
                    .insert(key.clone());
            }
            match object {
                Some(object) => self.written.insert(key.clone(), object.clone()),
                None => self.written.remove(key),
            };
            touched.insert(key.clone());
            touched.extend(self.roots_of.get(key).into_iter().flatten().cloned());
        }
        touched
            .into_iter()
            .filter_map(|key| self.resolve_again(key, config, domain))
            .collect()
    }

    fn resolve_again(&mut self, key: Key, config: &MeshConfig, domain: &str) -> Option<Changed> {
        let after = self
            .written
            .get(&key)
            .and_then(|object| self.resolved(object, config, domain))
            .map(Arc::new);
        let before = self.all.get(&key).cloned();
        if before == after {
            return None;
        }
        if let Some(old) = &before {
            self.unlink(old, config);
        }
        if let Some(new) = &after {
            self.link(new, config);
        }
        Some(Changed { key, before, after })
    }

    /// A root with names completed and delegates merged; `None` for a delegate.
    fn resolved(
        &self,
        object: &Object,
        config: &MeshConfig,
        domain: &str,
    ) -> Option<VirtualService> {
        let written = spec_of(object).filter(|spec| !spec.hosts.is_empty())?;
        let namespace = &object.meta.key.namespace;
        let (mut spec, hosts) = resolve::resolve(written, namespace, domain);
        let mut versions = object.version.to_le_bytes().to_vec();
        if spec.http.iter().any(|route| route.delegate.is_some()) {
            let mut http = Vec::with_capacity(spec.http.len());
            for route in spec.http {
                let Some(reference) = &route.delegate else {
                    http.push(route);
                    continue;
                };
                let Some(delegate) =
                    self.delegate(&delegate_key(reference, namespace), namespace, config)
                else {
                    continue;
                };
                let Some(leaf) = spec_of(delegate) else {
                    continue;
                };
                versions.extend(delegate.version.to_le_bytes());
                let (leaf, _) = resolve::resolve(leaf, &delegate.meta.key.namespace, domain);
                http.extend(delegate::merge(&route, &leaf.http));
            }
            spec.http = http;
        }
        Some(VirtualService {
            key: object.meta.key.clone(),
            version: if versions.len() == 8 {
                object.version
            } else {
                version_of(&versions)
            },
            created_us: object.meta.created_us,
            hosts,
            gateway_semantics: object.meta.annotations.get(ROUTE_SEMANTICS) == Some("gateway"),
            spec: Arc::new(spec),
        })
    }

    /// A delegate that a root of some namespace may use: it exists, has no hosts of its own, and is exported there.
    pub(crate) fn delegate(
        &self,
        key: &Key,
        root_namespace: &str,
        config: &MeshConfig,
    ) -> Option<&Arc<Object>> {
        let object = self.written.get(key)?;
        let spec = spec_of(object)?;
        let usable = spec.hosts.is_empty()
            && audience(&spec.export_to, &key.namespace, config).has(root_namespace);
        usable.then_some(object)
    }

    fn link(&mut self, item: &Arc<VirtualService>, config: &MeshConfig) {
        let audience = audience(&item.spec.export_to, &item.key.namespace, config);
        for gateway in BTreeSet::from_iter(&item.spec.gateways) {
            let pools = self.by_gateway.entry(gateway.as_str().into()).or_default();
            pools.insert(&item.key.namespace, &audience, order_of(item), item.clone());
        }
        self.gateway_api += usize::from(item.gateway_semantics);
        for host in &item.hosts {
            self.by_host
                .entry(host.clone())
                .or_default()
                .insert(item.key.clone());
        }
        self.all.insert(item.key.clone(), item.clone());
    }

    fn unlink(&mut self, item: &Arc<VirtualService>, config: &MeshConfig) {
        let audience = audience(&item.spec.export_to, &item.key.namespace, config);
        for gateway in BTreeSet::from_iter(&item.spec.gateways) {
            if let Some(pools) = self.by_gateway.get_mut(gateway.as_str()) {
                pools.remove(&item.key.namespace, &audience, &order_of(item));
                if pools.is_empty() {
                    self.by_gateway.remove(gateway.as_str());
                }
            }
        }
        self.gateway_api -= usize::from(item.gateway_semantics);
        for host in &item.hosts {
            if let Some(keys) = self.by_host.get_mut(host) {
                keys.remove(&item.key);
                if keys.is_empty() {
                    self.by_host.remove(host);
                }
            }
        }
        self.all.remove(&item.key);
    }
}
