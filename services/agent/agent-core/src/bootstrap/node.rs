//! The node: who Envoy says it is.

use envoy_api::envoy::config::core::v3::{Locality, Node};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde_json::Value;

use super::Places;
use crate::options::Options;

/// Metadata by which Pilot knows that an agent stands beside the proxy and serves `default` and `ROOTCA` over SDS, which Istio's agents always do.
const VERSION: &str = "ISTIO_VERSION";

/// The version of Istio's agent that this one behaves like, unless `ISTIO_META_ISTIO_VERSION` says another.
pub const ISTIO_VERSION: &str = "1.31.0";

pub(super) fn node(options: &Options, places: &Places) -> Node {
    let mut metadata = options.node.metadata.clone();
    if !places.identity {
        metadata.shift_remove(VERSION);
    } else if !metadata.contains_key(VERSION) {
        metadata.insert(VERSION.into(), ISTIO_VERSION.into());
    }
    // Pilot keeps listeners away from these.
    for (key, port) in [
        ("ENVOY_STATUS_PORT", places.status.port()),
        ("ENVOY_PROMETHEUS_PORT", places.prometheus.port()),
    ] {
        metadata.insert(key.into(), port.to_string().into());
    }
    let [region, zone, sub_zone] = options.node.locality.clone();
    let locality = Locality {
        region,
        zone,
        sub_zone,
    };
    Node {
        id: options.node.id(),
        cluster: options.node.cluster.clone(),
        metadata: Some(structure(&metadata)),
        locality: (locality != Locality::default()).then_some(locality),
        ..Node::default()
    }
}

fn structure(members: &serde_json::Map<String, Value>) -> Struct {
    let fields = members.iter();
    Struct {
        fields: fields
            .map(|(key, value)| (key.clone(), protobuf(value)))
            .collect(),
    }
}

/// JSON as a protobuf value. Nesting is bounded by the parser that made the JSON.
fn protobuf(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(protobuf).collect(),
        }),
        Value::Object(members) => Kind::StructValue(structure(members)),
    };
    prost_types::Value { kind: Some(kind) }
}
