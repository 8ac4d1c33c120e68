//! Trust domains: the part of the world that one authority names.

use super::*;

/// The name of a trust domain: 1 to 255 letters, digits, `.`, `-` and `_`.
///
/// SPIFFE wants lower case, the mesh configuration admits either: the spelling is kept, since Envoy compares bytes, and everything that
/// compares identities goes without case.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Reads a trust domain, without a scheme.
    pub fn new(text: &str) -> Result<TrustDomain, SpiffeError> {
        if text.is_empty() {
            return Err(SpiffeError::EmptyTrustDomain);
        }
        if text.len() > 255 {
            return Err(SpiffeError::LongTrustDomain(text.len()));
        }
        match text
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_'))
        {
            Some(other) => Err(SpiffeError::TrustDomainCharacter(other)),
            None => Ok(TrustDomain(text.into())),
        }
    }

    /// The spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is spelt as SPIFFE wants it. Others work only where everybody spells it alike: its author is warned.
    pub fn is_lower_case(&self) -> bool {
        !self.0.bytes().any(|b| b.is_ascii_uppercase())
    }

    fn folded(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.bytes().map(|b| b.to_ascii_lowercase())
    }
}

/// Whether a text may be a trust domain of the mesh configuration: dot-separated DNS labels of letters in either case, digits and inner
/// dashes, at most 63 each; one final dot is tolerated. Stricter than [`TrustDomain::new`], which takes what other meshes may be called.
pub fn check_configured_trust_domain(text: &str) -> Result<TrustDomain, SpiffeError> {
    let domain = TrustDomain::new(text)?;
    let labels = text.strip_suffix('.').unwrap_or(text);
    for label in labels.split('.') {
        let good = (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-');
        if !good {
            return Err(SpiffeError::TrustDomainLabel(label.into()));
        }
    }
    Ok(domain)
}

impl Default for TrustDomain {
    /// `cluster.local`.
    fn default() -> TrustDomain {
        TrustDomain("cluster.local".into())
    }
}

impl PartialEq for TrustDomain {
    fn eq(&self, other: &TrustDomain) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for TrustDomain {}

impl PartialOrd for TrustDomain {
    fn partial_cmp(&self, other: &TrustDomain) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TrustDomain {
    fn cmp(&self, other: &TrustDomain) -> std::cmp::Ordering {
        self.folded().cmp(other.folded())
    }
}

impl Hash for TrustDomain {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.folded().for_each(|b| state.write_u8(b));
        state.write_u8(0xff);
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<TrustDomain, SpiffeError> {
        TrustDomain::new(text)
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = SpiffeError;

    fn try_from(text: String) -> Result<TrustDomain, SpiffeError> {
        TrustDomain::new(&text)
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> String {
        domain.0.as_ref().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mesh_configuration_wants_dns_labels() {
        for good in ["cluster.local", "td", "A-b.C", "td.", &"a".repeat(63)] {
            assert!(check_configured_trust_domain(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "td..",
            "a..b",
            "-a",
            "a-",
            "a_b",
            "a/b",
            "a b",
            &"a".repeat(64),
        ] {
            assert!(check_configured_trust_domain(bad).is_err(), "{bad}");
        }
        assert!(!TrustDomain::new("Td").unwrap().is_lower_case());
    }
}
