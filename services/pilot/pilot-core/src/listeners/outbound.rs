//! Outbound listeners of a sidecar: which there are, and who wins where services meet on one address and port (XDS-TRAFFIC 3.1, 3.2).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_config::resource::normal::{Health, MeshPort, Registry, ServiceResolution};
use mesh_config::resource::sidecar::CaptureMode;
use mesh_model::{EgressListener, Interception, Service, View};
use mesh_types::Protocol;

use super::chains::{ByHost, Target};
use super::convert::is_wildcard;
use super::facts::Facts;
use super::hcm::Side;
use super::plan::{ChainPlan, ListenerPlan, Match, Stack, add_chains};
use super::ports;
use super::vips::Vips;
use crate::OutboundKey;

/// What kind of traffic an address and port takes so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Http,
    Tcp,
    Auto,
}

impl Class {
    fn of(protocol: Protocol) -> Class {
        match protocol {
            p if p.is_http() => Class::Http,
            Protocol::Auto => Class::Auto,
            _ => Class::Tcp,
        }
    }
}

/// An address and port that some service takes.
struct Entry {
    class: Class,
    /// Protocol of the first service.
    protocol: Protocol,
    bound: bool,
    /// Made by an egress listener with a port: the catch-all adds nothing.
    locked: bool,
    chains: Vec<ChainPlan>,
}

/// The listeners of a class, by bind and port.
///
/// A service that another shuts out of an address and port is told by a finding of the mesh, see `mesh_model`'s `findings/ports.rs`.
pub fn plan(view: &View, key: &OutboundKey, facts: &Facts) -> Vec<ListenerPlan> {
    let mut planner = Planner {
        view,
        key,
        facts,
        entries: BTreeMap::new(),
    };
    for egress in view.egress.iter() {
        planner.egress(egress);
    }
    let listeners = planner
        .entries
        .into_iter()
        .map(|((bind, port), entry)| ListenerPlan {
            bind,
            port,
            bound: entry.bound,
            side: Side::Outbound,
            chains: entry.chains,
        });
    listeners.collect()
}

struct Planner<'a> {
    view: &'a View,
    key: &'a OutboundKey,
    facts: &'a Facts,
    entries: BTreeMap<(Arc<str>, u16), Entry>,
}

/// The egress listener at hand.
struct Egress<'a> {
    /// Address that it is bound to; `None`: each service has its own.
    bind: Option<Arc<str>>,
    /// Whether listeners open their port.
    bound: bool,
    /// VirtualServices about TCP and TLS.
    by_host: ByHost<'a>,
}

impl<'a> Planner<'a> {
    fn egress(&mut self, egress: &'a EgressListener) {
        let bound = self.key.interception == Interception::None
            || egress.capture_mode == CaptureMode::None
            || egress.bind.starts_with("unix://");
        let at = Egress {
            bind: match (&*egress.bind, bound) {
                ("", false) => None,
                ("", true) => Some(self.facts.loopback().into()),
                _ => Some(egress.bind.clone()),
            },
            bound,
            by_host: ByHost::new(&egress.virtual_services),
        };
        match egress.port {
            Some((number, protocol)) => {
                let number = if egress.bind.starts_with("unix://") {
                    0
                } else {
                    number
                };
                let port = MeshPort {
                    name: egress.port_name.clone(),
                    number,
                    protocol,
                    target_port: 0,
                };
                for service in egress.services.iter() {
                    self.port(&at, service, &port);
                }
            }
            None => {
                self.entries
                    .values_mut()
                    .for_each(|entry| entry.locked = true);
                for service in egress.services.iter() {
                    for port in &service.ports {
                        if !self.per_endpoint(&at, service, port) {
                            self.port(&at, service, port);
                        }
                    }
                }
            }
        }
    }

    /// A service without virtual address: a listener per endpoint. `false` leaves the port to the standard rule.
    fn per_endpoint(&mut self, at: &Egress<'a>, service: &'a Service, port: &MeshPort) -> bool {
        let headless = at.bind.is_none()
            && service.resolution == ServiceResolution::Passthrough
            && Vips::of(service, self.key).is_any()
            && (port.protocol.is_tcp() || port.protocol == Protocol::Auto);
        if !headless {
            return false;
        }
        let known = self.view.endpoints.get(&service.hostname);
        let mut endpoints = known
            .iter()
            .flat_map(|known| &known.spec.endpoints)
            .filter(|e| e.port_name == port.name && e.health != Health::Terminating)
            .peekable();
        if endpoints.peek().is_none() {
            return service.registry == Registry::Kubernetes || service.selects_workloads;
        }
        let mut ips: Vec<(IpAddr, Arc<str>)> = endpoints
            .filter_map(|e| e.addresses.first())
            .filter_map(|text| Some((text.parse::<IpAddr>().ok()?, text.clone())))
            .filter(|(ip, _)| Some(*ip) != self.key.own_address)
            .collect();
        ips.sort_unstable();
        ips.dedup();
        for (_, ip) in ips {
            self.entry(at, service, port, ip, &[]);
        }
        true
    }

    /// One port of one service: its entries by the standard rule.
    fn port(&mut self, at: &Egress<'a>, service: &'a Service, port: &MeshPort) {
        if service.resolution == ServiceResolution::Alias || port.protocol == Protocol::Udp {
            return;
        }
        if let Some(bind) = &at.bind {
            return self.entry(at, service, port, bind.clone(), &[]);
        }
        let wildcard: Arc<str> = self.facts.wildcard().into();
        if port.protocol.is_http() {
            return self.entry(at, service, port, wildcard, &[]);
        }
        let vips = Vips::of(service, self.key);
        for ip in &vips.ips {
            self.entry(at, service, port, ip.clone(), &[]);
        }
        if !vips.cidrs.is_empty() || vips.ips.is_empty() {
            self.entry(at, service, port, wildcard, &vips.cidrs);
        }
    }

    /// One port of one service at one address: a new entry, or its place in an existing one.
    fn entry(
        &mut self,
        at: &Egress<'a>,
        service: &'a Service,
        port: &MeshPort,
        bind: Arc<str>,
        cidrs: &[Arc<str>],
    ) {
        if !ports::may_listen(self.key, &self.view.mesh, &bind, port.number, at.bound) {
            return;
        }
        let place = (bind.clone(), port.number);
        let existing = self.entries.get(&place);
        let class = Class::of(port.protocol);
        // Somebody was here first and carries this too, by routes, or may not be changed.
        if existing.is_some_and(|e| e.locked || (class == Class::Http && e.class != Class::Tcp)) {
            return;
        }
        // These speak first or cannot be told apart: they share a port with nothing else.
        let alone = |p: Protocol| matches!(p, Protocol::Mongo | Protocol::Mysql);
        if let Some(e) = existing
            && e.protocol != port.protocol
            && (alone(e.protocol) || alone(port.protocol))
        {
            return;
        }

        let wildcard = is_wildcard(&bind);
        let l4 = || {
            let target = Target {
                view: self.view,
                key: self.key,
                service,
                vips: &Vips::of(service, self.key),
                cidrs,
                port: port.number,
                protocol: port.protocol,
                wildcard,
            };
            target.chains(&at.by_host)
        };
        let chains = match class {
            Class::Http => vec![http_chain(service, port, &bind, wildcard)],
            Class::Tcp => l4(),
            Class::Auto if existing.is_some_and(|e| e.class == Class::Auto) => l4(),
            Class::Auto => {
                let mut chains = l4();
                chains.push(http_chain(service, port, &bind, wildcard));
                chains
            }
        };
        match self.entries.get_mut(&place) {
            Some(entry) if !(entry.class == Class::Http && class == Class::Auto) => {
                if entry.class != class {
                    entry.class = Class::Auto;
                }
                add_chains(&mut entry.chains, chains);
            }
            _ => {
                let mut apart = Vec::new();
                add_chains(&mut apart, chains);
                let chains = apart;
                let sniffed = class == Class::Http && chains.iter().any(|c| c.matching.plain_http);
                let entry = Entry {
                    class: if sniffed { Class::Auto } else { class },
                    protocol: port.protocol,
                    bound: at.bound,
                    locked: false,
                    chains,
                };
                self.entries.insert(place, entry);
            }
        }
    }
}

fn http_chain(service: &Service, port: &MeshPort, bind: &Arc<str>, wildcard: bool) -> ChainPlan {
    let sniffed = port.protocol == Protocol::Auto;
    let route: Arc<str> = match (port.number, sniffed && !wildcard) {
        (0, _) => bind.clone(),
        (number, true) => format!("{}:{number}", service.hostname).into(),
        (number, false) => number.to_string().into(),
    };
    let told_apart = (wildcard || sniffed) && port.protocol != Protocol::HttpProxy;
    ChainPlan {
        matching: if told_apart {
            Match::http()
        } else {
            Match::default()
        },
        stack: Stack::Http {
            route,
            protocol: port.protocol,
            forward_proxy: false,
        },
        source: None,
        tls: None,
    }
}
