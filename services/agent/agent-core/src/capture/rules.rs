//! The rules of checked settings, in Istio's chains and order.

mod dns;
mod tproxy;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::rule::{Chain, Family, Is, Match, Owner, Ports, Rule, Ruleset, Table, Target};
use super::settings::{Cidrs, Inbound, Mode, OwnerGroups, Settings};
use super::surroundings::Surroundings;
use super::value::Interface;

/// Port of name servers.
const DNS: u16 = 53;

/// Rules of both versions of IP; none of either if it is not captured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// IPv4.
    pub v4: Ruleset,
    /// IPv6.
    pub v6: Ruleset,
}

/// Something that is not as was asked for, though no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// DNS is not captured.
    #[error(
        "DNS is not captured: no name server was found in /etc/resolv.conf; --capture-all-dns captures questions to any server"
    )]
    NoNameServer,
}

impl Wanted {
    /// Rules of settings in these surroundings.
    pub fn of(settings: &Settings, around: &Surroundings) -> (Wanted, Vec<Warning>) {
        let mut warnings = Vec::new();
        let dns =
            settings.redirect_dns && (settings.capture_all_dns || !around.name_servers.is_empty());
        if settings.redirect_dns && !dns {
            warnings.push(Warning::NoNameServer);
        }
        let rules = |family| Builder::new(settings, around, family, dns).build();
        let v6 = match around.wants_v6(settings.dual_stack) {
            true => rules(Family::V6),
            false => Ruleset::default(),
        };
        let v4 = rules(Family::V4);
        (Wanted { v4, v6 }, warnings)
    }

    /// Rules of one version of IP.
    pub fn of_family(&self, family: Family) -> &Ruleset {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

/// The rules of one family as they come together.
struct Builder<'a> {
    settings: &'a Settings,
    family: Family,
    /// Whether DNS is captured for any family.
    dns: bool,
    /// The family's name servers; `None` stands for all there are.
    servers: Option<Vec<IpNet>>,
    loopback: IpNet,
    /// Source of the proxy's connections to the application.
    passthrough: IpNet,
    rules: Ruleset,
}

impl<'a> Builder<'a> {
    fn new(settings: &'a Settings, around: &Surroundings, family: Family, dns: bool) -> Self {
        let servers = around.name_servers.iter().copied().map(IpNet::from);
        let servers = servers.filter(|net| family_of(net) == family).collect();
        let (loopback, passthrough) = match family {
            Family::V4 => (
                settings.loopback.into(),
                Ipv4Net::from(Ipv4Addr::new(127, 0, 0, 6)).into(),
            ),
            Family::V6 => (
                Ipv6Net::from(Ipv6Addr::LOCALHOST).into(),
                IpNet::from(IpAddr::from(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))),
            ),
        };
        Builder {
            settings,
            family,
            dns,
            servers: (!settings.capture_all_dns).then_some(servers),
            loopback,
            passthrough,
            rules: Ruleset::default(),
        }
    }

    fn build(mut self) -> Ruleset {
        self.exclude_interfaces();
        self.drop_invalid();
        self.redirect_chains();
        self.inbound();
        self.outbound();
        if self.captures_dns() {
            self.redirect_dns();
        }
        self.rules
    }

    fn add(&mut self, table: Table, chain: Chain, matching: Match, target: Target) {
        let rules = self.rules.0.entry(table).or_default();
        rules.last.push(Rule {
            chain,
            matching,
            target,
        });
    }

    fn nat(&mut self, chain: Chain, matching: Match, target: Target) {
        self.add(Table::Nat, chain, matching, target);
    }

    fn mangle(&mut self, chain: Chain, matching: Match, target: Target) {
        self.add(Table::Mangle, chain, matching, target);
    }

    fn captures_inbound(&self) -> bool {
        !matches!(&self.settings.inbound, Inbound::Only(ports) if ports.is_empty())
    }

    fn tproxy(&self) -> bool {
        self.settings.mode == Mode::Tproxy && self.captures_inbound()
    }

    fn exclude_interfaces(&mut self) {
        let tables: &[Table] = match self.tproxy() {
            true => &[Table::Nat, Table::Mangle],
            false => &[Table::Nat],
        };
        for &table in tables {
            for interface in &self.settings.exclude_interfaces {
                let (input, output) = (from(interface), by(interface));
                self.add(table, Chain::Prerouting, input, Target::Return);
                self.add(table, Chain::Output, output, Target::Return);
            }
        }
    }

    fn drop_invalid(&mut self) {
        if self.settings.drop_invalid {
            let invalid = Match {
                states: Some("INVALID"),
                ..any()
            };
            let to = Target::Go(Chain::IstioDrop);
            self.mangle(Chain::Prerouting, invalid, to);
            self.mangle(Chain::IstioDrop, any(), Target::Drop);
        }
    }

    fn redirect_chains(&mut self) {
        let tunnel = tcp_to(self.settings.tunnel_port);
        self.nat(Chain::IstioInbound, tunnel, Target::Return);
        let outbound = Target::Redirect(self.settings.outbound_port);
        self.nat(Chain::IstioRedirect, tcp(), outbound);
        let inbound = Target::Redirect(self.settings.inbound_port);
        self.nat(Chain::IstioInRedirect, tcp(), inbound);
    }

    fn inbound(&mut self) {
        if !self.captures_inbound() {
            return;
        }
        if self.settings.mode == Mode::Tproxy {
            return self.inbound_by_routing();
        }
        let (inbound, capture) = (Chain::IstioInbound, Target::Go(Chain::IstioInRedirect));
        self.nat(Chain::Prerouting, tcp(), Target::Go(inbound));
        match &self.settings.inbound {
            Inbound::AllBut(ports) => {
                for port in ports {
                    self.nat(inbound, tcp_to(port.get()), Target::Return);
                }
                self.nat(inbound, tcp(), capture);
            }
            Inbound::Only(ports) => {
                for port in ports {
                    self.nat(inbound, tcp_to(port.get()), capture);
                }
            }
        }
    }

    fn proxy_owners(&self) -> impl Iterator<Item = Owner> + use<> {
        let users: Vec<_> = self
            .settings
            .proxy_uids
            .iter()
            .map(|&id| Owner::User(id))
            .collect();
        let groups = self.settings.proxy_gids.clone();
        users
            .into_iter()
            .chain(groups.into_iter().map(Owner::Group))
    }

    fn outbound(&mut self) {
        let settings = self.settings;
        let output = Chain::IstioOutput;
        self.nat(Chain::Output, any(), Target::Go(output));
        for port in &settings.outbound.exclude_ports {
            self.nat(output, tcp_to(port.get()), Target::Return);
            self.nat(output, udp_to(port.get()), Target::Return);
        }
        let passthrough = Match {
            source: Some(self.passthrough),
            output: loopback_interface(),
            ..any()
        };
        self.nat(output, passthrough, Target::Return);
        if self.tproxy() {
            // Under TPROXY those connections have the client's address and are known by their mark; redirected, they would come back to the
            // proxy.
            let marked = Match {
                output: loopback_interface(),
                ..tcp().marked(Is::So(settings.tproxy_mark))
            };
            self.nat(output, marked, Target::Return);
        }
        for owner in self.proxy_owners() {
            self.proxy_itself(owner);
        }
        self.owner_groups();
        if self.captures_dns() {
            self.nat(output, any(), Target::Go(Chain::IstioOutputDns));
        }
        let local = Match {
            destination: Some(Is::So(self.loopback)),
            ..any()
        };
        self.nat(output, local, Target::Return);
        for net in self.own(&settings.outbound.exclude_cidrs) {
            self.nat(output, to(net), Target::Return);
        }
        let capture = Target::Go(Chain::IstioRedirect);
        for port in &settings.outbound.ports {
            self.nat(output, tcp_to(port.get()), capture);
        }
        let ranges = match &settings.outbound.cidrs {
            Cidrs::All => vec![any()],
            Cidrs::Only(nets) => self.own(nets).into_iter().map(to).collect(),
        };
        for range in &ranges {
            self.nat(output, range.clone(), capture);
        }
        self.reroute(&ranges);
    }

    /// What the proxy sends itself, and what applications send themselves.
    fn proxy_itself(&mut self, owner: Owner) {
        let output = Chain::IstioOutput;
        let tunnel = self.settings.tunnel_port;
        let but_tunnel = match owner {
            Owner::User(_) if self.dns => Ports::TcpToNone(vec![DNS, tunnel]),
            Owner::User(_) | Owner::Group(_) => Ports::TcpTo(Is::Not(tunnel)),
        };
        let to_self = Match {
            output: loopback_interface(),
            ports: Some(but_tunnel),
            owners: vec![Is::So(owner)],
            ..any().not_to(self.loopback)
        };
        self.nat(output, to_self, Target::Go(Chain::IstioInRedirect));
        if !self.includes_loopback() {
            let application = Match {
                output: loopback_interface(),
                ports: self.dns.then_some(Ports::TcpTo(Is::Not(DNS))),
                owners: vec![Is::Not(owner)],
                ..any()
            };
            self.nat(output, application, Target::Return);
        }
        let own = Match {
            owners: vec![Is::So(owner)],
            ..any()
        };
        self.nat(output, own, Target::Return);
    }

    /// Whether a range of loopback is captured by name.
    fn includes_loopback(&self) -> bool {
        match &self.settings.outbound.cidrs {
            Cidrs::All => false,
            Cidrs::Only(nets) => self.own(nets).iter().any(|net| net.addr().is_loopback()),
        }
    }

    fn owner_groups(&mut self) {
        let output = Chain::IstioOutput;
        match &self.settings.outbound.groups {
            OwnerGroups::AllBut(groups) => {
                for &group in groups {
                    let owned = Match {
                        owners: vec![Is::So(Owner::Group(group))],
                        ..any()
                    };
                    self.nat(output, owned, Target::Return);
                }
            }
            OwnerGroups::Only(groups) => {
                let none_of_them = Match {
                    owners: groups.iter().map(|&g| Is::Not(Owner::Group(g))).collect(),
                    ..any()
                };
                self.nat(output, none_of_them, Target::Return);
            }
        }
    }

    /// Traffic of machines behind an interface: captured as outbound traffic, otherwise not at all.
    fn reroute(&mut self, ranges: &[Match]) {
        let interfaces = &self.settings.reroute_interfaces;
        let rules = self.rules.0.entry(Table::Nat).or_default();
        // Each was once put before all others, so the last of a list comes first.
        for range in ranges.iter().rev() {
            for interface in interfaces.iter().rev() {
                rules.first.push(Rule {
                    chain: Chain::Prerouting,
                    matching: Match {
                        input: Some(interface.clone()),
                        ..range.clone()
                    },
                    target: Target::Go(Chain::IstioRedirect),
                });
            }
        }
        for interface in interfaces.iter().rev() {
            rules.first.push(Rule {
                chain: Chain::Prerouting,
                matching: from(interface),
                target: Target::Return,
            });
        }
    }

    fn own(&self, nets: &[IpNet]) -> Vec<IpNet> {
        let own = nets.iter().copied();
        own.filter(|net| family_of(net) == self.family).collect()
    }
}

impl Match {
    fn not_to(self, net: IpNet) -> Match {
        Match {
            destination: Some(Is::Not(net)),
            ..self
        }
    }

    fn marked(self, mark: Is<u32>) -> Match {
        Match {
            mark: Some(mark),
            ..self
        }
    }
}

fn any() -> Match {
    Match::default()
}

fn tcp() -> Match {
    Match {
        ports: Some(Ports::Tcp),
        ..any()
    }
}

fn tcp_to(port: u16) -> Match {
    Match {
        ports: Some(Ports::TcpTo(Is::So(port))),
        ..any()
    }
}

fn udp_to(port: u16) -> Match {
    Match {
        ports: Some(Ports::UdpTo(port)),
        ..any()
    }
}

fn to(net: IpNet) -> Match {
    Match {
        destination: Some(Is::So(net)),
        ..any()
    }
}

fn from(interface: &Interface) -> Match {
    Match {
        input: Some(interface.clone()),
        ..any()
    }
}

fn by(interface: &Interface) -> Match {
    Match {
        output: Some(interface.clone()),
        ..any()
    }
}

fn loopback_interface() -> Option<Interface> {
    Interface::parse("lo")
}

fn family_of(net: &IpNet) -> Family {
    match net {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    }
}
