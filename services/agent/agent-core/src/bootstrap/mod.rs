//! Envoy's bootstrap: what it needs to reach the agent, everything else comes over xDS.
//!
//! Typed messages, printed as JSON. Start at [`bootstrap()`].

mod clusters;
mod listeners;
mod node;
mod parts;
mod runtime;
mod stats;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;

use envoy_api::envoy::config::bootstrap::v3::Bootstrap;
use envoy_api::envoy::config::bootstrap::v3::bootstrap::{DynamicResources, StaticResources};
use envoy_api::envoy::config::core::v3::{
    ApiConfigSource, ApiVersion, ConfigSource, api_config_source, config_source,
};
use envoy_api::envoy::extensions::bootstrap::internal_listener::v3::InternalListener;
use envoy_api::type_url;
use prost::Message as _;
use serde_json::Value;

use crate::options::Options;

pub use clusters::reached_at;
pub(crate) use listeners::inline;
pub use node::ISTIO_VERSION;

/// What the shell has found out before Envoy starts: addresses without a zero port, sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Envoy's administration.
    pub admin: SocketAddr,
    /// Envoy's health listener.
    pub status: SocketAddr,
    /// Envoy's listener of metrics.
    pub prometheus: SocketAddr,
    /// The agent's status port.
    pub agent: SocketAddr,
    /// The agent's xDS.
    pub xds: PathBuf,
    /// The workload's secrets.
    pub sds: PathBuf,
    /// Secrets of files, when another server owns the workload's.
    pub files: Option<PathBuf>,
    /// An external server of credentials, if there is one.
    pub external: Option<PathBuf>,
    /// Whether secrets `default` and `ROOTCA` are to be had.
    pub identity: bool,
}

/// A bootstrap that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// A runtime value that is no scalar.
    #[error("ProxyConfig runtimeValues {0:?} is no number, text or boolean")]
    RuntimeValue(String),
    /// Our own message cannot be printed: a mistake of this program.
    #[error("the bootstrap cannot be printed: {0}")]
    Print(String),
}

/// The bootstrap as a message.
///
/// # Errors
/// See [`BootstrapError`].
pub fn bootstrap(options: &Options, places: &Places) -> Result<Bootstrap, BootstrapError> {
    Ok(Bootstrap {
        node: Some(node::node(options, places)),
        static_resources: Some(StaticResources {
            listeners: listeners::listeners(options, places),
            clusters: clusters::clusters(places),
            ..StaticResources::default()
        }),
        dynamic_resources: Some(dynamic_resources(options)),
        stats_config: Some(stats::stats_config(options)),
        layered_runtime: Some(runtime::layered_runtime(options)?),
        overload_manager: Some(runtime::overload_manager(options)),
        bootstrap_extensions: vec![envoy_api::any::extension(
            "envoy.bootstrap.internal_listener",
            &InternalListener {
                buffer_size_kb: Some(64),
            },
        )],
        admin: Some(listeners::admin(places)),
        ..Bootstrap::default()
    })
}

/// The bootstrap as Envoy reads it. Costs what [`print`] does.
///
/// # Errors
/// See [`BootstrapError`].
pub fn json(options: &Options, places: &Places) -> Result<Value, BootstrapError> {
    print(&bootstrap(options, places)?.encode_to_vec())
}

/// An encoded bootstrap as JSON. Needs the descriptors of all that Envoy knows, 45 MB that the process then keeps: for one that ends soon.
///
/// # Errors
/// See [`BootstrapError`].
pub fn print(bytes: &[u8]) -> Result<Value, BootstrapError> {
    let mut value = envoy_api::json::to_json(type_url::BOOTSTRAP, bytes)
        .map_err(|error| BootstrapError::Print(error.to_string()))?;
    if let Some(object) = value.as_object_mut() {
        // A file holds nothing but a bootstrap: Envoy knows no type there.
        object.shift_remove("@type");
    }
    Ok(value)
}

fn dynamic_resources(options: &Options) -> DynamicResources {
    let ads = || ConfigSource {
        config_source_specifier: Some(
            config_source::ConfigSourceSpecifier::Ads(Default::default()),
        ),
        // However long it takes: never live with nothing.
        initial_fetch_timeout: Some(parts::seconds(0)),
        resource_api_version: ApiVersion::V3.into(),
        ..ConfigSource::default()
    };
    let api = if options.control.delta {
        api_config_source::ApiType::DeltaGrpc
    } else {
        api_config_source::ApiType::Grpc
    };
    DynamicResources {
        lds_config: Some(ads()),
        cds_config: Some(ads()),
        ads_config: Some(ApiConfigSource {
            api_type: api.into(),
            transport_api_version: ApiVersion::V3.into(),
            grpc_services: vec![parts::envoy_grpc(clusters::XDS)],
            set_node_on_first_message_only: true,
            ..ApiConfigSource::default()
        }),
        ..DynamicResources::default()
    }
}
