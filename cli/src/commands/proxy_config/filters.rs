//! istioctl's filters: which resources of a kind are printed.

use serde_json::Value;

use super::columns::{cluster_parts, kinds, place};
use super::name;

/// Of clusters.
#[derive(Debug, Default, clap::Args)]
pub struct ClusterFilter {
    /// Only clusters of this host
    #[arg(long, value_name = "HOST")]
    fqdn: Option<String>,

    /// Only clusters of this port
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// Only clusters of this direction: inbound or outbound
    #[arg(long, value_name = "DIRECTION")]
    direction: Option<String>,

    /// Only clusters of this subset
    #[arg(long, value_name = "SUBSET")]
    subset: Option<String>,
}

impl ClusterFilter {
    /// Whether a cluster is printed.
    pub fn wants(&self, cluster: &Value) -> bool {
        let parts = cluster_parts(name(cluster));
        let is = |wanted: &Option<String>, part: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(part))
        };
        is(&self.fqdn, parts.host)
            && is(&self.direction, parts.direction)
            && is(&self.subset, parts.subset)
            && self.port.is_none_or(|port| parts.port == port.to_string())
    }
}

/// Of listeners.
#[derive(Debug, Default, clap::Args)]
pub struct ListenerFilter {
    /// Only listeners on this address
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,

    /// Only listeners on this port
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// Only listeners of this type: HTTP, TCP, HTTP+TCP or UNKNOWN
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
}

impl ListenerFilter {
    /// Whether a listener is printed.
    pub fn wants(&self, listener: &Value) -> bool {
        let socket = &listener["address"]["socketAddress"];
        self.address
            .as_ref()
            .is_none_or(|address| socket["address"] == **address)
            && self
                .port
                .is_none_or(|port| socket["portValue"] == u64::from(port))
            && self
                .kind
                .as_ref()
                .is_none_or(|kind| kind.eq_ignore_ascii_case(kinds(listener)))
    }
}

/// Of routes.
#[derive(Debug, Default, clap::Args)]
pub struct RouteFilter {
    /// Only the RouteConfiguration of this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl RouteFilter {
    /// Whether a RouteConfiguration is printed.
    pub fn wants(&self, route: &Value) -> bool {
        self.name
            .as_ref()
            .is_none_or(|wanted| name(route) == wanted)
    }
}

/// Of endpoints.
#[derive(Debug, Default, clap::Args)]
pub struct EndpointFilter {
    /// Only endpoints at this address
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,

    /// Only endpoints at this port
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// Only endpoints of this cluster, by its full name
    #[arg(long, value_name = "CLUSTER")]
    cluster: Option<String>,

    /// Only endpoints of this health: healthy, unhealthy, draining, ...
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
}

impl EndpointFilter {
    /// Cuts what is not wanted; whether something is left, or was wanted whole.
    pub fn reduce(&self, assignment: &mut Value) -> bool {
        if self
            .cluster
            .as_ref()
            .is_some_and(|wanted| name(assignment) != wanted)
        {
            return false;
        }
        if self.address.is_none() && self.port.is_none() && self.status.is_none() {
            return true;
        }
        let Some(groups) = assignment["endpoints"].as_array_mut() else {
            return false;
        };
        groups.retain_mut(|group| {
            let Some(endpoints) = group["lbEndpoints"].as_array_mut() else {
                return false;
            };
            endpoints.retain(|endpoint| self.wants(endpoint));
            !endpoints.is_empty()
        });
        !groups.is_empty()
    }

    fn wants(&self, endpoint: &Value) -> bool {
        let place = place(endpoint);
        // An IPv6 address has colons of its own.
        let (address, port) = place.rsplit_once(':').unwrap_or((&place, ""));
        self.address
            .as_ref()
            .is_none_or(|wanted| wanted == address || *wanted == place)
            && self.port.is_none_or(|wanted| port == wanted.to_string())
            && self.status.as_ref().is_none_or(|wanted| {
                let status = endpoint["healthStatus"].as_str().unwrap_or("UNKNOWN");
                wanted.eq_ignore_ascii_case(status)
            })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn clusters_by_every_part_of_their_name() {
        let cluster = json!({ "name": "outbound|9080|v2|reviews.shop" });
        let with = |set: fn(&mut ClusterFilter)| {
            let mut filter = ClusterFilter::default();
            set(&mut filter);
            filter.wants(&cluster)
        };
        assert!(with(|_| ()));
        assert!(with(|f| f.fqdn = Some("reviews.shop".into())));
        assert!(!with(|f| f.fqdn = Some("reviews".into())));
        assert!(with(|f| f.direction = Some("OUTBOUND".into())));
        assert!(!with(|f| f.direction = Some("inbound".into())));
        assert!(!with(|f| f.subset = Some("v1".into())));
        assert!(with(|f| f.port = Some(9080)) && !with(|f| f.port = Some(908)));
        let filter = ClusterFilter {
            fqdn: Some("BlackHoleCluster".into()),
            ..ClusterFilter::default()
        };
        assert!(filter.wants(&json!({ "name": "BlackHoleCluster" })));
    }

    #[test]
    fn endpoints_one_by_one() {
        let endpoint = |port: u16, health: &str| {
            json!({
                "endpoint": { "address": { "socketAddress": { "address": "::1", "portValue": port } } },
                "healthStatus": health,
            })
        };
        let all = json!({
            "clusterName": "c",
            "endpoints": [
                { "lbEndpoints": [endpoint(1, "HEALTHY"), endpoint(2, "UNHEALTHY")] },
                { "lbEndpoints": [endpoint(1, "UNHEALTHY")] },
            ],
        });
        let left = |filter: EndpointFilter| {
            let mut assignment = all.clone();
            let left = filter.reduce(&mut assignment);
            let count = assignment["endpoints"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|group| group["lbEndpoints"].as_array().unwrap())
                .count();
            (left, count)
        };
        assert_eq!(left(EndpointFilter::default()), (true, 3));
        let healthy = EndpointFilter {
            status: Some("healthy".into()),
            ..EndpointFilter::default()
        };
        assert_eq!(left(healthy), (true, 1));
        let second = EndpointFilter {
            address: Some("::1".into()),
            port: Some(2),
            ..EndpointFilter::default()
        };
        assert_eq!(left(second), (true, 1));
        let other = EndpointFilter {
            cluster: Some("d".into()),
            ..EndpointFilter::default()
        };
        assert!(!left(other).0);
        let nowhere = EndpointFilter {
            address: Some("::2".into()),
            ..EndpointFilter::default()
        };
        assert_eq!(left(nowhere), (false, 0));
    }

    #[test]
    fn listeners_by_place_and_type() {
        let http = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
        let listener = json!({
            "address": { "socketAddress": { "address": "10.0.0.1", "portValue": 80 } },
            "filterChains": [{ "filters": [{ "typedConfig": { "@type": http } }] }],
        });
        let with = |set: fn(&mut ListenerFilter)| {
            let mut filter = ListenerFilter::default();
            set(&mut filter);
            filter.wants(&listener)
        };
        assert!(with(|f| f.port = Some(80)) && !with(|f| f.port = Some(8080)));
        assert!(with(|f| f.kind = Some("http".into())));
        assert!(!with(|f| f.kind = Some("TCP".into())));
        assert!(with(|f| f.address = Some("10.0.0.1".into())));
        assert!(!with(|f| f.address = Some("0.0.0.0".into())));
    }
}
