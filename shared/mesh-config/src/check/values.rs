//! Forms and ranges of single values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_types::{Code, Protocol};
use regex_syntax::hir::{Hir, HirKind};

use super::names;
use super::report::Report;
use crate::resource::{Double, Duration, MatchingSelector, Percent, StringMatch, WorkloadSelector};

/// 1..=65535.
pub(crate) fn port(number: u32) -> Result<(), String> {
    if (1..=65535).contains(&number) {
        Ok(())
    } else {
        Err(format!("{number} is no port, want 1..=65535"))
    }
}

/// At least 1 ms, in whole milliseconds.
pub(crate) fn duration(d: Duration) -> Result<(), String> {
    if d.nanos < 1_000_000 {
        Err(format!("{d} is too short, want at least 1ms"))
    } else if d.nanos % 1_000_000 != 0 {
        Err(format!("{d} is no whole number of milliseconds"))
    } else {
        Ok(())
    }
}

/// A field with a [`duration`].
pub(crate) fn duration_field(r: &mut Report, name: &'static str, d: Option<Duration>) {
    if let Some(d) = d {
        r.test(name, Code::OutOfRange, duration(d));
    }
}

/// A field with a [`duration`] or 0.
pub(crate) fn duration_or_zero(r: &mut Report, name: &'static str, d: Option<Duration>) {
    duration_field(r, name, d.filter(|d| *d != Duration::ZERO));
}

/// 0, or 0.0001..=100.
pub(crate) fn percentage(r: &mut Report, name: &'static str, percent: Option<&Percent>) {
    if let Some(Percent { value: Double(v) }) = percent
        && *v != 0.0
        && !(0.0001..=100.0).contains(v)
    {
        r.field(name, |r| {
            r.say_at(
                "value",
                Code::OutOfRange,
                format!("{v} is no percentage, want 0 or 0.0001..=100"),
            )
        });
    }
}

/// A whole percentage.
pub(crate) fn percent(r: &mut Report, name: &'static str, value: i64) {
    if !(0..=100).contains(&value) {
        r.say_at(
            name,
            Code::OutOfRange,
            format!("{value} is no percentage, want 0..=100"),
        );
    }
}

/// A number that must not be negative.
pub(crate) fn not_negative(r: &mut Report, name: &'static str, value: i32) {
    if value < 0 {
        r.say_at(
            name,
            Code::OutOfRange,
            format!("{value} is negative, want 0 or more"),
        );
    }
}

/// An IP address.
pub(crate) fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// An IP address or a network.
pub(crate) fn subnet(text: &str) -> Result<(), String> {
    let valid = if text.contains('/') {
        text.parse::<ipnet::IpNet>().is_ok()
    } else {
        is_ip(text)
    };
    if valid {
        Ok(())
    } else {
        Err(format!(
            "{text:?} is neither an IP address nor a network such as 10.0.0.0/8"
        ))
    }
}

/// What stands behind `unix://`: an absolute path to a file, or an abstract name with `@`.
pub(crate) fn unix_path(path: &str) -> Result<(), String> {
    if path.starts_with('@') || (path.starts_with('/') && !path.ends_with('/')) {
        Ok(())
    } else {
        Err(format!(
            "unix://{path} names no socket; write unix:///path/to/socket or unix://@name"
        ))
    }
}

/// The name of a protocol.
pub(crate) fn protocol(r: &mut Report, text: &str, empty_allowed: bool) {
    if text.is_empty() {
        if !empty_allowed {
            r.say_at(
                "protocol",
                Code::Required,
                "must be set, for example to HTTP",
            );
        }
    } else if Protocol::parse(text).is_none() {
        let message = format!(
            "{text:?} is no protocol; there are HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, MYSQL, REDIS, TCP, TLS, UDP"
        );
        r.say_at("protocol", Code::UnknownValue, message);
    }
}

/// Labels of a selector or of an object.
pub(crate) fn labels(r: &mut Report, name: &'static str, labels: &BTreeMap<String, String>) {
    for (key, value) in labels {
        if let Err(message) = names::label_pair(key, value) {
            r.field(name, |r| r.say_at(key.clone(), Code::Malformed, message));
        }
    }
}

/// A selector of workloads.
pub(crate) fn selector(r: &mut Report, selector: Option<&WorkloadSelector>) {
    r.some("workloadSelector", selector, |r, selector| {
        selected(r, "labels", &selector.labels);
    });
}

/// A selector of workloads, as rules and policies write it.
pub(crate) fn matching_selector(r: &mut Report, selector: Option<&MatchingSelector>) {
    r.some("workloadSelector", selector, |r, selector| {
        selected(r, "matchLabels", &selector.match_labels);
    });
}

pub(crate) fn selected(r: &mut Report, field: &'static str, labels: &BTreeMap<String, String>) {
    if labels.is_empty() {
        r.say_at(
            field,
            Code::Risky,
            "no label is given, so every workload of the namespace is selected",
        );
    }
    for (key, value) in labels {
        if key.is_empty() || key.contains('*') || value.contains('*') {
            let message =
                format!("{key:?}: {value:?} selects nothing; give a key and a value without *");
            r.field(field, |r| r.say_at(key.clone(), Code::Malformed, message));
        }
    }
}

/// Namespaces an object is exported to.
pub(crate) fn export_to(r: &mut Report, export_to: &[String], own: &str, none_allowed: bool) {
    let mut seen = BTreeSet::new();
    r.items("exportTo", export_to, |r, _, entry| {
        let meant = if entry == "." { own } else { entry };
        if !seen.insert(meant) {
            r.say(Code::Duplicate, format!("{entry:?} is given twice"));
        }
        match entry.as_str() {
            "*" if export_to.len() > 1 => {
                r.say(Code::Conflict, "* means every namespace; give it alone")
            }
            "~" if !none_allowed => r.say(
                Code::Malformed,
                "~ (no namespace) is for a ServiceEntry alone",
            ),
            "~" if export_to.len() > 1 => {
                r.say(Code::Conflict, "~ means no namespace; give it alone")
            }
            "*" | "~" | "." => {}
            name if !names::is_label(name) => r.say(
                Code::Malformed,
                format!(
                    "{name:?} is no namespace; write its name, . for the object's own or * for all"
                ),
            ),
            _ => {}
        }
    });
}

/// A regular expression of RE2's syntax, at most 1024 characters.
pub(crate) fn regex(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("an empty pattern matches nothing; leave the field out".into());
    }
    if text.chars().count() > 1024 {
        return Err("the pattern has more than 1024 characters".into());
    }
    // The syntax is RE2's to within a few rarities; parsing alone bounds the work, unlike compiling.
    match regex_syntax::ParserBuilder::new()
        .nest_limit(200)
        .build()
        .parse(text)
    {
        Ok(pattern) if repetitions(&pattern) > MAX_REPETITIONS => Err(format!(
            "something is repeated more than {MAX_REPETITIONS} times, nested repetitions multiplied"
        )),
        Ok(_) => Ok(()),
        Err(error) => {
            let text = error.to_string();
            let reason = text
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            Err(format!("no regular expression: {reason}"))
        }
    }
}

/// Most repetitions of one part that RE2 compiles.
const MAX_REPETITIONS: u64 = 1000;

/// How often the innermost part of a pattern must be written out.
fn repetitions(pattern: &Hir) -> u64 {
    match pattern.kind() {
        HirKind::Repetition(part) => {
            let times = part.max.unwrap_or(part.min).max(1);
            u64::from(times).saturating_mul(repetitions(&part.sub))
        }
        HirKind::Capture(part) => repetitions(&part.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(repetitions).max().unwrap_or(1)
        }
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => 1,
    }
}

/// A comparison of texts.
pub(crate) fn string_match(
    r: &mut Report,
    value: &StringMatch,
    empty_prefix_allowed: bool,
    any_regex: bool,
) {
    r.at_most_one(&[
        ("exact", value.exact.is_some()),
        ("prefix", value.prefix.is_some()),
        ("regex", value.regex.is_some()),
    ]);
    if value.prefix.as_deref() == Some("") && !empty_prefix_allowed {
        r.say_at(
            "prefix",
            Code::Required,
            "an empty prefix matches everything; leave the condition out",
        );
    }
    if let Some(pattern) = &value.regex
        && !(any_regex && pattern == "*")
    {
        r.test("regex", Code::Malformed, regex(pattern));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for good in [
            ".*",
            "^/(?i)api/v[0-9]+$",
            "(?P<name>a)",
            r"\d+\.\w",
            r"[[:alpha:]]\pL",
            "a{1000}b{1000}",
            "(a{30}){30}",
        ] {
            assert_eq!(regex(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "(",
            "a**b)",
            "[z-a]",
            r"(?=x)",
            r"(a)\1",
            &"a".repeat(1025),
            &"(".repeat(1000),
            "a{1001}",
            "((a{100}){100})",
        ] {
            assert!(regex(bad).is_err(), "{bad}");
        }
        assert_eq!(regex(r"(?=x)"), Err("no regular expression: look-around, including look-ahead and look-behind, is not supported".into()));
    }

    #[test]
    fn addresses() {
        for good in ["10.0.0.1", "::1", "10.0.0.0/8", "fd00::/8"] {
            assert_eq!(subnet(good), Ok(()));
        }
        for bad in ["", "10.0.0", "10.0.0.0/33", "a.com", "1/2/3"] {
            assert!(subnet(bad).is_err(), "{bad}");
        }
        assert!(unix_path("/a/b").is_ok() && unix_path("@x").is_ok());
        assert!(unix_path("").is_err() && unix_path("a").is_err() && unix_path("/a/").is_err());
    }
}
