//! Host names and their algebra, wildcards included.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A lower-case host name: a DNS name, an IP address, `*`, or `*.suffix`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Hostname(Arc<str>);

/// A text that is no host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    /// There is nothing.
    #[error("host name is empty")]
    Empty,
    /// Longer than DNS allows.
    #[error("host name has {0} characters, at most 255 are allowed")]
    TooLong(usize),
    /// A `*` that does not stand alone as the first label.
    #[error("wildcard in {0:?} must be the whole first label, as in *.example.com")]
    Wildcard(String),
    /// White space or a control character.
    #[error("host name {0:?} has a character that no host name can have")]
    Character(String),
}

impl Hostname {
    /// Reads a host name; upper case is folded, a trailing dot kept.
    pub fn new(text: &str) -> Result<Hostname, HostnameError> {
        if text.is_empty() {
            return Err(HostnameError::Empty);
        }
        if text.len() > 255 {
            return Err(HostnameError::TooLong(text.len()));
        }
        if text
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | '|' | '"' | '\\'))
        {
            return Err(HostnameError::Character(text.into()));
        }
        let rest = text.strip_prefix('*').unwrap_or(text);
        if rest.contains('*')
            || (rest.len() < text.len() && !rest.is_empty() && !rest.starts_with('.'))
        {
            return Err(HostnameError::Wildcard(text.into()));
        }
        Ok(Hostname(if text.bytes().any(|b| b.is_ascii_uppercase()) {
            text.to_ascii_lowercase().into()
        } else {
            text.into()
        }))
    }

    /// A host name with its short form completed: a name without a dot that is not `*` becomes
    /// `<name>.<namespace>.svc.<domain>`.
    pub fn resolve(text: &str, namespace: &str, domain: &str) -> Result<Hostname, HostnameError> {
        if !text.is_empty() && text != "*" && !text.contains('.') && !text.contains(':') {
            Hostname::new(&format!("{text}.{namespace}.svc.{domain}"))
        } else {
            Hostname::new(text)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text.
    pub fn to_arc(&self) -> Arc<str> {
        self.0.clone()
    }

    /// Whether this is `*` or `*.suffix`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// Whether some name is matched by both.
    pub fn matches(&self, other: &Hostname) -> bool {
        match (self.0.strip_prefix('*'), other.0.strip_prefix('*')) {
            (Some(a), Some(b)) => {
                if a.len() >= b.len() {
                    a.ends_with(b)
                } else {
                    b.ends_with(a)
                }
            }
            (Some(suffix), None) => other.0.ends_with(suffix),
            (None, Some(suffix)) => self.0.ends_with(suffix),
            (None, None) => self == other,
        }
    }

    /// Whether every name matched by this is matched by `other`.
    pub fn is_subset_of(&self, other: &Hostname) -> bool {
        match (self.0.strip_prefix('*'), other.0.strip_prefix('*')) {
            (Some(a), Some(b)) => a.len() >= b.len() && a.ends_with(b),
            (Some(_), None) => false,
            (None, Some(suffix)) => self.0.ends_with(suffix),
            (None, None) => self == other,
        }
    }

    /// More specific first: plain before wildcard, longer before shorter, then by text.
    pub fn specificity(&self, other: &Hostname) -> Ordering {
        self.is_wildcard()
            .cmp(&other.is_wildcard())
            .then(other.0.len().cmp(&self.0.len()))
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl TryFrom<String> for Hostname {
    type Error = HostnameError;

    fn try_from(text: String) -> Result<Hostname, HostnameError> {
        Hostname::new(&text)
    }
}

impl AsRef<str> for Hostname {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Hostname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Hostname {
        Hostname::new(text).unwrap()
    }

    #[test]
    fn wildcards_match_below_their_suffix_only() {
        assert!(host("*.foo.com").matches(&host("a.foo.com")));
        assert!(!host("*.foo.com").matches(&host("foo.com")));
        assert!(host("*").matches(&host("foo.com")));
        assert!(host("*.com").matches(&host("*.foo.com")));
        assert!(host("*.foo.com").matches(&host("*.com")));
    }

    #[test]
    fn subset_is_one_way() {
        assert!(host("*.foo.com").is_subset_of(&host("*.com")));
        assert!(!host("*.com").is_subset_of(&host("*.foo.com")));
        assert!(host("a.com").is_subset_of(&host("*.com")));
        assert!(!host("*.com").is_subset_of(&host("a.com")));
    }

    #[test]
    fn more_specific_comes_first() {
        let mut hosts = ["*", "*.com", "a.com", "*.foo.com", "b.foo.com"].map(host);
        hosts.sort_by(Hostname::specificity);
        assert_eq!(
            hosts.map(|h| h.to_string()),
            ["b.foo.com", "a.com", "*.foo.com", "*.com", "*"]
        );
    }

    #[test]
    fn short_names_are_completed() {
        assert_eq!(
            Hostname::resolve("Reviews", "shop", "cluster.local")
                .unwrap()
                .as_str(),
            "reviews.shop.svc.cluster.local"
        );
        assert_eq!(
            Hostname::resolve("a.b", "shop", "cluster.local")
                .unwrap()
                .as_str(),
            "a.b"
        );
        assert_eq!(
            Hostname::resolve("*", "shop", "cluster.local")
                .unwrap()
                .as_str(),
            "*"
        );
    }

    #[test]
    fn refuses_what_is_no_host() {
        for bad in ["", "a b", "*a.com", "a.*.com", "a/b"] {
            assert!(Hostname::new(bad).is_err(), "{bad:?}");
        }
    }
}
