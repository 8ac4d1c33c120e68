//! Kubernetes Services and EndpointSlices (XDS-TRAFFIC 8.1, 8.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_config::resource::normal::{
    Health, MeshEndpoint, MeshEndpoints, MeshPort, MeshService, Registry, ServiceResolution,
};
use mesh_config::resource::platform::{
    EndpointConditions, EndpointSlice, IntOrString, K8sServicePort, Service,
};
use mesh_config::{Body, Meta, Object};
use mesh_types::{Hostname, Key, Kind, Labels, Protocol, Selector};

use crate::registry::{Context, Namespace};
use crate::{entry, protocol, workload};

/// Marks the sessions of a service as sticky, so that draining endpoints keep theirs.
const PERSISTENT_SESSION: &str = "istio.io/persistent-session";

/// What tells endpoints of a service apart: port name, addresses, port.
type EndpointId = (Arc<str>, Vec<Arc<str>>, u16);

/// Every Kubernetes Service of a namespace with its endpoints, in normal form.
pub(crate) fn services(namespace: &Namespace, context: &Context<'_>) -> Vec<Object> {
    let mut slices: BTreeMap<&str, Vec<&EndpointSlice>> = BTreeMap::new();
    for object in namespace.of(Kind::EndpointSlice) {
        if let (Body::EndpointSlice(slice), Some(name)) = (
            &object.body,
            object.meta.labels.get("kubernetes.io/service-name"),
        ) {
            slices.entry(name).or_default().push(slice);
        }
    }
    let mut out = Vec::new();
    for object in namespace.of(Kind::Service) {
        let Body::Service(service) = &object.body else {
            continue;
        };
        let Some(record) = service_record(&object.meta, service, context) else {
            continue;
        };
        let mut endpoints: BTreeMap<EndpointId, MeshEndpoint> = BTreeMap::new();
        for slice in slices.get(&*object.meta.key.name).into_iter().flatten() {
            for endpoint in slice_endpoints(slice, &object.meta, namespace, context) {
                endpoints
                    .entry((
                        endpoint.port_name.clone(),
                        endpoint.addresses.clone(),
                        endpoint.port,
                    ))
                    .or_insert(endpoint);
            }
        }
        for endpoint in selected_entries(&record, service, namespace, context) {
            endpoints
                .entry((
                    endpoint.port_name.clone(),
                    endpoint.addresses.clone(),
                    endpoint.port,
                ))
                .or_insert(endpoint);
        }
        out.extend(records(
            &object.meta,
            record,
            endpoints.into_values().collect(),
        ));
    }
    out
}

/// The two objects of one service.
pub(crate) fn records(
    meta: &Meta,
    service: MeshService,
    endpoints: Vec<MeshEndpoint>,
) -> [Object; 2] {
    let meta = |kind| Meta {
        key: Key::new(kind, meta.key.namespace.clone(), service.hostname.to_arc()),
        created_us: meta.created_us,
        labels: Labels::default(),
        annotations: Labels::default(),
    };
    let (service_meta, endpoints_meta) = (meta(Kind::MeshService), meta(Kind::MeshEndpoints));
    let endpoints = MeshEndpoints {
        hostname: service.hostname.clone(),
        endpoints,
    };
    [
        Object::new(service_meta, service.into()),
        Object::new(endpoints_meta, endpoints.into()),
    ]
}

fn service_record(meta: &Meta, service: &Service, context: &Context<'_>) -> Option<MeshService> {
    let (namespace, name) = (&meta.key.namespace, &meta.key.name);
    let hostname = Hostname::new(&format!(
        "{name}.{namespace}.svc.{}",
        context.options.domain
    ))
    .ok()?;
    let spec = &service.spec;
    let headless = spec.cluster_ip == "None";
    let alias = spec.service_type == "ExternalName";
    let resolution = match (alias, headless) {
        (true, _) => ServiceResolution::Alias,
        (_, true) => ServiceResolution::Passthrough,
        _ => ServiceResolution::ClientSideLb,
    };
    let mut addresses: Vec<Arc<str>> = spec
        .cluster_ips
        .iter()
        .filter(|ip| *ip != "None")
        .map(|ip| (**ip).into())
        .collect();
    if addresses.is_empty() && !headless && !spec.cluster_ip.is_empty() {
        addresses.push((*spec.cluster_ip).into());
    }
    Some(MeshService {
        alias_of: alias
            .then(|| Hostname::new(&spec.external_name).ok())
            .flatten(),
        hostname,
        name: name.clone(),
        registry: Registry::Kubernetes,
        entry: "".into(),
        resolution,
        external: false,
        addresses,
        auto_addresses: Vec::new(),
        ports: spec.ports.iter().filter_map(port_record).collect(),
        export_to: comma_list(meta.annotations.get("networking.istio.io/exportTo")),
        labels: meta.labels.clone(),
        selector: selector(&spec.selector),
        subject_alt_names: comma_list(
            meta.annotations
                .get("alpha.istio.io/canonical-serviceaccounts"),
        ),
        service_accounts: comma_list(
            meta.annotations
                .get("alpha.istio.io/kubernetes-serviceaccounts"),
        ),
        node_local: spec.internal_traffic_policy == "Local",
        race_first_connect: false,
        selects_workloads: false,
    })
}

fn port_record(port: &K8sServicePort) -> Option<MeshPort> {
    let number = u16::try_from(port.port).ok().filter(|n| *n > 0)?;
    let target_port = match &port.target_port {
        None => number,
        Some(IntOrString::Int(n)) => u16::try_from(*n).unwrap_or_default(),
        Some(IntOrString::String(_)) => 0,
    };
    Some(MeshPort {
        name: (*port.name).into(),
        number,
        protocol: protocol::of_service_port(
            port.app_protocol.as_deref(),
            &port.protocol,
            &port.name,
            port.port,
        ),
        target_port,
    })
}

fn slice_endpoints(
    slice: &EndpointSlice,
    service: &Meta,
    namespace: &Namespace,
    context: &Context<'_>,
) -> Vec<MeshEndpoint> {
    if slice.address_type == "FQDN" {
        return Vec::new();
    }
    let sticky = service.labels.get(PERSISTENT_SESSION).is_some();
    let mut out = Vec::new();
    for endpoint in &slice.endpoints {
        let pod = endpoint
            .target_ref
            .as_ref()
            .filter(|target| target.kind == "Pod")
            .and_then(|target| {
                namespace
                    .objects
                    .get(&(Kind::Pod, (*target.name).into()))
                    .map(|object| &**object)
            });
        let facts = match pod {
            Some(pod) => workload::of_pod(pod, context),
            // A pod not seen yet: its addresses serve, its labels follow with the pod.
            None => workload::Facts::unknown(
                endpoint.node_name.as_deref(),
                endpoint.zone.as_deref(),
                context,
            ),
        };
        for port in &slice.ports {
            let Some(number) = port
                .port
                .and_then(|n| u16::try_from(n).ok())
                .filter(|n| *n > 0)
            else {
                continue;
            };
            if port.protocol.as_deref() == Some("UDP") || endpoint.addresses.is_empty() {
                continue;
            }
            out.push(MeshEndpoint {
                addresses: endpoint.addresses.iter().map(|a| (**a).into()).collect(),
                port: number,
                port_name: port.name.as_deref().unwrap_or_default().into(),
                health: health(&endpoint.conditions, sticky),
                weight: 0,
                namespace: service.key.namespace.clone(),
                ..facts.clone().into_endpoint()
            });
        }
    }
    out
}

fn health(conditions: &EndpointConditions, sticky: bool) -> Health {
    let terminating = conditions.terminating.unwrap_or(false);
    match conditions.ready {
        None | Some(true) => Health::Healthy,
        Some(false) if sticky && terminating && conditions.serving.unwrap_or(false) => {
            Health::Draining
        }
        Some(false) if terminating => Health::Terminating,
        Some(false) => Health::Unhealthy,
    }
}

/// WorkloadEntries that a Service's selector picks: IP addresses only.
fn selected_entries(
    record: &MeshService,
    service: &Service,
    namespace: &Namespace,
    context: &Context<'_>,
) -> Vec<MeshEndpoint> {
    if record.selector.is_empty() || record.resolution == ServiceResolution::Alias {
        return Vec::new();
    }
    let mut out = Vec::new();
    for object in namespace.of(Kind::WorkloadEntry) {
        let Body::WorkloadEntry(workload) = &object.body else {
            continue;
        };
        let labels = entry::labels(&object.meta, workload);
        if !record.selector.matches(&labels)
            || workload.address.parse::<std::net::IpAddr>().is_err()
        {
            continue;
        }
        for (port, written) in record
            .ports
            .iter()
            .zip(&service.spec.ports)
            .filter(|(p, _)| p.protocol != Protocol::Udp)
        {
            let by_name = match &written.target_port {
                Some(IntOrString::String(name)) => workload.ports.get(name),
                _ => None,
            };
            let number = workload
                .ports
                .get(&*port.name)
                .or(by_name)
                .and_then(|n| u16::try_from(*n).ok());
            let Some(number) = number.or(Some(port.target_port).filter(|n| *n > 0)) else {
                continue;
            };
            out.push(entry::endpoint(
                workload,
                &labels,
                &object.meta,
                port,
                number,
                context,
            ));
        }
    }
    out
}

/// A selector from a map.
pub(crate) fn selector(map: &BTreeMap<String, String>) -> Selector {
    Selector(map.iter().map(|(k, v)| (&**k, &**v)).collect())
}

/// The items of a comma-separated annotation.
fn comma_list(text: Option<&str>) -> Vec<Arc<str>> {
    text.unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|t| !t.is_empty())
        .map(Into::into)
        .collect()
}
