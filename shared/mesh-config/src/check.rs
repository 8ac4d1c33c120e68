//! Checks beyond types and ranges: what fields of one object mean together.
//!
//! One file per kind; [`values`], [`hosts`], [`headers`] and [`names`] have what several share. Everything is gathered: a check never
//! stops at the first problem. The level of a problem is that of its code.

mod authorization_policy;
mod destination_rule;
mod ext_authz;
mod gateway;
mod headers;
pub(crate) mod hosts;
mod jwks;
mod load_balancer;
mod log_format;
mod mesh;
pub(crate) mod names;
mod peer_authentication;
mod platform;
mod report;
mod request_authentication;
mod service_entry;
mod sidecar;
mod targets;
mod traffic_policy;
mod values;
mod virtual_service;

use mesh_types::FieldError;
pub(crate) use report::Report;

use crate::{Body, Meta};

/// Everything wrong or doubtful about an object's spec, with paths in canonical spelling.
pub(crate) fn check(meta: &Meta, body: &Body) -> Vec<FieldError> {
    let mut r = Report::of_spec();
    match body {
        Body::VirtualService(vs) => virtual_service::check(&mut r, meta, vs),
        Body::DestinationRule(rule) => destination_rule::check(&mut r, meta, rule),
        Body::Gateway(gateway) => gateway::check(&mut r, meta, gateway),
        Body::ServiceEntry(entry) => service_entry::check(&mut r, meta, entry),
        Body::WorkloadEntry(entry) => service_entry::workload(&mut r, entry),
        Body::Sidecar(sidecar) => sidecar::check(&mut r, sidecar),
        Body::PeerAuthentication(policy) => peer_authentication::check(&mut r, policy),
        Body::RequestAuthentication(policy) => request_authentication::check(&mut r, policy),
        Body::AuthorizationPolicy(policy) => authorization_policy::check(&mut r, policy),
        Body::MeshConfig(mesh) => mesh::check(&mut r, mesh),
        Body::Service(_) | Body::EndpointSlice(_) => return platform::check(body),
        Body::Namespace(_)
        | Body::Node(_)
        | Body::Pod(_)
        | Body::Secret(_)
        | Body::ConfigMap(_)
        | Body::MeshService(_)
        | Body::MeshEndpoints(_)
        | Body::MeshWorkload(_)
        | Body::MeshTrust(_)
        | Body::MeshJwks(_) => {}
    }
    r.into_errors()
}

#[cfg(test)]
mod tests;
