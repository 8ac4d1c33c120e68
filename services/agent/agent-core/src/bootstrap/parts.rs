//! Small messages that the others are made of.

use std::net::SocketAddr;
use std::path::Path;

use envoy_api::any::Any;
use envoy_api::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_api::envoy::config::core::v3::{
    Address, GrpcService, Pipe, SocketAddress, TypedExtensionConfig, address, socket_address,
};
use serde_json::Value;

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

/// A message of a type that has no Rust form here, written as JSON. What is not in Envoy's own descriptors is a mistake of this program and
/// becomes an empty message, which the test that Envoy reads every bootstrap would tell.
pub(super) fn any(json: Value) -> Any {
    match envoy_api::json::from_json(&json) {
        Ok((type_url, value)) => Any { type_url, value },
        Err(error) => {
            debug_assert!(false, "{error}");
            Any::default()
        }
    }
}

pub(super) fn extension(name: &str, json: Value) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: name.to_owned(),
        typed_config: Some(any(json)),
    }
}
