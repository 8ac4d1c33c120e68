//! Which requests a route takes (XDS-TRAFFIC 6.5).

use envoy_api::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_api::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_api::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_api::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher, RouteMatch};
use envoy_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_api::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use mesh_config::resource::StringMatch;
use mesh_config::resource::virtual_service::HttpMatchRequest;

use super::claims;

/// The match of one condition; none takes every request.
///
/// `segments`: prefixes end at a path segment, as those of Gateway API routes do.
pub(super) fn route_match(condition: Option<&HttpMatchRequest>, segments: bool) -> RouteMatch {
    let Some(condition) = condition else {
        return RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".into())),
            ..RouteMatch::default()
        };
    };
    let query = condition.query_params.iter();
    RouteMatch {
        path_specifier: Some(path(condition.uri.as_ref(), segments)),
        case_sensitive: Some(!condition.ignore_uri_case),
        headers: headers(condition),
        query_parameters: query.map(|(name, m)| query_param(name, m)).collect(),
        dynamic_metadata: claims::matchers(condition),
        ..RouteMatch::default()
    }
}

/// Whether a match takes every request, so that what follows it is never reached.
pub(super) fn is_catch_all(m: &RouteMatch) -> bool {
    let any_path = match &m.path_specifier {
        Some(PathSpecifier::Prefix(prefix) | PathSpecifier::PathSeparatedPrefix(prefix)) => {
            prefix == "/"
        }
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex == ".*",
        _ => false,
    };
    any_path
        && m.headers.is_empty()
        && m.query_parameters.is_empty()
        && m.dynamic_metadata.is_empty()
}

/// What the path of a match looks like in the name of a span.
pub(super) fn path_text(m: &RouteMatch) -> String {
    match &m.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => format!("{prefix}*"),
        Some(PathSpecifier::Path(path)) => path.clone(),
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex.clone(),
        _ => "/*".to_owned(),
    }
}

fn path(uri: Option<&StringMatch>, segments: bool) -> PathSpecifier {
    match uri {
        Some(StringMatch {
            exact: Some(path), ..
        }) => PathSpecifier::Path(path.clone()),
        Some(StringMatch {
            prefix: Some(prefix),
            ..
        }) => match prefix.as_str() {
            "" | "/" => PathSpecifier::Prefix("/".into()),
            _ if segments => {
                PathSpecifier::PathSeparatedPrefix(prefix.trim_end_matches('/').into())
            }
            _ => PathSpecifier::Prefix(prefix.clone()),
        },
        Some(StringMatch {
            regex: Some(pattern),
            ..
        }) => PathSpecifier::SafeRegex(regex(pattern)),
        _ => PathSpecifier::Prefix("/".into()),
    }
}

/// Headers by name, then the pseudo headers.
fn headers(condition: &HttpMatchRequest) -> Vec<HeaderMatcher> {
    let wanted = condition.headers.iter().map(|(name, m)| header(name, m));
    let unwanted = condition.without_headers.iter().map(|(name, m)| {
        let matcher = header(name, m);
        let by_value = matches!(
            matcher.header_match_specifier,
            Some(HeaderMatchSpecifier::StringMatch(_))
        );
        HeaderMatcher {
            invert_match: true,
            // A request without the header does not have the unwanted value.
            treat_missing_header_as_empty: by_value,
            ..matcher
        }
    });
    let mut out: Vec<_> = wanted
        .chain(unwanted)
        .filter(|matcher| !claims::is_claim(&matcher.name))
        .collect();
    out.sort_by(|a, b| a.name.cmp(&b.name));
    let pseudo = [
        (":method", &condition.method),
        (":authority", &condition.authority),
        (":scheme", &condition.scheme),
    ];
    out.extend(
        pseudo
            .into_iter()
            .filter_map(|(name, m)| Some(header(name, m.as_ref()?))),
    );
    out
}

fn header(name: &str, m: &StringMatch) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(match string(m) {
            Some(text) => HeaderMatchSpecifier::StringMatch(text),
            None => HeaderMatchSpecifier::PresentMatch(true),
        }),
        ..HeaderMatcher::default()
    }
}

fn query_param(name: &str, m: &StringMatch) -> QueryParameterMatcher {
    QueryParameterMatcher {
        name: name.to_owned(),
        query_parameter_match_specifier: Some(match string(m) {
            Some(text) => QueryParameterMatchSpecifier::StringMatch(text),
            None => QueryParameterMatchSpecifier::PresentMatch(true),
        }),
    }
}

/// How a text is compared; `None` if any text will do: nothing is asked for, or the regular expression is `*`, which is none.
pub(super) fn string(m: &StringMatch) -> Option<StringMatcher> {
    let pattern = match m {
        StringMatch {
            exact: Some(text), ..
        } => MatchPattern::Exact(text.clone()),
        StringMatch {
            prefix: Some(text), ..
        } if !text.is_empty() => MatchPattern::Prefix(text.clone()),
        StringMatch {
            regex: Some(text), ..
        } if text != "*" => MatchPattern::SafeRegex(regex(text)),
        _ => return None,
    };
    Some(StringMatcher {
        match_pattern: Some(pattern),
        ignore_case: false,
    })
}

/// A regular expression that must match the whole text.
pub(super) fn regex(pattern: &str) -> RegexMatcher {
    RegexMatcher {
        regex: pattern.to_owned(),
        engine_type: None,
    }
}
