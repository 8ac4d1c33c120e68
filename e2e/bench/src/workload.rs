//! What is configured: shape S of the performance plan, as YAML, and where its proxies stand.
//!
//! k ServiceEntries in 50 namespaces, hosts under `svc.cluster.local`, STATIC, ports 8080/http and 9090/grpc, two endpoints each with
//! locality and service account. The first service, one VirtualService for it, and an object nobody depends on are "hot": they lie in a
//! folder of their own, since a server may read a whole folder again when one file in it changes.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// Namespaces of shape S.
pub const NAMESPACES: usize = 50;
/// Namespace of the probe that tells when everything is loaded.
pub const PROBE_NAMESPACE: &str = "bench-probe";
/// Address of the probe's workload.
pub const PROBE_IP: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 1);

/// A mesh of shape S, and its proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Services, at least 1.
    pub services: usize,
    /// Proxies.
    pub proxies: usize,
    /// Whether a Sidecar limits every proxy to its own namespace.
    pub scoped: bool,
}

/// Where a proxy stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of its service.
    pub service: String,
    /// Its namespace.
    pub namespace: String,
    /// Its address, which is an endpoint's of the service.
    pub ip: Ipv4Addr,
    /// Which of the service's two endpoints it is.
    pub replica: usize,
}

/// Name of a service.
pub fn service(index: usize) -> String {
    format!("svc-{index:04}")
}

/// Namespace of a service.
pub fn namespace(index: usize) -> String {
    format!("ns-{:02}", index % NAMESPACES)
}

/// Host of a service.
pub fn host(index: usize) -> String {
    format!("{}.{}.svc.cluster.local", service(index), namespace(index))
}

/// Address of an endpoint of a service.
pub fn endpoint(index: usize, replica: usize) -> Ipv4Addr {
    let index = u32::try_from(index).unwrap_or(u32::MAX) % 50_000;
    let replica = u32::try_from(replica).unwrap_or(u32::MAX) % 100;
    // 250 services to each /24, endpoints of one number in one /16.
    Ipv4Addr::from(0x0A01_0000 + (replica << 16) + ((index / 250) << 8) + index % 250 + 1)
}

impl Workload {
    /// The service whose objects are edited: one with a proxy in its namespace, however few proxies there are.
    pub fn hot(&self) -> usize {
        0
    }

    /// Where a proxy stands: one on each service's first endpoint, then on the second, then around again. Never on the endpoint that
    /// events swap, the hot service's second.
    pub fn place(&self, proxy: usize) -> Place {
        let index = proxy % self.services;
        let replica = if index == self.hot() {
            0
        } else {
            (proxy / self.services) % 2
        };
        Place {
            service: service(index),
            namespace: namespace(index),
            ip: endpoint(index, replica),
            replica,
        }
    }

    /// What is never edited, in one document stream. `tag` makes the last object a new one, so that a probe can wait for it.
    pub fn fixed(&self, tag: &str) -> String {
        let mut out = String::new();
        for index in (0..self.services).filter(|index| *index != self.hot()) {
            out.push_str(&service_entry(index, endpoint(index, 1), None));
        }
        if self.scoped {
            for index in 0..NAMESPACES {
                out.push_str(&own_namespace_only(&namespace(index)));
            }
        }
        out.push_str(&own_namespace_only(PROBE_NAMESPACE));
        let _ = write!(
            out,
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: {tag}
  namespace: {PROBE_NAMESPACE}
spec:
  hosts: [{probe}]
  exportTo: [\".\"]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {{number: 8080, name: http, protocol: HTTP}}
  endpoints:
  - address: 10.250.0.2
",
            probe = probe_host(tag),
        );
        out
    }
}

/// Host of the object by which the probe knows that everything is loaded.
pub fn probe_host(tag: &str) -> String {
    format!("{tag}.{PROBE_NAMESPACE}.svc.cluster.local")
}

/// One service. `second` is the address of its second endpoint; `version` a resource version, which means nothing.
pub fn service_entry(index: usize, second: Ipv4Addr, version: Option<usize>) -> String {
    let (name, namespace, host) = (service(index), namespace(index), host(index));
    let version = version.map_or_else(String::new, |version| {
        format!("\n  resourceVersion: \"{version}\"")
    });
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: {name}
  namespace: {namespace}{version}
spec:
  hosts: [{host}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {{number: 8080, name: http, protocol: HTTP}}
  - {{number: 9090, name: grpc, protocol: GRPC}}
  endpoints:
  - {{address: {first}, locality: region1/zone1, serviceAccount: {name}}}
  - {{address: {second}, locality: region1/zone2, serviceAccount: {name}}}
",
        first = endpoint(index, 0),
    )
}

/// One VirtualService for a service, with a timeout of so many milliseconds.
pub fn virtual_service(index: usize, timeout: usize) -> String {
    let (name, namespace, host) = (service(index), namespace(index), host(index));
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: {name}
  namespace: {namespace}
spec:
  hosts: [{host}]
  http:
  - timeout: {timeout}ms
    route:
    - destination: {{host: {host}}}
"
    )
}

/// A VirtualService that is seen only in a namespace without proxies.
pub fn irrelevant(timeout: usize) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: elsewhere
  namespace: elsewhere
spec:
  hosts: [elsewhere.example.com]
  exportTo: [\".\"]
  http:
  - timeout: {timeout}ms
    route:
    - destination: {{host: elsewhere.example.com}}
"
    )
}

fn own_namespace_only(namespace: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata:
  name: default
  namespace: {namespace}
spec:
  egress:
  - hosts: [\"./*\"]
"
    )
}

/// Mesh settings, the same for every server. For istiod, `configSources` goes below them.
pub const MESH: &str = "trustDomain: cluster.local
rootNamespace: istio-system
defaultConfig:
  discoveryAddress: 127.0.0.1:15010
";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_endpoint_has_its_own_address() {
        let all: HashSet<_> = (0..5000)
            .flat_map(|index| (0..2).map(move |replica| endpoint(index, replica)))
            .collect();
        assert_eq!(all.len(), 10_000);
        assert_eq!(endpoint(0, 0), Ipv4Addr::new(10, 1, 0, 1));
        assert_eq!(endpoint(250, 1), Ipv4Addr::new(10, 2, 1, 1));
    }

    #[test]
    fn a_thousand_proxies_stand_twenty_to_a_namespace() {
        let workload = Workload {
            services: 1000,
            proxies: 1000,
            scoped: true,
        };
        let places: Vec<_> = (0..1000).map(|proxy| workload.place(proxy)).collect();
        for index in 0..NAMESPACES {
            assert_eq!(
                places
                    .iter()
                    .filter(|place| place.namespace == namespace(index))
                    .count(),
                20
            );
        }
        let addresses: HashSet<_> = places.iter().map(|place| place.ip).collect();
        assert_eq!(addresses.len(), 1000);
    }

    #[test]
    fn no_proxy_stands_on_the_endpoint_that_is_swapped() {
        let workload = Workload {
            services: 10,
            proxies: 100,
            scoped: false,
        };
        let swapped = endpoint(workload.hot(), 1);
        assert!((0..100).all(|proxy| workload.place(proxy).ip != swapped));
    }

    #[test]
    fn the_fixed_part_holds_all_but_the_hot_service() {
        let scoped = Workload {
            services: 100,
            proxies: 1,
            scoped: true,
        };
        let text = scoped.fixed("loaded-1");
        assert_eq!(text.matches("kind: ServiceEntry").count(), 99 + 1);
        assert_eq!(text.matches("kind: Sidecar").count(), NAMESPACES + 1);
        let open = Workload {
            scoped: false,
            ..scoped
        };
        assert_eq!(open.fixed("loaded-1").matches("kind: Sidecar").count(), 1);
    }

    #[test]
    fn a_rewrite_differs_in_its_version_alone() {
        let strip = |text: String| {
            text.lines()
                .filter(|line| !line.contains("resourceVersion"))
                .collect::<Vec<_>>()
                .join("\n")
        };
        let (one, two) = (
            service_entry(3, endpoint(3, 1), Some(1)),
            service_entry(3, endpoint(3, 1), Some(2)),
        );
        assert_ne!(one, two);
        assert_eq!(strip(one), strip(two));
    }
}
