//! One rule, and sets of them. Printed as `iptables-save` prints them, which `iptables-restore` reads.
//!
//! Every part is a number, a checked name or one of a fixed set of words: a rule cannot be made that is not one line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;

use super::value::Interface;

/// Comment of rules of ours that stand in the system's chains and lead to none of ours, so that they are known again.
pub(super) const NOTE: &str = "flotilla";

/// Version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A table, in the order in which it is written: the one that starts to redirect comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the system's names")]
pub enum Table {
    Raw,
    Mangle,
    Nat,
    Filter,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 4] = [Table::Raw, Table::Mangle, Table::Nat, Table::Filter];

    /// As iptables names it.
    pub fn name(self) -> &'static str {
        match self {
            Table::Raw => "raw",
            Table::Mangle => "mangle",
            Table::Nat => "nat",
            Table::Filter => "filter",
        }
    }
}

/// A chain: the system's, and Istio's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Chain {
    Prerouting,
    Input,
    Output,
    IstioInbound,
    IstioOutput,
    IstioOutputDns,
    IstioRedirect,
    IstioInRedirect,
    IstioDivert,
    IstioTproxy,
    IstioDrop,
}

impl Chain {
    /// As iptables names it.
    pub fn name(self) -> &'static str {
        match self {
            Chain::Prerouting => "PREROUTING",
            Chain::Input => "INPUT",
            Chain::Output => "OUTPUT",
            Chain::IstioInbound => "ISTIO_INBOUND",
            Chain::IstioOutput => "ISTIO_OUTPUT",
            Chain::IstioOutputDns => "ISTIO_OUTPUT_DNS",
            Chain::IstioRedirect => "ISTIO_REDIRECT",
            Chain::IstioInRedirect => "ISTIO_IN_REDIRECT",
            Chain::IstioDivert => "ISTIO_DIVERT",
            Chain::IstioTproxy => "ISTIO_TPROXY",
            Chain::IstioDrop => "ISTIO_DROP",
        }
    }

    /// Whether the system has it by itself.
    pub fn is_system(self) -> bool {
        matches!(self, Chain::Prerouting | Chain::Input | Chain::Output)
    }
}

/// A value that must be so, or must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Is<T> {
    So(T),
    Not(T),
}

impl<T> Is<T> {
    fn parts(&self) -> (&'static str, &T) {
        match self {
            Is::So(value) => ("", value),
            Is::Not(value) => ("! ", value),
        }
    }
}

/// Ports of a packet, with the protocol they are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// TCP, any port.
    Tcp,
    /// TCP to a port.
    TcpTo(Is<u16>),
    /// TCP to any port but these.
    TcpToNone(Vec<u16>),
    /// UDP to a port.
    UdpTo(u16),
    /// UDP from a port.
    UdpFrom(u16),
}

/// Whose socket a packet is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A user.
    User(u32),
    /// A group.
    Group(u32),
}

/// What a packet must be like; everything unset is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// Where it comes from.
    pub source: Option<IpNet>,
    /// Where it goes.
    pub destination: Option<Is<IpNet>>,
    /// Interface it came in by.
    pub input: Option<Interface>,
    /// Whether it leaves by loopback, or by another interface.
    pub output: Option<Interface>,
    /// Protocol and ports.
    pub ports: Option<Ports>,
    /// States of its connection, in the system's words.
    pub states: Option<&'static str>,
    /// Its mark.
    pub mark: Option<Is<u32>>,
    /// Mark of its connection.
    pub connection_mark: Option<u32>,
    /// Whose socket it is of; all must hold.
    pub owners: Vec<Is<Owner>>,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Target {
    Return,
    Accept,
    Drop,
    Go(Chain),
    /// To a local port, by NAT.
    Redirect(u16),
    /// To a local port, by routing, with this mark.
    Tproxy {
        port: u16,
        mark: u32,
        family: Family,
    },
    Mark(u32),
    /// The packet's mark becomes its connection's.
    SaveMark,
    /// The connection's mark becomes the packet's.
    RestoreMark,
    /// Which table of connections it is looked up in.
    Zone(u16),
}

/// A rule of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The chain.
    pub chain: Chain,
    /// What a packet must be like.
    pub matching: Match,
    /// What happens to it.
    pub target: Target,
}

/// Rules of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableRules {
    /// Put before everything that is in their chains, in this order.
    pub first: Vec<Rule>,
    /// Put behind everything, in this order.
    pub last: Vec<Rule>,
}

impl TableRules {
    /// Chains of ours that it has or leads to, in name order.
    pub fn chains(&self) -> BTreeSet<&'static str> {
        let named = |rule: &Rule| match rule.target {
            Target::Go(chain) => [rule.chain, chain],
            _ => [rule.chain; 2],
        };
        let all = self.first.iter().chain(&self.last).flat_map(named);
        all.filter(|chain| !chain.is_system())
            .map(Chain::name)
            .collect()
    }

    /// All rules in the order in which their chains have them.
    pub fn in_order(&self) -> impl Iterator<Item = &Rule> {
        self.first.iter().chain(&self.last)
    }
}

/// Rules of one version of IP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset(pub BTreeMap<Table, TableRules>);

impl Ruleset {
    /// What `iptables-save` shows of them once they are in force.
    pub fn as_saved(&self) -> String {
        let mut out = String::new();
        for (table, rules) in &self.0 {
            out += &format!("*{}\n", table.name());
            for chain in rules.chains() {
                out += &format!(":{chain} - [0:0]\n");
            }
            for rule in rules.in_order() {
                out += &format!("{rule}\n");
            }
            out += "COMMIT\n";
        }
        out
    }
}

impl Rule {
    /// Whether only its comment says whose it is.
    fn is_noted(&self) -> bool {
        self.chain.is_system() && !matches!(self.target, Target::Go(_))
    }

    /// The rule without its chain.
    pub fn body(&self) -> String {
        let note = match self.is_noted() {
            true => format!("-m comment --comment {NOTE} "),
            false => String::new(),
        };
        format!("{}{note}{}", self.matching, self.target)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-A {} {}", self.chain.name(), self.body())
    }
}

/// With a space behind each part.
impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every address is any address, and not printed by the system either.
        if let Some(net) = self.source.filter(|net| net.prefix_len() > 0) {
            write!(f, "-s {net} ")?;
        }
        match self.destination {
            Some(Is::So(net)) if net.prefix_len() == 0 => {}
            Some(is) => {
                let (not, net) = is.parts();
                write!(f, "{not}-d {net} ")?;
            }
            None => {}
        }
        if let Some(interface) = &self.input {
            write!(f, "-i {interface} ")?;
        }
        if let Some(interface) = &self.output {
            write!(f, "-o {interface} ")?;
        }
        if let Some(ports) = &self.ports {
            write!(f, "{ports} ")?;
        }
        if let Some(states) = self.states {
            write!(f, "-m conntrack --ctstate {states} ")?;
        }
        if let Some(is) = &self.mark {
            let (not, mark) = is.parts();
            write!(f, "-m mark {not}--mark {mark:#x} ")?;
        }
        if let Some(mark) = self.connection_mark {
            write!(f, "-m connmark --mark {mark:#x} ")?;
        }
        for is in &self.owners {
            match is.parts() {
                (not, Owner::User(id)) => write!(f, "-m owner {not}--uid-owner {id} ")?,
                (not, Owner::Group(id)) => write!(f, "-m owner {not}--gid-owner {id} ")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ports::Tcp => f.write_str("-p tcp"),
            Ports::TcpTo(is) => {
                let (not, port) = is.parts();
                write!(f, "-p tcp -m tcp {not}--dport {port}")
            }
            Ports::TcpToNone(ports) => {
                let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
                write!(f, "-p tcp -m multiport ! --dports {}", ports.join(","))
            }
            Ports::UdpTo(port) => write!(f, "-p udp -m udp --dport {port}"),
            Ports::UdpFrom(port) => write!(f, "-p udp -m udp --sport {port}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALL: &str = "--nfmask 0xffffffff --ctmask 0xffffffff";
        match self {
            Target::Return => f.write_str("-j RETURN"),
            Target::Accept => f.write_str("-j ACCEPT"),
            Target::Drop => f.write_str("-j DROP"),
            Target::Go(chain) => write!(f, "-j {}", chain.name()),
            Target::Redirect(port) => write!(f, "-j REDIRECT --to-ports {port}"),
            Target::Tproxy { port, mark, family } => {
                let ip = match family {
                    Family::V4 => "0.0.0.0",
                    Family::V6 => "::",
                };
                write!(
                    f,
                    "-j TPROXY --on-port {port} --on-ip {ip} --tproxy-mark {mark:#x}/0xffffffff"
                )
            }
            Target::Mark(mark) => write!(f, "-j MARK --set-xmark {mark:#x}/0xffffffff"),
            Target::SaveMark => write!(f, "-j CONNMARK --save-mark {ALL}"),
            Target::RestoreMark => write!(f, "-j CONNMARK --restore-mark {ALL}"),
            Target::Zone(zone) => write!(f, "-j CT --zone {zone}"),
        }
    }
}
