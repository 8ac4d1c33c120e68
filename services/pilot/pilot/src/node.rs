//! xDS `Node` to a proxy.

use envoy_api::envoy::config::core::v3::Node as EnvoyNode;
use envoy_api::envoy::config::core::v3::node::UserAgentVersionType;
use mesh_model::{Node, Proxy, ProxyError};
use mesh_types::{Locality, SpiffeId};
use prost::Message;
use prost_types::value::Kind;
use serde_json::{Map, Number, Value};

/// A proxy that introduced itself.
pub struct Introduction {
    /// Who it is.
    pub proxy: Proxy,
    /// Version it says it is: ISTIO_VERSION, else Envoy's own.
    pub version: String,
}

/// Reads the node of a first request.
///
/// # Errors
/// What is wrong with it, for the client.
pub fn introduce(node: Option<&[u8]>) -> Result<Introduction, ProxyError> {
    let node = node
        .and_then(|bytes| EnvoyNode::decode(bytes).ok())
        .ok_or(ProxyError::MissingNode)?;
    let metadata = node.metadata.as_ref().map_or(Value::Null, |fields| {
        Value::Object(
            fields
                .fields
                .iter()
                .map(|(k, v)| (k.clone(), json(v, 0)))
                .collect::<Map<_, _>>(),
        )
    });
    let version = metadata
        .get("ISTIO_VERSION")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let version = version.unwrap_or_else(|| match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(text)) => {
            format!("{}/{text}", node.user_agent_name)
        }
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => match &build.version {
            Some(v) => format!(
                "{}/{}.{}.{}",
                node.user_agent_name, v.major_number, v.minor_number, v.patch
            ),
            None => node.user_agent_name.clone(),
        },
        None => node.user_agent_name.clone(),
    });
    let locality = node
        .locality
        .as_ref()
        .map_or_else(Locality::default, |l| Locality {
            region: (*l.region).into(),
            zone: (*l.zone).into(),
            sub_zone: (*l.sub_zone).into(),
        });
    let extensions = node
        .extensions
        .into_iter()
        .map(|extension| extension.name)
        .collect();
    let proxy = Proxy::parse(&Node {
        id: node.id,
        metadata,
        locality,
        extensions,
    })?;
    Ok(Introduction { proxy, version })
}

/// A node that claims to be somebody else than its certificate shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// No client certificate.
    #[error("a client certificate is needed here")]
    Anonymous,
    /// The certificate is of no workload.
    #[error("the certificate of {0} is of no workload, so it is no proxy's")]
    NoWorkload(SpiffeId),
    /// Of another namespace.
    #[error("the node says namespace {claimed:?}, and its certificate is of {shown}")]
    Namespace {
        /// What the node says.
        claimed: String,
        /// Whom the certificate shows.
        shown: SpiffeId,
    },
    /// Of another service account.
    #[error("the node says SERVICE_ACCOUNT {claimed:?}, and its certificate is of {shown}")]
    ServiceAccount {
        /// What the node says.
        claimed: String,
        /// Whom the certificate shows.
        shown: SpiffeId,
    },
}

/// Whether a proxy is who its certificate shows: the namespace always, the service account if the node names one.
///
/// # Errors
/// What differs, for the client and the log.
pub fn agree(proxy: &Proxy, shown: Option<&SpiffeId>) -> Result<(), Disagreement> {
    let shown = shown.ok_or(Disagreement::Anonymous)?;
    let workload = shown
        .workload()
        .ok_or_else(|| Disagreement::NoWorkload(shown.clone()))?;
    if *proxy.namespace != *workload.namespace() {
        return Err(Disagreement::Namespace {
            claimed: proxy.namespace.to_string(),
            shown: shown.clone(),
        });
    }
    if !proxy.service_account.is_empty() && *proxy.service_account != *workload.service_account() {
        return Err(Disagreement::ServiceAccount {
            claimed: proxy.service_account.to_string(),
            shown: shown.clone(),
        });
    }
    Ok(())
}

/// A protobuf value as JSON. Nesting is bounded by prost's own limit on decoding.
fn json(value: &prost_types::Value, depth: usize) -> Value {
    match &value.kind {
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::BoolValue(b)) => Value::Bool(*b),
        Some(Kind::NumberValue(n)) if n.fract() == 0.0 && n.abs() < 9e15 => {
            Value::Number((*n as i64).into())
        }
        Some(Kind::NumberValue(n)) => Number::from_f64(*n).map_or(Value::Null, Value::Number),
        Some(Kind::StructValue(fields)) if depth < 64 => Value::Object(
            fields
                .fields
                .iter()
                .map(|(k, v)| (k.clone(), json(v, depth + 1)))
                .collect(),
        ),
        Some(Kind::ListValue(list)) if depth < 64 => {
            Value::Array(list.values.iter().map(|v| json(v, depth + 1)).collect())
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(namespace: &str, account: &str) -> Proxy {
        let metadata = serde_json::json!({ "NAMESPACE": namespace, "SERVICE_ACCOUNT": account });
        Proxy::parse(&Node {
            id: format!("sidecar~10.0.0.1~pod.{namespace}~{namespace}.svc.cluster.local"),
            metadata,
            locality: Locality::default(),
            extensions: Vec::new(),
        })
        .unwrap()
    }

    /// Case 21, as far as it is about the decision.
    #[test]
    fn namespace_and_service_account_must_agree() {
        let shown: SpiffeId = "spiffe://cluster.local/ns/default/sa/app".parse().unwrap();
        let check = |namespace, account| agree(&proxy(namespace, account), Some(&shown));
        assert_eq!(check("default", "app"), Ok(()));
        assert_eq!(check("default", ""), Ok(()));
        assert_eq!(
            check("prod", "app").unwrap_err().to_string(),
            "the node says namespace \"prod\", and its certificate is of spiffe://cluster.local/ns/default/sa/app"
        );
        assert_eq!(
            check("default", "admin").unwrap_err().to_string(),
            "the node says SERVICE_ACCOUNT \"admin\", and its certificate is of spiffe://cluster.local/ns/default/sa/app"
        );
        let odd: SpiffeId = "spiffe://cluster.local/node/7".parse().unwrap();
        let proxy = proxy("default", "app");
        assert_eq!(agree(&proxy, None), Err(Disagreement::Anonymous));
        assert_eq!(
            agree(&proxy, Some(&odd)),
            Err(Disagreement::NoWorkload(odd.clone()))
        );
    }
}
