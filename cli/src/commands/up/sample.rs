//! The sample: its configuration, its workloads, and an Envoy beside each.

use std::net::{Ipv4Addr, SocketAddrV4};

use serde_json::{Value, json};

use super::args::Network;

/// The sample's configuration, by file name.
pub const CONFIG: [(&str, &str); 4] = [
    (
        "gateway.yaml",
        include_str!("../../../../deploy/sample/config/gateway.yaml"),
    ),
    (
        "reviews.yaml",
        include_str!("../../../../deploy/sample/config/reviews.yaml"),
    ),
    (
        "services.yaml",
        include_str!("../../../../deploy/sample/config/services.yaml"),
    ),
    (
        "sidecars.yaml",
        include_str!("../../../../deploy/sample/config/sidecars.yaml"),
    ),
];

/// Network that the files name.
pub const NETWORK: &str = "127.77.0";
/// Port of the page, on the gateway.
pub const PAGE_PORT: u16 = 8000;
/// Port of Envoy's admin interface.
const ADMIN_PORT: u16 = 15000;
/// Port in front of an application, opened by the Envoy beside it.
const SERVICE_PORT: u16 = 9080;
/// Port of an application.
const APPLICATION_PORT: u16 = 9081;
/// Port of the Envoy beside an application, for its calls.
const PROXY_PORT: u16 = 15002;

/// Something that gets an Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Service; the gateway is one without application.
    pub service: &'static str,
    /// Version of the service; none for the gateway.
    pub version: Option<&'static str>,
    /// Last number of the address.
    host: u8,
}

/// Everything that gets an Envoy; the addresses are those of `services.yaml` and `gateway.yaml`.
pub const WORKLOADS: [Workload; 7] = [
    Workload::gateway("ingressgateway", 1),
    Workload::new("productpage", "v1", 10),
    Workload::new("details", "v1", 20),
    Workload::new("reviews", "v1", 31),
    Workload::new("reviews", "v2", 32),
    Workload::new("reviews", "v3", 33),
    Workload::new("ratings", "v1", 40),
];

impl Workload {
    const fn new(service: &'static str, version: &'static str, host: u8) -> Workload {
        Workload {
            service,
            version: Some(version),
            host,
        }
    }

    const fn gateway(service: &'static str, host: u8) -> Workload {
        Workload {
            service,
            version: None,
            host,
        }
    }

    /// `reviews-v2`, `ingressgateway`.
    pub fn name(&self) -> String {
        match self.version {
            Some(version) => format!("{}-{version}", self.service),
            None => self.service.to_owned(),
        }
    }

    /// As Pilot's roster names its proxy.
    pub fn proxy(&self) -> String {
        format!("{}.default", self.name())
    }

    /// Its address.
    pub fn address(&self, network: Network) -> Ipv4Addr {
        network.host(self.host)
    }

    /// Every port that it or its Envoy opens.
    pub fn ports(&self, network: Network) -> Vec<SocketAddrV4> {
        let ports: &[u16] = match self.version {
            None => &[PAGE_PORT, ADMIN_PORT],
            Some(_) => &[SERVICE_PORT, APPLICATION_PORT, PROXY_PORT, ADMIN_PORT],
        };
        let address = self.address(network);
        ports
            .iter()
            .map(|port| SocketAddrV4::new(address, *port))
            .collect()
    }

    /// Arguments of the program `sample`; none for the gateway.
    pub fn application(&self, network: Network) -> Option<Vec<String>> {
        let address = self.address(network);
        Some(vec![
            self.service.to_owned(),
            "--release".to_owned(),
            self.version?.to_owned(),
            "--listen".to_owned(),
            format!("{address}:{APPLICATION_PORT}"),
            "--proxy".to_owned(),
            format!("{address}:{PROXY_PORT}"),
        ])
    }

    /// Configuration that its Envoy starts with: who it is, and that it asks Pilot for the rest.
    pub fn bootstrap(&self, network: Network, pilot: std::net::SocketAddr) -> Value {
        let kind = if self.version.is_some() {
            "sidecar"
        } else {
            "router"
        };
        let mut labels = json!({ "app": self.service });
        if let Some(version) = self.version {
            labels["version"] = json!(version);
        }
        let address = self.address(network);
        let socket = |address: String, port: u16| json!({ "socket_address": { "address": address, "port_value": port } });
        let ads = json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" });
        json!({
            "node": {
                "id": format!("{kind}~{address}~{}~default.svc.cluster.local", self.proxy()),
                "cluster": format!("{}.default", self.service),
                "metadata": {
                    "NAMESPACE": "default",
                    "CLUSTER_ID": "local",
                    "WORKLOAD_NAME": self.name(),
                    "INTERCEPTION_MODE": "NONE",
                    "LABELS": labels,
                },
            },
            // As Istio's agents start their Envoys: without it, an ordinary pattern would be rejected as too large.
            "layered_runtime": { "layers": [
                { "name": "defaults", "static_layer": { "re2.max_program_size.error_level": 32768 } },
                { "name": "admin", "admin_layer": {} },
            ] },
            "admin": { "address": socket(address.to_string(), ADMIN_PORT) },
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": true,
                    "grpc_services": [{ "envoy_grpc": { "cluster_name": "xds-grpc" } }],
                },
                "cds_config": ads,
                "lds_config": ads,
            },
            "static_resources": { "clusters": [{
                "name": "xds-grpc",
                "type": "STATIC",
                "connect_timeout": "1s",
                "typed_extension_protocol_options": {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": { "http2_protocol_options": {
                            "connection_keepalive": { "interval": "10s", "timeout": "5s" },
                        } },
                    },
                },
                "load_assignment": {
                    "cluster_name": "xds-grpc",
                    "endpoints": [{ "lb_endpoints": [
                        { "endpoint": { "address": socket(pilot.ip().to_string(), pilot.port()) } },
                    ] }],
                },
            }] },
        })
    }
}

/// A file of [`CONFIG`] for another network.
pub fn on_network(text: &str, network: Network) -> String {
    text.replace(&format!("{NETWORK}."), &format!("{network}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_has_the_address_that_the_files_give_it() {
        let network: Network = "127.99.1".parse().unwrap();
        let files: String = CONFIG
            .iter()
            .map(|(_, text)| on_network(text, network))
            .collect();
        assert!(!files.contains(NETWORK));
        for workload in WORKLOADS {
            let address = workload.address(network).to_string();
            let line = match workload.version {
                Some(_) => format!(
                    "name: {}\n  namespace: default\nspec:\n  address: {address}\n",
                    workload.name()
                ),
                None => format!("bind: {address}\n"),
            };
            assert!(files.contains(&line), "{line}");
        }
    }

    #[test]
    fn the_bootstrap_says_who_it_is() {
        let network: Network = "127.77.0".parse().unwrap();
        let pilot = "127.0.0.1:15010".parse().unwrap();
        let node = |workload: &Workload| workload.bootstrap(network, pilot)["node"].clone();
        assert_eq!(
            node(&WORKLOADS[0])["id"],
            "router~127.77.0.1~ingressgateway.default~default.svc.cluster.local"
        );
        assert_eq!(
            node(&WORKLOADS[4])["metadata"]["LABELS"],
            json!({ "app": "reviews", "version": "v2" })
        );
        assert_eq!(WORKLOADS[0].application(network), None);
    }
}
