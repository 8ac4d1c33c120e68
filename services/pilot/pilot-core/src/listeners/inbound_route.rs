//! The one route of an inbound HTTP chain: everything to the application (XDS-TRAFFIC 4.7).

use envoy_api::envoy::config::route::v3::retry_policy::RetryBackOff;
use envoy_api::envoy::config::route::v3::route_action::{ClusterSpecifier, MaxStreamDuration};
use envoy_api::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_api::envoy::config::route::v3::{
    Decorator, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route,
};
use mesh_config::resource::mesh::MeshConfig;
use mesh_types::Protocol;

use super::convert::ZERO;
use super::inbound_ports::InboundPort;
use crate::proto::duration;

/// The RouteConfiguration written into the chain of a port.
pub fn route(mesh: &MeshConfig, port: &InboundPort) -> RouteConfiguration {
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(port.cluster.clone())),
        timeout: Some(ZERO),
        max_stream_duration: Some(MaxStreamDuration {
            max_stream_duration: Some(ZERO),
            grpc_timeout_header_max: Some(ZERO),
            ..Default::default()
        }),
        retry_policy: retry(mesh, port.protocol),
        ..Default::default()
    };
    let route = Route {
        name: "default".into(),
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".into())),
            ..Default::default()
        }),
        decorator: Some(Decorator {
            operation: format!("{}:{}/*", port.host, port.service_port),
            ..Default::default()
        }),
        action: Some(route::Action::Route(action)),
        ..Default::default()
    };
    RouteConfiguration {
        name: port.cluster.clone(),
        virtual_hosts: vec![VirtualHost {
            name: format!("inbound|http|{}", port.service_port),
            domains: vec!["*".into()],
            routes: vec![route],
            ..Default::default()
        }],
        validate_clusters: Some(false),
        ..Default::default()
    }
}

/// Retries of requests that never reached the application; gRPC clients retry by themselves.
fn retry(mesh: &MeshConfig, protocol: Protocol) -> Option<RetryPolicy> {
    if matches!(protocol, Protocol::Grpc | Protocol::GrpcWeb) {
        return None;
    }
    let default = RetryPolicy {
        retry_on: "reset-before-request".into(),
        num_retries: Some(2),
        ..Default::default()
    };
    let Some(given) = &mesh.default_inbound_http_retry_policy else {
        return Some(default);
    };
    let attempts = u32::try_from(given.attempts).ok().filter(|n| *n > 0)?;
    Some(RetryPolicy {
        retry_on: match &*given.retry_on {
            "" => default.retry_on,
            given => given.to_owned(),
        },
        num_retries: Some(attempts),
        retry_back_off: given.backoff.map(|base| RetryBackOff {
            base_interval: Some(duration(base)),
            max_interval: None,
        }),
        ..Default::default()
    })
}
