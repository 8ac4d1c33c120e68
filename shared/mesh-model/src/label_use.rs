//! Which labels of proxies the mesh's configuration reads: proxies that differ in other labels only share a view.

use std::sync::Arc;

use imbl::OrdMap;
use mesh_config::resource::mesh::MeshConfig;
use mesh_config::{Body, Object};
use mesh_types::{Labels, Selector};

use crate::destination_rules;
use crate::security::peer;
use crate::{ProxyKind, policies, sidecars};

/// Who a label matters to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Everyone,
    Routers,
    Namespace(Arc<str>),
}

/// How often a label is read, counted so that it can be taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Use {
    /// Whatever its value.
    any: usize,
    /// Compared with a value.
    values: OrdMap<Arc<str>, usize>,
}

/// Labels that the mesh reads, by whom they matter to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LabelUse {
    by_scope: OrdMap<Scope, OrdMap<Arc<str>, Use>>,
}

/// One label that an object reads: compared with a value, or whatever it is.
type Read = (Scope, Arc<str>, Option<Arc<str>>);

fn pairs(scope: Scope, selector: &Selector) -> impl Iterator<Item = Read> {
    selector
        .0
        .0
        .iter()
        .map(move |(key, value)| (scope.clone(), key.clone(), Some(value.clone())))
}

/// Every label of proxies that an object reads; `root` is the namespace whose policies are for all.
fn reads(object: &Object, root: &str) -> Vec<Read> {
    let own = || Scope::Namespace(object.meta.key.namespace.clone());
    let whole = |label: &String| {
        let key = label.split_once('=').map_or(label.as_str(), |(key, _)| key);
        (Scope::Everyone, Arc::from(key), None)
    };
    let attached = |attachment: policies::Attachment| {
        let scope = match &*object.meta.key.namespace == root {
            true => Scope::Everyone,
            false => own(),
        };
        let pairs = attachment.pairs().into_iter();
        pairs
            .map(|(key, value)| (scope.clone(), key, Some(value)))
            .collect()
    };
    match &object.body {
        Body::AuthorizationPolicy(spec) => attached(policies::of_authorization(spec)),
        Body::RequestAuthentication(spec) => attached(policies::of_tokens(spec)),
        Body::Sidecar(spec) => pairs(own(), &sidecars::selector_of(spec)).collect(),
        Body::Gateway(spec) => pairs(
            Scope::Routers,
            &Selector(destination_rules::labels(&spec.selector)),
        )
        .collect(),
        Body::DestinationRule(spec) => {
            let policies = spec.traffic_policy.iter().chain(
                spec.subsets
                    .iter()
                    .filter_map(|s| s.traffic_policy.as_ref()),
            );
            let balancers = policies.flat_map(|p| {
                p.load_balancer.iter().chain(
                    p.port_level_settings
                        .iter()
                        .filter_map(|s| s.load_balancer.as_ref()),
                )
            });
            let priorities = balancers
                .filter_map(|lb| lb.locality_lb_setting.as_ref())
                .flat_map(|s| &s.failover_priority);
            pairs(own(), &destination_rules::selector_of(spec))
                .chain(priorities.map(whole))
                .collect()
        }
        Body::VirtualService(spec) => {
            let http = spec
                .http
                .iter()
                .flat_map(|r| &r.matches)
                .map(|m| &m.source_labels);
            let tls = spec
                .tls
                .iter()
                .flat_map(|r| &r.matches)
                .map(|m| &m.source_labels);
            let tcp = spec
                .tcp
                .iter()
                .flat_map(|r| &r.matches)
                .map(|m| &m.source_labels);
            let compared = http.chain(tls).chain(tcp).flatten();
            compared
                .map(|(key, value)| {
                    (
                        Scope::Everyone,
                        key.as_str().into(),
                        Some(value.as_str().into()),
                    )
                })
                .collect()
        }
        Body::PeerAuthentication(spec) => pairs(own(), &peer::selector_of(spec)).collect(),
        Body::MeshConfig(config) => of_config(config).iter().map(whole).collect(),
        _ => Vec::new(),
    }
}

fn of_config(config: &MeshConfig) -> &[String] {
    config
        .locality_lb_setting
        .as_ref()
        .map(|s| s.failover_priority.as_slice())
        .unwrap_or_default()
}

impl LabelUse {
    /// Counts an object in. Whether labels are read now that were not before.
    pub(crate) fn add(&mut self, object: &Object, root: &str) -> bool {
        let mut new = false;
        for (scope, key, value) in reads(object, root) {
            let used = self
                .by_scope
                .entry(scope)
                .or_default()
                .entry(key)
                .or_default();
            let count = match value {
                Some(value) => used.values.entry(value).or_insert(0),
                None => &mut used.any,
            };
            *count += 1;
            new |= *count == 1;
        }
        new
    }

    /// Counts an object out. Whether labels are no longer read.
    pub(crate) fn remove(&mut self, object: &Object, root: &str) -> bool {
        let mut gone = false;
        for (scope, key, value) in reads(object, root) {
            let Some(keys) = self.by_scope.get_mut(&scope) else {
                continue;
            };
            let Some(used) = keys.get_mut(&key) else {
                continue;
            };
            match &value {
                Some(value) => {
                    if let Some(count) = used.values.get_mut(value) {
                        *count -= 1;
                        if *count == 0 {
                            used.values.remove(value);
                            gone = true;
                        }
                    }
                }
                None => {
                    used.any -= 1;
                    gone |= used.any == 0;
                }
            }
            if used.any == 0 && used.values.is_empty() {
                keys.remove(&key);
            }
            if keys.is_empty() {
                self.by_scope.remove(&scope);
            }
        }
        gone
    }

    /// The labels of a proxy that matter.
    pub(crate) fn restrict(
        &self,
        kind: ProxyKind,
        namespace: &Arc<str>,
        labels: &Labels,
    ) -> Labels {
        let scopes = [
            Scope::Everyone,
            Scope::Namespace(namespace.clone()),
            Scope::Routers,
        ];
        let scopes = match kind {
            ProxyKind::Sidecar => &scopes[..2],
            ProxyKind::Router => &scopes[..],
        };
        let maps: Vec<_> = scopes
            .iter()
            .filter_map(|scope| self.by_scope.get(scope))
            .collect();
        let matters = |key: &Arc<str>, value: &Arc<str>| {
            maps.iter()
                .filter_map(|keys| keys.get(key))
                .any(|used| used.any > 0 || used.values.contains_key(value))
        };
        if maps.is_empty() {
            return Labels::default();
        }
        labels
            .0
            .iter()
            .filter(|(key, value)| matters(key, value))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }
}
