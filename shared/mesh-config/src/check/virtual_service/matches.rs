//! Conditions on HTTP requests.

use std::collections::BTreeMap;

use mesh_types::Code;

use super::{Whole, gateway_names};
use crate::check::report::Report;
use crate::check::{headers, names, values};
use crate::resource::StringMatch;
use crate::resource::virtual_service::HttpMatchRequest;

pub(super) fn check(r: &mut Report, whole: &Whole<'_>, condition: &HttpMatchRequest) {
    r.some("uri", condition.uri.as_ref(), |r, m| {
        values::string_match(r, m, true, false)
    });
    for (name, m) in [
        ("scheme", &condition.scheme),
        ("method", &condition.method),
        ("authority", &condition.authority),
    ] {
        r.some(name, m.as_ref(), |r, m| {
            values::string_match(r, m, false, false)
        });
    }
    header_conditions(r, "headers", &condition.headers, whole, false);
    header_conditions(r, "withoutHeaders", &condition.without_headers, whole, true);
    for (name, m) in &condition.query_params {
        r.field("queryParams", |r| {
            r.field(name.clone(), |r| {
                if name.is_empty() || name.len() > 1024 {
                    let message = "is no name of a query parameter; use 1 to 1024 bytes";
                    r.say(Code::Malformed, message);
                }
                values::string_match(r, m, false, false);
            })
        });
    }
    if condition.port != 0 {
        r.test("port", Code::OutOfRange, values::port(condition.port));
    }
    source(
        r,
        &condition.source_labels,
        &condition.source_namespace,
        &condition.gateways,
    );
}

/// Conditions on who calls, which all protocols share.
pub(super) fn source(
    r: &mut Report,
    labels: &BTreeMap<String, String>,
    namespace: &str,
    gateways: &[String],
) {
    values::labels(r, "sourceLabels", labels);
    if !namespace.is_empty() && !names::is_label(namespace) {
        r.say_at(
            "sourceNamespace",
            Code::Malformed,
            names::want_label(namespace),
        );
    }
    gateway_names(r, gateways);
}

fn header_conditions(
    r: &mut Report,
    field: &'static str,
    conditions: &BTreeMap<String, StringMatch>,
    whole: &Whole<'_>,
    any_regex: bool,
) {
    for (name, m) in conditions {
        r.field(field, |r| {
            r.field(name.clone(), |r| {
                if let Err(message) = headers::match_name(name) {
                    r.say(Code::Malformed, message);
                }
                if name.starts_with(headers::CLAIMS) && !whole.gateways_only {
                    r.say(Code::Conflict, "claims of tokens can be matched at gateways alone; bind the object to gateways, without mesh");
                }
                values::string_match(r, m, false, any_regex);
            });
        });
    }
}
