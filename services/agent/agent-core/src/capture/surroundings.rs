//! Where rules are to work: a pod's addresses, and whom it asks for names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most name servers that are taken; resolvers ask three.
const SERVERS: usize = 16;

/// What rules depend on beside settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Whether an address of IPv4 is there that others could reach.
    pub v4: bool,
    /// The same of IPv6.
    pub v6: bool,
    /// Whom applications ask for names.
    pub name_servers: Vec<IpAddr>,
}

impl Surroundings {
    /// Reads the system's files.
    ///
    /// `fib_trie` and `if_inet6` are those of `/proc/net`, `resolv_conf` is `/etc/resolv.conf`. Lines that are not understood are left out.
    pub fn parse(fib_trie: &str, if_inet6: &str, resolv_conf: &str) -> Surroundings {
        Surroundings {
            v4: addresses_v4(fib_trie).any(|ip| !ip.is_loopback() && !ip.is_link_local()),
            v6: addresses_v6(if_inet6)
                .any(|ip| !ip.is_loopback() && !ip.is_unicast_link_local() && ip != PASSTHROUGH),
            name_servers: name_servers(resolv_conf),
        }
    }

    /// Whether loopback has the address of IPv6 that we add to it, by `/proc/net/if_inet6`.
    pub fn has_passthrough(if_inet6: &str) -> bool {
        addresses_v6(if_inet6).any(|ip| ip == PASSTHROUGH)
    }

    /// Whether IPv6 is captured: beside IPv4 only if asked to.
    pub fn wants_v6(&self, dual_stack: bool) -> bool {
        self.v6 && (dual_stack || !self.v4)
    }
}

/// What we add to loopback ourselves.
const PASSTHROUGH: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// Own addresses: leaves followed by `/32 host LOCAL`.
fn addresses_v4(fib_trie: &str) -> impl Iterator<Item = Ipv4Addr> {
    let mut leaf = None;
    fib_trie.lines().filter_map(move |line| {
        let line = line.trim_start();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.trim_end().parse().ok();
        }
        (line.trim_end() == "/32 host LOCAL")
            .then_some(leaf)
            .flatten()
    })
}

/// Own addresses: 32 hexadecimal digits at the beginning of each line.
fn addresses_v6(if_inet6: &str) -> impl Iterator<Item = Ipv6Addr> {
    let digits = if_inet6.lines().filter_map(|line| line.get(..32));
    digits
        .filter_map(|digits| u128::from_str_radix(digits, 16).ok())
        .map(Ipv6Addr::from)
}

/// Servers of a `resolv.conf`, each once, without zones of addresses.
pub fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    let mut out: Vec<IpAddr> = Vec::new();
    for line in resolv_conf.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let address = words.next().and_then(|word| word.split('%').next());
        if let Some(ip) = address.and_then(|text| text.parse().ok())
            && !out.contains(&ip)
            && out.len() < SERVERS
        {
            out.push(ip);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK_AND_POD: &str = "Main:
  +-- 0.0.0.0/1 2 0 2
     +-- 10.1.1.0/31 1 0 0
        |-- 10.1.1.0
           /24 link UNICAST
        |-- 10.1.1.1
           /32 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
";

    #[test]
    fn addresses_that_others_can_reach_count() {
        let pod = Surroundings::parse(
            LOOPBACK_AND_POD,
            "00000000000000000000000000000001 01 80 10 80       lo\n\
             00000000000000000000000000000006 01 80 10 80       lo\n\
             fe80000000000000000000000000000a 02 40 20 80     eth0\n",
            "",
        );
        assert!(pod.v4 && !pod.v6);
        assert!(!pod.wants_v6(true));
        let only_v6 = Surroundings::parse(
            "        |-- 127.0.0.1\n           /32 host LOCAL\n",
            "fd000000000000000000000000000002 02 40 00 80     eth0\n",
            "",
        );
        assert!(!only_v4(&only_v6) && only_v6.wants_v6(false));
        let both = Surroundings {
            v4: true,
            ..only_v6
        };
        assert!(!both.wants_v6(false) && both.wants_v6(true));
    }

    fn only_v4(around: &Surroundings) -> bool {
        around.v4
    }

    #[test]
    fn name_servers_are_read_like_resolvers_do() {
        let text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 10.0.0.10\nnameserver\t10.0.0.10 \nnameserver fe80::1%eth0\nnameserver nonsense\n";
        let want: Vec<IpAddr> = vec!["10.0.0.10".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(name_servers(text), want);
    }
}
