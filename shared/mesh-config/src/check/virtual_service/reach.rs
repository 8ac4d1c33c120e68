//! Rules and conditions that can never take effect, because an earlier one takes everything.

use std::collections::{BTreeMap, BTreeSet};

use mesh_types::Code;
use serde::Serialize;

use crate::check::report::Report;
use crate::resource::virtual_service::{HttpMatchRequest, VirtualService};

pub(super) fn check(r: &mut Report, vs: &VirtualService) {
    // Within one rule of one protocol, first match wins. A condition is known by its JSON, names aside.
    let http = vs
        .http
        .iter()
        .map(|route| route.matches.iter().map(http_identity).collect())
        .collect();
    rules(r, "http", http);
    rules(
        r,
        "tls",
        vs.tls
            .iter()
            .map(|route| route.matches.iter().map(identity).collect())
            .collect(),
    );
    rules(
        r,
        "tcp",
        vs.tcp
            .iter()
            .map(|route| route.matches.iter().map(identity).collect())
            .collect(),
    );
    prefixes(r, vs);
}

fn identity<T: Serialize>(condition: &T) -> String {
    serde_json::to_string(condition).unwrap_or_default()
}

fn http_identity(condition: &HttpMatchRequest) -> String {
    identity(&HttpMatchRequest {
        name: String::new(),
        stat_prefix: String::new(),
        ..condition.clone()
    })
}

fn rules(r: &mut Report, field: &'static str, rules: Vec<Vec<String>>) {
    let mut catch_all = None;
    let mut seen: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (i, conditions) in rules.iter().enumerate() {
        let at =
            |r: &mut Report, message: String| r.item(field, i, |r| r.say(Code::NoEffect, message));
        if let Some(earlier) = catch_all {
            at(
                r,
                format!(
                    "can never be reached: {field}[{earlier}] has no match and takes everything; move it down"
                ),
            );
            continue;
        }
        if conditions.is_empty() {
            catch_all = Some(i);
            continue;
        }
        let unreachable = conditions.iter().all(|c| seen.contains_key(c.as_str()));
        if unreachable {
            at(
                r,
                "can never be reached: earlier rules have the same conditions".into(),
            );
        }
        for (m, condition) in conditions.iter().enumerate() {
            match seen.get(condition.as_str()) {
                Some(_) if unreachable => {} // said once for the whole rule
                Some((rule, first)) => {
                    let message = format!(
                        "the same condition stands at {field}[{rule}].match[{first}] already"
                    );
                    r.item(field, i, |r| {
                        r.item("match", m, |r| r.say(Code::NoEffect, message))
                    });
                }
                None => {
                    seen.insert(condition, (i, m));
                }
            }
        }
    }
}

/// Prefixes that an earlier prefix of otherwise equal conditions covers.
fn prefixes(r: &mut Report, vs: &VirtualService) {
    let mut seen: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    r.items("http", &vs.http, |r, _, route| {
        r.items("match", &route.matches, |r, _, m| {
            let Some(prefix) = m.uri.as_ref().and_then(|uri| uri.prefix.as_deref()) else { return };
            let rest = http_identity(&HttpMatchRequest { uri: None, ..m.clone() });
            let earlier = seen.entry(rest).or_default();
            let covering = (0..prefix.len()).filter(|i| prefix.is_char_boundary(*i)).find_map(|i| earlier.get(&prefix[..i]));
            if let Some(covering) = covering {
                r.say(Code::NoEffect, format!("the prefix {prefix:?} is covered by {covering:?} before it; move the longer one up"));
            }
            earlier.insert(prefix);
        });
    });
}
