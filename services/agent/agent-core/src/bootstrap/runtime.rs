//! The runtime layer, and the limit of connections.

use envoy_api::envoy::config::bootstrap::v3::runtime_layer::{AdminLayer, LayerSpecifier};
use envoy_api::envoy::config::bootstrap::v3::{LayeredRuntime, RuntimeLayer};
use envoy_api::envoy::config::overload::v3::{OverloadManager, ResourceMonitor, resource_monitor};
use prost_types::value::Kind;
use prost_types::{Struct, Value as Proto};
use serde_json::Value;

use super::{BootstrapError, parts};
use crate::options::Options;

/// Setting of the limit of connections, which is the overload manager's and no runtime value for Envoy.
const CONNECTIONS: &str = "overload.global_downstream_max_connections";

pub(super) fn layered_runtime(options: &Options) -> Result<LayeredRuntime, BootstrapError> {
    let mut fields = std::collections::BTreeMap::new();
    let mut put = |key: &str, kind: Kind| {
        fields.insert(key.to_owned(), Proto { kind: Some(kind) });
    };
    // Regular expressions that Istio's proxies take are taken.
    put(
        "re2.max_program_size.error_level",
        Kind::NumberValue(32_768.0),
    );
    // `/path#fragment` is answered, not refused.
    put(
        "envoy.reloadable_features.http_reject_path_with_fragment",
        Kind::BoolValue(false),
    );
    // Deprecated fields that users' own Envoy configuration may hold.
    put(
        "envoy.deprecated_features:envoy.config.listener.v3.Listener.hidden_envoy_deprecated_use_original_dst",
        Kind::BoolValue(true),
    );
    for (key, value) in &options.proxy_config.runtime_values {
        if key == CONNECTIONS {
            continue;
        }
        put(
            key,
            match value {
                Value::String(text) => scalar(text),
                Value::Bool(flag) => Kind::BoolValue(*flag),
                Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    return Err(BootstrapError::RuntimeValue(key.clone()));
                }
            },
        );
    }
    let layer = |name: &str, specifier| RuntimeLayer {
        name: name.to_owned(),
        layer_specifier: Some(specifier),
    };
    Ok(LayeredRuntime {
        layers: vec![
            layer(
                "global config",
                LayerSpecifier::StaticLayer(Struct { fields }),
            ),
            layer("admin", LayerSpecifier::AdminLayer(AdminLayer {})),
        ],
    })
}

/// ProxyConfig's runtime values are texts, also those that mean numbers.
fn scalar(text: &str) -> Kind {
    match text {
        "true" => Kind::BoolValue(true),
        "false" => Kind::BoolValue(false),
        _ => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Kind::NumberValue(number),
            _ => Kind::StringValue(text.to_owned()),
        },
    }
}

pub(super) fn overload_manager(options: &Options) -> OverloadManager {
    let said = options.proxy_config.runtime_values.get(CONNECTIONS);
    let said = said.and_then(|value| match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    });
    let limit = said
        .filter(|limit| *limit > 0)
        .unwrap_or(i64::from(i32::MAX));
    OverloadManager {
        resource_monitors: vec![ResourceMonitor {
            name: "envoy.resource_monitors.global_downstream_max_connections".into(),
            config_type: Some(resource_monitor::ConfigType::TypedConfig(parts::any(
                "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                &parts::DownstreamConnections {
                    max_active_downstream_connections: limit,
                },
            ))),
        }],
        ..OverloadManager::default()
    }
}
