//! What one class of proxies may see, computed (XDS-TRAFFIC 10).

pub(crate) mod implicit;
pub(crate) mod imports;
mod most_specific;
pub(crate) mod rules;
pub(crate) mod services;
pub(crate) mod touch;
pub(crate) mod update;

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_config::resource::normal::ServiceResolution;
use mesh_config::resource::sidecar::{CaptureMode, IstioEgressListener};
use mesh_types::{Hostname, Protocol};

use crate::scope::imports::Imports;
use crate::scope::most_specific::most_specific;
use crate::security::secrets::of_router;
use crate::{
    EgressListener, IngressListener, Mesh, PeerModes, ProxyKind, ScopedEndpoints, Secrets, Service,
    Sidecar, View, ViewKey, VirtualService,
};

/// Longest chain of aliases that is followed.
const MAX_ALIASES: usize = 8;

/// The view of a class, from nothing.
pub(crate) fn view(mesh: &Mesh, key: &ViewKey) -> View {
    let sidecar = match key.kind {
        ProxyKind::Sidecar => mesh
            .sidecars
            .of(&key.namespace, mesh.root(), &key.labels)
            .cloned(),
        ProxyKind::Router => None,
    };
    let asks: Vec<Ask> = asks(sidecar.as_deref(), &key.namespace);
    let imported: Vec<Vec<Arc<Service>>> = asks
        .iter()
        .map(|ask| services::import(mesh, &key.namespace, &ask.imports, ask.only_port()))
        .collect();
    let virtual_services: Vec<Vec<Arc<VirtualService>>> = match key.kind {
        ProxyKind::Sidecar => asks
            .iter()
            .map(|ask| virtual_services(mesh, key, ask))
            .collect(),
        ProxyKind::Router => asks.iter().map(|_| Vec::new()).collect(),
    };
    let (by_host, in_order) = scope(mesh, key, sidecar.is_some(), &imported, &virtual_services);
    let in_order: Arc<[Arc<Service>]> = in_order.into();
    let single = asks.len() == 1;
    let egress = asks.iter().zip(imported).zip(virtual_services).map(
        |((ask, services), virtual_services)| {
            let best = index(&virtual_services, &services, single.then_some(&by_host));
            let shared = single && services.len() == in_order.len();
            ask.listener(
                if shared {
                    in_order.clone()
                } else {
                    services.into()
                },
                virtual_services.into(),
                best,
            )
        },
    );
    let egress: Arc<[EgressListener]> = egress.collect();
    let by_host = Arc::new(by_host);
    let (outbound, inbound) = rules::all(mesh, key, in_order.iter());
    let mut view = View {
        key: key.clone(),
        mesh: mesh.config.clone(),
        policies: Arc::new(crate::policies::of(mesh, key, &by_host)),
        egress,
        ingress: sidecar.as_deref().map(ingress).unwrap_or_default(),
        endpoints: ScopedEndpoints::new(by_host.clone(), mesh.services.endpoints.clone()),
        destination_rules: Arc::new(outbound),
        inbound_destination_rules: Arc::new(inbound),
        outbound_policy: policy(mesh, sidecar.as_deref()),
        aliases: Arc::new(aliases(mesh, &by_host)),
        services: by_host,
        services_in_order: in_order,
        peers: Arc::new(peers(mesh, key)),
        servers: match key.kind {
            ProxyKind::Sidecar => Arc::default(),
            ProxyKind::Router => crate::servers::merge(mesh, key).0.into(),
        },
        secrets: Arc::default(),
        sidecar,
    };
    view.secrets = Arc::new(secrets(mesh, &view));
    view
}

/// The credentials of a router.
pub(crate) fn secrets(mesh: &Mesh, view: &View) -> Secrets {
    match view.key.kind {
        ProxyKind::Sidecar => Secrets::new(),
        ProxyKind::Router => {
            let rules = view.destination_rules.values();
            of_router(mesh, &view.key.namespace, &view.servers, rules)
        }
    }
}

/// What the proxies of a class take.
pub(crate) fn peers(mesh: &Mesh, key: &ViewKey) -> PeerModes {
    match key.kind {
        ProxyKind::Sidecar => mesh.peers.modes(&key.namespace, mesh.root(), &key.labels),
        ProxyKind::Router => PeerModes::default(),
    }
}

/// One egress listener and what it asks for.
pub(crate) struct Ask {
    pub(crate) imports: Imports,
    port: Option<(u16, Protocol)>,
    port_name: Arc<str>,
    bind: Arc<str>,
    capture_mode: CaptureMode,
}

impl Ask {
    fn everything() -> Ask {
        Ask {
            imports: Imports::everything(),
            port: None,
            port_name: Arc::default(),
            bind: Arc::default(),
            capture_mode: CaptureMode::Default,
        }
    }

    fn read(egress: &IstioEgressListener, namespace: &Arc<str>) -> Ask {
        let port = egress.port.as_ref();
        Ask {
            imports: Imports::read(&egress.hosts, namespace),
            port: port.map(|port| {
                (
                    u16::try_from(port.number).unwrap_or_default(),
                    protocol(&port.protocol),
                )
            }),
            port_name: port
                .map(|port| port.name.as_str().into())
                .unwrap_or_default(),
            bind: egress.bind.as_str().into(),
            capture_mode: egress.capture_mode,
        }
    }

    /// The port services must have; none for the catch-all, a socket without port, and forward proxies.
    fn only_port(&self) -> Option<u16> {
        self.port
            .filter(|(number, protocol)| *number != 0 && *protocol != Protocol::HttpProxy)
            .map(|(number, _)| number)
    }

    fn listener(
        &self,
        services: Arc<[Arc<Service>]>,
        virtual_services: Arc<[Arc<VirtualService>]>,
        most_specific: BTreeMap<Hostname, usize>,
    ) -> EgressListener {
        EgressListener {
            port: self.port,
            port_name: self.port_name.clone(),
            bind: self.bind.clone(),
            capture_mode: self.capture_mode,
            services,
            virtual_services,
            most_specific: Arc::new(most_specific),
        }
    }
}

pub(crate) fn protocol(text: &str) -> Protocol {
    Protocol::parse(text).unwrap_or(Protocol::Auto)
}

/// The egress listeners of a Sidecar, the catch-all last; one that asks for everything where there is none.
pub(crate) fn asks(sidecar: Option<&Sidecar>, namespace: &Arc<str>) -> Vec<Ask> {
    let Some(sidecar) = sidecar.filter(|sidecar| !sidecar.spec.egress.is_empty()) else {
        return vec![Ask::everything()];
    };
    let mut asks: Vec<_> = sidecar
        .spec
        .egress
        .iter()
        .map(|egress| Ask::read(egress, namespace))
        .collect();
    asks.sort_by_key(|ask| ask.port.is_none());
    asks
}

pub(crate) fn virtual_services(mesh: &Mesh, key: &ViewKey, ask: &Ask) -> Vec<Arc<VirtualService>> {
    let all = &mesh.virtual_services;
    let mut found = if ask.imports.names_all() {
        let hosts = ask.imports.any_plain();
        let namespaces = ask.imports.namespaces().map(|(namespace, _)| namespace);
        let candidates = all.naming(hosts).chain(all.of_namespaces(namespaces));
        all.visible_among(candidates, "mesh", &key.namespace, &mesh.config)
    } else {
        all.visible("mesh", &key.namespace)
    };
    found.retain(|item| ask.imports.virtual_service(item));
    found
}

/// Every service of the scope: by host, and in order.
fn scope(
    mesh: &Mesh,
    key: &ViewKey,
    restricted: bool,
    imported: &[Vec<Arc<Service>>],
    virtual_services: &[Vec<Arc<VirtualService>>],
) -> (BTreeMap<Hostname, Arc<Service>>, Vec<Arc<Service>>) {
    if let ([all], false) = (imported, restricted) {
        let by_host = all
            .iter()
            .map(|service| (service.hostname.clone(), service.clone()))
            .collect();
        return (by_host, all.clone());
    }
    let mut union = services::Union::default();
    for (services, virtual_services) in imported.iter().zip(virtual_services) {
        services.iter().for_each(|service| union.add(mesh, service));
        let specs = virtual_services.iter().map(|item| &*item.spec);
        implicit::services(mesh, &key.namespace, specs)
            .iter()
            .for_each(|service| union.add(mesh, service));
    }
    union.finish()
}

/// The most specific VirtualService of each service of one listener.
fn index(
    virtual_services: &[Arc<VirtualService>],
    services: &[Arc<Service>],
    known: Option<&BTreeMap<Hostname, Arc<Service>>>,
) -> BTreeMap<Hostname, usize> {
    if virtual_services.is_empty() {
        return BTreeMap::new();
    }
    let hosts = services.iter().map(|service| &service.hostname);
    match known.filter(|known| known.len() == services.len()) {
        Some(known) => most_specific(virtual_services, hosts, |host| known.contains_key(host)),
        None => {
            let set: std::collections::HashSet<&Hostname> = hosts.clone().collect();
            most_specific(virtual_services, hosts, |host| set.contains(host))
        }
    }
}

fn ingress(sidecar: &Sidecar) -> Arc<[IngressListener]> {
    let listeners = sidecar.spec.ingress.iter().filter_map(|spec| {
        let port = spec.port.as_ref()?;
        let number = u16::try_from(port.number)
            .ok()
            .filter(|number| *number != 0)?;
        Some(IngressListener {
            port: number,
            protocol: protocol(&port.protocol),
            spec: Arc::new(spec.clone()),
        })
    });
    listeners.collect()
}

fn policy(
    mesh: &Mesh,
    sidecar: Option<&Sidecar>,
) -> mesh_config::resource::sidecar::OutboundTrafficPolicy {
    let own = sidecar.and_then(|sidecar| sidecar.spec.outbound_traffic_policy.as_ref());
    let mut policy = own.unwrap_or(&mesh.config.outbound_traffic_policy).clone();
    if let Some(proxy) = &mut policy.egress_proxy {
        let namespace = sidecar.map_or(mesh.root(), |sidecar| &sidecar.key.namespace);
        proxy.host =
            crate::virtual_services::resolve::full_host(&proxy.host, namespace, &mesh.domain);
    }
    policy
}

/// Hosts in scope that are other names of a host in scope.
fn aliases(
    mesh: &Mesh,
    by_host: &BTreeMap<Hostname, Arc<Service>>,
) -> BTreeMap<Hostname, Vec<Hostname>> {
    let mut found: BTreeMap<Hostname, Vec<Hostname>> = BTreeMap::new();
    if mesh.services.aliases.is_empty() {
        return found;
    }
    for service in by_host
        .values()
        .filter(|service| service.resolution == ServiceResolution::Alias)
    {
        let mut target = service.alias_of.as_ref();
        for _ in 0..MAX_ALIASES {
            let Some(host) = target else { break };
            let next = by_host.get(host).or_else(|| {
                mesh.services
                    .by_host
                    .get(host)?
                    .get_min()
                    .map(|(_, service)| service)
            });
            match next {
                Some(next) if next.resolution == ServiceResolution::Alias => {
                    target = next.alias_of.as_ref()
                }
                _ => break,
            }
        }
        if let Some(host) = target.filter(|host| {
            by_host
                .get(*host)
                .is_some_and(|s| s.resolution != ServiceResolution::Alias)
        }) {
            found
                .entry(host.clone())
                .or_default()
                .push(service.hostname.clone());
        }
    }
    found
}
