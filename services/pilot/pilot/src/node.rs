//! xDS `Node` to a proxy.

use envoy_api::envoy::config::core::v3::Node as EnvoyNode;
use envoy_api::envoy::config::core::v3::node::UserAgentVersionType;
use mesh_model::{Node, Proxy, ProxyError};
use mesh_types::Locality;
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
