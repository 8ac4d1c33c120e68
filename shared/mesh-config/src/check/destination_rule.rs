//! DestinationRule.

use std::collections::BTreeSet;

use mesh_types::Code;

use super::report::Report;
use super::{hosts, names, traffic_policy, values};
use crate::Meta;
use crate::resource::destination_rule::DestinationRule;

pub(super) fn check(r: &mut Report, meta: &Meta, rule: &DestinationRule) {
    if rule.host.is_empty() {
        r.say_at("host", Code::Required, "must be set to a service");
    } else if !hosts::is_wildcard_domain(&rule.host) && !values::is_ip(&rule.host) {
        r.say_at("host", Code::Malformed, hosts::want_host(&rule.host));
    }
    values::matching_selector(r, rule.workload_selector.as_ref());
    let own = &*meta.key.namespace;
    values::export_to(r, &rule.export_to, own, false);
    if rule.workload_selector.is_some() && rule.export_to.iter().any(|e| e != "." && e != own) {
        r.say_at(
            "exportTo",
            Code::Conflict,
            "a rule with workloadSelector is for its own namespace alone; write .",
        );
    }
    r.some(
        "trafficPolicy",
        rule.traffic_policy.as_ref(),
        traffic_policy::policy,
    );
    let mut seen = BTreeSet::new();
    r.items("subsets", &rule.subsets, |r, _, subset| {
        if subset.name.is_empty() {
            r.say_at(
                "name",
                Code::Required,
                "must be set: routes name the subset by it",
            );
        } else if !names::is_label_of_any_case(&subset.name) {
            r.say_at("name", Code::Malformed, names::want_label(&subset.name));
        } else if !seen.insert(&subset.name) {
            r.say_at(
                "name",
                Code::Duplicate,
                format!("{} is given twice", subset.name),
            );
        }
        values::labels(r, "labels", &subset.labels);
        r.some(
            "trafficPolicy",
            subset.traffic_policy.as_ref(),
            traffic_policy::policy,
        );
    });
}
