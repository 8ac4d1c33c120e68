//! DestinationRules in the pools that decide which one a client uses (XDS-TRAFFIC 7.4).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use mesh_config::resource::destination_rule as dr;
use mesh_config::resource::mesh::MeshConfig;
use mesh_config::{Body, Object};
use mesh_types::{Hostname, Labels, Selector, version_of};

use crate::order::{Audience, Order};
use crate::{DestinationRule, Service};

/// One rule of a pool, possibly merged from several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) rule: Arc<DestinationRule>,
    audience: Audience,
    selector: Selector,
}

/// Rules by host: plain hosts and wildcards apart.
#[derive(Debug, Clone, Default)]
struct Pool {
    plain: OrdMap<Hostname, Arc<[Entry]>>,
    wild: OrdMap<Hostname, Arc<[Entry]>>,
}

impl Pool {
    fn set(&mut self, host: &Hostname, entries: Vec<Entry>) {
        let part = if host.is_wildcard() {
            &mut self.wild
        } else {
            &mut self.plain
        };
        if entries.is_empty() {
            part.remove(host);
        } else {
            part.insert(host.clone(), entries.into());
        }
    }

    /// The entries of the most specific rule host that covers a host.
    fn find(&self, host: &Hostname) -> Option<&Arc<[Entry]>> {
        if let Some(entries) = self.plain.get(host) {
            return Some(entries);
        }
        if self.wild.is_empty() {
            return None;
        }
        if let Some(entries) = self.wild.get(host) {
            return Some(entries);
        }
        let mut rest = host.as_str().trim_start_matches("*.");
        let mut pattern = String::with_capacity(rest.len() + 2);
        while let Some((_, suffix)) = rest.split_once('.') {
            pattern.clear();
            pattern.push_str("*.");
            pattern.push_str(suffix);
            if let Some(entries) = self.wild.get(pattern.as_str()) {
                return Some(entries);
            }
            rest = suffix;
        }
        self.wild.get("*")
    }

    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.wild.is_empty()
    }
}

/// The pools of one namespace.
#[derive(Debug, Clone, Default)]
struct NamespacePools {
    /// Rules that proxies of the namespace itself use.
    local: Pool,
    /// Rules that others may use.
    exported: Pool,
    /// Rules for nobody else; used by proxies of the root namespace.
    private: Pool,
}

/// DestinationRules of the mesh.
#[derive(Debug, Clone, Default)]
pub(crate) struct DestinationRuleIndex {
    /// As written, by namespace and resolved host.
    written: OrdMap<(Arc<str>, Hostname), OrdMap<RuleOrder, Arc<Object>>>,
    pools: OrdMap<Arc<str>, NamespacePools>,
}

/// Rules with a workload selector first, then the usual order.
type RuleOrder = (bool, Order);

fn spec_of(object: &Object) -> Option<&Arc<dr::DestinationRule>> {
    match &object.body {
        Body::DestinationRule(spec) => Some(spec),
        _ => None,
    }
}

/// The host of a rule, completed; `None` if it is no host.
pub(crate) fn host_of(object: &Object, domain: &str) -> Option<Hostname> {
    Hostname::resolve(&spec_of(object)?.host, &object.meta.key.namespace, domain).ok()
}

pub(crate) fn selector_of(spec: &dr::DestinationRule) -> Selector {
    spec.workload_selector
        .as_ref()
        .map(|s| Selector(labels(&s.match_labels)))
        .unwrap_or_default()
}

pub(crate) fn labels(map: &BTreeMap<String, String>) -> Labels {
    map.iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}

fn rule_order(object: &Object) -> RuleOrder {
    let selects = spec_of(object).is_some_and(|spec| spec.workload_selector.is_some());
    (!selects, Order::of(&object.meta))
}

impl DestinationRuleIndex {
    /// Adds or removes one object as written. Its host must be merged again afterwards.
    pub(crate) fn write(
        &mut self,
        object: &Arc<Object>,
        add: bool,
        domain: &str,
    ) -> Option<(Arc<str>, Hostname)> {
        let at = (object.meta.key.namespace.clone(), host_of(object, domain)?);
        let rules = self.written.entry(at.clone()).or_default();
        if add {
            rules.insert(rule_order(object), object.clone());
        } else {
            rules.remove(&rule_order(object));
            if rules.is_empty() {
                self.written.remove(&at);
            }
        }
        Some(at)
    }

    /// Merges the rules of one namespace and host again.
    pub(crate) fn merge(&mut self, at: &(Arc<str>, Hostname), config: &MeshConfig) {
        let (namespace, host) = at;
        let (mut local, mut exported, mut private) = (Vec::new(), Vec::new(), Vec::new());
        for object in self.written.get(at).into_iter().flat_map(OrdMap::values) {
            let Some(spec) = spec_of(object) else {
                continue;
            };
            let entry = entry(object, spec, host, config);
            if entry.audience.has(namespace) {
                add(&mut local, &entry);
            }
            let own_only = Audience::Namespaces(BTreeSet::from([namespace.clone()]));
            if entry.audience != own_only {
                add(&mut exported, &entry);
            } else {
                add(&mut private, &entry);
            }
        }
        let pools = self.pools.entry(namespace.clone()).or_default();
        pools.local.set(host, local);
        pools.exported.set(host, exported);
        pools.private.set(host, private);
        if pools.local.is_empty() && pools.exported.is_empty() && pools.private.is_empty() {
            self.pools.remove(namespace);
        }
    }

    /// The rules that proxies of a namespace may use for a service; empty if none. Ask [`select`] which one.
    pub(crate) fn find(&self, namespace: &str, root: &str, service: &Service) -> Vec<&Entry> {
        let host = &service.hostname;
        if let Some(pools) = self.pools.get(namespace) {
            let own = if namespace == root {
                &pools.private
            } else {
                &pools.local
            };
            if let Some(entries) = own.find(host) {
                return entries.iter().collect();
            }
        }
        let exporters = [&*service.key.namespace, root];
        for exporter in if exporters[0] == root {
            &exporters[..1]
        } else {
            &exporters[..]
        } {
            let Some(entries) = self
                .pools
                .get(*exporter)
                .and_then(|pools| pools.exported.find(host))
            else {
                continue;
            };
            let seen: Vec<_> = entries
                .iter()
                .filter(|entry| entry.audience.has(namespace))
                .collect();
            if !seen.is_empty() {
                return seen;
            }
        }
        Vec::new()
    }

    /// Whether there is no rule at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    /// Every rule as written that names a host in a namespace, in merge order.
    pub(crate) fn groups(
        &self,
    ) -> impl Iterator<Item = (&(Arc<str>, Hostname), impl Iterator<Item = &Arc<Object>>)> {
        self.written
            .iter()
            .map(|(at, rules)| (at, rules.iter().map(|(_, object)| object)))
    }
}

/// The rule for a proxy: with labels, the first whose selector they satisfy and that lives in the proxy's namespace; else the first without.
pub(crate) fn select(
    entries: &[&Entry],
    namespace: &str,
    proxy: Option<&Labels>,
) -> Option<Arc<DestinationRule>> {
    let selected = proxy.and_then(|labels| {
        entries.iter().find(|entry| {
            !entry.selector.is_empty()
                && *entry.rule.key.namespace == *namespace
                && entry.selector.matches(labels)
        })
    });
    selected
        .or_else(|| entries.iter().find(|entry| entry.selector.is_empty()))
        .map(|entry| entry.rule.clone())
}

/// Who uses a rule: one for certain workloads is for its own namespace alone.
pub(crate) fn audience_of(
    object: &Object,
    spec: &dr::DestinationRule,
    config: &MeshConfig,
) -> Audience {
    let namespace = &object.meta.key.namespace;
    if spec.workload_selector.is_some() {
        Audience::Namespaces(BTreeSet::from([namespace.clone()]))
    } else {
        Audience::new(
            &spec.export_to,
            &config.default_destination_rule_export_to,
            namespace,
        )
    }
}

fn entry(
    object: &Object,
    spec: &Arc<dr::DestinationRule>,
    host: &Hostname,
    config: &MeshConfig,
) -> Entry {
    let audience = audience_of(object, spec, config);
    let mut resolved = dr::DestinationRule::clone(spec);
    resolved.host = host.as_str().to_owned();
    drop_duplicate_subsets(&mut resolved);
    let rule = DestinationRule {
        key: object.meta.key.clone(),
        version: object.version,
        host: host.clone(),
        sources: vec![object.meta.key.clone()],
        spec: Arc::new(resolved),
    };
    Entry {
        rule: Arc::new(rule),
        audience,
        selector: selector_of(spec),
    }
}

/// Of subsets with one name the first stays.
fn drop_duplicate_subsets(spec: &mut dr::DestinationRule) {
    let mut names = BTreeSet::new();
    spec.subsets
        .retain(|subset| names.insert(subset.name.clone()));
}

/// Adds a rule to those of the same host. It merges into those with the same selector whose audience it covers; where its own audience is
/// wider, it also stands alone for the others.
fn add(entries: &mut Vec<Entry>, new: &Entry) {
    let mut alone = true;
    for old in entries.iter_mut() {
        if old.selector != new.selector || !new.audience.contains(&old.audience) {
            continue;
        }
        old.rule = Arc::new(merged(&old.rule, &new.rule));
        alone &= old.audience != new.audience;
    }
    if alone {
        entries.push(new.clone());
    }
}

/// Two rules as one: subsets of both (the older wins a name), the first traffic policy there is.
fn merged(old: &DestinationRule, new: &DestinationRule) -> DestinationRule {
    let mut spec = dr::DestinationRule::clone(&old.spec);
    spec.subsets.extend(new.spec.subsets.iter().cloned());
    drop_duplicate_subsets(&mut spec);
    if spec.traffic_policy.is_none() {
        spec.traffic_policy = new.spec.traffic_policy.clone();
    }
    let versions = [old.version.to_le_bytes(), new.version.to_le_bytes()].concat();
    DestinationRule {
        key: old.key.clone(),
        version: version_of(&versions),
        host: old.host.clone(),
        sources: old.sources.iter().chain(&new.sources).cloned().collect(),
        spec: Arc::new(spec),
    }
}
