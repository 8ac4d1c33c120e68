//! The routes of one VirtualService on one port (XDS-TRAFFIC 6.4, 6.6), or of a service without any (6.9).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use envoy_api::any;
use envoy_api::envoy::config::core::v3::Metadata;
use envoy_api::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_api::envoy::config::route::v3::{Decorator, Route, route};
use mesh_config::resource::Duration;
use mesh_config::resource::virtual_service::{HttpMatchRequest, HttpRoute};
use mesh_model::{DestinationRule, View, VirtualService};
use mesh_types::{Hostname, Labels};

use super::facts::Facts;
use super::headers::Changes;
use super::target::{self, Target};
use super::{action, cors, fault, hash, matching, redirect, retry, wire};
use crate::naming::ClusterName;
use crate::proto;

/// Filters that a route configures.
const FAULT: &str = "envoy.filters.http.fault";
const CORS: &str = "envoy.filters.http.cors";

/// Everything that a list of routes is made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Input {
    /// The rules of a VirtualService.
    Rules(Rules),
    /// A service that no VirtualService speaks for.
    Service {
        host: Hostname,
        port: u16,
        /// Its rule, if it balances by hash.
        rule: Option<Arc<DestinationRule>>,
        facts: Arc<Facts>,
    },
}

/// The rules of a VirtualService, and where they are applied.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Rules {
    vs: Arc<VirtualService>,
    place: Place,
    /// The proxy's labels, if some condition reads them.
    labels: Labels,
    /// The proxy's namespace, if some condition reads it.
    namespace: Option<Arc<str>>,
    /// Every destination, rule by rule.
    targets: Vec<Target>,
    facts: Arc<Facts>,
}

/// Where rules are applied.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// `mesh`, or the gateway as `namespace/name`.
    pub(super) gateway: Arc<str>,
    /// Port that clients dial, or the number of a gateway's server.
    pub(super) port: u16,
    /// Whether clients speak TLS.
    pub(super) tls: bool,
}

/// Encoded routes: entries of a virtual host's `routes`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Routes {
    /// Those that take some requests only.
    pub(super) specific: Bytes,
    /// The one that takes the rest, if there is one.
    pub(super) catch_all: Bytes,
}

impl Routes {
    /// Whether there is no route at all.
    pub(super) fn is_empty(&self) -> bool {
        self.specific.is_empty() && self.catch_all.is_empty()
    }
}

impl Input {
    /// The rules of a VirtualService for a class.
    pub(super) fn rules(
        view: &View,
        vs: &Arc<VirtualService>,
        place: Place,
        facts: &Arc<Facts>,
    ) -> Input {
        let matches = || vs.spec.http.iter().flat_map(|http| &http.matches);
        let destinations = vs.spec.http.iter().flat_map(target::destinations);
        Input::Rules(Rules {
            labels: match matches().any(|m| !m.source_labels.is_empty()) {
                true => view.key.labels.clone(),
                false => Labels::default(),
            },
            namespace: matches()
                .any(|m| !m.source_namespace.is_empty())
                .then(|| view.key.namespace.clone()),
            targets: destinations
                .map(|d| Target::of(view, d, place.port))
                .collect(),
            facts: facts.clone(),
            vs: vs.clone(),
            place,
        })
    }

    /// The routes.
    pub(super) fn routes(&self) -> Routes {
        match self {
            Input::Rules(rules) => rules.routes(),
            Input::Service {
                host,
                port,
                rule,
                facts,
            } => Routes {
                catch_all: encoded(&[whole_service(host, *port, rule.as_deref(), facts)]),
                ..Routes::default()
            },
        }
    }
}

impl Rules {
    fn routes(&self) -> Routes {
        let mut out = Vec::new();
        let mut targets = &self.targets[..];
        for http in &self.vs.spec.http {
            let count = target::destinations(http).count();
            let (own, rest) = targets.split_at(count.min(targets.len()));
            targets = rest;
            let conditions = http.matches.iter().map(Some);
            let always = http.matches.is_empty().then_some(None);
            for condition in conditions.chain(always) {
                if !condition.is_none_or(|m| self.applies(m)) {
                    continue;
                }
                let Some(route) = self.route(http, condition, own) else {
                    continue;
                };
                let last = route.r#match.as_ref().is_some_and(matching::is_catch_all);
                if last {
                    return Routes {
                        specific: encoded(&out),
                        catch_all: encoded(&[route]),
                    };
                }
                out.push(route);
            }
            if http.matches.is_empty() {
                break;
            }
        }
        Routes {
            specific: encoded(&out),
            catch_all: Bytes::new(),
        }
    }

    /// Whether a condition can hold for requests of these proxies, here.
    fn applies(&self, m: &HttpMatchRequest) -> bool {
        if m.port != 0 && m.port != u32::from(self.place.port) {
            return false;
        }
        if !m.gateways.is_empty() {
            return m
                .gateways
                .iter()
                .any(|gateway| **gateway == *self.place.gateway);
        }
        let labels = m
            .source_labels
            .iter()
            .all(|(key, value)| self.labels.get(key) == Some(value));
        labels
            && (m.source_namespace.is_empty()
                || self.namespace.as_deref() == Some(&m.source_namespace))
    }

    /// One route; `None` if Envoy could do nothing with it.
    fn route(
        &self,
        http: &HttpRoute,
        condition: Option<&HttpMatchRequest>,
        targets: &[Target],
    ) -> Option<Route> {
        let gateway_semantics = self.vs.gateway_semantics;
        let matched = matching::route_match(condition, gateway_semantics);
        let mut to = None;
        let (action, changes) = if let Some(given) = &http.redirect {
            let redirect = redirect::redirect(given, self.place.port, self.place.tls)?;
            (
                route::Action::Redirect(redirect),
                Changes::of(http.headers.as_ref()),
            )
        } else if let Some(given) = &http.direct_response {
            let answer = redirect::direct_response(given);
            (
                route::Action::DirectResponse(answer),
                Changes::of(http.headers.as_ref()),
            )
        } else {
            let (forward, changes) =
                action::forward(http, targets, &self.facts, &matched, gateway_semantics)?;
            if matches!(
                forward.cluster_specifier,
                Some(ClusterSpecifier::Cluster(_))
            ) {
                to = targets.first().and_then(Target::authority);
            }
            (route::Action::Route(forward), changes)
        };
        let to = to.unwrap_or_else(|| format!("{}:{}", self.vs.key.name, self.place.port));
        let mut filters = BTreeMap::new();
        if let Some(fault) = http.fault.as_ref().and_then(fault::fault) {
            filters.insert(FAULT.to_owned(), any::pack(&fault));
        }
        if let Some(given) = &http.cors_policy {
            filters.insert(CORS.to_owned(), any::pack(&cors::policy(given)));
        }
        Some(Route {
            name: match condition.map_or("", |m| &m.name) {
                "" => http.name.clone(),
                name => format!("{}.{name}", http.name),
            },
            decorator: Some(Decorator {
                operation: to + &matching::path_text(&matched),
                ..Decorator::default()
            }),
            r#match: Some(matched),
            metadata: Some(self.metadata()),
            typed_per_filter_config: filters,
            request_headers_to_add: changes.request_add,
            request_headers_to_remove: changes.request_remove,
            response_headers_to_add: changes.response_add,
            response_headers_to_remove: changes.response_remove,
            stat_prefix: condition.map(|m| m.stat_prefix.clone()).unwrap_or_default(),
            action: Some(action),
            ..Route::default()
        })
    }

    /// Which object the route comes from.
    fn metadata(&self) -> Metadata {
        let (namespace, name) = (&self.vs.key.namespace, &self.vs.key.name);
        let path =
            format!("/apis/networking.istio.io/v1/namespaces/{namespace}/virtual-service/{name}");
        Metadata {
            filter_metadata: [(
                "istio".to_owned(),
                proto::object([("config", proto::text(path))]),
            )]
            .into(),
            ..Metadata::default()
        }
    }
}

/// Everything to a service.
fn whole_service(
    host: &Hostname,
    port: u16,
    rule: Option<&DestinationRule>,
    facts: &Facts,
) -> Route {
    let mut forward = action::basic(Duration::ZERO);
    let cluster = ClusterName::outbound(port, "", host.as_str()).to_string();
    forward.cluster_specifier = Some(ClusterSpecifier::Cluster(cluster));
    forward.hash_policy = rule
        .and_then(|rule| hash::policy(rule, "", Some(port)))
        .into_iter()
        .collect();
    forward.retry_policy = retry::policy(facts.retry.as_ref(), !forward.hash_policy.is_empty());
    let matched = matching::route_match(None, false);
    Route {
        name: "default".to_owned(),
        decorator: Some(Decorator {
            operation: format!("{host}:{port}/*"),
            ..Decorator::default()
        }),
        r#match: Some(matched),
        action: Some(route::Action::Route(forward)),
        ..Route::default()
    }
}

pub(super) fn encoded(routes: &[Route]) -> Bytes {
    let mut out = BytesMut::new();
    for route in routes {
        wire::put_route(route, &mut out);
    }
    out.freeze()
}
