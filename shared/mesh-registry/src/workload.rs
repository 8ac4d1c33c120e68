//! Workloads: pods and WorkloadEntries.

use std::sync::Arc;

use mesh_config::resource::normal::{Health, MeshEndpoint, MeshWorkload};
use mesh_config::resource::platform::Pod;
use mesh_config::{Body, Meta, Object};
use mesh_types::{Key, Kind, Labels, Locality};

use crate::entry;
use crate::registry::{Context, Namespace};

/// What an endpoint takes from the workload behind it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) labels: Labels,
    pub(crate) locality: Locality,
    pub(crate) network: Arc<str>,
    pub(crate) cluster: Arc<str>,
    pub(crate) service_account: Arc<str>,
    pub(crate) node: Arc<str>,
    pub(crate) workload: Arc<str>,
    pub(crate) mtls: bool,
}

impl Facts {
    /// What is known of an endpoint without a pod.
    pub(crate) fn unknown(node: Option<&str>, zone: Option<&str>, context: &Context<'_>) -> Facts {
        let node: Arc<str> = node.unwrap_or_default().into();
        let mut locality = node_locality(&node, context);
        if let (true, Some(zone)) = (locality.is_empty(), zone) {
            locality.zone = zone.into();
        }
        Facts {
            locality,
            cluster: context.options.cluster.clone(),
            node,
            ..Facts::default()
        }
    }

    /// An endpoint that has these facts and no address yet.
    pub(crate) fn into_endpoint(self) -> MeshEndpoint {
        MeshEndpoint {
            addresses: Vec::new(),
            port: 0,
            port_name: "".into(),
            labels: self.labels,
            weight: 0,
            network: self.network,
            locality: self.locality,
            cluster: self.cluster,
            service_account: self.service_account,
            mtls: self.mtls,
            workload: self.workload,
            namespace: "".into(),
            node: self.node,
            health: Health::Healthy,
        }
    }
}

/// Every workload of a namespace, in normal form.
pub(crate) fn workloads(namespace: &Namespace, context: &Context<'_>) -> Vec<Object> {
    let pods = namespace.of(Kind::Pod).filter_map(|object| {
        let Body::Pod(pod) = &object.body else {
            return None;
        };
        let addresses = pod_addresses(pod);
        let running = !matches!(&*pod.status.phase, "Succeeded" | "Failed");
        (running && !addresses.is_empty()).then(|| {
            record(
                &object.meta,
                object.meta.key.name.clone(),
                addresses,
                of_pod(object, context),
            )
        })
    });
    let entries = namespace.of(Kind::WorkloadEntry).filter_map(|object| {
        let Body::WorkloadEntry(workload) = &object.body else {
            return None;
        };
        let labels = entry::labels(&object.meta, workload);
        let name = format!("workloadentry.{}", object.meta.key.name);
        (!workload.address.is_empty()).then(|| {
            record(
                &object.meta,
                name.into(),
                vec![(*workload.address).into()],
                entry::facts(workload, &labels, &object.meta, context),
            )
        })
    });
    pods.chain(entries).collect()
}

fn record(meta: &Meta, name: Arc<str>, addresses: Vec<Arc<str>>, facts: Facts) -> Object {
    let meta = Meta {
        key: Key::new(Kind::MeshWorkload, meta.key.namespace.clone(), name),
        created_us: meta.created_us,
        labels: Labels::default(),
        annotations: Labels::default(),
    };
    let workload = MeshWorkload {
        addresses,
        labels: facts.labels,
        locality: facts.locality,
        network: facts.network,
        cluster: facts.cluster,
        service_account: facts.service_account,
        node: facts.node,
        workload: facts.workload,
    };
    Object::new(meta, workload.into())
}

fn pod_addresses(pod: &Pod) -> Vec<Arc<str>> {
    let mut addresses: Vec<Arc<str>> = pod.status.pod_ips.iter().map(|a| (*a.ip).into()).collect();
    if addresses.is_empty() && !pod.status.pod_ip.is_empty() {
        addresses.push((*pod.status.pod_ip).into());
    }
    addresses
}

/// What a pod tells about the endpoints it serves.
pub(crate) fn of_pod(object: &Object, context: &Context<'_>) -> Facts {
    let Body::Pod(pod) = &object.body else {
        return Facts::default();
    };
    let labels = object.meta.labels.clone();
    let node: Arc<str> = (*pod.spec.node_name).into();
    let locality = label_locality(&labels).unwrap_or_else(|| node_locality(&node, context));
    Facts {
        network: labels
            .get("topology.istio.io/network")
            .unwrap_or_default()
            .into(),
        mtls: labels.get("security.istio.io/tlsMode") == Some("istio"),
        workload: owner_name(&object.meta.key.name, &labels).into(),
        service_account: (*pod.spec.service_account_name).into(),
        cluster: context.options.cluster.clone(),
        locality,
        node,
        labels,
    }
}

/// The name of what made a pod: without the hashes that a Deployment adds.
fn owner_name<'a>(pod: &'a str, labels: &Labels) -> &'a str {
    let Some(hash) = labels.get("pod-template-hash") else {
        return pod;
    };
    pod.rfind(&format!("-{hash}-")).map_or(pod, |at| &pod[..at])
}

/// Locality from the labels of a workload itself.
pub(crate) fn label_locality(labels: &Labels) -> Option<Locality> {
    let text = labels
        .get("topology.istio.io/locality")
        .map(str::to_owned)
        .or_else(|| {
            let legacy = labels.get("istio-locality")?;
            Some(if legacy.contains('/') {
                legacy.to_owned()
            } else {
                legacy.replace('.', "/")
            })
        })?;
    Some(Locality::parse(&text))
}

fn node_locality(node: &str, context: &Context<'_>) -> Locality {
    let Some(object) = context.nodes.get(node) else {
        return Locality::default();
    };
    let label = |keys: [&str; 2]| -> Arc<str> {
        keys.iter()
            .find_map(|key| object.meta.labels.get(key))
            .unwrap_or_default()
            .into()
    };
    Locality {
        region: label([
            "topology.kubernetes.io/region",
            "failure-domain.beta.kubernetes.io/region",
        ]),
        zone: label([
            "topology.kubernetes.io/zone",
            "failure-domain.beta.kubernetes.io/zone",
        ]),
        sub_zone: label(["topology.istio.io/subzone", "topology.istio.io/subzone"]),
    }
}
