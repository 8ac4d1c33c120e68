//! Packing messages into `google.protobuf.Any`, alone or as the typed configuration of an extension.

use crate::envoy::config::accesslog::v3::{AccessLog, access_log};
use crate::envoy::config::core::v3::{TransportSocket, TypedExtensionConfig, transport_socket};
use crate::envoy::config::listener::v3::{Filter, ListenerFilter, filter, listener_filter};
use crate::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter,
};
use prost::{DecodeError, Message, Name};

pub use prost_types::Any;

/// The message with its type URL. Equal messages give equal bytes.
#[must_use]
pub fn pack<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

/// The message inside, or `None` when `any` holds another type.
///
/// Errors: the bytes are no such message.
pub fn unpack<M: Message + Name + Default>(any: &Any) -> Result<Option<M>, DecodeError> {
    if crate::type_url::message_name(&any.type_url) != M::full_name() {
        return Ok(None);
    }
    M::decode(any.value.as_slice()).map(Some)
}

/// Any extension whose configuration field is a `TypedExtensionConfig`: retry predicates, DNS resolvers, load
/// balancing policies, formatters.
#[must_use]
pub fn extension<M: Message + Name>(name: impl Into<String>, config: &M) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: name.into(),
        typed_config: Some(pack(config)),
    }
}

/// A filter of an HTTP connection manager.
#[must_use]
pub fn http_filter<M: Message + Name>(name: impl Into<String>, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(pack(config))),
        ..HttpFilter::default()
    }
}

/// A network filter of a filter chain.
#[must_use]
pub fn network_filter<M: Message + Name>(name: impl Into<String>, config: &M) -> Filter {
    Filter {
        name: name.into(),
        config_type: Some(filter::ConfigType::TypedConfig(pack(config))),
    }
}

/// A listener filter, without a predicate that would disable it.
#[must_use]
pub fn listener_filter<M: Message + Name>(name: impl Into<String>, config: &M) -> ListenerFilter {
    ListenerFilter {
        name: name.into(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(pack(config))),
        ..ListenerFilter::default()
    }
}

/// A transport socket of a cluster, an endpoint match or a filter chain.
#[must_use]
pub fn transport_socket<M: Message + Name>(name: impl Into<String>, config: &M) -> TransportSocket {
    TransportSocket {
        name: name.into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack(config))),
    }
}

/// An access logger without a filter: it logs everything.
#[must_use]
pub fn access_log<M: Message + Name>(name: impl Into<String>, config: &M) -> AccessLog {
    AccessLog {
        name: name.into(),
        filter: None,
        config_type: Some(access_log::ConfigType::TypedConfig(pack(config))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::config::cluster::v3::Cluster;
    use crate::envoy::config::listener::v3::Listener;
    use crate::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;

    /// Same entries, other order of insertion.
    fn cluster(keys: impl Iterator<Item = u32>) -> Cluster {
        let mut cluster = Cluster {
            name: "outbound|80||cart".into(),
            ..Cluster::default()
        };
        for key in keys {
            let options = HttpProtocolOptions::default();
            cluster
                .typed_extension_protocol_options
                .insert(format!("option-{key}"), pack(&options));
        }
        cluster
    }

    #[test]
    fn equal_values_encode_to_equal_bytes() {
        assert_eq!(pack(&cluster(0..50)), pack(&cluster((0..50).rev())));
    }

    #[test]
    fn unpack_gives_back_what_was_packed_and_nothing_else() {
        let any = pack(&cluster(0..2));
        assert_eq!(any.type_url, crate::type_url::CLUSTER);
        assert!(unpack::<Cluster>(&any).is_ok_and(|got| got == Some(cluster(0..2))));
        assert!(unpack::<Listener>(&any).is_ok_and(|got| got.is_none()));
        let broken = Any {
            value: vec![0xff],
            ..any
        };
        assert!(unpack::<Cluster>(&broken).is_err());
    }

    #[test]
    fn helpers_keep_name_and_type() {
        let filter = http_filter(
            "envoy.filters.http.router",
            &crate::envoy::extensions::filters::http::router::v3::Router::default(),
        );
        let Some(http_filter::ConfigType::TypedConfig(any)) = filter.config_type else {
            panic!("no typed config")
        };
        assert_eq!(
            any.type_url,
            "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
        );
    }
}
