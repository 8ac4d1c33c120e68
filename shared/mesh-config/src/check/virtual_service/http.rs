//! HTTP rules.

use mesh_types::Code;

use super::{Whole, destination, matches, plain_destination, weights};
use crate::check::report::Report;
use crate::check::{headers, names, values};
use crate::resource::virtual_service::{
    CorsPolicy, HttpDirectResponse, HttpFaultInjection, HttpRedirect, HttpRetry, HttpRewrite,
    HttpRoute,
};

pub(super) fn check(r: &mut Report, whole: &Whole<'_>, route: &HttpRoute) {
    purpose(r, whole, route);
    r.items("match", &route.matches, |r, _, condition| {
        matches::check(r, whole, condition)
    });
    let mut authority = headers::changes(r, route.headers.as_ref());
    authority += usize::from(
        route
            .rewrite
            .as_ref()
            .is_some_and(|rw| !rw.authority.is_empty()),
    );
    let mut most = authority;
    r.items("route", &route.route, |r, _, to| {
        destination(r, to.destination.as_ref());
        values::not_negative(r, "weight", to.weight);
        most = most.max(authority + headers::changes(r, to.headers.as_ref()));
    });
    weights(r, "route", route.route.iter().map(|to| to.weight));
    if most > 1 {
        r.say(Code::Conflict, "the authority is set in several places (rewrite.authority, headers.request.set, headers.request.add); keep one");
    }
    mirrors(r, route);
    r.some("corsPolicy", route.cors_policy.as_ref(), cors);
    r.some("fault", route.fault.as_ref(), fault);
    r.some("redirect", route.redirect.as_ref(), |r, redirect| {
        check_redirect(r, redirect, route)
    });
    r.some(
        "directResponse",
        route.direct_response.as_ref(),
        direct_response,
    );
    r.some("rewrite", route.rewrite.as_ref(), rewrite);
    r.some("retries", route.retries.as_ref(), retries);
    values::duration_or_zero(r, "timeout", route.timeout);
}

/// What becomes of a request: route, redirect, direct response or delegate.
fn purpose(r: &mut Report, whole: &Whole<'_>, route: &HttpRoute) {
    let has_route = !route.route.is_empty();
    let exclude = |r: &mut Report, what: &str, others: &[(&'static str, bool)]| {
        for (name, set) in others {
            if *set {
                r.say_at(
                    *name,
                    Code::Conflict,
                    format!("must not be set beside {what}"),
                );
            }
        }
    };
    if let Some(delegate) = &route.delegate {
        if whole.delegate {
            r.say_at(
                "delegate",
                Code::Conflict,
                "a delegate cannot delegate further",
            );
        }
        r.field("delegate", |r| {
            if !names::is_subdomain(&delegate.name) {
                r.say_at(
                    "name",
                    Code::Malformed,
                    "must be the name of a VirtualService",
                );
            }
            if !delegate.namespace.is_empty() && !names::is_label(&delegate.namespace) {
                r.say_at(
                    "namespace",
                    Code::Malformed,
                    names::want_label(&delegate.namespace),
                );
            }
        });
        return exclude(
            r,
            "delegate",
            &[("redirect", route.redirect.is_some()), ("route", has_route)],
        );
    }
    let (fault, rewrite) = (
        ("fault", route.fault.is_some()),
        ("rewrite", route.rewrite.is_some()),
    );
    if route.redirect.is_some() {
        exclude(
            r,
            "redirect",
            &[
                ("route", has_route),
                fault,
                rewrite,
                ("directResponse", route.direct_response.is_some()),
            ],
        );
    } else if route.direct_response.is_some() {
        exclude(r, "directResponse", &[("route", has_route), fault, rewrite]);
    } else if !has_route {
        r.say_at(
            "route",
            Code::Required,
            "one of route, redirect, directResponse and delegate must be set",
        );
    }
}

fn mirrors(r: &mut Report, route: &HttpRoute) {
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        r.say_at("mirrors", Code::Conflict, "excludes mirror; keep one");
    }
    r.some("mirror", route.mirror.as_ref(), plain_destination);
    r.items("mirrors", &route.mirrors, |r, _, mirror| {
        destination(r, mirror.destination.as_ref());
        values::percentage(r, "percentage", mirror.percentage.as_ref());
    });
    values::percentage(r, "mirrorPercentage", route.mirror_percentage.as_ref());
    if let Some(percent) = route.mirror_percent {
        r.say_at(
            "mirrorPercent",
            Code::Deprecated,
            "write mirrorPercentage: {value: ..} instead",
        );
        values::percent(r, "mirrorPercent", percent.into());
    }
    let share = route.mirror_percentage.is_some() || route.mirror_percent.is_some();
    if share && route.mirror.is_none() {
        r.say_at(
            "mirrorPercentage",
            Code::NoEffect,
            "does nothing without mirror; mirrors have a percentage each",
        );
    }
}

fn cors(r: &mut Report, cors: &CorsPolicy) {
    if !cors.allow_origin.is_empty() {
        r.say_at(
            "allowOrigin",
            Code::Deprecated,
            "write allowOrigins instead",
        );
    }
    r.items("allowOrigins", &cors.allow_origins, |r, _, origin| {
        if origin.exact.as_deref() == Some("") || *origin == Default::default() {
            r.say(
                Code::Required,
                "an origin must be given: exact, prefix or regex",
            );
        }
        values::string_match(r, origin, false, false);
    });
    const METHODS: &[&str] = &[
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*",
    ];
    r.items("allowMethods", &cors.allow_methods, |r, _, method| {
        if !METHODS.contains(&method.as_str()) {
            r.say(
                Code::UnknownValue,
                format!("{method:?} is none of {}", METHODS.join(", ")),
            );
        }
    });
    for (name, list) in [
        ("allowHeaders", &cors.allow_headers),
        ("exposeHeaders", &cors.expose_headers),
    ] {
        r.items(name, list, |r, _, header| {
            if let Err(message) = headers::plain_name(header) {
                r.say(Code::Malformed, message);
            }
        });
    }
    if let Some(age) = cors.max_age
        && (age.nanos < 0 || age.subsec_nanos() != 0)
    {
        let message = format!("{age} is no whole number of seconds");
        r.say_at("maxAge", Code::OutOfRange, message);
    }
}

fn fault(r: &mut Report, fault: &HttpFaultInjection) {
    if fault.abort.is_none() && fault.delay.is_none() {
        r.say(Code::Required, "one of abort and delay must be set");
    }
    r.some("abort", fault.abort.as_ref(), |r, abort| {
        r.at_most_one(&[
            ("httpStatus", abort.http_status.is_some()),
            ("grpcStatus", abort.grpc_status.is_some()),
            ("http2Error", abort.http2_error.is_some()),
        ]);
        match abort.http_status {
            Some(status) if !(200..=599).contains(&status) => r.say_at(
                "httpStatus",
                Code::OutOfRange,
                format!("{status} is no status, want 200..=599"),
            ),
            _ => {}
        }
        if let Some(status) = &abort.grpc_status
            && !is_grpc_status(status)
        {
            r.say_at(
                "grpcStatus",
                Code::UnknownValue,
                format!("{status:?} is no gRPC status such as UNAVAILABLE or 14"),
            );
        }
        if abort.http2_error.is_some() {
            r.say_at(
                "http2Error",
                Code::Conflict,
                "no proxy can do this; set httpStatus or grpcStatus",
            );
        }
        if abort.http_status.is_none() && abort.grpc_status.is_none() && abort.http2_error.is_none()
        {
            r.say(
                Code::NoEffect,
                "no status is given, so nothing is aborted; set httpStatus",
            );
        }
        values::percentage(r, "percentage", abort.percentage.as_ref());
    });
    r.some("delay", fault.delay.as_ref(), |r, delay| {
        if delay.percent != 0 {
            r.say_at(
                "percent",
                Code::Deprecated,
                "write percentage: {value: ..} instead",
            );
            values::percent(r, "percent", delay.percent.into());
        }
        values::percentage(r, "percentage", delay.percentage.as_ref());
        if delay.exponential_delay.is_some() {
            r.say_at(
                "exponentialDelay",
                Code::Conflict,
                "no proxy can do this; set fixedDelay",
            );
        } else if delay.fixed_delay.is_none() {
            r.say_at(
                "fixedDelay",
                Code::Required,
                "must be set, for example to 5s",
            );
        }
        values::duration_field(r, "fixedDelay", delay.fixed_delay);
    });
}

/// A gRPC status by name or number.
fn is_grpc_status(text: &str) -> bool {
    const NAMES: &[&str] = &[
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.contains(&text) || text.parse::<u8>().is_ok_and(|n| n <= 16)
}

fn check_redirect(r: &mut Report, redirect: &HttpRedirect, route: &HttpRoute) {
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

fn direct_response(r: &mut Report, response: &HttpDirectResponse) {
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

fn rewrite(r: &mut Report, rewrite: &HttpRewrite) {
    r.at_most_one(&[
        ("uri", !rewrite.uri.is_empty()),
        ("uriRegexRewrite", rewrite.uri_regex_rewrite.is_some()),
    ]);
    if rewrite.uri.is_empty() && rewrite.authority.is_empty() && rewrite.uri_regex_rewrite.is_none()
    {
        r.say(
            Code::Required,
            "one of uri, uriRegexRewrite and authority must be set",
        );
    }
    r.test("uri", Code::Malformed, headers::text(&rewrite.uri));
    r.test(
        "authority",
        Code::Malformed,
        headers::text(&rewrite.authority),
    );
    r.some(
        "uriRegexRewrite",
        rewrite.uri_regex_rewrite.as_ref(),
        |r, regex| {
            r.need("rewrite", !regex.rewrite.is_empty(), "");
            if regex.pattern.is_empty() {
                r.need("match", false, "");
            } else {
                r.test("match", Code::Malformed, values::regex(&regex.pattern));
            }
        },
    );
}

/// Conditions on which a request may be tried again.
const RETRY_ON: &[&str] = &[
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// A retry policy.
pub(crate) fn retries(r: &mut Report, retries: &HttpRetry) {
    values::not_negative(r, "attempts", retries.attempts);
    let others = [
        ("perTryTimeout", retries.per_try_timeout.is_some()),
        ("retryOn", !retries.retry_on.is_empty()),
        (
            "retryRemoteLocalities",
            retries.retry_remote_localities.is_some(),
        ),
        (
            "retryIgnorePreviousHosts",
            retries.retry_ignore_previous_hosts.is_some(),
        ),
        ("backoff", retries.backoff.is_some()),
    ];
    if retries.attempts == 0 {
        for (name, _) in others.iter().filter(|(_, set)| *set) {
            r.say_at(
                *name,
                Code::Conflict,
                "must not be set while attempts is 0 (or not set), which turns retries off",
            );
        }
    }
    values::duration_field(r, "perTryTimeout", retries.per_try_timeout);
    values::duration_field(r, "backoff", retries.backoff);
    for word in retries
        .retry_on
        .split(',')
        .map(str::trim)
        .filter(|_| !retries.retry_on.is_empty())
    {
        let status = word.parse::<u16>().is_ok_and(|n| (100..=599).contains(&n));
        if !status && !RETRY_ON.contains(&word) {
            let close = crate::schema::nearest(word, RETRY_ON.iter().copied());
            let hint = close
                .map(|c| format!("; did you mean {c}?"))
                .unwrap_or_default();
            let known = if close.is_some() {
                "no condition for a retry".into()
            } else {
                format!("none of {} and no status", RETRY_ON.join(", "))
            };
            r.say_at(
                "retryOn",
                Code::UnknownValue,
                format!("{word:?} is {known}{hint}"),
            );
        }
    }
}
