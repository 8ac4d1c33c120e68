//! Names and values of HTTP headers.

use std::collections::BTreeMap;

use mesh_types::Code;

use super::report::Report;
use crate::resource::virtual_service::{HeaderOperations, Headers};

/// Begins a condition on a claim of a validated token instead of on a header.
pub(crate) const CLAIMS: &str = "@request.auth.claims";

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A header name in a condition: a token, a pseudo header, or a claim.
pub(crate) fn match_name(name: &str) -> Result<(), String> {
    let pseudo = [":method", ":scheme", ":authority", ":path", ":status"];
    if is_token(name) || pseudo.contains(&name) || name.starts_with(CLAIMS) {
        Ok(())
    } else {
        Err(format!("{name:?} is no header name"))
    }
}

/// A header name in a list of names (CORS): a token or `*`.
pub(crate) fn plain_name(name: &str) -> Result<(), String> {
    if is_token(name) {
        Ok(())
    } else {
        Err(format!("{name:?} is no header name"))
    }
}

/// A header that may be added or overwritten (`request`), or removed or changed in a response.
fn changed_name(name: &str, request: bool) -> Result<(), String> {
    let lower = name.to_ascii_lowercase();
    if lower.starts_with(':') && !(request && lower == ":authority") {
        return Err(format!(
            "{name:?} is set by the proxy itself and cannot be changed"
        ));
    }
    if lower == "host" && !request {
        return Err("the host header cannot be changed here".into());
    }
    if lower == ":authority" || is_token(name) {
        Ok(())
    } else {
        Err(format!("{name:?} is no header name"))
    }
}

/// Longest name or value of a header. Unit: bytes.
const MAX_LENGTH: usize = 16_384;

/// What may stand in a header as it is: no control characters but TAB, at most 16384 bytes.
pub(crate) fn text(text: &str) -> Result<(), String> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err("control characters, such as a line break, cannot be sent in a header".into());
    }
    if text.len() > MAX_LENGTH {
        return Err(format!(
            "{} bytes are too many for a header, at most {MAX_LENGTH} are sent",
            text.len()
        ));
    }
    Ok(())
}

/// A header's value: [`text`], with Envoy's `%VAR(args)%` well formed, `%%` for `%`.
pub(crate) fn value(text: &str) -> Result<(), String> {
    self::text(text)?;
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        let tail = &rest[start + 1..];
        if let Some(after) = tail.strip_prefix('%') {
            rest = after;
            continue;
        }
        rest = variable(tail)
            .ok_or_else(|| format!("{text:?}: % begins a variable such as %DOWNSTREAM_REMOTE_ADDRESS%; write %% for a plain %"))?;
    }
    Ok(())
}

/// What follows `NAME%`, `NAME(args)%` or `NAME(args):3%`.
fn variable(text: &str) -> Option<&str> {
    let name = text
        .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        .filter(|n| *n > 0)?;
    let mut rest = &text[name..];
    if let Some(args) = rest.strip_prefix('(') {
        rest = &args[args.find(')')? + 1..];
        if let Some(length) = rest.strip_prefix(':') {
            rest = length.trim_start_matches(|c: char| c.is_ascii_digit());
        }
    }
    rest.strip_prefix('%')
}

/// Header changes. Returns how often they set the authority.
pub(crate) fn changes(r: &mut Report, headers: Option<&Headers>) -> usize {
    let mut authority = 0;
    r.some("headers", headers, |r, headers| {
        for (name, operations, request) in [
            ("request", &headers.request, true),
            ("response", &headers.response, false),
        ] {
            r.some(name, operations.as_ref(), |r, operations| {
                set(r, "set", &operations.set, request);
                set(r, "add", &operations.add, request);
                r.items("remove", &operations.remove, |r, _, name| {
                    if let Err(message) = changed_name(name, false) {
                        r.say(Code::Malformed, message);
                    }
                });
                if request {
                    authority += authorities(operations);
                }
            });
        }
    });
    authority
}

fn authorities(operations: &HeaderOperations) -> usize {
    let names = operations.set.keys().chain(operations.add.keys());
    names
        .filter(|n| n.eq_ignore_ascii_case(":authority") || n.eq_ignore_ascii_case("host"))
        .count()
}

fn set(r: &mut Report, name: &'static str, headers: &BTreeMap<String, String>, request: bool) {
    for (header, text) in headers {
        for result in [changed_name(header, request), value(text)] {
            if let Err(message) = result {
                r.field(name, |r| r.say_at(header.clone(), Code::Malformed, message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for good in [
            "",
            "plain",
            "100%%",
            "%REQ(X-A?Y):7%",
            "a %START_TIME(%s)% b",
            "%PROTOCOL%",
            "tab\there",
        ] {
            assert_eq!(value(good), Ok(()), "{good}");
        }
        let long = "a".repeat(MAX_LENGTH + 1);
        for bad in [
            "50%",
            "%a%",
            "%REQ(x%",
            "%PROTOCOL",
            "a\nb",
            "%REQ(x):y%",
            &long,
        ] {
            assert!(value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_may_be_changed() {
        assert!(
            changed_name("x-a", true).is_ok()
                && changed_name(":authority", true).is_ok()
                && changed_name("Host", true).is_ok()
        );
        assert!(
            changed_name("host", false).is_err()
                && changed_name(":path", true).is_err()
                && changed_name("a b", true).is_err()
        );
    }
}
