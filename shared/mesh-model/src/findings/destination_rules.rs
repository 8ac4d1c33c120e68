//! DestinationRules: hosts of no service, parts that an older rule of the same host has already.

use std::sync::Arc;

use mesh_config::resource::destination_rule as dr;
use mesh_config::{Body, Object};
use mesh_types::{Code, Hostname, Key, Selector};

use super::{Report, spec};
use crate::destination_rules::{audience_of, selector_of};
use crate::order::Audience;
use crate::{Mesh, services};

pub(super) fn check(mesh: &Mesh, report: &mut Report) {
    for ((_, host), rules) in mesh.rules.groups() {
        let mut older: Vec<Seen<'_>> = Vec::new();
        for object in rules {
            let Body::DestinationRule(rule) = &object.body else {
                continue;
            };
            unknown_host(mesh, object, host, report);
            let new = Seen {
                key: &object.meta.key,
                spec: rule,
                audience: audience_of(object, rule, &mesh.config),
                selector: selector_of(rule),
            };
            for old in older.iter().filter(|old| old.merges_with(&new)) {
                lost(old, &new, report);
            }
            older.push(new);
        }
    }
}

fn unknown_host(mesh: &Mesh, object: &Arc<Object>, host: &Hostname, report: &mut Report) {
    let namespace = &object.meta.key.namespace;
    let known = if host.is_wildcard() {
        mesh.services().any(|s| s.hostname.is_subset_of(host))
    } else {
        mesh.services.by_host.contains_key(host)
    };
    if !known {
        let message = format!("no service has host {host}");
        report.say(
            &object.meta.key,
            spec("host"),
            Code::MissingReference,
            message,
        );
        return;
    }
    let same = mesh.services.by_host.get(host);
    let hidden = |s: &Arc<crate::Service>| !services::audience(s, &mesh.config).has(namespace);
    if same.is_some_and(|same| same.values().all(hidden)) {
        let message = format!("service {host} is not exported to namespace {namespace}");
        report.say(
            &object.meta.key,
            spec("host"),
            Code::MissingReference,
            message,
        );
    }
}

/// A rule that came before others of its host and namespace.
struct Seen<'a> {
    key: &'a Key,
    spec: &'a dr::DestinationRule,
    audience: Audience,
    selector: Selector,
}

impl Seen<'_> {
    fn merges_with(&self, other: &Seen<'_>) -> bool {
        self.selector == other.selector && self.audience == other.audience
    }
}

/// What of a rule counts for nobody because an older one has it.
fn lost(old: &Seen<'_>, new: &Seen<'_>, report: &mut Report) {
    let older = old.key.path();
    if old.spec.traffic_policy.is_some() && new.spec.traffic_policy.is_some() {
        report.say(
            new.key,
            spec("trafficPolicy"),
            Code::NoEffect,
            format!("that of DestinationRule {older} counts, which is older; merge the two"),
        );
    }
    for (index, subset) in new.spec.subsets.iter().enumerate() {
        if old.spec.subsets.iter().any(|s| s.name == subset.name) {
            report.say(
                new.key,
                spec("subsets").index(index),
                Code::NoEffect,
                format!(
                    "subset {} is that of DestinationRule {older}, which is older",
                    subset.name
                ),
            );
        }
    }
}
