//! TLS of proxies: what they show, whom they believe, and how Envoy refers to certificates (SECURITY-INJECTION B.4, C.4-C.6).
//!
//! [`ServerTls`] is what a chain takes connections with, [`ClientTls`] what a cluster makes them with; [`MeshTls`] is what all of them have in
//! common, `sds` where certificates come from, `names` whom a peer may be.

mod client;
mod names;
mod params;
mod sds;
mod server;

pub(crate) use client::{Alpn, ClientTls, Offer};
pub use params::Compliance;
pub(crate) use params::MeshTls;
pub(crate) use sds::{Credential, Source, credential};
pub(crate) use server::{Own, ServerTls, alpn};

use envoy_api::any::Any;
use envoy_api::envoy::config::core::v3::{TransportSocket, transport_socket};
use envoy_api::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;

/// Name of the transport socket, as Envoy and EnvoyFilter authors know it.
const TLS: &str = "envoy.transport_sockets.tls";
/// No certificate has this digest: whoever is asked for it is refused.
const NOBODY: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn socket(name: &str, config: Any) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(config)),
    }
}

/// Bytes as they are.
pub(crate) fn raw_buffer() -> TransportSocket {
    let config = envoy_api::any::pack(&RawBuffer {});
    socket("envoy.transport_sockets.raw_buffer", config)
}

#[cfg(test)]
mod tests;
