//! Where a route sends its requests, and how (XDS-TRAFFIC 6.6).

use envoy_api::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_api::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy,
};
use envoy_api::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_api::envoy::config::route::v3::weighted_cluster::{ClusterWeight, cluster_weight};
use envoy_api::envoy::config::route::v3::{RouteAction, RouteMatch, WeightedCluster};
use envoy_api::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use mesh_config::resource::virtual_service::{
    Destination, HttpRewrite, HttpRoute, HttpRouteDestination,
};
use mesh_config::resource::{Duration, Percent};

use super::facts::Facts;
use super::headers::{self, Changes};
use super::target::Target;
use super::{matching, retry, share};
use crate::proto::duration;

/// The action of a rule that forwards, and the header changes of its only destination. `None` if it has no destination.
///
/// `targets` are those of [`super::target::destinations`].
pub(super) fn forward(
    http: &HttpRoute,
    targets: &[Target],
    facts: &Facts,
    matched: &RouteMatch,
    gateway_semantics: bool,
) -> Option<(RouteAction, Changes)> {
    let (own, mirrored) = targets.split_at_checked(http.route.len())?;
    let mut changes = Changes::of(http.headers.as_ref());
    let mut action = basic(http.timeout.unwrap_or(Duration::ZERO));
    let authority = match &http.rewrite {
        Some(rewrite) if !rewrite.authority.is_empty() => Some(rewrite.authority.as_str()),
        _ => headers::authority(http.headers.as_ref()),
    };
    let mut authority = authority.map(str::to_owned);
    let mut weights = Vec::new();
    match (&http.route[..], own) {
        ([], _) => return None,
        ([only], [target]) => {
            changes.append(only.headers.as_ref());
            authority =
                authority.or_else(|| headers::authority(only.headers.as_ref()).map(str::to_owned));
            action.cluster_specifier =
                Some(ClusterSpecifier::Cluster(target.cluster(subset(only))));
        }
        (several, _) => weights = weighted(several, own),
    }
    let rewrites_somewhere = weights
        .iter()
        .any(|w: &ClusterWeight| w.host_rewrite_specifier.is_some());
    if !weights.is_empty() {
        action.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: weights,
            ..WeightedCluster::default()
        }));
    }
    action.cluster_specifier.as_ref()?;

    if let Some(rewrite) = &http.rewrite {
        rewrite_path(&mut action, rewrite, matched, gateway_semantics);
    }
    action.append_x_forwarded_host =
        facts.forwarded_host && (authority.is_some() || rewrites_somewhere);
    action.host_rewrite_specifier = authority.map(HostRewriteSpecifier::HostRewriteLiteral);
    action.request_mirror_policies = mirrors(http, mirrored);
    action.hash_policy = http
        .route
        .iter()
        .zip(own)
        .filter_map(|(route, target)| target.hash_policy(route.destination.as_ref()?))
        .collect();
    let hashed = http.route.len() == 1 && !action.hash_policy.is_empty();
    action.retry_policy = retry::policy(http.retries.as_ref().or(facts.retry.as_ref()), hashed);
    if gateway_semantics {
        action.cluster_not_found_response_code =
            ClusterNotFoundResponseCode::InternalServerError.into();
    }
    Some((action, changes))
}

/// An action without destination: the whole request may take as long as given, 0 is for ever.
#[allow(deprecated)] // what would replace max_grpc_timeout also bounds streams that are not gRPC
pub(super) fn basic(timeout: Duration) -> RouteAction {
    RouteAction {
        timeout: Some(duration(timeout)),
        max_grpc_timeout: Some(duration(timeout)),
        ..RouteAction::default()
    }
}

fn subset(route: &HttpRouteDestination) -> &str {
    route.destination.as_ref().map_or("", |d| &d.subset)
}

/// Several destinations by weight; those without weight get nothing.
fn weighted(routes: &[HttpRouteDestination], targets: &[Target]) -> Vec<ClusterWeight> {
    let weight = |route: &HttpRouteDestination| u32::try_from(route.weight).unwrap_or(0);
    let chosen = routes
        .iter()
        .zip(targets)
        .filter(|(route, _)| weight(route) > 0);
    chosen
        .map(|(route, target)| {
            let changes = Changes::of(route.headers.as_ref());
            ClusterWeight {
                name: target.cluster(subset(route)),
                weight: Some(weight(route)),
                request_headers_to_add: changes.request_add,
                request_headers_to_remove: changes.request_remove,
                response_headers_to_add: changes.response_add,
                response_headers_to_remove: changes.response_remove,
                host_rewrite_specifier: headers::authority(route.headers.as_ref()).map(|a| {
                    cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(a.to_owned())
                }),
                ..ClusterWeight::default()
            }
        })
        .collect()
}

fn rewrite_path(
    action: &mut RouteAction,
    rewrite: &HttpRewrite,
    matched: &RouteMatch,
    gateway_semantics: bool,
) {
    let replace = |pattern: &str, substitution: &str| RegexMatchAndSubstitute {
        pattern: Some(matching::regex(pattern)),
        substitution: substitution.to_owned(),
    };
    if let Some(regex) = &rewrite.uri_regex_rewrite {
        action.regex_rewrite = Some(replace(&regex.pattern, &regex.rewrite));
        return;
    }
    match &matched.path_specifier {
        // Cutting a segment prefix off must leave one slash, not two.
        Some(PathSpecifier::PathSeparatedPrefix(prefix))
            if gateway_semantics && rewrite.uri == "/" =>
        {
            action.regex_rewrite = Some(replace(&format!("^{}(/?)(.*)", quote(prefix)), "/\\2"));
        }
        _ => action.prefix_rewrite.clone_from(&rewrite.uri),
    }
}

/// A text as a regular expression that matches it alone.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn mirrors(http: &HttpRoute, targets: &[Target]) -> Vec<RequestMirrorPolicy> {
    let old = http
        .mirror
        .iter()
        .map(|destination| (Some(destination), mirror_share(http)));
    let new = http
        .mirrors
        .iter()
        .map(|m| (m.destination.as_ref(), fraction(m.percentage.as_ref())));
    old.chain(new)
        .zip(targets)
        .filter_map(|((destination, share), target)| mirror(destination?, share?, target))
        .collect()
}

fn mirror(
    destination: &Destination,
    share: RuntimeFractionalPercent,
    target: &Target,
) -> Option<RequestMirrorPolicy> {
    Some(RequestMirrorPolicy {
        cluster: target.cluster(&destination.subset),
        runtime_fraction: Some(share),
        trace_sampled: Some(false),
        disable_shadow_host_suffix_append: true,
        ..RequestMirrorPolicy::default()
    })
}

/// The share of requests that `mirror` gets; `None` if that is none.
fn mirror_share(http: &HttpRoute) -> Option<RuntimeFractionalPercent> {
    match (&http.mirror_percentage, http.mirror_percent) {
        (Some(percent), _) => fraction(Some(percent)),
        (None, Some(0)) => None,
        (None, percent) => Some(share::fixed(share::hundredths(percent.unwrap_or(100)))),
    }
}

fn fraction(percent: Option<&Percent>) -> Option<RuntimeFractionalPercent> {
    match percent {
        Some(percent) => (percent.value.0 > 0.0).then(|| share::fixed(share::of(percent))),
        None => Some(share::fixed(share::hundredths(100))),
    }
}
