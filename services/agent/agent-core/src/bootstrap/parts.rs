//! Small messages that the others are made of.

use std::net::SocketAddr;
use std::path::Path;

use envoy_api::any::Any;
use envoy_api::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_api::envoy::config::core::v3::{
    Address, GrpcService, Pipe, SocketAddress, TypedExtensionConfig, address, socket_address,
};

pub(super) fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

pub(super) fn socket(at: SocketAddr) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: at.ip().to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(at.port().into())),
            ..SocketAddress::default()
        })),
    }
}

pub(super) fn pipe(path: &Path) -> Address {
    Address {
        address: Some(address::Address::Pipe(Pipe {
            path: path.display().to_string(),
            mode: 0,
        })),
    }
}

pub(super) fn envoy_grpc(cluster: &str) -> GrpcService {
    GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: cluster.to_owned(),
            ..EnvoyGrpc::default()
        })),
        ..GrpcService::default()
    }
}

/// `envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig`, which has no Rust form in `envoy-api`: its descriptors,
/// which know every message, cost 45 MB for as long as the process lives.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DownstreamConnections {
    #[prost(int64, tag = "1")]
    pub max_active_downstream_connections: i64,
}

/// A message of a type that has no name here.
pub(super) fn any(type_name: &str, message: &impl prost::Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{type_name}"),
        value: message.encode_to_vec(),
    }
}

pub(super) fn extension(
    name: &str,
    type_name: &str,
    message: &impl prost::Message,
) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: name.to_owned(),
        typed_config: Some(any(type_name, message)),
    }
}
