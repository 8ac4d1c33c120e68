//! Names that Envoy, its operators and Istio's tools know resources by.

use std::fmt;

use mesh_config::resource::normal::{MeshPort, MeshService, Registry};

/// Requests nobody may make end here.
pub const BLACK_HOLE: &str = "BlackHoleCluster";
/// The address the client dialled.
pub const PASSTHROUGH: &str = "PassthroughCluster";
/// The address the client dialled, inbound.
pub const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";
/// The host the client named, by DNS.
pub const ALLOW_ANY_DYNAMIC_DNS: &str = "AllowAnyDynamicDNSCluster";

/// The name of a cluster, in parts; `Display` writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClusterName<'a> {
    /// `outbound|<port>|<subset>|<host>`.
    Outbound {
        /// Service port.
        port: u16,
        /// Subset, empty for the whole service.
        subset: &'a str,
        /// Service host.
        host: &'a str,
    },
    /// `inbound|<port>||`.
    Inbound {
        /// Port of the workload, or of the Sidecar's ingress listener.
        port: u16,
    },
    /// `outbound_.<port>_.<subset>_.<host>`: what AUTO_PASSTHROUGH gateways choose by SNI; also the SNI of mutual TLS in the mesh.
    SniDnat {
        /// Service port.
        port: u16,
        /// Subset, empty for the whole service.
        subset: &'a str,
        /// Service host.
        host: &'a str,
    },
}

impl<'a> ClusterName<'a> {
    /// The cluster of a service port, or of a subset of it (empty: none).
    pub fn outbound(port: u16, subset: &'a str, host: &'a str) -> ClusterName<'a> {
        ClusterName::Outbound { port, subset, host }
    }

    /// The cluster of the application behind a sidecar.
    pub fn inbound(port: u16) -> ClusterName<'static> {
        ClusterName::Inbound { port }
    }

    /// The cluster that AUTO_PASSTHROUGH gateways choose by SNI.
    pub fn sni_dnat(port: u16, subset: &'a str, host: &'a str) -> ClusterName<'a> {
        ClusterName::SniDnat { port, subset, host }
    }

    /// Reads a name; `None` for special clusters and anything else that is no name of ours.
    pub fn parse(name: &'a str) -> Option<ClusterName<'a>> {
        let (parts, dnat): (Vec<&str>, bool) = match name.strip_prefix("outbound_.") {
            Some(rest) => (
                std::iter::once("outbound")
                    .chain(rest.splitn(3, "_."))
                    .collect(),
                true,
            ),
            None => (name.split('|').collect(), false),
        };
        let [direction, port, subset, host] = parts[..] else {
            return None;
        };
        let port = port.parse().ok()?;
        match (direction, dnat) {
            ("outbound", true) if !host.is_empty() => Some(Self::sni_dnat(port, subset, host)),
            ("outbound", false) if !host.is_empty() => Some(Self::outbound(port, subset, host)),
            ("inbound", false) => Some(Self::inbound(port)),
            _ => None,
        }
    }
}

impl fmt::Display for ClusterName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClusterName::Outbound { port, subset, host } => {
                write!(f, "outbound|{port}|{subset}|{host}")
            }
            ClusterName::Inbound { port } => write!(f, "inbound|{port}||"),
            ClusterName::SniDnat { port, subset, host } => {
                write!(f, "outbound_.{port}_.{subset}_.{host}")
            }
        }
    }
}

/// The name statistics of a cluster go by, without the `;` that ends it: the mesh's pattern filled in, or the cluster's own name.
///
/// Tokens: `%SERVICE%` (`name.namespace` of a Kubernetes service, else the host), `%SERVICE_NAME%`, `%SERVICE_FQDN%`, `%SERVICE_PORT%`,
/// `%SERVICE_PORT_NAME%`, `%TARGET_PORT%`, `%SUBSET_NAME%`. Source: MeshConfig `outboundClusterStatName`, `inboundClusterStatName`.
pub fn stat_name(
    pattern: &str,
    name: ClusterName<'_>,
    service: Option<(&MeshService, &str)>,
    port: Option<&MeshPort>,
) -> String {
    let Some((service, namespace)) = service.filter(|_| !pattern.is_empty()) else {
        return name.to_string();
    };
    let subset = match name {
        ClusterName::Outbound { subset, .. } | ClusterName::SniDnat { subset, .. } => subset,
        ClusterName::Inbound { .. } => "",
    };
    let short = match service.registry {
        Registry::Kubernetes => format!("{}.{namespace}", service.name),
        Registry::External => service.hostname.to_string(),
    };
    let number = |n: Option<u16>| n.map(|n| n.to_string()).unwrap_or_default();
    pattern
        .replace("%SERVICE%", &short)
        .replace("%SERVICE_NAME%", &service.name)
        .replace("%SERVICE_FQDN%", service.hostname.as_str())
        .replace("%SERVICE_PORT%", &number(port.map(|p| p.number)))
        .replace("%SERVICE_PORT_NAME%", port.map_or("", |p| &p.name))
        .replace("%TARGET_PORT%", &number(port.map(|p| p.target_port)))
        .replace("%SUBSET_NAME%", subset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_written() {
        for name in [
            ClusterName::outbound(80, "", "a.default.svc.cluster.local"),
            ClusterName::outbound(80, "v1", "*.example.com"),
            ClusterName::inbound(8080),
            ClusterName::sni_dnat(443, "v1", "a.b"),
            ClusterName::sni_dnat(443, "", "a.b"),
        ] {
            assert_eq!(ClusterName::parse(&name.to_string()), Some(name));
        }
        for bad in [
            "",
            BLACK_HOLE,
            "outbound|80|a",
            "outbound|x||a",
            "outbound|80||",
            "outbound|80||a|b",
            "outbound_.80_.a",
        ] {
            assert_eq!(ClusterName::parse(bad), None, "{bad:?}");
        }
    }
}
