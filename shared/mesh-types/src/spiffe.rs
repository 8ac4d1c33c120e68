//! SPIFFE identities: who a workload is, whatever it runs on.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

mod domain;
mod workload;

pub use domain::{TrustDomain, check_configured_trust_domain};
pub use workload::{WorkloadId, expand};

/// Longest SPIFFE ID. Unit: bytes.
const MAX_ID: usize = 2048;

/// `spiffe://<trust domain><path>`: the one way an identity enters the program.
///
/// Two are equal when their paths are the same bytes and their trust domains the same but for case. Displayed as it was spelt, with a
/// lower-case scheme: what is compared by bytes elsewhere (certificates, Envoy's matchers) must use the configured spelling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    path: Arc<str>,
}

/// A text that names no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// The scheme is another one, or none.
    #[error("an identity begins with spiffe://")]
    Scheme,
    /// Longer than any SPIFFE ID may be.
    #[error("the identity has {0} bytes, at most 2048 are allowed")]
    TooLong(usize),
    /// The trust domain is empty.
    #[error("the trust domain is empty")]
    EmptyTrustDomain,
    /// The trust domain is longer than 255 bytes.
    #[error("the trust domain has {0} bytes, at most 255 are allowed")]
    LongTrustDomain(usize),
    /// A character that no trust domain has: user information, a port and percent-encoding are among them.
    #[error("the trust domain has the character {0:?}; letters, digits, ., - and _ are allowed")]
    TrustDomainCharacter(char),
    /// A trust domain that SPIFFE allows and the mesh configuration does not: its labels must be DNS labels.
    #[error(
        "{0:?} is no label of a trust domain; use letters, digits and inner dashes, at most 63"
    )]
    TrustDomainLabel(String),
    /// An empty segment of the path: `//`, or a `/` at its end.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// A segment that is `.` or `..`.
    #[error("the path has a segment {0:?}, which would be relative")]
    RelativeSegment(String),
    /// A character that no path has: a query, a fragment and percent-encoding are among them.
    #[error("the path has the character {0:?}; letters, digits, ., - and _ are allowed")]
    PathCharacter(char),
    /// A SPIFFE ID, but not one of a workload.
    #[error("a workload is named spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
    NoWorkload,
    /// The namespace is no DNS label.
    #[error("{0:?} is no namespace; use lower-case letters, digits and inner dashes, at most 63")]
    Namespace(String),
    /// The service account is no DNS subdomain.
    #[error(
        "{0:?} is no service account; use lower-case letters, digits, inner dashes and dots, at most 253"
    )]
    ServiceAccount(String),
}

impl SpiffeId {
    /// Reads `spiffe://td/path`. The scheme may be in any case; everything else is as the SPIFFE ID standard has it.
    pub fn parse(text: &str) -> Result<SpiffeId, SpiffeError> {
        if text.len() > MAX_ID {
            return Err(SpiffeError::TooLong(text.len()));
        }
        let rest = match text.split_at_checked(SCHEME.len()) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest,
            _ => return Err(SpiffeError::Scheme),
        };
        let (domain, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        SpiffeId::new(TrustDomain::new(domain)?, path)
    }

    /// An identity of its parts; the path is empty (the trust domain itself) or begins with `/`.
    pub fn new(trust_domain: TrustDomain, path: &str) -> Result<SpiffeId, SpiffeError> {
        let len = SCHEME.len() + trust_domain.as_str().len() + path.len();
        if len > MAX_ID {
            return Err(SpiffeError::TooLong(len));
        }
        check_path(path)?;
        Ok(SpiffeId {
            trust_domain,
            path: path.into(),
        })
    }

    /// The identity of a trust domain itself: an empty path.
    pub fn of_trust_domain(trust_domain: TrustDomain) -> SpiffeId {
        SpiffeId {
            trust_domain,
            path: "".into(),
        }
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path with its leading `/`; empty for a trust domain itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it names a trust domain itself.
    pub fn is_trust_domain(&self) -> bool {
        self.path.is_empty()
    }

    /// The workload it names, if it has the form of one.
    pub fn workload(&self) -> Option<WorkloadId> {
        WorkloadId::try_from(self).ok()
    }

    /// Without the scheme, as policies write it: `td/ns/x/sa/y`.
    pub fn without_scheme(&self) -> String {
        format!("{}{}", self.trust_domain, self.path)
    }
}

const SCHEME: &str = "spiffe://";

fn check_path(path: &str) -> Result<(), SpiffeError> {
    if path.is_empty() {
        return Ok(());
    }
    let Some(segments) = path.strip_prefix('/') else {
        return Err(SpiffeError::PathCharacter(
            path.chars().next().unwrap_or(' '),
        ));
    };
    for segment in segments.split('/') {
        match segment {
            "" => return Err(SpiffeError::EmptySegment),
            "." | ".." => return Err(SpiffeError::RelativeSegment(segment.into())),
            _ => {}
        }
        if let Some(other) = segment
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_'))
        {
            return Err(SpiffeError::PathCharacter(other));
        }
    }
    Ok(())
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.trust_domain, self.path)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<SpiffeId, SpiffeError> {
        SpiffeId::parse(text)
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = SpiffeError;

    fn try_from(text: String) -> Result<SpiffeId, SpiffeError> {
        SpiffeId::parse(&text)
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_standard_allows() {
        for good in [
            "spiffe://a",
            "spiffe://a-b_c.d/x",
            "spiffe://cluster.local/ns/default/sa/app",
            "spiffe://a/A..b/_-",
        ] {
            assert_eq!(SpiffeId::parse(good).unwrap().to_string(), good);
        }
        let id = SpiffeId::parse("SPIFFE://Td/x").unwrap();
        assert_eq!(id.to_string(), "spiffe://Td/x");
        assert_eq!(id.without_scheme(), "Td/x");
        assert!(SpiffeId::parse("spiffe://a").unwrap().is_trust_domain());
    }

    #[test]
    fn domains_compare_without_case_and_paths_with_it() {
        let id = |text| SpiffeId::parse(text).unwrap();
        assert_eq!(id("spiffe://TD/x"), id("spiffe://td/x"));
        assert_ne!(id("spiffe://td/X"), id("spiffe://td/x"));
        let set = BTreeSet::from([
            id("spiffe://TD/x"),
            id("spiffe://td/x"),
            id("spiffe://td/y"),
        ]);
        assert_eq!(set.len(), 2);
    }

    /// Case 20.
    #[test]
    fn refuses_what_the_standard_forbids() {
        let long = |n: usize| format!("spiffe://a/{}", "b".repeat(n - 11));
        assert!(SpiffeId::parse(&long(2048)).is_ok());
        for (bad, why) in [
            ("", SpiffeError::Scheme),
            ("http://a/b", SpiffeError::Scheme),
            ("spiffe:/a", SpiffeError::Scheme),
            ("spiffé://a", SpiffeError::Scheme),
            ("spiffe://", SpiffeError::EmptyTrustDomain),
            ("spiffe:///ns", SpiffeError::EmptyTrustDomain),
            ("spiffe://a/ns/x/sa/", SpiffeError::EmptySegment),
            ("spiffe://a//b", SpiffeError::EmptySegment),
            ("spiffe://a/", SpiffeError::EmptySegment),
            ("spiffe://A/ns/x/sa/b?x", SpiffeError::PathCharacter('?')),
            ("spiffe://a/b#c", SpiffeError::PathCharacter('#')),
            ("spiffe://a/b%41", SpiffeError::PathCharacter('%')),
            ("spiffe://a/ü", SpiffeError::PathCharacter('ü')),
            (
                "spiffe://a:80/ns/x/sa/b",
                SpiffeError::TrustDomainCharacter(':'),
            ),
            ("spiffe://u@a/b", SpiffeError::TrustDomainCharacter('@')),
            ("spiffe://a%41/b", SpiffeError::TrustDomainCharacter('%')),
            ("spiffe://a?b", SpiffeError::TrustDomainCharacter('?')),
            (
                "spiffe://a/ns/../sa/b",
                SpiffeError::RelativeSegment("..".into()),
            ),
            ("spiffe://a/.", SpiffeError::RelativeSegment(".".into())),
            (&long(2100), SpiffeError::TooLong(2100)),
            (&long(2049), SpiffeError::TooLong(2049)),
        ] {
            assert_eq!(SpiffeId::parse(bad), Err(why), "{bad}");
        }
        assert_eq!(
            SpiffeId::parse(&format!("spiffe://{}/b", "a".repeat(256))),
            Err(SpiffeError::LongTrustDomain(256))
        );
        // A SPIFFE ID, but no workload's.
        assert_eq!(
            WorkloadId::parse("spiffe://a/ns/x/sa/b/c"),
            Err(SpiffeError::NoWorkload)
        );
    }
}
