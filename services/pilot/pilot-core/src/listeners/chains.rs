//! Filter chains of TCP and TLS ports: VirtualServices by address and server name, else the service itself (XDS-TRAFFIC 3.4, 3.5).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use mesh_config::resource::normal::ServiceResolution;
use mesh_config::resource::virtual_service::{Destination, RouteDestination};
use mesh_model::{Service, View, VirtualService};
use mesh_types::{Hostname, Labels, Protocol};

use super::plan::{ChainPlan, Match, Stack, TcpPlan, Tunnel};
use super::vips::Vips;
use crate::OutboundKey;
use crate::naming::{self, ClusterName};

/// The VirtualServices of an egress listener that say something about TCP or TLS, by host.
pub struct ByHost<'a> {
    all: Vec<&'a Arc<VirtualService>>,
    exact: HashMap<&'a Hostname, Vec<usize>>,
    wild: Vec<(&'a Hostname, usize)>,
}

impl<'a> ByHost<'a> {
    /// Indexes them.
    pub fn new(list: &'a [Arc<VirtualService>]) -> ByHost<'a> {
        let l4 = |vs: &&Arc<VirtualService>| !vs.spec.tcp.is_empty() || !vs.spec.tls.is_empty();
        let all: Vec<_> = list.iter().filter(l4).collect();
        let (mut exact, mut wild) = (HashMap::<_, Vec<_>>::new(), Vec::new());
        for (at, vs) in all.iter().enumerate() {
            for host in &vs.hosts {
                match host.is_wildcard() {
                    true => wild.push((host, at)),
                    false => exact.entry(host).or_default().push(at),
                }
            }
        }
        ByHost { all, exact, wild }
    }

    /// Those that name a service's host, in conflict order.
    fn of(&self, host: &Hostname) -> Vec<&'a Arc<VirtualService>> {
        if self.all.is_empty() {
            return Vec::new();
        }
        let mut found: Vec<usize> = match host.is_wildcard() {
            false => self.exact.get(host).cloned().unwrap_or_default(),
            true => self
                .exact
                .iter()
                .filter(|(h, _)| h.matches(host))
                .flat_map(|(_, at)| at.clone())
                .collect(),
        };
        found.extend(
            self.wild
                .iter()
                .filter(|(h, _)| h.matches(host))
                .map(|(_, at)| *at),
        );
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|at| self.all[at]).collect()
    }
}

/// A service port whose chains are wanted.
pub struct Target<'a> {
    /// What the class may see.
    pub view: &'a View,
    /// What it reads of the proxy.
    pub key: &'a OutboundKey,
    /// The service.
    pub service: &'a Service,
    /// Its addresses.
    pub vips: &'a Vips,
    /// Networks that the chains must match; only on wildcard listeners.
    pub cidrs: &'a [Arc<str>],
    /// Port of the listener.
    pub port: u16,
    /// Protocol of the listener's port.
    pub protocol: Protocol,
    /// Whether the listener takes every address of its port.
    pub wildcard: bool,
}

/// Conditions that TCP and TLS matches have in common.
struct Conditions<'a> {
    gateways: &'a [String],
    labels: &'a BTreeMap<String, String>,
    namespace: &'a str,
    port: u32,
}

impl<'a> Target<'a> {
    /// The chains of the port; never empty.
    pub fn chains(&self, by_host: &ByHost<'a>) -> Vec<ChainPlan> {
        let candidates = by_host.of(&self.service.hostname);
        match self.protocol.is_tls() {
            true => self.tls(&candidates),
            false => self.tcp(&candidates),
        }
    }

    fn tcp(&self, candidates: &[&Arc<VirtualService>]) -> Vec<ChainPlan> {
        let own = Match::of([], self.cidrs.iter().cloned());
        let mut out = Vec::new();
        let mut covered = false;
        for vs in candidates {
            for block in vs.spec.tcp.iter().filter(|block| !block.route.is_empty()) {
                let satisfied = block.matches.iter().filter(|m| {
                    self.holds(&Conditions {
                        gateways: &m.gateways,
                        labels: &m.source_labels,
                        namespace: &m.source_namespace,
                        port: m.port,
                    })
                });
                let mut subnets = Vec::new();
                let mut whole = block.matches.is_empty();
                for m in satisfied {
                    if m.destination_subnets.is_empty() || self.port == 0 {
                        whole = true;
                        break;
                    }
                    subnets.extend(
                        m.destination_subnets
                            .iter()
                            .map(|net| Arc::from(net.as_str())),
                    );
                }
                if whole {
                    out.push(self.chain_of(vs, own.clone(), &block.route));
                    return out;
                }
                if !subnets.is_empty() {
                    let matching = Match::of([], subnets);
                    covered |= matching == own;
                    out.push(self.chain_of(vs, matching, &block.route));
                }
            }
        }
        if !covered {
            out.push(self.default_chain(own));
        }
        out
    }

    fn tls(&self, candidates: &[&Arc<VirtualService>]) -> Vec<ChainPlan> {
        let mut out = Vec::new();
        let mut seen = HashSet::new();
        for vs in candidates {
            for block in vs.spec.tls.iter().filter(|block| !block.route.is_empty()) {
                for m in &block.matches {
                    let conditions = Conditions {
                        gateways: &m.gateways,
                        labels: &m.source_labels,
                        namespace: &m.source_namespace,
                        port: m.port,
                    };
                    if !self.holds(&conditions)
                        || !seen.insert((&m.sni_hosts, &m.destination_subnets))
                    {
                        continue;
                    }
                    let sni = m.sni_hosts.iter().map(|host| Arc::from(host.as_str()));
                    let matching = match m.destination_subnets.is_empty() || self.port == 0 {
                        true => Match::of(sni, self.cidrs.iter().cloned()),
                        false => Match::of(
                            sni,
                            m.destination_subnets
                                .iter()
                                .map(|net| Arc::from(net.as_str())),
                        ),
                    };
                    out.push(self.chain_of(vs, matching, &block.route));
                }
            }
        }
        if out.is_empty() {
            out.push(self.default_chain(Match::of(self.own_names(), self.cidrs.iter().cloned())));
        }
        out
    }

    /// Server names that tell this service from others of the port; none where its address does that already.
    fn own_names(&self) -> Vec<Arc<str>> {
        let shared = !self.cidrs.is_empty()
            || (self.vips.is_any() && self.wildcard)
            || self.service.resolution == ServiceResolution::DynamicDns;
        if !shared {
            return Vec::new();
        }
        let mut names = vec![self.service.hostname.to_arc()];
        for alias in self
            .view
            .aliases
            .get(&self.service.hostname)
            .into_iter()
            .flatten()
        {
            names.push(alias.to_arc());
            names.extend(short_names(alias.as_str(), &self.key.dns_domain));
        }
        names
    }

    fn default_chain(&self, matching: Match) -> ChainPlan {
        let port = match &self.service.ports[..] {
            [only] => only.number,
            _ => self.port,
        };
        let to = Destination {
            host: self.service.hostname.to_string(),
            port: Some(mesh_config::resource::virtual_service::PortSelector {
                number: port.into(),
            }),
            ..Default::default()
        };
        ChainPlan {
            matching,
            stack: Stack::Tcp(single(self.view, self.key, &to, self.port, self.protocol)),
            source: None,
            tls: None,
        }
    }

    fn chain_of(
        &self,
        vs: &VirtualService,
        matching: Match,
        routes: &[RouteDestination],
    ) -> ChainPlan {
        ChainPlan {
            matching,
            stack: Stack::Tcp(forward(
                self.view,
                self.key,
                vs,
                routes,
                self.port,
                self.protocol,
            )),
            source: Some(vs.key.clone()),
            tls: None,
        }
    }

    fn holds(&self, c: &Conditions<'_>) -> bool {
        (c.gateways.is_empty() || c.gateways.iter().any(|g| g == "mesh"))
            && (c.port == 0 || c.port == u32::from(self.port))
            && (c.namespace.is_empty() || c.namespace == &*self.view.key.namespace)
            && has_labels(&self.key.labels, c.labels)
    }
}

fn has_labels(labels: &Labels, wanted: &BTreeMap<String, String>) -> bool {
    wanted
        .iter()
        .all(|(name, value)| labels.get(name) == Some(value))
}

/// Where the connections of a rule go.
pub fn forward(
    view: &View,
    key: &OutboundKey,
    vs: &VirtualService,
    routes: &[RouteDestination],
    port: u16,
    protocol: Protocol,
) -> TcpPlan {
    let destination = |route: &RouteDestination| route.destination.clone().unwrap_or_default();
    let weighted: Vec<_> = match routes {
        [_] => Vec::new(),
        several => several.iter().filter(|route| route.weight > 0).collect(),
    };
    let first = routes.first().map(destination).unwrap_or_default();
    if weighted.is_empty() {
        return single(view, key, &first, port, protocol);
    }
    let whole = Destination {
        subset: String::new(),
        ..first
    };
    TcpPlan {
        stat_prefix: format!("{}.{}", vs.key.name, vs.key.namespace),
        destinations: weighted
            .into_iter()
            .map(|route| {
                (
                    cluster(view, &destination(route), port).to_string(),
                    route.weight.unsigned_abs(),
                )
            })
            .collect(),
        ..single(view, key, &whole, port, protocol)
    }
}

/// Everything to one destination, with the connection settings of its DestinationRule.
fn single(
    view: &View,
    key: &OutboundKey,
    to: &Destination,
    port: u16,
    protocol: Protocol,
) -> TcpPlan {
    let target = cluster(view, to, port);
    let name = target.to_string();
    let service = view.services.get(target.host.as_str());
    let rule = service
        .and_then(|s| view.destination_rules.get(&s.hostname))
        .map(|rule| &rule.spec);
    let policy = rule.and_then(|rule| rule.traffic_policy.as_ref());
    let subset = rule
        .and_then(|rule| {
            rule.subsets
                .iter()
                .find(|s| !to.subset.is_empty() && s.name == to.subset)
        })
        .and_then(|s| s.traffic_policy.as_ref());
    let tcp = policy
        .and_then(|p| p.connection_pool.as_ref())
        .and_then(|pool| pool.tcp.as_ref());
    let balancer = subset
        .and_then(|p| p.load_balancer.as_ref())
        .or(policy.and_then(|p| p.load_balancer.as_ref()));
    let hash = balancer.and_then(|lb| lb.consistent_hash.as_ref());
    let tunnel = subset
        .and_then(|p| p.tunnel.as_ref())
        .or(policy.and_then(|p| p.tunnel.as_ref()));
    TcpPlan {
        stat_prefix: match service.filter(|_| !view.mesh.outbound_cluster_stat_name.is_empty()) {
            None => name.clone(),
            Some(service) => naming::stat_name(
                &view.mesh.outbound_cluster_stat_name,
                ClusterName::outbound(target.port, &target.subset, &target.host),
                Some((&service.spec, &service.key.namespace)),
                service.ports.iter().find(|p| p.number == target.port),
            ),
        },
        idle_timeout: tcp.and_then(|t| t.idle_timeout).or(key.idle_timeout),
        max_duration: tcp.and_then(|t| t.max_connection_duration),
        hash_source_ip: hash.is_some_and(|hash| hash.use_source_ip == Some(true)),
        tunnel: tunnel.map(|t| Tunnel {
            authority: format!("{}:{}", t.target_host, t.target_port),
            post: t.protocol.eq_ignore_ascii_case("POST"),
        }),
        protocol,
        ..TcpPlan::to(name, None)
    }
}

/// The cluster of a destination, in parts.
struct Cluster {
    port: u16,
    subset: String,
    host: String,
}

impl std::fmt::Display for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.is_empty() {
            return f.write_str("UnknownService");
        }
        ClusterName::outbound(self.port, &self.subset, &self.host).fmt(f)
    }
}

/// The cluster of a destination: of the concrete service behind an alias, and of its only port where none is named.
fn cluster(view: &View, to: &Destination, listen_port: u16) -> Cluster {
    let service = view.services.get(to.host.as_str());
    let port = match (&to.port, service.map(|s| &s.ports[..])) {
        (Some(port), _) if port.number != 0 => u16::try_from(port.number).unwrap_or(listen_port),
        (_, Some([only])) => only.number,
        _ => listen_port,
    };
    let concrete = service.and_then(|s| s.alias_of.as_ref());
    Cluster {
        port,
        subset: to.subset.clone(),
        host: concrete.map_or_else(|| to.host.to_ascii_lowercase(), Hostname::to_string),
    }
}

/// Shorter names by which clients of a DNS domain reach a host (XDS-TRAFFIC 2.4), without ports.
fn short_names(host: &str, dns_domain: &str) -> Vec<Arc<str>> {
    let Some(at) = dns_domain.find(".svc.") else {
        return Vec::new();
    };
    let (own, suffix) = dns_domain.split_at(at);
    let Some((name, namespace)) = host
        .strip_suffix(suffix)
        .and_then(|rest| rest.split_once('.'))
    else {
        return Vec::new();
    };
    let mut out = vec![
        format!("{name}.{namespace}"),
        format!("{name}.{namespace}.svc"),
    ];
    if namespace == own {
        out.insert(0, name.to_owned());
    }
    out.into_iter().map(Arc::from).collect()
}
