//! Which addresses keys may be fetched from: what a URI in somebody's policy must not reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What stands between a URI of a policy and the networks that this Pilot can reach.
///
/// It is asked for every address right before it is connected to: after the name was resolved, and anew after every redirect.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Never, whatever else is said. Source: `BLOCKED_CIDRS_IN_JWKS_URIS`.
    pub blocked: Vec<IpNet>,
    /// In spite of what is refused by itself. Source: `--allowed-cidrs-in-jwks-uris`.
    pub allowed: Vec<IpNet>,
}

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// One of the networks that the operator named.
    #[error("it is in a network of --blocked-cidrs-in-jwks-uris")]
    Configured,
    /// 127.0.0.0/8, ::1, and what leads there.
    #[error("it is a loopback address; --allowed-cidrs-in-jwks-uris can allow it")]
    Loopback,
    /// 169.254.0.0/16, fe80::/10: the metadata services of most clouds are there.
    #[error("it is a link-local address; --allowed-cidrs-in-jwks-uris can allow it")]
    LinkLocal,
    /// A metadata service that is elsewhere.
    #[error("it is the address of a cloud's metadata; --allowed-cidrs-in-jwks-uris can allow it")]
    Metadata,
    /// An address of this machine.
    #[error("it is an address of this machine; --allowed-cidrs-in-jwks-uris can allow it")]
    Own,
    /// Multicast, broadcast, reserved.
    #[error("it is no address of one machine")]
    NoHost,
}

/// Metadata services that are not link-local: of Alibaba, of Azure (its wire server), of Oracle, and of Amazon over IPv6.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

impl Guard {
    /// Whether an address may be connected to; `own` says whether it is one of this machine.
    ///
    /// An IPv6 address that stands for an IPv4 address (mapped, NAT64, 6to4) is also judged as that.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, address: IpAddr, own: bool) -> Result<(), Blocked> {
        let faces: Vec<IpAddr> = std::iter::once(address)
            .chain(embedded(address).map(IpAddr::V4))
            .collect();
        let within = |nets: &[IpNet]| {
            faces
                .iter()
                .any(|face| nets.iter().any(|net| net.contains(face)))
        };
        if within(&self.blocked) {
            return Err(Blocked::Configured);
        }
        if within(&self.allowed) {
            return Ok(());
        }
        faces.into_iter().try_for_each(check_one)?;
        if own { Err(Blocked::Own) } else { Ok(()) }
    }
}

fn check_one(address: IpAddr) -> Result<(), Blocked> {
    if METADATA.contains(&address) {
        return Err(Blocked::Metadata);
    }
    // The unspecified address leads to this machine.
    if address.is_loopback() || address.is_unspecified() {
        return Err(Blocked::Loopback);
    }
    if address.is_multicast() {
        return Err(Blocked::NoHost);
    }
    match address {
        IpAddr::V4(v4) if v4.is_link_local() => Err(Blocked::LinkLocal),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Err(Blocked::Loopback),
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => Err(Blocked::NoHost),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Err(Blocked::LinkLocal),
        IpAddr::V4(_) | IpAddr::V6(_) => Ok(()),
    }
}

/// The IPv4 address that an IPv6 address stands for.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return Some(v4);
    }
    let two = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0x64, 0xff9b, .., high, low] => two(high, low),
        [0x2002, high, low, ..] => two(high, low),
        // The old form, `::127.0.0.1`; `::` and `::1` are themselves.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => two(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(guard: &Guard, address: &str) -> Result<(), Blocked> {
        guard.check(address.parse().unwrap(), false)
    }

    /// Case 46, as far as it is about addresses.
    #[test]
    fn what_a_policy_must_not_reach_is_refused_in_every_spelling() {
        let guard = Guard::default();
        for (address, why) in [
            ("169.254.169.254", Blocked::LinkLocal),
            ("::ffff:169.254.169.254", Blocked::LinkLocal),
            ("64:ff9b::a9fe:a9fe", Blocked::LinkLocal),
            ("2002:a9fe:a9fe::1", Blocked::LinkLocal),
            ("fe80::1", Blocked::LinkLocal),
            ("127.0.0.1", Blocked::Loopback),
            ("127.8.9.1", Blocked::Loopback),
            ("::1", Blocked::Loopback),
            ("::ffff:127.0.0.1", Blocked::Loopback),
            ("::127.0.0.1", Blocked::Loopback),
            ("0.0.0.0", Blocked::Loopback),
            ("0.1.2.3", Blocked::Loopback),
            ("::", Blocked::Loopback),
            ("100.100.100.200", Blocked::Metadata),
            ("fd00:ec2::254", Blocked::Metadata),
            ("224.0.0.1", Blocked::NoHost),
            ("255.255.255.255", Blocked::NoHost),
            ("ff02::1", Blocked::NoHost),
        ] {
            assert_eq!(check(&guard, address), Err(why), "{address}");
        }
        for good in ["10.0.0.1", "8.8.8.8", "2606:4700::1111", "fd12::1"] {
            assert_eq!(check(&guard, good), Ok(()), "{good}");
        }
        let own = guard.check("10.0.0.1".parse().unwrap(), true);
        assert_eq!(own, Err(Blocked::Own));
    }

    #[test]
    fn the_operator_may_block_more_and_allow_again() {
        let net = |text: &str| text.parse().unwrap();
        let guard = Guard {
            blocked: vec![net("10.0.0.0/8"), net("127.0.0.2/32")],
            allowed: vec![net("127.0.0.0/8"), net("10.1.0.0/16")],
        };
        assert_eq!(check(&guard, "127.0.0.1"), Ok(()));
        assert_eq!(check(&guard, "::ffff:127.0.0.1"), Ok(()));
        assert_eq!(check(&guard, "127.0.0.2"), Err(Blocked::Configured));
        assert_eq!(check(&guard, "10.1.2.3"), Err(Blocked::Configured));
        assert_eq!(check(&guard, "::ffff:10.9.9.9"), Err(Blocked::Configured));
        assert_eq!(check(&guard, "169.254.1.1"), Err(Blocked::LinkLocal));
    }
}
