//! HTTP rules of a root VirtualService merged with those of its delegates (XDS-TRAFFIC 6.2).

use std::collections::BTreeMap;

use mesh_config::resource::StringMatch;
use mesh_config::resource::virtual_service::{HttpMatchRequest, HttpRoute};

/// The rules that stand for `root`: those of the delegate that the root's conditions admit, in the delegate's order.
pub(crate) fn merge(root: &HttpRoute, delegate: &[HttpRoute]) -> Vec<HttpRoute> {
    delegate
        .iter()
        .filter_map(|leaf| merge_route(root, leaf))
        .collect()
}

/// One rule of the delegate under the root's; `None` if a condition of the delegate contradicts every condition of the root.
fn merge_route(root: &HttpRoute, leaf: &HttpRoute) -> Option<HttpRoute> {
    let matches = merge_matches(&root.matches, &leaf.matches)?;
    let mut merged = leaf.clone();
    merged.matches = matches;
    merged.delegate = None;
    merged.name = join(&root.name, &leaf.name);
    let of_root = root.clone();
    merged.rewrite = merged.rewrite.or(of_root.rewrite);
    merged.direct_response = merged.direct_response.or(of_root.direct_response);
    merged.timeout = merged.timeout.or(of_root.timeout);
    merged.retries = merged.retries.or(of_root.retries);
    merged.fault = merged.fault.or(of_root.fault);
    merged.mirror = merged.mirror.or(of_root.mirror);
    merged.mirror_percent = merged.mirror_percent.or(of_root.mirror_percent);
    merged.mirror_percentage = merged.mirror_percentage.or(of_root.mirror_percentage);
    merged.cors_policy = merged.cors_policy.or(of_root.cors_policy);
    merged.headers = merged.headers.or(of_root.headers);
    if merged.mirrors.is_empty() {
        merged.mirrors = of_root.mirrors;
    }
    Some(merged)
}

fn join(root: &str, leaf: &str) -> String {
    match (root.is_empty(), leaf.is_empty()) {
        (false, false) => format!("{root}-{leaf}"),
        (false, true) => root.to_owned(),
        (true, _) => leaf.to_owned(),
    }
}

/// Every pair of conditions that do not contradict each other. `None` if some condition of the leaf contradicts all of the root's.
fn merge_matches(
    root: &[HttpMatchRequest],
    leaf: &[HttpMatchRequest],
) -> Option<Vec<HttpMatchRequest>> {
    if root.is_empty() {
        return Some(leaf.to_vec());
    }
    if leaf.is_empty() {
        return Some(root.to_vec());
    }
    let mut merged = Vec::new();
    for condition in leaf {
        let before = merged.len();
        merged.extend(
            root.iter()
                .filter(|r| !conflict(r, condition))
                .map(|r| merge_match(r, condition)),
        );
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

fn merge_match(root: &HttpMatchRequest, leaf: &HttpMatchRequest) -> HttpMatchRequest {
    let text = |leaf: &String, root: &String| {
        if leaf.is_empty() {
            root.clone()
        } else {
            leaf.clone()
        }
    };
    HttpMatchRequest {
        name: join(&root.name, &leaf.name),
        uri: leaf.uri.clone().or_else(|| root.uri.clone()),
        scheme: leaf.scheme.clone().or_else(|| root.scheme.clone()),
        method: leaf.method.clone().or_else(|| root.method.clone()),
        authority: leaf.authority.clone().or_else(|| root.authority.clone()),
        headers: union(&root.headers, &leaf.headers),
        port: if leaf.port == 0 { root.port } else { leaf.port },
        source_labels: union(&root.source_labels, &leaf.source_labels),
        gateways: if leaf.gateways.is_empty() {
            root.gateways.clone()
        } else {
            leaf.gateways.clone()
        },
        query_params: union(&root.query_params, &leaf.query_params),
        ignore_uri_case: leaf.ignore_uri_case,
        without_headers: union(&root.without_headers, &leaf.without_headers),
        source_namespace: text(&leaf.source_namespace, &root.source_namespace),
        stat_prefix: text(&leaf.stat_prefix, &root.stat_prefix),
    }
}

/// Both maps, the leaf's value where a key is in both.
fn union<V: Clone>(root: &BTreeMap<String, V>, leaf: &BTreeMap<String, V>) -> BTreeMap<String, V> {
    root.iter()
        .chain(leaf)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Whether no request can satisfy both in a way the root meant.
fn conflict(root: &HttpMatchRequest, leaf: &HttpMatchRequest) -> bool {
    let texts = [
        (&root.uri, &leaf.uri),
        (&root.scheme, &leaf.scheme),
        (&root.method, &leaf.method),
        (&root.authority, &leaf.authority),
    ];
    let maps = [
        (&root.headers, &leaf.headers),
        (&root.without_headers, &leaf.without_headers),
        (&root.query_params, &leaf.query_params),
    ];
    let differs = |a: &u32, b: &u32| *a != 0 && *b != 0 && a != b;
    texts.iter().any(|(root, leaf)| matches!((root, leaf), (Some(root), Some(leaf)) if text_conflict(root, leaf)))
        || maps.iter().any(|(root, leaf)| {
            leaf.iter().any(|(key, leaf)| root.get(key).is_some_and(|root| text_conflict(root, leaf)))
        })
        || root.ignore_uri_case != leaf.ignore_uri_case
        || differs(&root.port, &leaf.port)
        || (!root.source_namespace.is_empty() && root.source_namespace != leaf.source_namespace)
        || leaf.source_labels.iter().any(|(key, value)| root.source_labels.get(key).is_some_and(|v| v != value))
        || (!root.gateways.is_empty() && leaf.gateways.iter().any(|gateway| !root.gateways.contains(gateway)))
}

/// Whether the leaf's text match reaches beyond the root's. A regular expression cannot be compared: it always does.
fn text_conflict(root: &StringMatch, leaf: &StringMatch) -> bool {
    if root.regex.is_some() || leaf.regex.is_some() {
        return true;
    }
    match (&root.exact, &root.prefix) {
        (Some(exact), _) => {
            leaf.prefix.is_some() || leaf.exact.as_ref().is_some_and(|leaf| leaf != exact)
        }
        (None, Some(prefix)) => {
            let within = |text: &Option<String>| {
                text.as_ref()
                    .is_none_or(|text| text.starts_with(prefix.as_str()))
            };
            !within(&leaf.exact) || !within(&leaf.prefix)
        }
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> HttpMatchRequest {
        HttpMatchRequest {
            uri: Some(StringMatch {
                prefix: Some(text.into()),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn route(name: &str, matches: Vec<HttpMatchRequest>) -> HttpRoute {
        HttpRoute {
            name: name.into(),
            matches,
            ..Default::default()
        }
    }

    /// C-039: root prefix /r admits /r/a of the delegate, not /x.
    #[test]
    fn c_039_only_what_the_root_admits_survives() {
        let root = route("root", vec![prefix("/r")]);
        let merged = merge(
            &root,
            &[
                route("a", vec![prefix("/r/a")]),
                route("x", vec![prefix("/x")]),
                route("", vec![]),
            ],
        );
        let found: Vec<_> = merged
            .iter()
            .map(|r| {
                (
                    r.name.as_str(),
                    r.matches[0].uri.as_ref().and_then(|u| u.prefix.as_deref()),
                )
            })
            .collect();
        assert_eq!(found, [("root-a", Some("/r/a")), ("root", Some("/r"))]);
    }

    #[test]
    fn a_regex_cannot_be_compared() {
        let regex = StringMatch {
            regex: Some("a".into()),
            ..Default::default()
        };
        let exact = StringMatch {
            exact: Some("a".into()),
            ..Default::default()
        };
        assert!(text_conflict(&regex, &exact) && text_conflict(&exact, &regex));
        assert!(!text_conflict(&exact, &exact));
    }

    #[test]
    fn the_delegate_wins_and_the_root_fills() {
        let root = HttpRoute {
            timeout: Some(mesh_config::resource::Duration::from_secs(1)),
            mirror_percent: Some(1),
            ..Default::default()
        };
        let leaf = HttpRoute {
            timeout: Some(mesh_config::resource::Duration::from_secs(2)),
            ..Default::default()
        };
        let merged = &merge(&root, &[leaf])[0];
        assert_eq!(
            (merged.timeout.map(|d| d.seconds()), merged.mirror_percent),
            (Some(2), Some(1))
        );
    }
}
