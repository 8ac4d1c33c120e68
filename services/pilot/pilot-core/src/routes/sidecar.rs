//! The virtual hosts of a sidecar's RouteConfiguration (XDS-TRAFFIC 6.3, 6.9, 2.4).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::fast::FixedState;
use mesh_config::resource::normal::{MeshPort, ServiceResolution};
use mesh_model::{EgressListener, Service, View, VirtualService};
use mesh_types::{Hostname, Protocol};
use smallvec::{SmallVec, smallvec};

use super::domains::{Domain, Names, bracketed, host_and_port};
use super::facts::Facts;
use super::rule::{Input, Place, Routes};
use super::wire::{Frame, Host};
use super::{HashMap, HashSet, catch_all, target};
use crate::{Memos, OutboundKey};

/// Name of the RouteConfiguration of the forward proxy's listener.
const FORWARD_PROXY: &str = "http_proxy";
/// Name of the gateway that all sidecars are.
pub(super) const MESH: &str = "mesh";
/// The port on which hosts that are no services are known.
const HTTP: u16 = 80;

/// Names that a service has, more or less: room is made for so many.
const NAMES: usize = 6;

/// Which requests a RouteConfiguration is for, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For<'n> {
    /// Those to a port.
    Port(u16),
    /// Those to a port of one service, which was found to speak HTTP.
    Sniffed(&'n str, u16),
    /// Those to any port: of a forward proxy, or a socket.
    Every,
}

impl For<'_> {
    pub(super) fn read(name: &str) -> Option<For<'_>> {
        if name == FORWARD_PROXY || name.starts_with("unix://") {
            return Some(For::Every);
        }
        let number = |text: &str| text.parse().ok().filter(|port: &u16| *port != 0);
        match name.rsplit_once(':') {
            Some((host, port)) => Some(For::Sniffed(host, number(port)?)),
            None => number(name).map(For::Port),
        }
    }

    /// The listener whose services and rules count.
    pub(super) fn listener<'a>(self, view: &'a View, name: &str) -> Option<&'a EgressListener> {
        view.egress.iter().find(|listener| {
            let socket = listener.bind.starts_with("unix://");
            match (listener.port, self) {
                (None, _) => true,
                (Some(_), For::Every) => socket && *listener.bind == *name,
                (Some((number, _)), For::Port(port) | For::Sniffed(_, port)) => {
                    !socket && number == port
                }
            }
        })
    }
}

type Hosts<'a> = SmallVec<[&'a Hostname; 1]>;
type Services<'a> = SmallVec<[&'a Arc<Service>; 1]>;

/// Hosts that share routes on a port.
struct Wrapper<'a> {
    port: u16,
    /// Hosts that are no services.
    plain: Hosts<'a>,
    services: Services<'a>,
    routes: Arc<Routes>,
}

/// The virtual hosts of a RouteConfiguration in their order, and how it is framed; `None` if the name means nothing to the class.
pub(super) fn hosts<'a>(
    view: &'a View,
    key: &'a OutboundKey,
    name: &str,
    memo: &'a Memos,
) -> Option<(Vec<Host<'a>>, Frame)> {
    let mut meant = For::read(name)?;
    let listener = meant.listener(view, name)?;
    if matches!(listener.port, Some((_, Protocol::HttpProxy))) {
        meant = For::Every;
    }
    let planner = Planner {
        view,
        listener,
        facts: Arc::new(Facts::of(view, key)),
        mesh: MESH.into(),
        memo,
        every: meant == For::Every,
    };
    let mut hosts = match meant {
        For::Port(port) => planner.emit(planner.wrappers(port), key),
        For::Sniffed(host, port) => planner.sniffed(host, port),
        For::Every => {
            let wrappers = planner
                .ports()
                .into_iter()
                .flat_map(|port| planner.wrappers(port));
            planner.emit(wrappers.collect(), key)
        }
    };
    let rest = !matches!(meant, For::Sniffed(..))
        && !hosts
            .iter()
            .any(|host| host.domains.iter().any(|d| d == "*"));
    if rest {
        hosts.push(catch_all::host(view, key));
    }
    let frame = Frame {
        ignore_port: !planner.every,
        attempt_count: !key.proxy_config.http.headers.attempt_count_disabled,
    };
    Some((hosts, frame))
}

struct Planner<'a> {
    view: &'a View,
    listener: &'a EgressListener,
    facts: Arc<Facts>,
    mesh: Arc<str>,
    memo: &'a Memos,
    /// Whether the RouteConfiguration is for requests to any port.
    every: bool,
}

/// A service with a port at hand.
struct Served<'a> {
    service: &'a Arc<Service>,
    http: bool,
    claimed: bool,
}

impl<'a> Planner<'a> {
    /// Every port that some service speaks HTTP on.
    fn ports(&self) -> BTreeSet<u16> {
        let ports = self
            .listener
            .services
            .iter()
            .flat_map(|service| &service.ports);
        ports
            .filter(|port| is_http(port))
            .map(|port| port.number)
            .collect()
    }

    /// Who has which routes on a port, those first who win a name that several have.
    fn wrappers(&self, port: u16) -> Vec<Wrapper<'a>> {
        let most = self.listener.services.len();
        let mut served: HashMap<&str, Served<'a>> =
            HashMap::with_capacity_and_hasher(most, FixedState::default());
        let mut order: Vec<&Hostname> = Vec::with_capacity(most);
        for service in self.listener.services.iter() {
            if let Some(found) = service.ports.iter().find(|p| p.number == port) {
                order.push(&service.hostname);
                served.entry(service.hostname.as_str()).or_insert(Served {
                    service,
                    http: is_http(found),
                    claimed: false,
                });
            }
        }
        let mut out = Vec::with_capacity(order.len());
        for (index, vs) in self.listener.virtual_services.iter().enumerate() {
            let Some((plain, services)) = self.claims(index, vs, &served, &order, port) else {
                continue;
            };
            let routes = self.rules(vs, port);
            if routes.is_empty() {
                continue;
            }
            for service in &services {
                if let Some(served) = served.get_mut(service.hostname.as_str()) {
                    served.claimed = true;
                }
            }
            out.push(Wrapper {
                port,
                plain,
                services,
                routes,
            });
        }
        for host in order {
            let Some(served) = served.get_mut(host.as_str()) else {
                continue;
            };
            if served.http
                && !served.claimed
                && served.service.resolution != ServiceResolution::Alias
            {
                served.claimed = true;
                out.push(Wrapper {
                    port,
                    plain: SmallVec::new(),
                    services: smallvec![served.service],
                    routes: self.whole_service(host, port),
                });
            }
        }
        out
    }

    /// The hosts of a VirtualService: those that are no services, and the services it speaks for. `None` if it has no effect on the port.
    fn claims(
        &self,
        index: usize,
        vs: &'a VirtualService,
        served: &HashMap<&str, Served<'a>>,
        order: &[&'a Hostname],
        port: u16,
    ) -> Option<(Hosts<'a>, Services<'a>)> {
        let mut plain = Hosts::new();
        let mut taken: SmallVec<[&Served<'a>; 1]> = SmallVec::new();
        for host in &vs.hosts {
            if !host.is_wildcard() {
                match served.get(host.as_str()) {
                    Some(found) => taken.push(found),
                    None => plain.push(host),
                }
                continue;
            }
            let mut matches = false;
            if !vs.gateway_semantics {
                for candidate in order.iter().filter(|h| h.matches(host)) {
                    matches = true;
                    if self.listener.most_specific.get(*candidate) == Some(&index) {
                        taken.extend(served.get(candidate.as_str()));
                    }
                }
            }
            if !matches {
                plain.push(host);
            }
        }
        taken.retain(|found| self.may_claim(vs, found.service));
        if vs.gateway_semantics && taken.is_empty() {
            return None;
        }
        let mut services = Services::new();
        for found in taken.iter().filter(|found| found.http) {
            if !services
                .iter()
                .any(|known| Arc::ptr_eq(known, found.service))
            {
                services.push(found.service);
            }
        }
        let hosts_alone = port == HTTP && !self.every && !plain.is_empty();
        (!services.is_empty() || hosts_alone).then_some((plain, services))
    }

    /// One made from a Gateway API route speaks for services of its own namespace, or to clients of it.
    fn may_claim(&self, vs: &VirtualService, service: &Service) -> bool {
        let own = &vs.key.namespace;
        !vs.gateway_semantics || *own == service.key.namespace || *own == self.view.key.namespace
    }

    fn rules(&self, vs: &Arc<VirtualService>, port: u16) -> Arc<Routes> {
        let place = Place {
            gateway: self.mesh.clone(),
            port,
            tls: false,
        };
        super::routes(Input::rules(self.view, vs, place, &self.facts), self.memo)
    }

    fn whole_service(&self, host: &Hostname, port: u16) -> Arc<Routes> {
        let input = Input::Service {
            host: host.clone(),
            port,
            rule: target::hashing_rule(self.view, host),
            facts: self.facts.clone(),
        };
        super::routes(input, self.memo)
    }

    /// Virtual hosts by name. Of two with one name the first stays, and of two with one domain the first keeps it.
    fn emit(&self, wrappers: Vec<Wrapper<'a>>, key: &'a OutboundKey) -> Vec<Host<'a>> {
        let names = Names::new(key);
        let mut known = Known::with_room(wrappers.iter().map(|w| w.services.len()).sum());
        for wrapper in &wrappers {
            for service in &wrapper.services {
                known.full.insert(service.hostname.as_str());
                if self.every {
                    known
                        .full_with_port
                        .insert(host_and_port(service.hostname.as_str(), wrapper.port));
                }
            }
        }
        let mut out = Vec::with_capacity(wrappers.len() + 1);
        for wrapper in wrappers {
            let port = wrapper.port;
            let mut host = |host: &'a Hostname, domains: &mut dyn Iterator<Item = Domain<'a>>| {
                if !known.hosts.insert((host.as_str(), port)) {
                    return;
                }
                // Among hosts of every port, those of all but port 80 are told by their port.
                let domains = domains.filter(|d| !self.every || port == HTTP || d.with_port);
                let domains: Vec<_> = domains.filter_map(|domain| known.keep(domain)).collect();
                if !domains.is_empty() {
                    out.push(Host {
                        name: host_and_port(host.as_str(), port),
                        domains,
                        routes: smallvec![wrapper.routes.clone()],
                        require_tls: false,
                    });
                }
            };
            for plain in wrapper.plain {
                let domain = Domain {
                    text: bracketed(plain.as_str()),
                    short: false,
                    with_port: false,
                };
                host(plain, &mut std::iter::once(domain));
            }
            for service in wrapper.services {
                let aliases = self
                    .view
                    .aliases
                    .get(&service.hostname)
                    .map_or(&[][..], |a| a);
                let domains = names.of(service, aliases, self.every.then_some(port));
                host(&service.hostname, &mut domains.into_iter());
            }
        }
        out.sort_unstable_by(|a: &Host<'a>, b| a.name.cmp(&b.name));
        out
    }

    /// The one virtual host of a service whose port was found to speak HTTP; none if there is no such service.
    fn sniffed(&self, host: &str, port: u16) -> Vec<Host<'a>> {
        let mut services = self
            .listener
            .services
            .iter()
            .filter(|s| s.hostname.as_str() == host);
        let Some(service) = services.next().filter(|service| {
            let ports = &service.ports;
            service.resolution != ServiceResolution::Alias
                && ports.iter().find(|p| p.number == port).is_some_and(is_http)
        }) else {
            return Vec::new();
        };
        let routes = self
            .speaker(service, port)
            .unwrap_or_else(|| self.whole_service(&service.hostname, port));
        vec![Host {
            name: host_and_port(service.hostname.as_str(), port),
            domains: vec!["*".into()],
            routes: smallvec![routes],
            require_tls: false,
        }]
    }

    /// The rules of the first VirtualService that speaks for a service and has some for the port.
    fn speaker(&self, service: &Arc<Service>, port: u16) -> Option<Arc<Routes>> {
        let all = &self.listener.virtual_services;
        let best = *self.listener.most_specific.get(&service.hostname)?;
        let named = |vs: &VirtualService| vs.hosts.contains(&service.hostname);
        let best_by_wildcard = all
            .get(best)
            .filter(|vs| !named(vs) && !vs.gateway_semantics);
        let by_name = all.iter().filter(|vs| named(vs));
        by_name
            .chain(best_by_wildcard)
            .filter(|vs| self.may_claim(vs, service))
            .map(|vs| self.rules(vs, port))
            .find(|routes| !routes.is_empty())
    }
}

fn is_http(port: &MeshPort) -> bool {
    port.protocol.is_http_or_sniffed()
}

/// Names given so far, and those that short names must not take.
struct Known<'a> {
    hosts: HashSet<(&'a str, u16)>,
    domains: HashSet<Cow<'a, str>>,
    full: HashSet<&'a str>,
    full_with_port: HashSet<String>,
}

impl<'a> Known<'a> {
    /// For the names of so many services.
    fn with_room(services: usize) -> Known<'a> {
        let hasher = FixedState::default;
        Known {
            hosts: HashSet::with_capacity_and_hasher(services, hasher()),
            domains: HashSet::with_capacity_and_hasher(NAMES * services, hasher()),
            full: HashSet::with_capacity_and_hasher(services, hasher()),
            full_with_port: HashSet::default(),
        }
    }

    fn keep(&mut self, domain: Domain<'a>) -> Option<Cow<'a, str>> {
        let text = &*domain.text;
        let belongs_to_another =
            domain.short && (self.full.contains(text) || self.full_with_port.contains(text));
        (!belongs_to_another && self.domains.insert(domain.text.clone())).then_some(domain.text)
    }
}
