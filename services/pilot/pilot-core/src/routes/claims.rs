//! Matching on the claims of a token: header names like `@request.auth.claims.group`.

use envoy_api::envoy::r#type::matcher::v3::metadata_matcher::{PathSegment, path_segment};
use envoy_api::envoy::r#type::matcher::v3::value_matcher::MatchPattern;
use envoy_api::envoy::r#type::matcher::v3::{
    ListMatcher, MetadataMatcher, OrMatcher, ValueMatcher, list_matcher,
};
use mesh_config::resource::StringMatch;
use mesh_config::resource::virtual_service::HttpMatchRequest;

use super::matching;

/// What such a name starts with.
const PREFIX: &str = "@request.auth.claims";
/// The filter that leaves the claims of a valid token behind.
const FILTER: &str = "envoy.filters.http.jwt_authn";
/// Where it leaves them.
const PAYLOAD: &str = "payload";

/// Whether a header name stands for a claim.
pub(super) fn is_claim(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The matchers of every claim that a condition asks for, by name.
pub(super) fn matchers(condition: &HttpMatchRequest) -> Vec<MetadataMatcher> {
    let wanted = condition.headers.iter().map(|(name, m)| (name, m, false));
    let unwanted = condition
        .without_headers
        .iter()
        .map(|(name, m)| (name, m, true));
    wanted
        .chain(unwanted)
        .filter_map(|(name, m, invert)| matcher(name, m, invert))
        .collect()
}

fn matcher(name: &str, m: &StringMatch, invert: bool) -> Option<MetadataMatcher> {
    let claim = path(name)?;
    let segment = |key: &str| PathSegment {
        segment: Some(path_segment::Segment::Key(key.to_owned())),
    };
    Some(MetadataMatcher {
        filter: FILTER.to_owned(),
        path: std::iter::once(PAYLOAD).chain(claim).map(segment).collect(),
        value: Some(value(m)),
        invert,
    })
}

/// The keys that lead to a claim: `.a.b` and `[a][b]` mean the same; in brackets a key may have dots.
fn path(name: &str) -> Option<Vec<&str>> {
    let rest = name.strip_prefix(PREFIX)?;
    let keys: Vec<&str> = match rest.strip_prefix('.') {
        Some(dotted) => dotted.split('.').collect(),
        None => rest
            .strip_prefix('[')?
            .strip_suffix(']')?
            .split("][")
            .collect(),
    };
    keys.iter().all(|key| !key.is_empty()).then_some(keys)
}

/// The text itself, or one of a list of texts.
fn value(m: &StringMatch) -> ValueMatcher {
    let of = |pattern| ValueMatcher {
        match_pattern: Some(pattern),
    };
    let Some(text) = matching::string(m) else {
        return of(MatchPattern::PresentMatch(true));
    };
    let text = of(MatchPattern::StringMatch(text));
    let list = ListMatcher {
        match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(text.clone()))),
    };
    of(MatchPattern::OrMatch(OrMatcher {
        value_matchers: vec![text, of(MatchPattern::ListMatch(Box::new(list)))],
    }))
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn claims_are_named_with_dots_or_brackets() {
        assert_eq!(path("@request.auth.claims.a.b"), Some(vec!["a", "b"]));
        assert_eq!(path("@request.auth.claims[a.x][b]"), Some(vec!["a.x", "b"]));
        for bad in [
            "x",
            "@request.auth.claims",
            "@request.auth.claims.",
            "@request.auth.claims[a",
        ] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }
}
