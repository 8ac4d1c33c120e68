//! Names of the resource types that travel over xDS, as Envoy writes them in `type_url`.

/// What stands before the full name of a message in a type URL.
pub const PREFIX: &str = "type.googleapis.com/";

/// `envoy.config.cluster.v3.Cluster`, asked for with CDS.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// `envoy.config.endpoint.v3.ClusterLoadAssignment`, asked for with EDS; its resource name is the cluster's.
pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// `envoy.config.listener.v3.Listener`, asked for with LDS.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// `envoy.config.route.v3.RouteConfiguration`, asked for with RDS.
pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// `envoy.config.route.v3.ScopedRouteConfiguration`, asked for with SRDS.
pub const SCOPED_ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration";
/// `envoy.config.route.v3.VirtualHost`, asked for with VHDS (delta only); named `ROUTE_CONFIGURATION/HOST`.
pub const VIRTUAL_HOST: &str = "type.googleapis.com/envoy.config.route.v3.VirtualHost";
/// `envoy.extensions.transport_sockets.tls.v3.Secret`, asked for with SDS.
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// `envoy.config.core.v3.TypedExtensionConfig`, asked for with ECDS.
pub const EXTENSION_CONFIG: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
/// `envoy.service.runtime.v3.Runtime`, asked for with RTDS.
pub const RUNTIME: &str = "type.googleapis.com/envoy.service.runtime.v3.Runtime";
/// `envoy.service.health.v3.HealthCheckSpecifier`, asked for with HDS.
pub const HEALTH_CHECK: &str = "type.googleapis.com/envoy.service.health.v3.HealthCheckSpecifier";
/// `envoy.config.bootstrap.v3.Bootstrap`: never sent over xDS, but written, dumped and checked like the others.
pub const BOOTSTRAP: &str = "type.googleapis.com/envoy.config.bootstrap.v3.Bootstrap";

/// Full message name inside a type URL: what follows the last `/`.
///
/// A string without `/` is taken as the name itself.
#[must_use]
pub fn message_name(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Name;

    #[test]
    fn constants_are_the_names_of_the_messages() {
        use crate::envoy::{config, extensions::transport_sockets::tls, service};
        assert_eq!(CLUSTER, config::cluster::v3::Cluster::type_url());
        assert_eq!(
            ENDPOINT,
            config::endpoint::v3::ClusterLoadAssignment::type_url()
        );
        assert_eq!(LISTENER, config::listener::v3::Listener::type_url());
        assert_eq!(ROUTE, config::route::v3::RouteConfiguration::type_url());
        assert_eq!(
            SCOPED_ROUTE,
            config::route::v3::ScopedRouteConfiguration::type_url()
        );
        assert_eq!(VIRTUAL_HOST, config::route::v3::VirtualHost::type_url());
        assert_eq!(SECRET, tls::v3::Secret::type_url());
        assert_eq!(
            EXTENSION_CONFIG,
            config::core::v3::TypedExtensionConfig::type_url()
        );
        assert_eq!(
            HEALTH_CHECK,
            service::health::v3::HealthCheckSpecifier::type_url()
        );
        assert_eq!(BOOTSTRAP, config::bootstrap::v3::Bootstrap::type_url());
        assert_eq!(message_name(CLUSTER), "envoy.config.cluster.v3.Cluster");
        assert_eq!(message_name("a.B"), "a.B");
    }
}
