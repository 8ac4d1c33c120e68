//! Settings of capture: as written, and checked.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use mesh_types::Port;

use super::names::Names;
use super::value::{Errors, Interface, SettingError, SettingReason, cidr};

/// Most groups of owners that rules can name.
const GROUPS: usize = 64;
/// Most users or groups of the proxy.
const PROXY_IDS: usize = 16;
/// Packets of the proxy to the application by the pod's address bear it under TPROXY.
pub(super) const OUTBOUND_MARK: u32 = 1338;

/// Values of flags and variables as they were given; empty is "not given" unless a field says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// `-p --envoy-port`: where outbound connections go; default 15001.
    pub envoy_port: String,
    /// `-z --inbound-capture-port`: where inbound connections go; default 15006.
    pub inbound_capture_port: String,
    /// `-e --inbound-tunnel-port`: inbound port that is never captured; default 15008.
    pub inbound_tunnel_port: String,
    /// `-u --proxy-uid`: users whose traffic is the proxy's own; default the number of [`Written::envoy_user`], else 1337.
    pub proxy_uid: String,
    /// Name of the proxy's user; default `istio-proxy`.
    pub envoy_user: String,
    /// `-g --proxy-gid`: the same by group; default the users' numbers.
    pub proxy_gid: String,
    /// `-m --istio-inbound-interception-mode`: `REDIRECT` (default) or `TPROXY`.
    pub interception_mode: String,
    /// `-b --istio-inbound-ports`: `*`, a list of ports, or empty for none.
    pub inbound_ports: String,
    /// `-d --istio-local-exclude-ports`: inbound ports left alone when all others are captured.
    pub inbound_exclude_ports: String,
    /// `-i --istio-service-cidr`: `*`, a list of ranges, or empty for none.
    pub outbound_cidrs: String,
    /// `-x --istio-service-exclude-cidr`: ranges left alone.
    pub outbound_exclude_cidrs: String,
    /// `-q --istio-outbound-ports`: outbound ports captured whatever the range.
    pub outbound_ports: String,
    /// `-o --istio-local-outbound-ports-exclude`: outbound ports left alone.
    pub outbound_exclude_ports: String,
    /// `-c --istio-exclude-interfaces`: interfaces left alone both ways.
    pub exclude_interfaces: String,
    /// `-k --kube-virt-interfaces`: interfaces whose inbound traffic is some machine's outbound traffic.
    pub reroute_interfaces: String,
    /// `-t --istio-inbound-tproxy-mark`: mark of captured packets; default 1337.
    pub tproxy_mark: String,
    /// `-r --istio-inbound-tproxy-route-table`: their routing table; default 133.
    pub tproxy_table: String,
    /// Groups whose outbound traffic is captured; default `*`.
    pub owner_groups: String,
    /// Groups whose outbound traffic is left alone.
    pub owner_groups_exclude: String,
    /// What counts as the pod's loopback; default 127.0.0.1/32.
    pub loopback_cidr: String,
    /// Whether DNS goes to the agent.
    pub redirect_dns: bool,
    /// Whether that is all DNS, not only what goes to the system's servers.
    pub capture_all_dns: bool,
    /// Whether packets that belong to no connection are dropped.
    pub drop_invalid: bool,
    /// Whether IPv6 is captured beside IPv4.
    pub dual_stack: bool,
}

/// How inbound connections reach the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By NAT; the application sees the proxy's address.
    Redirect,
    /// By routing; the proxy can keep the client's address.
    Tproxy,
}

/// Inbound ports that are captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// All but these.
    AllBut(Vec<Port>),
    /// These; may be none.
    Only(Vec<Port>),
}

/// Outbound ranges that are captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cidrs {
    /// Every range.
    All,
    /// These; may be none.
    Only(Vec<IpNet>),
}

/// Outbound traffic that is captured. Exclusions win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// Ranges captured.
    pub cidrs: Cidrs,
    /// Ranges left alone.
    pub exclude_cidrs: Vec<IpNet>,
    /// Ports captured whatever the range.
    pub ports: Vec<Port>,
    /// Ports left alone, TCP and UDP.
    pub exclude_ports: Vec<Port>,
    /// Whose traffic it is.
    pub groups: OwnerGroups,
}

/// Whose outbound traffic is captured, by the numbers of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnerGroups {
    /// Everybody's but theirs.
    AllBut(Vec<u32>),
    /// Theirs alone; at least one.
    Only(Vec<u32>),
}

/// Checked settings: nothing in them can be anything but what its type says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where outbound connections go.
    pub outbound_port: u16,
    /// Where inbound connections go.
    pub inbound_port: u16,
    /// Inbound port that is never captured.
    pub tunnel_port: u16,
    /// Users of the proxy; at least one.
    pub proxy_uids: Vec<u32>,
    /// Groups of the proxy; at least one.
    pub proxy_gids: Vec<u32>,
    /// How inbound connections reach the proxy.
    pub mode: Mode,
    /// Inbound ports that are captured.
    pub inbound: Inbound,
    /// Outbound traffic that is captured.
    pub outbound: Outbound,
    /// Interfaces left alone.
    pub exclude_interfaces: Vec<Interface>,
    /// Interfaces whose inbound traffic counts as outbound.
    pub reroute_interfaces: Vec<Interface>,
    /// Mark of captured packets under TPROXY.
    pub tproxy_mark: u32,
    /// Their routing table.
    pub tproxy_table: u32,
    /// What counts as loopback, inside 127.0.0.0/8.
    pub loopback: Ipv4Net,
    /// Whether DNS goes to the agent.
    pub redirect_dns: bool,
    /// Whether all DNS does.
    pub capture_all_dns: bool,
    /// Whether packets that belong to no connection are dropped.
    pub drop_invalid: bool,
    /// Whether IPv6 is captured beside IPv4.
    pub dual_stack: bool,
}

impl Settings {
    /// Checks everything that was written.
    ///
    /// # Errors
    /// Every value that is refused.
    pub fn check(written: &Written, names: &Names) -> Result<Settings, Vec<SettingError>> {
        let mut errors = Errors::default();
        let settings = read(written, names, &mut errors);
        if errors.0.is_empty() {
            Ok(settings)
        } else {
            Err(errors.0)
        }
    }
}

fn read(written: &Written, names: &Names, errors: &mut Errors) -> Settings {
    let (proxy_uids, proxy_gids) = proxy(written, names, errors);
    let mark = SettingReason::Mark(OUTBOUND_MARK);
    Settings {
        outbound_port: errors.port("--envoy-port", &written.envoy_port, 15_001),
        inbound_port: errors.port(
            "--inbound-capture-port",
            &written.inbound_capture_port,
            15_006,
        ),
        tunnel_port: errors.port(
            "--inbound-tunnel-port",
            &written.inbound_tunnel_port,
            15_008,
        ),
        proxy_uids,
        proxy_gids,
        mode: mode(&written.interception_mode, errors),
        inbound: inbound(written, errors),
        outbound: outbound(written, names, errors),
        exclude_interfaces: errors
            .interfaces("--istio-exclude-interfaces", &written.exclude_interfaces),
        reroute_interfaces: errors
            .interfaces("--kube-virt-interfaces", &written.reroute_interfaces),
        tproxy_mark: errors.number(
            "--istio-inbound-tproxy-mark",
            &written.tproxy_mark,
            1337,
            mark,
            |n| n != 0 && n != OUTBOUND_MARK,
        ),
        tproxy_table: errors.number(
            "--istio-inbound-tproxy-route-table",
            &written.tproxy_table,
            133,
            SettingReason::RoutingTable,
            // 253, 254 and 255 are the system's: default, main, local.
            |n| n != 0 && !(253..=255).contains(&n),
        ),
        loopback: loopback(&written.loopback_cidr, errors),
        redirect_dns: written.redirect_dns,
        capture_all_dns: written.capture_all_dns,
        drop_invalid: written.drop_invalid,
        dual_stack: written.dual_stack,
    }
}

fn proxy(written: &Written, names: &Names, errors: &mut Errors) -> (Vec<u32>, Vec<u32>) {
    let user = |text: &str| names.user(text);
    let (uid, gid) = ("--proxy-uid", "--proxy-gid");
    let mut uids = errors.list(
        uid,
        &written.proxy_uid,
        &SettingReason::User,
        PROXY_IDS,
        user,
    );
    if uids.is_empty() {
        let name = match written.envoy_user.as_str() {
            "" => "istio-proxy",
            name => name,
        };
        uids.push(names.user(name).unwrap_or(1337));
    }
    let group = |text: &str| names.group(text);
    let mut gids = errors.list(
        gid,
        &written.proxy_gid,
        &SettingReason::Group,
        PROXY_IDS,
        group,
    );
    if gids.is_empty() {
        gids.clone_from(&uids);
    }
    (uids, gids)
}

fn mode(text: &str, errors: &mut Errors) -> Mode {
    match text {
        "" | "REDIRECT" => Mode::Redirect,
        "TPROXY" => Mode::Tproxy,
        other => {
            errors.push(
                "--istio-inbound-interception-mode",
                other,
                SettingReason::Mode,
            );
            Mode::Redirect
        }
    }
}

fn inbound(written: &Written, errors: &mut Errors) -> Inbound {
    let but = errors.ports(
        "--istio-local-exclude-ports",
        &written.inbound_exclude_ports,
    );
    match written.inbound_ports.as_str() {
        "*" => Inbound::AllBut(but),
        ports => Inbound::Only(errors.ports("--istio-inbound-ports", ports)),
    }
}

fn outbound(written: &Written, names: &Names, errors: &mut Errors) -> Outbound {
    let cidrs = match written.outbound_cidrs.as_str() {
        "*" => Cidrs::All,
        cidrs => Cidrs::Only(errors.cidrs("--istio-service-cidr", cidrs)),
    };
    let exclude = "--istio-service-exclude-cidr";
    let exclude_cidrs = if written
        .outbound_exclude_cidrs
        .split(',')
        .any(|entry| entry.trim_matches(' ') == "*")
    {
        errors.push(exclude, "*", SettingReason::ExcludesEverything);
        Vec::new()
    } else {
        errors.cidrs(exclude, &written.outbound_exclude_cidrs)
    };
    Outbound {
        cidrs,
        exclude_cidrs,
        ports: errors.ports("--istio-outbound-ports", &written.outbound_ports),
        exclude_ports: errors.ports(
            "--istio-local-outbound-ports-exclude",
            &written.outbound_exclude_ports,
        ),
        groups: groups(written, names, errors),
    }
}

fn groups(written: &Written, names: &Names, errors: &mut Errors) -> OwnerGroups {
    let (include, exclude) = ("--outbound-owner-groups", "--outbound-owner-groups-exclude");
    let mut list = |setting, text: &str| {
        let group = |text: &str| names.group(text);
        errors.list(setting, text, &SettingReason::Group, GROUPS, group)
    };
    let but = list(exclude, &written.owner_groups_exclude);
    match written.owner_groups.as_str() {
        "*" | "" => OwnerGroups::AllBut(but),
        only => {
            let only = list(include, only);
            if !but.is_empty() {
                errors.push(
                    exclude,
                    &written.owner_groups_exclude,
                    SettingReason::BothGroups,
                );
            }
            match only.is_empty() {
                true => OwnerGroups::AllBut(but),
                false => OwnerGroups::Only(only),
            }
        }
    }
}

fn loopback(text: &str, errors: &mut Errors) -> Ipv4Net {
    let localhost = Ipv4Net::from(Ipv4Addr::LOCALHOST);
    if text.is_empty() {
        return localhost;
    }
    match cidr(text) {
        Some(IpNet::V4(net)) if net.addr().is_loopback() && net.prefix_len() >= 8 => net,
        _ => {
            errors.push(
                "--outbound-ipv4-loopback-cidr",
                text,
                SettingReason::Loopback,
            );
            localhost
        }
    }
}
