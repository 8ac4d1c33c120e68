//! Our values as Envoy's messages write them.

use envoy_api::any::Any;
use envoy_api::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, Pipe, SocketAddress, address,
    config_source, socket_address,
};
use mesh_config::resource::Duration;
use prost_types::{Struct, Value, value};

/// Longest time that Envoy takes: 292 years. Unit: seconds.
const LONGEST: i64 = 9_223_372_035;

/// A length of time; one that is too long for Envoy as the longest it takes.
pub fn duration(d: Duration) -> prost_types::Duration {
    if d.seconds() > LONGEST {
        return seconds(LONGEST);
    }
    prost_types::Duration {
        seconds: d.seconds(),
        nanos: d.subsec_nanos(),
    }
}

/// Whole seconds.
pub fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// An IP address or host name with a port.
pub fn socket_address(address: impl Into<String>, port: u16) -> SocketAddress {
    SocketAddress {
        address: address.into(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(u32::from(port))),
        ..SocketAddress::default()
    }
}

/// As [`socket_address()`], wrapped.
pub fn address(address: impl Into<String>, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(socket_address(
            address, port,
        ))),
    }
}

/// A Unix domain socket.
pub fn pipe(path: impl Into<String>) -> Address {
    Address {
        address: Some(address::Address::Pipe(Pipe {
            path: path.into(),
            mode: 0,
        })),
    }
}

/// "From this stream, however long it takes": never less, or Envoy goes live with an empty resource.
pub fn ads() -> ConfigSource {
    ConfigSource {
        initial_fetch_timeout: Some(seconds(0)),
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(
            AggregatedConfigSource {},
        )),
        ..ConfigSource::default()
    }
}

/// A text in a `Struct`.
pub fn text(text: impl Into<String>) -> Value {
    Value {
        kind: Some(value::Kind::StringValue(text.into())),
    }
}

/// A yes or no in a `Struct`.
pub fn flag(flag: bool) -> Value {
    Value {
        kind: Some(value::Kind::BoolValue(flag)),
    }
}

/// A list in a `Struct`.
pub fn list(values: Vec<Value>) -> Value {
    Value {
        kind: Some(value::Kind::ListValue(prost_types::ListValue { values })),
    }
}

/// A `Struct` inside a `Struct`.
pub fn nested(inner: Struct) -> Value {
    Value {
        kind: Some(value::Kind::StructValue(inner)),
    }
}

/// A `Struct` from its members.
pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Struct {
    Struct {
        fields: members
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    }
}

/// The configuration of an extension that Envoy's own build does not have: its type and its fields.
pub fn typed_struct(type_url: &str, value: Struct) -> Any {
    envoy_api::any::pack(&TypedStruct {
        type_url: type_url.to_owned(),
        value: Some(value),
    })
}

/// `xds.type.v3.TypedStruct`, which no message that we compile refers to.
#[derive(Clone, PartialEq, prost::Message)]
struct TypedStruct {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Struct>,
}

impl prost::Name for TypedStruct {
    const NAME: &'static str = "TypedStruct";
    const PACKAGE: &'static str = "xds.type.v3";
    fn type_url() -> String {
        "type.googleapis.com/xds.type.v3.TypedStruct".into()
    }
}
