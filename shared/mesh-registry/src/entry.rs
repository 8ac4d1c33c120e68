//! ServiceEntries and WorkloadEntries (XDS-TRAFFIC 8.1, 8.2).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_config::resource::normal::{
    MeshEndpoint, MeshPort, MeshService, Registry, ServiceResolution,
};
use mesh_config::resource::service_entry::{Location, Resolution, ServiceEntry, WorkloadEntry};
use mesh_config::{Body, Meta, Object};
use mesh_types::{Hostname, Kind, Labels, Locality, Protocol, Selector};

use crate::registry::{Context, Namespace};
use crate::workload::Facts;
use crate::{kubernetes, protocol, workload};

/// Services of every ServiceEntry of a namespace, in normal form. Entries that share a host are one service: the oldest gives
/// the attributes, the others add ports, addresses and endpoints.
pub(crate) fn services(namespace: &Namespace, context: &Context<'_>) -> Vec<Object> {
    let mut entries: Vec<(&Meta, &ServiceEntry)> = namespace
        .of(Kind::ServiceEntry)
        .filter_map(|object| match &object.body {
            Body::ServiceEntry(entry) => Some((&object.meta, &**entry)),
            _ => None,
        })
        .collect();
    entries.sort_by_key(|(meta, _)| (meta.created_us, meta.key.name.clone()));
    let mut made: BTreeMap<Hostname, (&Meta, MeshService, Vec<MeshEndpoint>)> = BTreeMap::new();
    for (meta, entry) in entries {
        for host in entry
            .hosts
            .iter()
            .filter_map(|host| Hostname::new(host).ok())
        {
            let service = service_record(&host, meta, entry);
            let endpoints = endpoints(&service, meta, entry, namespace, context);
            match made.get_mut(&host) {
                None => drop(made.insert(host, (meta, service, endpoints))),
                Some((_, first, known)) => {
                    merge(first, service);
                    known.extend(endpoints);
                }
            }
        }
    }
    let mut out = Vec::new();
    for (_, (meta, service, mut endpoints)) in made {
        endpoints.sort_by(|a, b| {
            (&a.port_name, &a.addresses, a.port).cmp(&(&b.port_name, &b.addresses, b.port))
        });
        endpoints.dedup_by(|a, b| {
            (&a.port_name, &a.addresses, a.port) == (&b.port_name, &b.addresses, b.port)
        });
        if service.resolution == ServiceResolution::DnsRoundRobinLb {
            endpoints.dedup_by(|a, b| a.port_name == b.port_name);
        }
        out.extend(kubernetes::records(meta, service, endpoints));
    }
    out
}

fn merge(first: &mut MeshService, later: MeshService) {
    for port in later.ports {
        if !first
            .ports
            .iter()
            .any(|p| p.number == port.number || p.name == port.name)
        {
            first.ports.push(port);
        }
    }
    for address in later.addresses {
        if !first.addresses.contains(&address) {
            first.addresses.push(address);
        }
    }
}

fn service_record(host: &Hostname, meta: &Meta, entry: &ServiceEntry) -> MeshService {
    MeshService {
        hostname: host.clone(),
        name: host.to_arc(),
        registry: Registry::External,
        entry: meta.key.name.clone(),
        resolution: match entry.resolution {
            Resolution::None => ServiceResolution::Passthrough,
            Resolution::Static => ServiceResolution::ClientSideLb,
            Resolution::Dns => ServiceResolution::DnsLb,
            Resolution::DnsRoundRobin => ServiceResolution::DnsRoundRobinLb,
            Resolution::DynamicDns => ServiceResolution::DynamicDns,
        },
        external: entry.location == Location::MeshExternal,
        addresses: entry
            .addresses
            .iter()
            .filter_map(|text| address(text))
            .collect(),
        auto_addresses: Vec::new(),
        ports: entry
            .ports
            .iter()
            .filter_map(|port| {
                Some(MeshPort {
                    name: (*port.name).into(),
                    number: u16::try_from(port.number).ok().filter(|n| *n > 0)?,
                    protocol: protocol::of_entry_port(&port.protocol),
                    target_port: u16::try_from(port.target_port).unwrap_or_default(),
                })
            })
            .collect(),
        export_to: entry.export_to.iter().map(|e| (**e).into()).collect(),
        labels: meta.labels.clone(),
        selector: Selector::default(),
        alias_of: None,
        subject_alt_names: entry
            .subject_alt_names
            .iter()
            .map(|n| (**n).into())
            .collect(),
        service_accounts: Vec::new(),
        node_local: false,
        race_first_connect: meta.annotations.get("istio.io/connect-strategy")
            == Some("RACE_FIRST_TCP_CONNECT"),
        selects_workloads: entry.workload_selector.is_some(),
    }
}

/// A virtual address: an IP, or a network; a network of one address is that address. Anything else is no address.
fn address(text: &str) -> Option<Arc<str>> {
    let Some((ip, bits)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(|_| text.into());
    };
    let (ip, bits) = (ip.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?);
    match (ip, bits) {
        (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => Some(ip.to_string().into()),
        (IpAddr::V4(_), 0..=31) | (IpAddr::V6(_), 0..=127) => Some(text.into()),
        _ => None,
    }
}

fn endpoints(
    service: &MeshService,
    meta: &Meta,
    entry: &ServiceEntry,
    namespace: &Namespace,
    context: &Context<'_>,
) -> Vec<MeshEndpoint> {
    let mut out = Vec::new();
    let ports: Vec<&MeshPort> = service
        .ports
        .iter()
        .filter(|p| p.protocol != Protocol::Udp)
        .collect();
    let dns = matches!(
        service.resolution,
        ServiceResolution::DnsLb | ServiceResolution::DnsRoundRobinLb
    );
    if !entry.endpoints.is_empty() {
        for workload in &entry.endpoints {
            let labels = map_labels(&workload.labels);
            for port in &ports {
                out.push(endpoint(
                    workload,
                    &labels,
                    meta,
                    port,
                    entry_port(workload, port),
                    context,
                ));
            }
        }
    } else if let Some(chosen) = &entry.workload_selector {
        let selector = kubernetes::selector(&chosen.labels);
        for object in namespace.of(Kind::WorkloadEntry) {
            let Body::WorkloadEntry(workload) = &object.body else {
                continue;
            };
            let labels = labels(&object.meta, workload);
            let usable = dns || workload.address.parse::<IpAddr>().is_ok();
            if usable && selector.matches(&labels) {
                for port in &ports {
                    out.push(endpoint(
                        workload,
                        &labels,
                        &object.meta,
                        port,
                        entry_port(workload, port),
                        context,
                    ));
                }
            }
        }
        for object in namespace.of(Kind::Pod) {
            let Body::Pod(pod) = &object.body else {
                continue;
            };
            let gone = matches!(&*pod.status.phase, "Succeeded" | "Failed");
            if gone || pod.status.pod_ip.is_empty() || !selector.matches(&object.meta.labels) {
                continue;
            }
            for port in &ports {
                out.push(MeshEndpoint {
                    addresses: vec![(*pod.status.pod_ip).into()],
                    port: if port.target_port > 0 {
                        port.target_port
                    } else {
                        port.number
                    },
                    port_name: port.name.clone(),
                    namespace: object.meta.key.namespace.clone(),
                    ..workload::of_pod(object, context).into_endpoint()
                });
            }
        }
    } else if dns {
        for port in &ports {
            out.push(MeshEndpoint {
                addresses: vec![service.hostname.to_arc()],
                port: if port.target_port > 0 {
                    port.target_port
                } else {
                    port.number
                },
                port_name: port.name.clone(),
                namespace: meta.key.namespace.clone(),
                ..Facts::unknown(None, None, context).into_endpoint()
            });
        }
    }
    out
}

/// Port of an entry's endpoint: by name, else the service's target port, else the same number; 0 for a unix address.
fn entry_port(workload: &WorkloadEntry, port: &MeshPort) -> u16 {
    if workload.address.starts_with("unix://") {
        return 0;
    }
    let named = workload
        .ports
        .get(&*port.name)
        .and_then(|n| u16::try_from(*n).ok());
    named.unwrap_or(if port.target_port > 0 {
        port.target_port
    } else {
        port.number
    })
}

/// One endpoint at a WorkloadEntry.
pub(crate) fn endpoint(
    workload: &WorkloadEntry,
    labels: &Labels,
    meta: &Meta,
    port: &MeshPort,
    number: u16,
    context: &Context<'_>,
) -> MeshEndpoint {
    MeshEndpoint {
        addresses: vec![(*workload.address).into()],
        port: number,
        port_name: port.name.clone(),
        weight: workload.weight,
        namespace: meta.key.namespace.clone(),
        ..facts(workload, labels, meta, context).into_endpoint()
    }
}

/// What a WorkloadEntry tells about itself.
pub(crate) fn facts(
    workload: &WorkloadEntry,
    labels: &Labels,
    meta: &Meta,
    context: &Context<'_>,
) -> Facts {
    let mtls = match labels.get("security.istio.io/tlsMode") {
        Some(mode) => mode == "istio",
        None => !workload.service_account.is_empty(),
    };
    let locality = if workload.locality.is_empty() {
        workload::label_locality(labels).unwrap_or_default()
    } else {
        Locality::parse(&workload.locality)
    };
    let network = if workload.network.is_empty() {
        labels
            .get("topology.istio.io/network")
            .unwrap_or_default()
            .into()
    } else {
        (*workload.network).into()
    };
    Facts {
        labels: labels.clone(),
        locality,
        network,
        cluster: context.options.cluster.clone(),
        service_account: (*workload.service_account).into(),
        node: "".into(),
        workload: meta.key.name.clone(),
        mtls,
    }
}

/// Labels of a WorkloadEntry: those of its spec, overridden by its metadata's.
pub(crate) fn labels(meta: &Meta, workload: &WorkloadEntry) -> Labels {
    let mut labels = map_labels(&workload.labels);
    for (key, value) in meta.labels.iter() {
        labels.insert(key, value);
    }
    labels
}

fn map_labels(map: &BTreeMap<String, String>) -> Labels {
    map.iter().map(|(k, v)| (&**k, &**v)).collect()
}
