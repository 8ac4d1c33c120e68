//! Addresses of services, as a class of proxies dials them (XDS-TRAFFIC 2.6).

use std::net::IpAddr;
use std::sync::Arc;

use mesh_config::resource::normal::Registry;
use mesh_model::Service;

use crate::OutboundKey;

/// Addresses that lead to a service; none of either kind means `0.0.0.0`, any address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vips {
    /// Single addresses: each gets a listener of its own.
    pub ips: Vec<Arc<str>>,
    /// Networks: they share the wildcard listener of their port.
    pub cidrs: Vec<Arc<str>>,
}

impl Vips {
    /// The addresses of a service for proxies of a class: those of the address families they have, else all; a service without any gets the
    /// address that the plane allotted, if the proxies' agents answer DNS.
    pub fn of(service: &Service, key: &OutboundKey) -> Vips {
        let spoken = |text: &&Arc<str>| {
            let ip = text.split_once('/').map_or(&***text, |(ip, _)| ip);
            match ip.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => key.ipv4 || !key.ipv6,
                Ok(IpAddr::V6(_)) => key.ipv6,
                Err(_) => false,
            }
        };
        let mut chosen: Vec<&Arc<str>> = service.addresses.iter().filter(spoken).collect();
        if chosen.is_empty() {
            chosen = service.addresses.iter().collect();
        }
        if chosen.is_empty() && key.dns_capture {
            chosen = service
                .auto_addresses
                .iter()
                .filter(spoken)
                .take(1)
                .collect();
        }
        if service.registry == Registry::Kubernetes {
            chosen.truncate(1); // the others are the same service in the other address family
        }
        let (cidrs, ips): (Vec<_>, Vec<_>) =
            chosen.into_iter().cloned().partition(|a| a.contains('/'));
        Vips {
            ips: ips
                .into_iter()
                .filter(|ip| !matches!(&**ip, "0.0.0.0" | "::"))
                .collect(),
            cidrs,
        }
    }

    /// Whether the service has no address of its own.
    pub fn is_any(&self) -> bool {
        self.ips.is_empty() && self.cidrs.is_empty()
    }
}
