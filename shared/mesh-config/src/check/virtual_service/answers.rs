//! What a proxy answers by itself: redirects and fixed responses.

use mesh_types::Code;

use crate::check::report::Report;
use crate::check::{headers, values};
use crate::resource::virtual_service::{HttpDirectResponse, HttpRedirect, HttpRoute};

/// A redirect of `route`.
pub(super) fn redirect(r: &mut Report, redirect: &HttpRedirect, route: &HttpRoute) {
    r.at_most_one(&[
        ("uri", !redirect.uri.is_empty()),
        ("prefixRewrite", redirect.prefix_rewrite.is_some()),
    ]);
    r.at_most_one(&[
        ("port", redirect.port.is_some()),
        ("derivePort", redirect.derive_port.is_some()),
    ]);
    if redirect.prefix_rewrite.is_some()
        && route
            .matches
            .iter()
            .any(|m| m.uri.as_ref().is_some_and(|uri| uri.prefix.is_none()))
    {
        r.say_at(
            "prefixRewrite",
            Code::Conflict,
            "needs every uri condition of the rule to be a prefix",
        );
    }
    let changes = !redirect.uri.is_empty()
        || redirect.prefix_rewrite.is_some()
        || !redirect.authority.is_empty()
        || redirect.port.is_some()
        || redirect.derive_port.is_some()
        || !redirect.scheme.is_empty()
        || redirect.redirect_code != 0;
    if !changes {
        r.say(
            Code::Required,
            "one of uri, prefixRewrite, authority, port, scheme and redirectCode must be set",
        );
    }
    for (name, text) in [
        ("uri", redirect.uri.as_str()),
        (
            "prefixRewrite",
            redirect.prefix_rewrite.as_deref().unwrap_or(""),
        ),
        ("authority", &redirect.authority),
    ] {
        r.test(name, Code::Malformed, headers::text(text));
    }
    let code = redirect.redirect_code;
    if !matches!(code, 0 | 301 | 302 | 303 | 307 | 308) {
        r.say_at(
            "redirectCode",
            Code::OutOfRange,
            format!("{code} is no redirect, want 301, 302, 303, 307 or 308"),
        );
    }
    if !matches!(redirect.scheme.as_str(), "" | "http" | "https") {
        r.say_at(
            "scheme",
            Code::UnknownValue,
            format!("{:?} is none of http, https", redirect.scheme),
        );
    }
    if let Some(port) = redirect.port {
        r.test("port", Code::OutOfRange, values::port(port));
    }
}

/// A fixed response.
pub(super) fn direct_response(r: &mut Report, response: &HttpDirectResponse) {
    if !(200..=599).contains(&response.status) {
        r.say_at(
            "status",
            Code::OutOfRange,
            format!("{} is no status, want 200..=599", response.status),
        );
    }
    r.some("body", response.body.as_ref(), |r, body| {
        r.at_most_one(&[
            ("string", body.string.is_some()),
            ("bytes", body.bytes.is_some()),
        ]);
        if let Some(bytes) = &body.bytes
            && !is_base64(bytes)
        {
            r.say_at(
                "bytes",
                Code::Malformed,
                "is no base64; put plain text into string",
            );
        }
        let size = body
            .string
            .as_ref()
            .map_or(0, String::len)
            .max(body.bytes.as_ref().map_or(0, |b| b.len() / 4 * 3));
        if size > 1 << 20 {
            r.say(
                Code::OutOfRange,
                format!("{size} bytes are too many, at most 1048576 are sent"),
            );
        } else if size > 100 << 10 {
            r.say(
                Code::Risky,
                format!("{size} bytes go to every proxy; above 102400 consider a service instead"),
            );
        }
    });
}

/// Base64 of the usual or the URL alphabet, padded or not.
fn is_base64(text: &str) -> bool {
    let data = text.trim_end_matches('=');
    text.len() - data.len() <= 2
        && data.len() % 4 != 1
        && data
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_'))
}
