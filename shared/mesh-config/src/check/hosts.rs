//! Forms of host names.

use std::net::IpAddr;

use std::collections::BTreeSet;

use super::names;

/// A fully qualified (or short) DNS name: 1..=255 characters, labels, the last one not all digits, one trailing dot allowed.
pub(crate) fn is_fqdn(text: &str) -> bool {
    if text.is_empty() || text.len() > 255 {
        return false;
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    text.split('.').all(names::is_label_of_any_case)
        && !text
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
}

/// As [`is_fqdn`], with a first label that may be `*`, `*label` or `*-label`.
pub(crate) fn is_wildcard_domain(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('*') else {
        return is_fqdn(text);
    };
    if text.len() > 255 {
        return false;
    }
    match rest.split_once('.') {
        None => rest.is_empty() || is_fqdn(rest.trim_start_matches('-')),
        Some((first, domain)) => {
            let first = first.strip_prefix('-').unwrap_or(first);
            (first.is_empty() && !rest.starts_with('-') || names::is_label_of_any_case(first))
                && is_fqdn(domain)
        }
    }
}

/// A wildcard that is not a whole label: `*foo.com`. Routes and certificates cannot express it.
pub(crate) fn is_partial_wildcard(text: &str) -> bool {
    text.contains('*') && text.len() > 1 && !text.starts_with("*.")
}

/// What to say about a text that should be a host.
pub(crate) fn want_host(text: &str) -> String {
    let hint = if text.contains("://") {
        "; leave out the scheme"
    } else if text.contains('/') {
        "; leave out the path"
    } else if text.contains(':') && text.parse::<IpAddr>().is_err() {
        "; leave out the port"
    } else if text.contains('_') {
        "; a host name has no _"
    } else {
        ""
    };
    format!("{text:?} is no host name such as a.example.com or *.example.com{hint}")
}

/// A host of a Gateway server or of a Sidecar: a wildcard domain or an address; no short name but `*`.
pub(crate) fn server_host(text: &str) -> Result<(), String> {
    if is_partial_wildcard(text) {
        return Err(format!(
            "{text:?}: a wildcard must be the whole first label, as in *.example.com"
        ));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    if !is_wildcard_domain(text) {
        return Err(want_host(text));
    }
    if text != "*" && !text.contains('.') {
        return Err(format!(
            "{text:?} is a short name, which means nothing here; write it in full, as in {text}.NAMESPACE.svc.cluster.local"
        ));
    }
    Ok(())
}

/// A set of hosts, asked for the wildcard among them that covers another host.
#[derive(Default)]
pub(crate) struct Cover(BTreeSet<String>);

impl Cover {
    /// A set of hosts.
    pub fn new<'a>(hosts: impl Iterator<Item = &'a str>) -> Cover {
        Cover(hosts.map(str::to_ascii_lowercase).collect())
    }

    /// Adds a host; false if it was there.
    pub fn insert(&mut self, host: &str) -> bool {
        self.0.insert(host.to_ascii_lowercase())
    }

    /// The host itself, if it is in the set.
    pub fn contains(&self, host: &str) -> bool {
        self.0.contains(&host.to_ascii_lowercase())
    }

    /// A wildcard in the set, other than the host itself, of which it is a part.
    pub fn wildcard_over(&self, host: &str) -> Option<&str> {
        let host = host.to_ascii_lowercase();
        let plain = host.strip_prefix('*').unwrap_or(&host);
        let suffixes = plain
            .char_indices()
            .filter(|(i, c)| *c == '.' && (*i > 0 || plain.len() == host.len()));
        suffixes
            .map(|(i, _)| format!("*{}", &plain[i..]))
            .chain((host != "*").then(|| "*".to_owned()))
            .find_map(|wildcard| self.0.get(&wildcard).map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for good in ["a", "a.b", "A.b.", "1.a", "a-b.c1"] {
            assert!(is_fqdn(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "a..b",
            "-a",
            "a.1",
            "1.2.3.4",
            "a_b",
            "*.a",
            &"a".repeat(300),
        ] {
            assert!(!is_fqdn(bad), "{bad}");
        }
        for good in ["*", "*.a", "*a.b", "*-a.b", "a.b"] {
            assert!(is_wildcard_domain(good), "{good}");
        }
        for bad in ["", "a.*", "**", "*.", "*-.a", "*.1", "a.*.b"] {
            assert!(!is_wildcard_domain(bad), "{bad}");
        }
        let cover = Cover::new(["*.com", "*.foo.com", "a.org"].into_iter());
        assert_eq!(cover.wildcard_over("x.foo.com"), Some("*.foo.com"));
        assert_eq!(cover.wildcard_over("*.foo.com"), Some("*.com"));
        assert_eq!(cover.wildcard_over("*.com"), None);
        assert_eq!(cover.wildcard_over("com"), None);
        assert_eq!(cover.wildcard_over("a.org"), None);
        assert!(cover.contains("A.org"));
        assert_eq!(
            Cover::new(["*"].into_iter()).wildcard_over("*.com"),
            Some("*")
        );
        for good in ["*", "*.a.b", "a.b", "1.2.3.4", "::1"] {
            assert_eq!(server_host(good), Ok(()));
        }
        for bad in ["a", "*a.b", "a.b/c", "http://a.b", "a.b:80"] {
            assert!(server_host(bad).is_err(), "{bad}");
        }
    }
}
