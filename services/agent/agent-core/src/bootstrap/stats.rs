//! Which statistics Envoy keeps: memory per proxy follows their number.

use std::collections::BTreeMap;

use envoy_api::envoy::config::metrics::v3::stats_matcher::StatsMatcher as Matches;
use envoy_api::envoy::config::metrics::v3::{
    HistogramBucketSettings, StatsConfig, StatsMatcher, TagSpecifier, tag_specifier,
};
use envoy_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_api::envoy::r#type::matcher::v3::{ListStringMatcher, RegexMatcher, StringMatcher};

use crate::options::Options;

/// Kept by their beginning.
const PREFIXES: &[&str] = &[
    "reporter=",
    "cluster_manager",
    "listener_manager",
    "server",
    "cluster.xds-grpc",
    "wasm",
    "component",
    "istio",
];

/// Kept by their end: what authorization did, and what a drain waits for.
const SUFFIXES: &[&str] = &[
    "rbac.allowed",
    "rbac.denied",
    "shadow_allowed",
    "shadow_denied",
    "downstream_cx_active",
];

/// Node metadata with more of them, lists separated by commas.
const MORE: [&str; 3] = [
    "STATS_INCLUSION_PREFIXES",
    "STATS_INCLUSION_SUFFIXES",
    "STATS_INCLUSION_REGEXPS",
];
/// The same as annotations of the pod.
const ANNOTATIONS: [&str; 3] = [
    "sidecar.istio.io/statsInclusionPrefixes",
    "sidecar.istio.io/statsInclusionSuffixes",
    "sidecar.istio.io/statsInclusionRegexps",
];

pub(super) fn stats_config(options: &Options) -> StatsConfig {
    let matcher = &options.proxy_config.stats;
    let [prefixes, suffixes, regexps] = std::array::from_fn(|n| {
        let metadata = &options.node.metadata;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let said = metadata.get(MORE[n]).and_then(text);
        let annotated = metadata
            .get("ANNOTATIONS")
            .and_then(|all| text(all.get(ANNOTATIONS[n])?));
        said.into_iter()
            .chain(annotated)
            .flat_map(|list| {
                let members = list.split(',').map(|member| member.trim().to_owned());
                members
                    .filter(|member| !member.is_empty())
                    .collect::<Vec<_>>()
            })
            .collect::<Vec<String>>()
    });
    let mut patterns: Vec<StringMatcher> = Vec::new();
    let mut put = |pattern| {
        let matcher = StringMatcher {
            match_pattern: Some(pattern),
            ..StringMatcher::default()
        };
        if !patterns.contains(&matcher) {
            patterns.push(matcher);
        }
    };
    let ours = |list: &[&str]| {
        list.iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    for text in [ours(PREFIXES), matcher.prefixes.clone(), prefixes].concat() {
        put(MatchPattern::Prefix(text));
    }
    for text in [ours(SUFFIXES), matcher.suffixes.clone(), suffixes].concat() {
        put(MatchPattern::Suffix(text));
    }
    for text in [matcher.regexps.clone(), regexps].concat() {
        put(MatchPattern::SafeRegex(RegexMatcher {
            regex: text,
            ..RegexMatcher::default()
        }));
    }
    StatsConfig {
        stats_tags: tags(options),
        // Envoy's own tags: names of clusters, listeners and codes.
        use_all_default_tags: Some(true),
        stats_matcher: Some(StatsMatcher {
            stats_matcher: Some(Matches::InclusionList(ListStringMatcher { patterns })),
        }),
        histogram_bucket_settings: buckets(options),
        ..StatsConfig::default()
    }
}

/// Annotation with buckets of histograms: JSON, from the beginning of names to limits.
const BUCKETS: &str = "sidecar.istio.io/statsHistogramBuckets";

/// What the annotation says. Limits must be above zero and go up; what makes no sense is left out, since Envoy would refuse to start with it.
fn buckets(options: &Options) -> Vec<HistogramBucketSettings> {
    let annotations = options.node.metadata.get("ANNOTATIONS");
    let said = annotations.and_then(|all| all.get(BUCKETS)?.as_str());
    let said = said.unwrap_or_default();
    let said: BTreeMap<String, Vec<f64>> = serde_json::from_str(said).unwrap_or_default();
    let usable = |limits: &[f64]| {
        !limits.is_empty() && limits.iter().all(|limit| limit.is_finite() && *limit > 0.0)
    };
    said.into_iter()
        .filter(|(_, limits)| usable(limits))
        .map(|(prefix, mut limits)| {
            limits.sort_by(f64::total_cmp);
            limits.dedup();
            HistogramBucketSettings {
                r#match: Some(StringMatcher {
                    match_pattern: Some(MatchPattern::Prefix(prefix)),
                    ..StringMatcher::default()
                }),
                buckets: limits,
                ..HistogramBucketSettings::default()
            }
        })
        .collect()
}

/// Tags that users added to Istio's statistics, which write them into names as `tag=value;.;`.
fn tags(options: &Options) -> Vec<TagSpecifier> {
    let said = options.node.metadata.get("EXTRA_STAT_TAGS");
    let said = said.and_then(|value| value.as_str()).unwrap_or_default();
    let mut names: Vec<&str> = said.split(',').map(str::trim).collect();
    names.extend(
        options
            .proxy_config
            .extra_stat_tags
            .iter()
            .map(String::as_str),
    );
    names.retain(|name| {
        let clean = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !name.is_empty() && name.chars().all(clean)
    });
    names.sort_unstable();
    names.dedup();
    let tag = |name: &str| TagSpecifier {
        tag_name: name.to_owned(),
        tag_value: Some(tag_specifier::TagValue::Regex(format!(
            "({name}=\\.=(.*?);\\.;)"
        ))),
    };
    names.into_iter().map(tag).collect()
}
