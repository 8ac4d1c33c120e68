//! AuthorizationPolicy as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{MatchingSelector, resource};
use super::request_authentication::PolicyTargetReference;

resource! {
/// Who may do what at workloads.
pub struct AuthorizationPolicy {
    /// Workloads the object is for; unset or empty means the whole namespace, or the whole mesh in the root namespace.
    pub selector: Option<MatchingSelector>,
    /// The gateway, service or class the object is for, instead of a selector.
    pub target_ref: Option<PolicyTargetReference>,
    /// As `targetRef`, several.
    pub target_refs: Vec<PolicyTargetReference>,
    /// What the action is for: requests that match any rule. None at all matches nothing, an empty rule everything.
    pub rules: Vec<Rule>,
    /// What happens to a request that matches.
    pub action: Action,
    /// Who decides; for CUSTOM alone.
    pub provider: Option<PolicyProvider>,
}
}

/// What happens to a request that matches. The order is that of protobuf's numbers.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Action {
    /// It is allowed; whatever matches no such policy of a workload that has one is refused.
    #[default]
    Allow,
    /// It is refused.
    Deny,
    /// It is marked for the access log.
    Audit,
    /// The provider decides.
    Custom,
}

resource! {
/// Who decides.
pub struct PolicyProvider {
    /// Name of one of the mesh's `extensionProviders`.
    pub name: String,
}
}

resource! {
/// Matches a request from any of these sources, for any of these operations, under all of these conditions.
pub struct Rule {
    /// Sources; unset means any, an empty list is refused.
    pub from: Option<Vec<RuleFrom>>,
    /// Operations; unset means any, an empty list is refused.
    pub to: Option<Vec<RuleTo>>,
    /// Further conditions.
    pub when: Vec<Condition>,
}
}

resource! {
/// A source.
pub struct RuleFrom {
    /// The source.
    pub source: Option<Source>,
}
}

resource! {
/// An operation.
pub struct RuleTo {
    /// The operation.
    pub operation: Option<Operation>,
}
}

resource! {
/// Who calls: all fields that are set must match, each by any of its values.
pub struct Source {
    /// Identities of the peer, `TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, from its certificate.
    pub principals: Vec<String>,
    /// As `principals`, none of them.
    pub not_principals: Vec<String>,
    /// Identities of the token, `ISSUER/SUBJECT`.
    pub request_principals: Vec<String>,
    /// As `requestPrincipals`, none of them.
    pub not_request_principals: Vec<String>,
    /// Namespaces of the peer, from its certificate.
    pub namespaces: Vec<String>,
    /// As `namespaces`, none of them.
    pub not_namespaces: Vec<String>,
    /// Service accounts of the peer, `ACCOUNT` of the policy's own namespace or `NAMESPACE/ACCOUNT`.
    pub service_accounts: Vec<String>,
    /// As `serviceAccounts`, none of them.
    pub not_service_accounts: Vec<String>,
    /// Trust domains of the peer.
    pub trust_domains: Vec<String>,
    /// As `trustDomains`, none of them.
    pub not_trust_domains: Vec<String>,
    /// Addresses and networks of the peer of the connection.
    pub ip_blocks: Vec<String>,
    /// As `ipBlocks`, none of them.
    pub not_ip_blocks: Vec<String>,
    /// Addresses and networks of the client, from x-forwarded-for or the PROXY protocol.
    pub remote_ip_blocks: Vec<String>,
    /// As `remoteIpBlocks`, none of them.
    pub not_remote_ip_blocks: Vec<String>,
}
}

resource! {
/// What is called: all fields that are set must match, each by any of its values.
pub struct Operation {
    /// Hosts, of any case.
    pub hosts: Vec<String>,
    /// As `hosts`, none of them.
    pub not_hosts: Vec<String>,
    /// Ports of the workload.
    pub ports: Vec<String>,
    /// As `ports`, none of them.
    pub not_ports: Vec<String>,
    /// HTTP methods; of gRPC always POST.
    pub methods: Vec<String>,
    /// As `methods`, none of them.
    pub not_methods: Vec<String>,
    /// Paths without query; of gRPC `/package.Service/Method`.
    pub paths: Vec<String>,
    /// As `paths`, none of them.
    pub not_paths: Vec<String>,
}
}

resource! {
/// A further condition.
pub struct Condition {
    /// The attribute, for example `source.ip` or `request.headers[x-user]`.
    pub key: String,
    /// Values, any of them.
    pub values: Vec<String>,
    /// Values, none of them.
    pub not_values: Vec<String>,
}
}

/// Whether a path is a template: whole segments may be `{*}`, any one, or, at the end, `{**}`, whatever is left.
///
/// # Errors
/// It has braces, and is no template; the text says why.
pub fn path_template(path: &str) -> Result<bool, String> {
    if !path.contains(['{', '}']) {
        return Ok(false);
    }
    let Some(rest) = path.strip_prefix('/') else {
        return Err(format!("{path:?}: a template starts with /"));
    };
    let mut open_end = false;
    for segment in rest.split('/') {
        if open_end {
            return Err(format!("{path:?}: nothing may follow {{**}}"));
        }
        open_end = segment == "{**}";
        if open_end || segment == "{*}" {
            continue;
        }
        if segment.contains(['{', '}']) {
            return Err(format!(
                "{path:?}: braces may only make a whole segment, {{*}} or {{**}}"
            ));
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&b);
        if segment.is_empty() || !segment.bytes().all(fits) {
            return Err(format!(
                "{path:?}: beside {{*}} a segment must not be empty, and have no * and no spaces"
            ));
        }
    }
    Ok(true)
}
