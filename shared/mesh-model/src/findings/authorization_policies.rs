//! AuthorizationPolicies that name somebody who is not there: authorizers that cannot be asked, identities of other trust domains.

use mesh_config::resource::authorization_policy::Action;
use mesh_types::{Code, FieldPath, Hostname};

use super::{Report, spec};
use crate::{AuthorizationPolicy, Mesh};

pub(super) fn check(mesh: &Mesh, report: &mut Report) {
    for policy in mesh.policies.authorization() {
        if policy.spec.action == Action::Custom
            && let Err(why) = authorizer(mesh, policy)
        {
            let says = format!("{why}: what the policy is for is refused");
            let at = spec("provider").field("name");
            report.say(&policy.key, at, Code::MissingReference, says);
        }
        principals(mesh, policy, report);
    }
}

/// Whether the authorizer of a policy can be asked by somebody.
fn authorizer(mesh: &Mesh, policy: &AuthorizationPolicy) -> Result<(), String> {
    let name = policy.spec.provider.as_ref().map_or("", |p| &p.name);
    let provider = mesh.config.ext_authz(name);
    let provider = provider.ok_or_else(|| {
        format!("{name:?} is none of the mesh's extensionProviders that can be asked")
    })?;
    let (service, port) = provider.place();
    let (namespace, host) = match service.split_once('/') {
        Some((namespace, host)) => (Some(namespace), host),
        None => (None, service),
    };
    let known = Hostname::new(host).ok();
    let known = known.and_then(|host| mesh.services.by_host.get(host.as_str()));
    let mut services = known
        .into_iter()
        .flat_map(|same| same.values())
        .filter(|s| namespace.is_none_or(|namespace| *s.key.namespace == *namespace));
    let has_port =
        |s: &&std::sync::Arc<crate::Service>| s.ports.iter().any(|p| u32::from(p.number) == port);
    match services.find(has_port) {
        Some(_) => Ok(()),
        None => Err(format!(
            "its service {service} is not there, or has no port {port}"
        )),
    }
}

/// Principals of trust domains that are none of the mesh's.
fn principals(mesh: &Mesh, policy: &AuthorizationPolicy, report: &mut Report) {
    let config = &mesh.config;
    let own = |domain: &str| {
        let covers = |pattern: &str, text: &str| match (
            pattern.strip_prefix('*'),
            pattern.strip_suffix('*'),
        ) {
            (Some(end), _) => text.ends_with(end),
            (None, Some(start)) => text.starts_with(start),
            (None, None) => pattern == text,
        };
        let mut all = std::iter::once(&config.trust_domain).chain(&config.trust_domain_aliases);
        domain == "cluster.local" || all.any(|own| covers(domain, own) || covers(own, domain))
    };
    let mut look = |path: FieldPath, values: &[String]| {
        for (index, value) in values.iter().enumerate() {
            let parts: Vec<&str> = value.split('/').collect();
            if let [domain, _, _, _, _] = parts[..]
                && domain != "*"
                && !own(domain)
            {
                let says = format!("{domain} is none of the mesh's trust domains");
                let at = path.index(index);
                report.say(&policy.key, at, Code::Risky, says);
            }
        }
    };
    for (index, rule) in policy.spec.rules.iter().enumerate() {
        let rule_at = spec("rules").index(index);
        for (i, from) in rule.from.iter().flatten().enumerate() {
            if let Some(source) = &from.source {
                let at = rule_at.field("from").index(i).field("source");
                look(at.field("principals"), &source.principals);
                look(at.field("notPrincipals"), &source.not_principals);
            }
        }
        let conditions = rule.when.iter().enumerate();
        for (i, condition) in conditions.filter(|(_, c)| c.key == "source.principal") {
            let at = rule_at.field("when").index(i);
            look(at.field("values"), &condition.values);
            look(at.field("notValues"), &condition.not_values);
        }
    }
}
