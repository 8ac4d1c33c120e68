//! AuthorizationPolicy.

mod attributes;
mod when;

use mesh_types::Code;

use super::report::Report;
use super::targets;
use crate::resource::authorization_policy::{
    Action, AuthorizationPolicy, Operation, Rule, RuleFrom, RuleTo, Source,
};
use attributes::{addresses, paths, ports, service_accounts, trust_domains};

use super::request_authentication::filled;

pub(super) fn check(r: &mut Report, policy: &AuthorizationPolicy) {
    targets::targeting(
        r,
        policy.selector.as_ref(),
        policy.target_ref.as_ref(),
        &policy.target_refs,
    );
    let custom = policy.action == Action::Custom;
    match &policy.provider {
        Some(provider) if custom => {
            r.field("provider", |r| {
                r.need("name", !provider.name.is_empty(), "");
            });
        }
        Some(_) => r.say_at("provider", Code::Conflict, "goes with action CUSTOM"),
        None => r.need("provider", !custom, ": who is to be asked?"),
    }
    let needs_rules = matches!(policy.action, Action::Custom | Action::Deny);
    if policy.rules.is_empty() && needs_rules {
        let message = format!(
            "must be set: without rules {} is for nothing; an empty rule, - {{}}, is for everything",
            if custom { "CUSTOM" } else { "DENY" }
        );
        r.say_at("rules", Code::Required, message);
    }
    r.items("rules", &policy.rules, |r, _, one| {
        rule(r, one, policy.action)
    });
}

fn rule(r: &mut Report, rule: &Rule, action: Action) {
    let custom = action == Action::Custom;
    for (name, empty) in [
        ("from", rule.from.as_ref().is_some_and(Vec::is_empty)),
        ("to", rule.to.as_ref().is_some_and(Vec::is_empty)),
    ] {
        if empty {
            let message =
                "an empty list is for nothing or for everything; leave it out to mean everything";
            r.say_at(name, Code::Required, message);
        }
    }
    let sources = rule.from.as_deref().unwrap_or_default();
    r.items("from", sources, |r, _, from| match &from.source {
        Some(one) if *one != Source::default() => {
            r.field("source", |r| source(r, one, custom));
        }
        _ => r.say_at("source", Code::Required, "must say something"),
    });
    let operations = rule.to.as_deref().unwrap_or_default();
    r.items("to", operations, |r, _, to| match &to.operation {
        Some(one) if *one != Operation::default() => r.field("operation", |r| operation(r, one)),
        _ => r.say_at("operation", Code::Required, "must say something"),
    });
    r.items("when", &rule.when, |r, _, condition| {
        when::condition(r, condition, custom)
    });
    if action == Action::Deny && denies_all_bytes(rule) {
        r.say(
            Code::Risky,
            "has conditions on HTTP alone, which nobody can look at where bytes are forwarded: there it refuses every connection; add ports",
        );
    }
}

/// Whether a rule asks for nothing that can be known of a connection.
fn denies_all_bytes(rule: &Rule) -> bool {
    let only_token = |from: &RuleFrom| {
        from.source.as_ref().is_some_and(|source| {
            let rest = Source {
                request_principals: Vec::new(),
                not_request_principals: Vec::new(),
                ..source.clone()
            };
            *source != Source::default() && rest == Source::default()
        })
    };
    let no_port = |to: &RuleTo| {
        let ports = to.operation.as_ref().map(|o| (&o.ports, &o.not_ports));
        ports.is_some_and(|(is, not)| is.is_empty() && not.is_empty())
    };
    match (rule.from.as_deref(), rule.to.as_deref()) {
        (_, Some(operations)) => operations.iter().any(no_port),
        (Some(sources), None) => sources.iter().any(only_token),
        (None, None) => false,
    }
}

fn source(r: &mut Report, from: &Source, custom: bool) {
    let lists = [
        ("principals", &from.principals),
        ("notPrincipals", &from.not_principals),
        ("requestPrincipals", &from.request_principals),
        ("notRequestPrincipals", &from.not_request_principals),
        ("namespaces", &from.namespaces),
        ("notNamespaces", &from.not_namespaces),
        ("serviceAccounts", &from.service_accounts),
        ("notServiceAccounts", &from.not_service_accounts),
        ("trustDomains", &from.trust_domains),
        ("notTrustDomains", &from.not_trust_domains),
    ];
    for (name, list) in lists {
        filled(r, name, list);
        if custom && !list.is_empty() {
            let message =
                "is not known yet when an authorizer is asked; leave it to the authorizer";
            r.say_at(name, Code::Conflict, message);
        }
    }
    let accounts = [
        ("serviceAccounts", &from.service_accounts),
        ("notServiceAccounts", &from.not_service_accounts),
    ];
    let others = [
        &from.principals,
        &from.not_principals,
        &from.namespaces,
        &from.not_namespaces,
    ];
    for (name, list) in accounts {
        if !list.is_empty() && others.iter().any(|other| !other.is_empty()) {
            let message = "excludes principals and namespaces, which it says by itself";
            r.say_at(name, Code::Conflict, message);
        }
        service_accounts(r, name, list);
    }
    trust_domains(r, "trustDomains", &from.trust_domains);
    trust_domains(r, "notTrustDomains", &from.not_trust_domains);
    addresses(r, "ipBlocks", &from.ip_blocks);
    addresses(r, "notIpBlocks", &from.not_ip_blocks);
    addresses(r, "remoteIpBlocks", &from.remote_ip_blocks);
    addresses(r, "notRemoteIpBlocks", &from.not_remote_ip_blocks);
}

fn operation(r: &mut Report, to: &Operation) {
    for (name, list) in [
        ("hosts", &to.hosts),
        ("notHosts", &to.not_hosts),
        ("methods", &to.methods),
        ("notMethods", &to.not_methods),
        ("paths", &to.paths),
        ("notPaths", &to.not_paths),
    ] {
        filled(r, name, list);
    }
    paths(r, "paths", &to.paths);
    paths(r, "notPaths", &to.not_paths);
    ports(r, "ports", &to.ports);
    ports(r, "notPorts", &to.not_ports);
}
