//! Policies of requests, by the workloads they are for: AuthorizationPolicy, RequestAuthentication, and the facts that they need
//! (SECURITY-INJECTION D.1, E.2).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use mesh_config::resource::MatchingSelector;
use mesh_config::resource::authorization_policy as ap;
use mesh_config::resource::authorization_policy::Action;
use mesh_config::resource::normal::JwksSource;
use mesh_config::resource::request_authentication as ra;
use mesh_config::resource::request_authentication::PolicyTargetReference;
use mesh_config::{Meta, Object};
use mesh_types::{Hostname, Key, Kind, Labels, Selector};

use crate::destination_rules::labels;
use crate::order::Order;
use crate::{AuthorizationPolicy, Delta, Mesh, RequestAuthentication, Service, ViewKey};

/// Label of a gateway's pods that names their Gateway of the Gateway API.
pub(crate) const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// Annotation that makes a policy count and do nothing else.
const DRY_RUN: &str = "istio.io/dry-run";

/// What decides about requests to the workloads of one view. Everything is shared, not copied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Policies {
    /// AuthorizationPolicies that apply: those of the root namespace, then those of the workload's own, each oldest first.
    pub authorization: Arc<[Arc<AuthorizationPolicy>]>,
    /// RequestAuthentications that apply, in the same order.
    pub tokens: Arc<[Arc<RequestAuthentication>]>,
    /// Keys that were fetched for rules in `tokens`. Of a source that is not here nothing is known: its tokens are refused.
    pub keys: Arc<BTreeMap<JwksSource, Arc<str>>>,
    /// Where the authorizers are that CUSTOM policies name, by name: only those whose service is in scope and has the port.
    pub authorizers: Arc<BTreeMap<Arc<str>, (Hostname, u16)>>,
    /// SPIFFE IDs that are refused before anything else, sorted.
    pub denied: Arc<[Arc<str>]>,
    /// What the operators of the plane chose.
    pub settings: PolicySettings,
}

/// What the operators of the plane chose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PolicySettings {
    /// Whether CUSTOM policies of one workload may name several authorizers; otherwise what they are for is refused.
    /// Default false, as in Istio.
    pub several_authorizers: bool,
}

/// Which workloads a policy is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Attachment {
    /// Those with these labels, of its namespace; of every namespace if it stands in the root namespace.
    Workloads(Selector),
    /// Those of these Gateways of the Gateway API, in its own namespace.
    Gateways(Vec<Arc<str>>),
}

impl Attachment {
    fn of(
        selector: Option<&MatchingSelector>,
        target: Option<&PolicyTargetReference>,
        targets: &[PolicyTargetReference],
    ) -> Attachment {
        if target.is_none() && targets.is_empty() {
            let labels = selector.map(|s| labels(&s.match_labels));
            return Attachment::Workloads(Selector(labels.unwrap_or_default()));
        }
        let gateways = target
            .into_iter()
            .chain(targets)
            .filter(|t| t.kind == "Gateway" && t.group == "gateway.networking.k8s.io");
        Attachment::Gateways(gateways.map(|t| t.name.as_str().into()).collect())
    }

    /// Whether workloads with these labels are meant; `own` says whether they are in the policy's namespace.
    fn includes(&self, own: bool, workload: &Labels) -> bool {
        match self {
            Attachment::Workloads(selector) => selector.matches(workload),
            Attachment::Gateways(names) => {
                let gateway = workload.get(GATEWAY_NAME);
                own && gateway.is_some_and(|gateway| names.iter().any(|name| **name == *gateway))
            }
        }
    }

    /// Labels that it compares, and with what.
    pub(crate) fn pairs(&self) -> Vec<(Arc<str>, Arc<str>)> {
        match self {
            Attachment::Workloads(selector) => {
                let pairs = selector.0.0.iter();
                pairs.map(|(k, v)| (k.clone(), v.clone())).collect()
            }
            Attachment::Gateways(names) => {
                let pairs = names.iter().map(|name| (GATEWAY_NAME.into(), name.clone()));
                pairs.collect()
            }
        }
    }
}

/// Which workloads an AuthorizationPolicy is for.
pub(crate) fn of_authorization(spec: &ap::AuthorizationPolicy) -> Attachment {
    Attachment::of(
        spec.selector.as_ref(),
        spec.target_ref.as_ref(),
        &spec.target_refs,
    )
}

/// Which workloads a RequestAuthentication is for.
pub(crate) fn of_tokens(spec: &ra::RequestAuthentication) -> Attachment {
    Attachment::of(
        spec.selector.as_ref(),
        spec.target_ref.as_ref(),
        &spec.target_refs,
    )
}

/// Whether a policy is only tried, not enforced. A value that is neither yes nor no counts as no: the policy is enforced.
fn is_dry_run(meta: &Meta) -> bool {
    let value = meta.annotations.get(DRY_RUN);
    value.is_some_and(|value| matches!(value, "1" | "t" | "T" | "TRUE" | "true" | "True"))
}

/// Policies of one kind, by namespace, oldest first.
#[derive(Debug, Clone)]
struct ByNamespace<T>(OrdMap<Arc<str>, OrdMap<Order, Arc<T>>>);

impl<T> Default for ByNamespace<T> {
    fn default() -> Self {
        ByNamespace(OrdMap::new())
    }
}

impl<T> ByNamespace<T> {
    fn insert(&mut self, meta: &Meta, policy: T) {
        let namespace = meta.key.namespace.clone();
        let known = self.0.entry(namespace).or_default();
        known.insert(Order::of(meta), Arc::new(policy));
    }

    fn remove(&mut self, meta: &Meta) {
        if let Some(known) = self.0.get_mut(&meta.key.namespace) {
            known.remove(&Order::of(meta));
            if known.is_empty() {
                self.0.remove(&meta.key.namespace);
            }
        }
    }

    /// Those that apply to workloads of a class: of the root namespace, then of their own.
    fn of(
        &self,
        root: &str,
        key: &ViewKey,
        attachment: impl Fn(&T) -> &Attachment,
    ) -> Arc<[Arc<T>]> {
        let (own, mut out) = (&*key.namespace, Vec::new());
        let root = Some(root).filter(|root| *root != own);
        for (namespace, is_own) in root.map(|r| (r, false)).into_iter().chain([(own, true)]) {
            let known = self.0.get(namespace).into_iter().flat_map(OrdMap::values);
            out.extend(
                known
                    .filter(|policy| attachment(policy).includes(is_own, &key.labels))
                    .cloned(),
            );
        }
        out.into()
    }
}

/// Policies of the mesh, and what they need.
#[derive(Debug, Clone, Default)]
pub(crate) struct PolicyIndex {
    authorization: ByNamespace<AuthorizationPolicy>,
    tokens: ByNamespace<RequestAuthentication>,
    keys: OrdMap<JwksSource, Arc<str>>,
    denied: Arc<[Arc<str>]>,
    pub(crate) settings: PolicySettings,
}

impl PolicyIndex {
    /// Puts an object in its place, or takes it out.
    pub(crate) fn write(&mut self, object: &Object, there: bool, delta: &mut Delta) {
        use mesh_config::Body;
        let meta = &object.meta;
        match &object.body {
            Body::AuthorizationPolicy(_) if !there => self.authorization.remove(meta),
            Body::AuthorizationPolicy(spec) => self.authorization.insert(
                meta,
                AuthorizationPolicy {
                    key: meta.key.clone(),
                    version: object.version,
                    attachment: of_authorization(spec),
                    dry_run: is_dry_run(meta),
                    spec: spec.clone(),
                },
            ),
            Body::RequestAuthentication(_) if !there => self.tokens.remove(meta),
            Body::RequestAuthentication(spec) => self.tokens.insert(
                meta,
                RequestAuthentication {
                    key: meta.key.clone(),
                    version: object.version,
                    attachment: of_tokens(spec),
                    spec: spec.clone(),
                },
            ),
            Body::MeshJwks(jwks) => {
                match jwks.keys.as_ref().filter(|_| there) {
                    Some(keys) => self.keys.insert(jwks.source.clone(), keys.clone()),
                    None => self.keys.remove(&jwks.source),
                };
            }
            Body::MeshTrust(trust) => {
                let denied: BTreeSet<_> = trust.denied.iter().filter(|_| there).collect();
                self.denied = denied.into_iter().cloned().collect();
                delta.denied = true;
                return;
            }
            _ => return,
        }
        delta.policies.insert(meta.key.clone());
    }

    /// Every AuthorizationPolicy, by namespace, oldest first.
    pub(crate) fn authorization(&self) -> impl Iterator<Item = &Arc<AuthorizationPolicy>> {
        self.authorization.0.values().flat_map(OrdMap::values)
    }

    /// Sources of keys that some RequestAuthentication of the mesh needs.
    pub(crate) fn wanted_keys(&self) -> BTreeSet<JwksSource> {
        let all = self.tokens.0.values().flat_map(OrdMap::values);
        all.flat_map(|policy| &policy.spec.jwt_rules)
            .filter_map(ra::JwtRule::jwks_source)
            .collect()
    }
}

/// What decides about requests to the workloads of a class, whose clusters are those of `services`.
pub(crate) fn of(
    mesh: &Mesh,
    key: &ViewKey,
    services: &BTreeMap<Hostname, Arc<Service>>,
) -> Policies {
    let index = &mesh.policies;
    let authorization = index.authorization.of(mesh.root(), key, |p| &p.attachment);
    let tokens = index.tokens.of(mesh.root(), key, |p| &p.attachment);
    let sources = tokens
        .iter()
        .flat_map(|policy| &policy.spec.jwt_rules)
        .filter_map(ra::JwtRule::jwks_source);
    let keys: BTreeMap<_, _> = sources
        .filter_map(|source| Some((source.clone(), index.keys.get(&source)?.clone())))
        .collect();
    let mut authorizers = BTreeMap::new();
    for name in authorizer_names(&authorization) {
        if let Some(place) = authorizer(mesh, name, services) {
            authorizers.insert(name.into(), place);
        }
    }
    Policies {
        authorization,
        tokens,
        keys: Arc::new(keys),
        authorizers: Arc::new(authorizers),
        denied: index.denied.clone(),
        settings: index.settings,
    }
}

/// Names of the authorizers that policies leave the decision to.
fn authorizer_names(policies: &[Arc<AuthorizationPolicy>]) -> BTreeSet<&str> {
    let custom = policies.iter().filter(|p| p.spec.action == Action::Custom);
    custom
        .filter_map(|p| p.spec.provider.as_ref())
        .map(|provider| provider.name.as_str())
        .collect()
}

/// Where an authorizer is, if its service is in scope and has the port.
fn authorizer(
    mesh: &Mesh,
    name: &str,
    services: &BTreeMap<Hostname, Arc<Service>>,
) -> Option<(Hostname, u16)> {
    let provider = mesh.config.ext_authz(name)?;
    let (service, port) = provider.place();
    let (namespace, host) = match service.split_once('/') {
        Some((namespace, host)) => (Some(namespace), host),
        None => (None, service),
    };
    let found = services.get(host)?;
    let same = namespace.is_none_or(|namespace| *found.key.namespace == *namespace);
    let port = found
        .ports
        .iter()
        .map(|p| p.number)
        .find(|n| u32::from(*n) == port)?;
    same.then(|| (found.hostname.clone(), port))
}

/// Whether a change may reach the policies of a view: those of its namespace and of the root namespace, keys, authorizers.
pub(crate) fn touched(
    mesh: &Mesh,
    view: &crate::View,
    delta: &Delta,
    touch: &crate::Touch,
) -> bool {
    let near = |key: &Key| {
        key.kind == Kind::MeshJwks
            || key.namespace == view.key.namespace
            || *key.namespace == *mesh.root()
    };
    let known = &view.policies;
    if (delta.denied || delta.policies.iter().any(near))
        && of(mesh, &view.key, &view.services) != **known
    {
        return true;
    }
    // Whether authorizers can be asked depends on the services in scope, which rules bring in besides a Sidecar's own.
    let scope = !touch.services.is_empty()
        || (view.sidecar.is_some() && !touch.virtual_services.is_empty());
    scope && !authorizer_names(&known.authorization).is_empty()
}
