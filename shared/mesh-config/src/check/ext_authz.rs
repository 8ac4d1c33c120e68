//! External authorizers among a mesh's `extensionProviders`.

use std::collections::BTreeSet;

use mesh_types::Code;
use serde_json::Value;

use super::report::Report;
use super::{headers, hosts, names, values};
use crate::resource::Duration;
use crate::resource::ext_authz::{CheckedBody, ExtAuthz, ExtAuthzGrpc, ExtAuthzHttp};
use crate::schema::nearest;

/// Members of both kinds.
const KINDS: [&str; 2] = ["envoyExtAuthzHttp", "envoyExtAuthzGrpc"];
const COMMON: &[&str] = &[
    "service",
    "port",
    "timeout",
    "failOpen",
    "clearRouteCache",
    "statusOnError",
    "includeRequestBodyInCheck",
];
const HTTP: &[&str] = &[
    "pathPrefix",
    "includeHeadersInCheck",
    "includeRequestHeadersInCheck",
    "includeAdditionalHeadersInCheck",
    "headersToUpstreamOnAllow",
    "headersToDownstreamOnDeny",
    "headersToDownstreamOnAllow",
];

pub(super) fn check(r: &mut Report, providers: &[Value]) {
    let mut seen = BTreeSet::new();
    r.items("extensionProviders", providers, |r, _, provider| {
        let name = provider.get("name").and_then(Value::as_str);
        let again = !seen.insert(name.unwrap_or_default());
        let Some(kind) = KINDS.into_iter().find(|kind| provider.get(kind).is_some()) else {
            return;
        };
        let name = name.unwrap_or_default();
        if !names::is_label(name) {
            r.say_at("name", Code::Malformed, names::want_label(name));
        }
        if again {
            let message = format!("{name:?} is given twice");
            r.say_at("name", Code::Duplicate, message);
        }
        r.field(kind, |r| authorizer(r, provider, kind));
    });
}

fn authorizer(r: &mut Report, provider: &Value, kind: &'static str) {
    let http = kind == KINDS[0];
    let known = || COMMON.iter().chain(if http { HTTP } else { &[] }).copied();
    let fields = provider.get(kind).and_then(Value::as_object);
    for field in fields.into_iter().flat_map(|fields| fields.keys()) {
        if !known().any(|name| name == field) {
            let close = nearest(field, known());
            let hint = close.map_or(String::new(), |close| format!("; did you mean {close}?"));
            let message = format!("no such field{hint}");
            r.say_at(field.clone(), Code::UnknownField, message);
        }
    }
    match ExtAuthz::read(provider) {
        Some(ExtAuthz::Http(http)) => over_http(r, &http),
        Some(ExtAuthz::Grpc(grpc)) => over_grpc(r, &grpc),
        None => r.say(
            Code::WrongType,
            "a value is of the wrong type; nobody can be asked, so what is for it is refused",
        ),
    }
}

fn over_http(r: &mut Report, http: &ExtAuthzHttp) {
    common(
        r,
        &http.service,
        http.port,
        http.timeout,
        &http.status_on_error,
    );
    body(r, http.include_request_body_in_check.as_ref());
    let path = &http.path_prefix;
    let spaced = path.chars().any(|c| c.is_whitespace() || c.is_control());
    if !path.is_empty() && (!path.starts_with('/') || spaced) {
        let message = format!("{path:?} must start with / and have no spaces");
        r.say_at("pathPrefix", Code::Malformed, message);
    }
    for (name, list) in [
        ("includeHeadersInCheck", &http.include_headers_in_check),
        (
            "includeRequestHeadersInCheck",
            &http.include_request_headers_in_check,
        ),
        (
            "headersToUpstreamOnAllow",
            &http.headers_to_upstream_on_allow,
        ),
        (
            "headersToDownstreamOnDeny",
            &http.headers_to_downstream_on_deny,
        ),
        (
            "headersToDownstreamOnAllow",
            &http.headers_to_downstream_on_allow,
        ),
    ] {
        r.items(name, list, |r, _, pattern| {
            let inside = pattern.strip_prefix('*').or(pattern.strip_suffix('*'));
            if let Err(message) = headers::plain_name(inside.unwrap_or(pattern)) {
                r.say(Code::Malformed, message);
            }
        });
    }
    for (name, value) in &http.include_additional_headers_in_check {
        r.field("includeAdditionalHeadersInCheck", |r| {
            let tests = [headers::plain_name(name), headers::text(value)];
            for message in tests.into_iter().filter_map(Result::err) {
                r.say_at(name.clone(), Code::Malformed, message);
            }
        });
    }
}

fn over_grpc(r: &mut Report, grpc: &ExtAuthzGrpc) {
    common(
        r,
        &grpc.service,
        grpc.port,
        grpc.timeout,
        &grpc.status_on_error,
    );
    body(r, grpc.include_request_body_in_check.as_ref());
}

fn common(r: &mut Report, service: &str, port: u32, timeout: Option<Duration>, status: &str) {
    let host = match service.split_once('/') {
        Some((namespace, host)) if names::is_label(namespace) => host,
        Some(_) => "",
        None => service,
    };
    if !hosts::is_fqdn(host) {
        let message = format!("{service:?} is no service; write HOST or NAMESPACE/HOST");
        r.say_at("service", Code::Malformed, message);
    }
    r.test("port", Code::OutOfRange, values::port(port));
    values::duration_field(r, "timeout", timeout);
    if !status.is_empty() && !status.parse().is_ok_and(is_status) {
        let message = format!("{status:?} is no status of HTTP; write for example \"503\"");
        r.say_at("statusOnError", Code::UnknownValue, message);
    }
}

/// Statuses that Envoy knows.
fn is_status(code: u16) -> bool {
    matches!(code, 100 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=417 | 421..=424)
        || matches!(code, 426 | 428 | 429 | 431 | 500..=508 | 510 | 511)
}

fn body(r: &mut Report, body: Option<&CheckedBody>) {
    r.some("includeRequestBodyInCheck", body, |r, body| {
        if body.max_request_bytes == 0 {
            let message = "must be more than 0";
            r.say_at("maxRequestBytes", Code::OutOfRange, message);
        }
    });
}
