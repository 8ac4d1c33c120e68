//! ServiceEntry and WorkloadEntry.

use std::collections::BTreeSet;

use mesh_types::{Code, Protocol};

use super::report::Report;
use super::{hosts, names, values};
use crate::Meta;
use crate::resource::service_entry::{Resolution, ServiceEntry, ServicePort, WorkloadEntry};

pub(super) fn check(r: &mut Report, meta: &Meta, entry: &ServiceEntry) {
    values::selector(r, entry.workload_selector.as_ref());
    if entry.workload_selector.is_some() && !entry.endpoints.is_empty() {
        r.say_at(
            "endpoints",
            Code::Conflict,
            "excludes workloadSelector; keep one",
        );
    }
    r.need("hosts", !entry.hosts.is_empty(), "");
    let dynamic = entry.resolution == Resolution::DynamicDns;
    r.items("hosts", &entry.hosts, |r, _, host| {
        if host == "*" || !hosts::is_wildcard_domain(host) {
            r.say(Code::Malformed, hosts::want_host(host));
        } else if hosts::is_partial_wildcard(host) && !dynamic {
            r.say(
                Code::Risky,
                format!(
                    "{host:?}: a wildcard should be the whole first label, as in *.example.com"
                ),
            );
        }
    });
    let plain_addresses = !matches!(entry.resolution, Resolution::None | Resolution::Static);
    r.items("addresses", &entry.addresses, |r, _, address| {
        if let Err(message) = values::subnet(address) {
            r.say(Code::Malformed, message);
        } else if address.contains('/') && plain_addresses {
            r.say(
                Code::Conflict,
                format!("{address}: networks go with resolution NONE or STATIC alone"),
            );
        }
    });
    ports(r, &entry.ports);
    let many = entry.hosts.len() > 1;
    if many && entry.resolution != Resolution::None {
        let opaque = entry
            .ports
            .iter()
            .find(|p| !Protocol::parse(&p.protocol).is_some_and(|p| p.is_http() || p.is_tls()));
        if let Some(port) = opaque {
            let message = format!(
                "several hosts cannot be told apart on port {}, which is neither HTTP nor TLS; use one object per host",
                port.number
            );
            r.say_at("hosts", Code::Conflict, message);
        }
    }
    resolution(r, entry);
    values::export_to(r, &entry.export_to, &meta.key.namespace, true);
}

fn ports(r: &mut Report, ports: &[ServicePort]) {
    let (mut port_names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    r.items("ports", ports, |r, _, port| {
        if !port_names.insert(&port.name) {
            r.say_at(
                "name",
                Code::Duplicate,
                format!("{:?} is given twice", port.name),
            );
        } else if !names::is_label_of_any_case(&port.name) {
            r.say_at("name", Code::Malformed, names::want_label(&port.name));
        }
        if !numbers.insert(port.number) {
            r.say_at(
                "number",
                Code::Duplicate,
                format!("{} is given twice", port.number),
            );
        }
        r.test("number", Code::OutOfRange, values::port(port.number));
        values::protocol(r, &port.protocol, true);
        if port.target_port != 0 {
            r.test(
                "targetPort",
                Code::OutOfRange,
                values::port(port.target_port),
            );
        }
    });
}

fn resolution(r: &mut Report, entry: &ServiceEntry) {
    let ports: BTreeSet<&str> = entry.ports.iter().map(|p| p.name.as_str()).collect();
    match entry.resolution {
        Resolution::None => {
            if !entry.endpoints.is_empty() {
                r.say_at(
                    "endpoints",
                    Code::Conflict,
                    "resolution NONE sends to the address the caller dialled; choose STATIC or DNS",
                );
            }
            if entry.workload_selector.is_some() {
                r.say_at(
                    "workloadSelector",
                    Code::NoEffect,
                    "does nothing with resolution NONE; choose STATIC",
                );
            }
        }
        Resolution::Static => {
            r.items("endpoints", &entry.endpoints, |r, _, endpoint| {
                workload(r, endpoint);
                let address = &endpoint.address;
                if !address.is_empty() && !values::is_ip(address) && !address.starts_with("unix://")
                {
                    r.say_at(
                        "address",
                        Code::Malformed,
                        format!(
                            "{address:?} is no IP address; with resolution DNS it may be a host"
                        ),
                    );
                }
                known_ports(r, &ports, endpoint);
            });
        }
        Resolution::Dns | Resolution::DnsRoundRobin => {
            if entry.endpoints.is_empty() {
                r.items("hosts", &entry.hosts, |r, _, host| {
                    if host.starts_with('*') {
                        r.say(Code::Conflict, format!("{host} cannot be looked up; give endpoints, or choose resolution NONE"));
                    }
                });
            }
            if entry.resolution == Resolution::DnsRoundRobin && entry.endpoints.len() > 1 {
                r.say_at(
                    "endpoints",
                    Code::Conflict,
                    "resolution DNS_ROUND_ROBIN takes one endpoint at most; choose DNS",
                );
            }
            r.items("endpoints", &entry.endpoints, |r, _, endpoint| {
                workload(r, endpoint);
                if endpoint.address.starts_with("unix://") {
                    r.say_at(
                        "address",
                        Code::Malformed,
                        "a socket cannot be looked up; choose resolution STATIC",
                    );
                }
                known_ports(r, &ports, endpoint);
            });
            let tcp = |p: &ServicePort| {
                p.protocol.is_empty()
                    || Protocol::parse(&p.protocol).is_some_and(|p| p == Protocol::Tcp)
            };
            if entry.hosts.len() > 1 && !entry.addresses.is_empty() && entry.ports.iter().any(tcp) {
                r.say_at("addresses", Code::Risky, "one address stands for several hosts, so TCP traffic to it may reach any of them");
            }
        }
        Resolution::DynamicDns => dynamic_dns(r, entry),
    }
}

fn dynamic_dns(r: &mut Report, entry: &ServiceEntry) {
    r.items("hosts", &entry.hosts, |r, _, host| {
        if !host.starts_with('*') {
            r.say(
                Code::Conflict,
                format!("{host} is no wildcard; choose resolution DNS"),
            );
        }
    });
    for (name, set) in [
        ("addresses", !entry.addresses.is_empty()),
        ("endpoints", !entry.endpoints.is_empty()),
    ] {
        if set {
            r.say_at(
                name,
                Code::Conflict,
                "must not be set with resolution DYNAMIC_DNS",
            );
        }
    }
    r.items("ports", &entry.ports, |r, _, port| {
        let named = matches!(
            Protocol::parse(&port.protocol),
            Some(Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Tls)
        );
        if !named {
            r.say_at(
                "protocol",
                Code::Conflict,
                "resolution DYNAMIC_DNS needs HTTP, HTTP2, GRPC or TLS, which name the host",
            );
        }
    });
}

/// An endpoint may give a port for each port of its service, and for no other.
fn known_ports(r: &mut Report, ports: &BTreeSet<&str>, endpoint: &WorkloadEntry) {
    for name in endpoint.ports.keys() {
        if !ports.contains(name.as_str()) {
            let known: Vec<&str> = ports.iter().copied().take(20).collect();
            let message = format!(
                "the service has no port {name:?}; there are {}",
                known.join(", ")
            );
            r.field("ports", |r| r.say_at(name.clone(), Code::Conflict, message));
        }
    }
}

/// A workload by itself or among the endpoints of a service.
pub(super) fn workload(r: &mut Report, entry: &WorkloadEntry) {
    let address = &entry.address;
    if let Some(path) = address.strip_prefix("unix://") {
        r.test("address", Code::Malformed, values::unix_path(path));
        if !entry.ports.is_empty() {
            r.say_at("ports", Code::Conflict, "a socket has no ports");
        }
    } else if address.is_empty() {
        if entry.network.is_empty() {
            r.say_at("address", Code::Required, "must be set, unless network is");
        } else {
            r.say_at("address", Code::Risky, "without an address the workload is reached through the gateway of its network alone");
        }
    } else if !values::is_ip(address) && !hosts::is_fqdn(address) {
        r.say_at(
            "address",
            Code::Malformed,
            format!("{address:?} is neither an IP address, a host name nor unix://PATH"),
        );
    }
    for (name, number) in &entry.ports {
        r.field("ports", |r| {
            if !names::is_label_of_any_case(name) {
                r.say_at(name.clone(), Code::Malformed, names::want_label(name));
            }
            r.test(name.clone(), Code::OutOfRange, values::port(*number));
        });
    }
    values::labels(r, "labels", &entry.labels);
}
