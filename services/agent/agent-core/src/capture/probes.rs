//! Connections that show whether rules are in force, and where each must arrive.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::rule::Family;
use super::settings::{Cidrs, OwnerGroups, Settings};

/// A connection, and where rules lead it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// What it shows.
    pub what: &'static str,
    /// The address it must come from; `None` for whatever the system chooses.
    pub from: Option<IpAddr>,
    /// Where it goes.
    pub to: SocketAddr,
    /// User and group of whom its socket must be.
    pub owner: (u32, u32),
    /// Local port at which it must arrive.
    pub arrives_at: u16,
}

/// Probes that can be made by somebody who may be `anybody` or only the user and group `own`.
///
/// That of inbound capture is the proxy's own connection to an address of loopback; nobody but the proxy can make it. That of outbound
/// capture is anybody else's to an address that is captured, if there is one.
pub fn probes(
    settings: &Settings,
    family: Family,
    port: u16,
    own: (u32, u32),
    anybody: bool,
) -> Vec<Probe> {
    let is_proxy = settings.proxy_uids.contains(&own.0) || settings.proxy_gids.contains(&own.1);
    let mut out = Vec::new();
    let proxy = match (is_proxy, anybody) {
        (true, _) => Some(own),
        (false, true) => settings
            .proxy_uids
            .first()
            .copied()
            .zip(settings.proxy_gids.first().copied()),
        (false, false) => None,
    };
    if let Some(owner) = proxy {
        out.push(Probe {
            what: "the proxy's connection to itself",
            // From the address itself it would be the proxy's connection to the application.
            from: Some(match family {
                Family::V4 => Ipv4Addr::LOCALHOST.into(),
                Family::V6 => Ipv6Addr::LOCALHOST.into(),
            }),
            to: SocketAddr::new(passthrough(family), port),
            owner,
            arrives_at: settings.inbound_port,
        });
    }
    if anybody && let Some(outbound) = outbound(settings, family, port) {
        out.push(outbound);
    }
    out
}

/// Source of the proxy's connections to applications, which everybody has on loopback.
pub fn passthrough(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(127, 0, 0, 6).into(),
        Family::V6 => Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6).into(),
    }
}

/// An application's connection to where nobody is.
fn outbound(settings: &Settings, family: Family, port: u16) -> Option<Probe> {
    let out = &settings.outbound;
    let to: IpAddr = match (&out.cidrs, family) {
        // Addresses of documentation.
        (Cidrs::All, Family::V4) => Ipv4Addr::new(192, 0, 2, 1).into(),
        (Cidrs::All, Family::V6) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        (Cidrs::Only(nets), _) => nets.iter().filter_map(|net| inside(*net, family)).next()?,
    };
    let excluded = out.exclude_cidrs.iter().any(|net| net.contains(&to))
        || out.exclude_ports.iter().any(|p| p.get() == port)
        || !settings.exclude_interfaces.is_empty();
    // Somebody who is neither the proxy nor of a group that is left alone.
    let uid = (60_000..).find(|id| !settings.proxy_uids.contains(id))?;
    let free = |id: &u32| !settings.proxy_gids.contains(id);
    let gid = match &out.groups {
        OwnerGroups::AllBut(but) => (60_000..).find(|id| free(id) && !but.contains(id)),
        OwnerGroups::Only(only) => only.iter().copied().find(free),
    }?;
    (!excluded).then_some(Probe {
        what: "an application's connection to others",
        from: None,
        to: SocketAddr::new(to, port),
        owner: (uid, gid),
        arrives_at: settings.outbound_port,
    })
}

/// The second address of a range, or its only one.
fn inside(net: IpNet, family: Family) -> Option<IpAddr> {
    let right = matches!(
        (net, family),
        (IpNet::V4(_), Family::V4) | (IpNet::V6(_), Family::V6)
    );
    let loopback = net.addr().is_loopback();
    (right && !loopback).then(|| net.hosts().next().unwrap_or(net.addr()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::tests::checked;

    #[test]
    fn a_probe_is_made_by_whom_it_concerns() {
        let settings = checked(|w| w.outbound_cidrs = "127.0.0.0/8,10.0.0.0/8".into());
        let made = |own, anybody| probes(&settings, Family::V4, 15_002, own, anybody);
        assert_eq!(made((1000, 1000), false), []);
        let [inbound] = made((1337, 5), false)[..] else {
            panic!("one probe");
        };
        assert_eq!(inbound.to.to_string(), "127.0.0.6:15002");
        assert_eq!((inbound.owner, inbound.arrives_at), ((1337, 5), 15_006));
        let [inbound, outbound] = made((0, 0), true)[..] else {
            panic!("two probes");
        };
        assert_eq!(inbound.owner, (1337, 1337));
        assert_eq!(outbound.to.to_string(), "10.0.0.1:15002");
        assert_eq!(
            (outbound.owner, outbound.arrives_at),
            ((60_000, 60_000), 15_001)
        );
    }

    #[test]
    fn what_is_left_alone_is_not_probed() {
        for change in [
            |w: &mut crate::capture::Written| w.outbound_cidrs = String::new(),
            |w: &mut crate::capture::Written| w.outbound_exclude_cidrs = "192.0.2.0/24".into(),
            |w: &mut crate::capture::Written| w.outbound_exclude_ports = "15002".into(),
            |w: &mut crate::capture::Written| w.exclude_interfaces = "eth0".into(),
        ] {
            let settings = checked(change);
            let made = probes(&settings, Family::V4, 15_002, (0, 0), true);
            assert_eq!(made.len(), 1, "{settings:?}");
        }
        let settings = checked(|w| w.owner_groups = "java".into());
        let made = probes(&settings, Family::V6, 15_002, (0, 0), true);
        assert_eq!(made[1].owner, (60_000, 202));
    }
}
