//! Further conditions. An attribute that nobody knows is refused: a condition that is left out opens a door.

use mesh_types::Code;

use super::attributes::{addresses, ports, service_accounts, trust_domains};
use super::filled;
use crate::check::headers;
use crate::check::report::Report;
use crate::resource::authorization_policy::Condition;
use crate::schema::nearest;

/// Attributes without an argument.
const PLAIN: &[&str] = &[
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.serviceAccount",
    "source.principal",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
];
/// Attributes with an argument in brackets.
const BRACKETED: &[&str] = &["request.headers", "request.auth.claims"];
/// What names of attributes that other filters leave behind start with.
const FILTERS: &str = "experimental.envoy.filters.";
/// Those that are not known yet when an authorizer is asked.
const NOT_FOR_CUSTOM: &[&str] = &[
    "source.namespace",
    "source.serviceAccount",
    "source.principal",
    "source.trustDomain",
];

pub(super) fn condition(r: &mut Report, condition: &Condition, custom: bool) {
    let key = condition.key.as_str();
    r.need("key", !key.is_empty(), "");
    if condition.values.is_empty() && condition.not_values.is_empty() {
        r.say_at("values", Code::Required, "values or notValues must be set");
    }
    if !key.is_empty()
        && let Err((code, message)) = attribute(key)
    {
        r.say_at("key", code, message);
    }
    if custom && (NOT_FOR_CUSTOM.contains(&key) || key.starts_with("request.auth.")) {
        let message = "is not known yet when an authorizer is asked; leave it to the authorizer";
        r.say_at("key", Code::Conflict, message);
    }
    for (name, list) in [
        ("values", &condition.values),
        ("notValues", &condition.not_values),
    ] {
        match key {
            "source.ip" | "remote.ip" | "destination.ip" => addresses(r, name, list),
            "destination.port" => ports(r, name, list),
            "source.serviceAccount" => {
                filled(r, name, list);
                service_accounts(r, name, list);
            }
            "source.trustDomain" => {
                filled(r, name, list);
                trust_domains(r, name, list);
            }
            _ => filled(r, name, list),
        }
    }
}

/// Whether an attribute is known.
fn attribute(key: &str) -> Result<(), (Code, String)> {
    if PLAIN.contains(&key) {
        return Ok(());
    }
    let (name, inner) = match key.split_once('[') {
        Some((name, rest)) => (name, Some(rest.strip_suffix(']').unwrap_or_default())),
        None => (key, None),
    };
    let is_filter = name.starts_with(FILTERS) && name.len() > FILTERS.len();
    if is_filter || BRACKETED.contains(&name) {
        return match inner {
            Some(inner) if !inner.is_empty() && name == "request.headers" => {
                let test = match inner.starts_with(':') {
                    true => headers::match_name(inner),
                    false => headers::plain_name(inner),
                };
                test.map_err(|message| (Code::Malformed, message))
            }
            Some(inner) if !inner.is_empty() => Ok(()),
            _ => Err((
                Code::Malformed,
                format!("{key:?}: write {name}[NAME] with a name in the brackets"),
            )),
        };
    }
    let gone = match key.split('[').next().unwrap_or_default() {
        "destination.labels" | "destination.name" => {
            Some("select workloads by the policy's selector")
        }
        "destination.namespace" => Some("put the policy into the namespace"),
        "destination.user" => {
            Some("select workloads by the policy's selector, since nobody knows their accounts")
        }
        _ => None,
    };
    if let Some(instead) = gone {
        return Err((
            Code::UnknownValue,
            format!("{key:?} is not known any more: {instead}"),
        ));
    }
    let close = nearest(name, PLAIN.iter().chain(BRACKETED).copied());
    let hint = close.map_or_else(
        || {
            format!(
                "; there are {}, {}[..] and {FILTERS}NAME[..]",
                PLAIN.join(", "),
                BRACKETED.join("[..], ")
            )
        },
        |close| format!("; did you mean {close}?"),
    );
    Err((Code::UnknownValue, format!("{key:?} is no attribute{hint}")))
}
