//! The sample: its configuration, its workloads, and an Envoy beside each.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::args::Network;

/// The sample's configuration, by file name.
pub const CONFIG: [(&str, &str); 5] = [
    (
        "gateway.yaml",
        include_str!("../../../../deploy/sample/config/gateway.yaml"),
    ),
    (
        "reviews.yaml",
        include_str!("../../../../deploy/sample/config/reviews.yaml"),
    ),
    (
        "security.yaml",
        include_str!("../../../../deploy/sample/config/security.yaml"),
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
/// Namespace of the sample.
pub const NAMESPACE: &str = "default";
/// Port of Envoy's admin interface.
const ADMIN_PORT: u16 = 15000;
/// Port of the agent's status, of Envoy's health, and of its metrics.
const STATUS_PORT: u16 = 15020;
const HEALTH_PORT: u16 = 15021;
const METRICS_PORT: u16 = 15090;
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
            None => &[PAGE_PORT],
            Some(_) => &[SERVICE_PORT, APPLICATION_PORT, PROXY_PORT],
        };
        let address = self.address(network);
        let own = [ADMIN_PORT, STATUS_PORT, HEALTH_PORT, METRICS_PORT];
        ports
            .iter()
            .chain(&own)
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

    /// Its service account.
    pub fn account(&self) -> String {
        format!("bookinfo-{}", self.service)
    }

    /// Arguments of `flotilla agent` beside it, but for where the plane is.
    pub fn agent(&self, network: Network) -> Vec<String> {
        let kind = match self.version {
            Some(_) => "sidecar",
            None => "router",
        };
        let address = self.address(network);
        let at = |port: u16| format!("{address}:{port}");
        let mut arguments = vec!["agent".to_owned(), "proxy".to_owned(), kind.to_owned()];
        for (flag, value) in [
            ("--namespace", NAMESPACE.to_owned()),
            ("--service-account", self.account()),
            ("--pod-name", self.name()),
            ("--ip", address.to_string()),
            ("--label", format!("app={}", self.service)),
            ("--concurrency", "1".to_owned()),
            ("--envoy-admin-addr", at(ADMIN_PORT)),
            ("--status-addr", at(STATUS_PORT)),
            ("--envoy-status-addr", at(HEALTH_PORT)),
            ("--envoy-prometheus-addr", at(METRICS_PORT)),
        ] {
            arguments.extend([flag.to_owned(), value]);
        }
        if let Some(version) = self.version {
            arguments.extend(["--label".to_owned(), format!("version={version}")]);
        }
        arguments
    }

    /// Variables of `flotilla agent` beside it.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("ISTIO_META_CLUSTER_ID", "local".to_owned()),
            ("ISTIO_META_WORKLOAD_NAME", self.name()),
            // Nothing captures traffic here.
            ("ISTIO_META_INTERCEPTION_MODE", "NONE".to_owned()),
            ("ECC_SIGNATURE_ALGORITHM", "ECDSA".to_owned()),
            // Ctrl-C is not waited after.
            ("TERMINATION_DRAIN_DURATION_SECONDS", "0".to_owned()),
        ]
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
                    "name: {}\n  namespace: default\nspec:\n  address: {address}\n  serviceAccount: {}\n",
                    workload.name(),
                    workload.account()
                ),
                None => format!("bind: {address}\n"),
            };
            assert!(files.contains(&line), "{line}");
        }
    }

    #[test]
    fn the_agent_is_told_who_it_stands_beside() {
        let network: Network = "127.77.0".parse().unwrap();
        let gateway = WORKLOADS[0].agent(network).join(" ");
        assert!(
            gateway.starts_with("agent proxy router --namespace default --service-account bookinfo-ingressgateway --pod-name ingressgateway --ip 127.77.0.1 "),
            "{gateway}"
        );
        let reviews = WORKLOADS[4].agent(network).join(" ");
        assert!(
            reviews.ends_with("--label version=v2") && reviews.contains("--label app=reviews "),
            "{reviews}"
        );
        assert_eq!(WORKLOADS[0].application(network), None);
    }
}
