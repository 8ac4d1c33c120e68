//! Cross-origin policies (XDS-TRAFFIC 6.6).

use envoy_api::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use mesh_config::resource::StringMatch;
use mesh_config::resource::virtual_service::{self as vs, UnmatchedPreflights};

use super::{matching, share};

/// The policy as the cors filter reads it from a route.
pub(super) fn policy(given: &vs::CorsPolicy) -> CorsPolicy {
    let old: Vec<StringMatch> = given
        .allow_origin
        .iter()
        .map(|origin| StringMatch {
            exact: Some(origin.clone()),
            ..StringMatch::default()
        })
        .collect();
    let origins = if given.allow_origins.is_empty() {
        &old
    } else {
        &given.allow_origins
    };
    CorsPolicy {
        allow_origin_string_match: origins.iter().filter_map(matching::string).collect(),
        allow_methods: given.allow_methods.join(","),
        allow_headers: given.allow_headers.join(","),
        expose_headers: given.expose_headers.join(","),
        max_age: given
            .max_age
            .map(|age| age.seconds().to_string())
            .unwrap_or_default(),
        allow_credentials: given.allow_credentials,
        filter_enabled: Some(share::fixed(share::hundredths(100))),
        forward_not_matching_preflights: Some(
            given.unmatched_preflights != Some(UnmatchedPreflights::Ignore),
        ),
        ..CorsPolicy::default()
    }
}
