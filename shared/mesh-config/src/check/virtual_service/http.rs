//! HTTP rules.

use mesh_types::Code;

use super::retries::retries;
use super::{Whole, answers, destination, matches, plain_destination, weights};
use crate::check::report::Report;
use crate::check::{headers, names, values};
use crate::resource::grpc_status;
use crate::resource::virtual_service::{CorsPolicy, HttpFaultInjection, HttpRewrite, HttpRoute};

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
        answers::redirect(r, redirect, route)
    });
    r.some(
        "directResponse",
        route.direct_response.as_ref(),
        answers::direct_response,
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
            && grpc_status(status).is_none()
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
