//! What a response says, as far as a client must know it to answer as Envoy would.

use crate::args::Variant;
use crate::wire::{Fields, Malformed, Value, each, last, text};

/// The four types a sidecar asks for, and everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Clusters.
    Cds,
    /// Endpoints.
    Eds,
    /// Listeners.
    Lds,
    /// Routes.
    Rds,
    /// A type nobody asked for.
    Other,
}

impl Kind {
    /// All, in the order of reports.
    pub const ALL: [Kind; 5] = [Kind::Cds, Kind::Eds, Kind::Lds, Kind::Rds, Kind::Other];

    /// Place in [`Kind::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Cds => "CDS",
            Kind::Eds => "EDS",
            Kind::Lds => "LDS",
            Kind::Rds => "RDS",
            Kind::Other => "other",
        }
    }

    /// Its type URL.
    pub fn url(self) -> &'static str {
        use envoy_api::type_url;
        match self {
            Kind::Cds => type_url::CLUSTER,
            Kind::Eds => type_url::ENDPOINT,
            Kind::Lds => type_url::LISTENER,
            Kind::Rds => type_url::ROUTE,
            Kind::Other => "",
        }
    }

    fn of(url: &str) -> Kind {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.url() == url)
            .unwrap_or(Kind::Other)
    }
}

/// A response of either protocol.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    variant: Variant,
    message: &'a [u8],
    /// What kind of resources it holds.
    pub kind: Kind,
    /// `version_info`, empty in delta.
    pub version: &'a str,
    /// `nonce`.
    pub nonce: &'a str,
    /// Resources in it.
    pub resources: usize,
    /// Names of removed resources in it (delta).
    pub removed: usize,
}

/// One thing a response says about what else must be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fact<'a> {
    /// This cluster or listener exists; its references follow.
    Resource(&'a str),
    /// It needs the endpoints, or the route configuration, of this name.
    Reference(&'a str),
    /// This cluster or listener is gone.
    Removed(&'a str),
}

impl<'a> Response<'a> {
    /// Reads all but the resources themselves.
    ///
    /// # Errors
    /// The bytes are no discovery response.
    pub fn read(variant: Variant, message: &'a [u8]) -> Result<Response<'a>, Malformed> {
        let mut response = Response {
            variant,
            message,
            kind: Kind::Other,
            version: "",
            nonce: "",
            resources: 0,
            removed: 0,
        };
        for field in Fields(message) {
            let (number, Value::Bytes(bytes)) = field? else {
                continue;
            };
            match (number, variant) {
                (1, Variant::Sotw) => response.version = text(bytes)?,
                (2, _) => response.resources += 1,
                (4, _) => response.kind = Kind::of(text(bytes)?),
                (5, _) => response.nonce = text(bytes)?,
                (6, Variant::Delta) => response.removed += 1,
                _ => {}
            }
        }
        Ok(response)
    }

    /// Tells `each` what clusters and listeners refer to; nothing for other kinds.
    ///
    /// # Errors
    /// A resource cannot be read.
    pub fn facts(&self, mut each_fact: impl FnMut(Fact<'a>)) -> Result<(), Malformed> {
        for entry in each(self.message, 2) {
            let any = match self.variant {
                Variant::Sotw => entry?,
                Variant::Delta => last(entry?, 2)?,
            };
            let resource = last(any, 2)?;
            match self.kind {
                Kind::Cds => cluster(resource, &mut each_fact)?,
                Kind::Lds => listener(resource, &mut each_fact)?,
                Kind::Eds | Kind::Rds | Kind::Other => return Ok(()),
            }
        }
        if self.variant == Variant::Delta {
            for name in each(self.message, 6) {
                each_fact(Fact::Removed(text(name?)?));
            }
        }
        Ok(())
    }
}

/// `envoy.config.cluster.v3.Cluster`: name 1, type 2 (EDS is 3), eds_cluster_config 3 with service_name 2.
fn cluster<'a>(message: &'a [u8], each_fact: &mut dyn FnMut(Fact<'a>)) -> Result<(), Malformed> {
    let (mut name, mut service_name, mut is_eds) = ("", "", false);
    for field in Fields(message) {
        match field? {
            (1, Value::Bytes(bytes)) => name = text(bytes)?,
            (2, Value::Number(kind)) => is_eds = kind == 3,
            (3, Value::Bytes(config)) => service_name = text(last(config, 2)?)?,
            _ => {}
        }
    }
    each_fact(Fact::Resource(name));
    if is_eds {
        each_fact(Fact::Reference(if service_name.is_empty() {
            name
        } else {
            service_name
        }));
    }
    Ok(())
}

/// `envoy.config.listener.v3.Listener`: name 1, filter_chains 3, default_filter_chain 25; in a chain, filters 3; in a filter, typed_config 4;
/// in an HTTP connection manager, rds 3 with route_config_name 2.
fn listener<'a>(message: &'a [u8], each_fact: &mut dyn FnMut(Fact<'a>)) -> Result<(), Malformed> {
    const MANAGER: &[u8] =
        b"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    each_fact(Fact::Resource(text(last(message, 1)?)?));
    for chain in each(message, 3).chain(each(message, 25)) {
        for filter in each(chain?, 3) {
            let any = last(filter?, 4)?;
            if last(any, 1)? == MANAGER {
                let route = last(last(last(any, 2)?, 3)?, 2)?;
                if !route.is_empty() {
                    each_fact(Fact::Reference(text(route)?));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
pub mod testing {
    //! Responses as a server would send them.

    use envoy_api::any::{network_filter, pack};
    use envoy_api::envoy::config::cluster::v3::Cluster;
    use envoy_api::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
    use envoy_api::envoy::config::listener::v3::{FilterChain, Listener};
    use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
    use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::{HttpConnectionManager, Rds};
    use envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse, Resource};
    use prost::{Message, Name};
    use prost_types::Any;

    pub fn cluster(name: &str, eds: bool) -> Any {
        let kind = if eds {
            DiscoveryType::Eds
        } else {
            DiscoveryType::Static
        };
        pack(&Cluster {
            name: name.into(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind as i32)),
            ..Default::default()
        })
    }

    pub fn listener(name: &str, route: &str) -> Any {
        let manager = HttpConnectionManager {
            route_specifier: Some(RouteSpecifier::Rds(Rds {
                route_config_name: route.into(),
                ..Default::default()
            })),
            ..Default::default()
        };
        let chain = FilterChain {
            filters: vec![network_filter("http", &manager)],
            ..Default::default()
        };
        pack(&Listener {
            name: name.into(),
            filter_chains: vec![chain],
            ..Default::default()
        })
    }

    pub fn sotw(url: &str, nonce: &str, resources: Vec<Any>) -> Vec<u8> {
        DiscoveryResponse {
            version_info: format!("v{nonce}"),
            type_url: url.into(),
            nonce: nonce.into(),
            resources,
            ..Default::default()
        }
        .encode_to_vec()
    }

    pub fn delta(url: &str, nonce: &str, resources: Vec<Any>, removed: &[&str]) -> Vec<u8> {
        let resources = resources.into_iter().map(|any| Resource {
            resource: Some(any),
            version: "v".into(),
            ..Default::default()
        });
        DeltaDiscoveryResponse {
            type_url: url.into(),
            nonce: nonce.into(),
            resources: resources.collect(),
            removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        }
        .encode_to_vec()
    }

    #[test]
    fn the_manager_has_the_name_that_is_looked_for() {
        assert!(
            HttpConnectionManager::type_url()
                .ends_with("http_connection_manager.v3.HttpConnectionManager")
        );
    }
}

#[cfg(test)]
mod tests {
    use envoy_api::type_url;

    use super::*;

    fn facts(variant: Variant, message: &[u8]) -> Vec<String> {
        let mut facts = Vec::new();
        Response::read(variant, message)
            .unwrap()
            .facts(|fact| facts.push(format!("{fact:?}")))
            .unwrap();
        facts
    }

    #[test]
    fn a_response_says_who_it_is() {
        let message = testing::sotw(
            type_url::ENDPOINT,
            "n7",
            vec![testing::cluster("a", true); 3],
        );
        let response = Response::read(Variant::Sotw, &message).unwrap();
        assert_eq!(
            (
                response.kind,
                response.version,
                response.nonce,
                response.resources
            ),
            (Kind::Eds, "vn7", "n7", 3)
        );
        assert!(facts(Variant::Sotw, &message).is_empty());
    }

    #[test]
    fn clusters_refer_to_endpoints() {
        let message = testing::sotw(
            type_url::CLUSTER,
            "1",
            vec![testing::cluster("a", true), testing::cluster("b", false)],
        );
        assert_eq!(
            facts(Variant::Sotw, &message),
            ["Resource(\"a\")", "Reference(\"a\")", "Resource(\"b\")"]
        );
    }

    #[test]
    fn listeners_refer_to_routes() {
        let message = testing::delta(
            type_url::LISTENER,
            "1",
            vec![testing::listener("0.0.0.0_8080", "8080")],
            &["gone"],
        );
        assert_eq!(
            facts(Variant::Delta, &message),
            [
                "Resource(\"0.0.0.0_8080\")",
                "Reference(\"8080\")",
                "Removed(\"gone\")"
            ]
        );
        assert_eq!(Response::read(Variant::Delta, &message).unwrap().removed, 1);
    }
}
