//! How policies compare texts: `abc` exactly, `abc*` by their start, `*abc` by their end, `*` for any that is not empty
//! (SECURITY-INJECTION E.5). A `*` anywhere else is itself.

use envoy_api::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use envoy_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_api::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};

/// A pattern, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern<'a> {
    /// This text.
    Exact(&'a str),
    /// What starts so.
    Prefix(&'a str),
    /// What ends so.
    Suffix(&'a str),
    /// Anything but nothing.
    Present,
}

impl Pattern<'_> {
    /// Reads a pattern. A `*` at the front is looked for before one at the end.
    pub fn of(text: &str) -> Pattern<'_> {
        if text == "*" {
            Pattern::Present
        } else if let Some(end) = text.strip_prefix('*') {
            Pattern::Suffix(end)
        } else if let Some(start) = text.strip_suffix('*') {
            Pattern::Prefix(start)
        } else {
            Pattern::Exact(text)
        }
    }
}

/// The matcher of a pattern.
pub fn matcher(text: &str) -> StringMatcher {
    match Pattern::of(text) {
        Pattern::Exact(text) => exact(text),
        Pattern::Prefix(start) => prefix(start),
        Pattern::Suffix(end) => of(MatchPattern::Suffix(end.to_owned())),
        Pattern::Present => present(),
    }
}

/// The matcher of a pattern for a header; `any_case` for hosts.
pub fn header(name: &str, text: &str, any_case: bool) -> HeaderMatcher {
    let specifier = match Pattern::of(text) {
        Pattern::Present => HeaderMatchSpecifier::PresentMatch(true),
        Pattern::Exact(_) | Pattern::Prefix(_) | Pattern::Suffix(_) => {
            HeaderMatchSpecifier::StringMatch(StringMatcher {
                ignore_case: any_case,
                ..matcher(text)
            })
        }
    };
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..Default::default()
    }
}

/// Exactly this.
pub fn exact(text: impl Into<String>) -> StringMatcher {
    of(MatchPattern::Exact(text.into()))
}

/// What starts so.
pub fn prefix(text: impl Into<String>) -> StringMatcher {
    of(MatchPattern::Prefix(text.into()))
}

/// What matches an expression of RE2 as a whole.
pub fn regex(regex: impl Into<String>) -> StringMatcher {
    of(MatchPattern::SafeRegex(RegexMatcher {
        regex: regex.into(),
        ..Default::default()
    }))
}

/// Anything but nothing.
pub fn present() -> StringMatcher {
    regex(".+")
}

fn of(pattern: MatchPattern) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(pattern),
        ..Default::default()
    }
}

/// A text as an expression that matches nothing else.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stars_at_the_ends_are_special_and_the_first_comes_first() {
        assert_eq!(Pattern::of("abc"), Pattern::Exact("abc"));
        assert_eq!(Pattern::of("abc*"), Pattern::Prefix("abc"));
        assert_eq!(Pattern::of("*abc"), Pattern::Suffix("abc"));
        assert_eq!(Pattern::of("*abc*"), Pattern::Suffix("abc*"));
        assert_eq!(Pattern::of("a*c"), Pattern::Exact("a*c"));
        assert_eq!(Pattern::of("*"), Pattern::Present);
        assert_eq!(Pattern::of(""), Pattern::Exact(""));
    }

    #[test]
    fn whatever_means_something_to_re2_is_quoted() {
        assert_eq!(quote(r"a.b\c[d]$"), r"a\.b\\c\[d\]\$");
    }
}
