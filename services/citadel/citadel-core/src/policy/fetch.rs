//! Where the keys of an issuer may be fetched from.
//!
//! An address that a document or a DNS server names must not lead into this machine or to the metadata service of a cloud.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a connection to `ip` is allowed. `loopback` says that the URL, as an operator wrote it, names this machine.
pub fn permits(ip: IpAddr, loopback: bool) -> bool {
    let ip = ip.to_canonical();
    if ip.is_loopback() {
        return loopback;
    }
    match ip {
        IpAddr::V4(v4) => !(never_v4(v4)),
        IpAddr::V6(v6) => !(never_v6(v6)),
    }
}

/// Whether a host, as written in a URL, is this machine.
pub fn is_loopback(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn never_v4(ip: Ipv4Addr) -> bool {
    ip.is_link_local()
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.octets()[0] == 0
}

fn never_v6(ip: Ipv6Addr) -> bool {
    // The metadata service of one cloud has an address of its own, and NAT64 may lead to that of another.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    let nat64 = match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            let inner = Ipv4Addr::new(a, b, c, d);
            inner.is_loopback() || never_v4(inner)
        }
        _ => false,
    };
    ip.is_unicast_link_local()
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip == METADATA
        || nat64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_is_never_and_loopback_only_as_written() {
        let permits = |ip: &str, loopback| permits(ip.parse().unwrap(), loopback);
        for good in ["10.0.0.1", "192.0.2.1", "2001:db8::1", "fd00::1"] {
            assert!(permits(good, false), "{good}");
        }
        for here in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(!permits(here, false) && permits(here, true), "{here}");
        }
        for bad in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "64:ff9b::169.254.169.254",
            "64:ff9b::127.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ] {
            assert!(!permits(bad, false) && !permits(bad, true), "{bad}");
        }
    }

    #[test]
    fn this_machine_has_few_names() {
        for here in ["localhost", "127.0.0.1", "[::1]"] {
            assert!(is_loopback(here), "{here}");
        }
        for there in ["localhost.example.com", "10.0.0.1", "[fe80::1]", ""] {
            assert!(!is_loopback(there), "{there}");
        }
    }
}
