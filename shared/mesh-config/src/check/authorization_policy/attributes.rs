//! Values of the attributes that policies ask for.

use mesh_types::Code;

use crate::check::report::Report;
use crate::check::values;
use crate::resource::authorization_policy::path_template;

/// Most service accounts in one list, and the longest one.
const ACCOUNTS: (usize, usize) = (16, 320);

fn each(
    r: &mut Report,
    name: &'static str,
    list: &[String],
    code: Code,
    test: impl Fn(&str) -> Result<(), String>,
) {
    r.items(name, list, |r, _, value| {
        if let Err(message) = test(value) {
            r.say(code, message);
        }
    });
}

/// Addresses and networks.
pub(super) fn addresses(r: &mut Report, name: &'static str, list: &[String]) {
    each(r, name, list, Code::Malformed, values::subnet);
}

/// Port numbers, 0..=65535.
pub(super) fn ports(r: &mut Report, name: &'static str, list: &[String]) {
    each(r, name, list, Code::OutOfRange, |value| {
        let digits = value.bytes().all(|b| b.is_ascii_digit());
        match value.parse::<u16>() {
            Ok(_) if digits => Ok(()),
            _ => Err(format!("{value:?} is no port, want 0..=65535")),
        }
    });
}

/// `ACCOUNT` or `NAMESPACE/ACCOUNT`.
pub(super) fn service_accounts(r: &mut Report, name: &'static str, list: &[String]) {
    let (most, longest) = ACCOUNTS;
    if list.len() > most {
        let message = format!("{} are given, at most {most} are taken", list.len());
        r.say_at(name, Code::OutOfRange, message);
    }
    each(r, name, list, Code::Malformed, |value| {
        let parts: Vec<&str> = value.split('/').collect();
        let formed = parts.len() <= 2 && parts.iter().all(|part| !part.is_empty());
        if value.is_empty() {
            Ok(()) // said already
        } else if value.len() > longest {
            Err(format!("has more than {longest} characters"))
        } else if value.contains('*') || !formed {
            Err(format!(
                "{value:?}: write ACCOUNT or NAMESPACE/ACCOUNT, without *"
            ))
        } else {
            Ok(())
        }
    });
}

/// Trust domains with at most one `*`, at an end.
pub(super) fn trust_domains(r: &mut Report, name: &'static str, list: &[String]) {
    each(r, name, list, Code::Malformed, |value| {
        let inside = value.strip_prefix('*').unwrap_or(value);
        let inside = match inside.len() == value.len() {
            true => value.strip_suffix('*').unwrap_or(value),
            false => inside,
        };
        if inside.contains('*') || value.contains('/') {
            Err(format!(
                "{value:?} is no trust domain; one * may stand at its start or end"
            ))
        } else {
            Ok(())
        }
    });
}

/// Paths, plain or with `{*}` and `{**}`.
pub(super) fn paths(r: &mut Report, name: &'static str, list: &[String]) {
    each(r, name, list, Code::Malformed, |value| {
        path_template(value).map(drop)
    });
}
