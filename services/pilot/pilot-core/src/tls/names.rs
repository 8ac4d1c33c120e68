//! Whom a peer may be: matchers of names in certificates, each for the one kind of name it is.

use std::net::IpAddr;

use envoy_api::envoy::extensions::transport_sockets::tls::v3::SubjectAltNameMatcher;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_api::envoy::r#type::matcher::v3::StringMatcher;
use envoy_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

fn matcher(san_type: SanType, pattern: MatchPattern) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher {
        san_type: san_type as i32,
        matcher: Some(StringMatcher {
            match_pattern: Some(pattern),
            ..StringMatcher::default()
        }),
        ..SubjectAltNameMatcher::default()
    }
}

/// Exactly these names.
pub(super) fn exact<S: AsRef<str>>(names: &[S]) -> Vec<SubjectAltNameMatcher> {
    let one = |name: &S| {
        let name = name.as_ref();
        let kind = if name.contains("://") {
            SanType::Uri
        } else if name.parse::<IpAddr>().is_ok() {
            SanType::IpAddress
        } else if name.contains('@') {
            SanType::Email
        } else {
            SanType::Dns
        };
        matcher(kind, MatchPattern::Exact(name.to_owned()))
    };
    // An empty name is nobody's. Left out, it would leave a list that takes everybody.
    names.iter().map(one).collect()
}

/// Every workload of these trust domains. The slash that ends a prefix keeps `td.evil` out of `td`.
pub(super) fn of_trust_domains(domains: &[String]) -> Vec<SubjectAltNameMatcher> {
    let one = |domain: &String| {
        matcher(
            SanType::Uri,
            MatchPattern::Prefix(format!("spiffe://{domain}/")),
        )
    };
    domains.iter().map(one).collect()
}
