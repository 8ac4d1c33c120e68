//! Addresses and networks of listeners as Envoy writes them.

use std::net::IpAddr;
use std::sync::Arc;

use envoy_api::envoy::config::core::v3 as core;

use crate::proto;

/// No time, said explicitly: it differs from unset.
pub const ZERO: prost_types::Duration = prost_types::Duration {
    seconds: 0,
    nanos: 0,
};

/// An address and port, or the pipe that a `unix://` text names.
pub fn address(bind: &str, port: u16) -> core::Address {
    match bind.strip_prefix("unix://") {
        Some(path) => proto::pipe(path),
        None => proto::address(bind, port),
    }
}

/// A network in Envoy's form: `10.0.0.0/8`, or an address alone, which is all of its bits. `None` if the text is neither.
pub fn cidr(text: &str) -> Option<core::CidrRange> {
    let (prefix, len) = match text.split_once('/') {
        Some((prefix, len)) => (prefix, Some(len.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let bits = match prefix.parse::<IpAddr>().ok()? {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let len = len.unwrap_or(bits);
    (len <= bits).then(|| core::CidrRange {
        address_prefix: prefix.to_owned(),
        prefix_len: Some(len),
    })
}

/// A network with the bits beyond its prefix cleared, as Envoy compares them; `None` for anything but a network.
pub fn network(text: &str) -> Option<Arc<str>> {
    let (ip, len) = text.split_once('/')?;
    let len: u32 = len.parse().ok()?;
    let base = match ip.parse::<IpAddr>().ok()? {
        IpAddr::V4(v4) if len <= 32 => {
            let mask = u32::MAX.checked_shl(32 - len).unwrap_or(0);
            IpAddr::from((u32::from(v4) & mask).to_be_bytes())
        }
        IpAddr::V6(v6) if len <= 128 => {
            let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
            IpAddr::from((u128::from(v6) & mask).to_be_bytes())
        }
        IpAddr::V4(_) | IpAddr::V6(_) => return None,
    };
    Some(format!("{base}/{len}").into())
}

/// Whether a text is `0.0.0.0` or `::`.
pub fn is_wildcard(bind: &str) -> bool {
    matches!(bind, "0.0.0.0" | "::")
}

/// The name of a listener, `<bind>_<port>`; a `unix://` path is named by itself with port 0.
pub fn listener_name(bind: &str, port: u16) -> String {
    let bind = bind.strip_prefix("unix://").unwrap_or(bind);
    format!("{bind}_{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_compared_by_their_prefix() {
        let of = |text| network(text).map(|n| n.to_string());
        assert_eq!(of("10.1.2.3/16").as_deref(), Some("10.1.0.0/16"));
        assert_eq!(of("10.1.2.3/0").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(of("fd00::1/8").as_deref(), Some("fd00::/8"));
        assert_eq!((of("10.1.2.3"), of("10.1.2.3/33")), (None, None));
    }

    #[test]
    fn networks_are_read_whole() {
        let read = |text| cidr(text).map(|c| (c.address_prefix, c.prefix_len));
        assert_eq!(read("10.0.0.0/8"), Some(("10.0.0.0".into(), Some(8))));
        assert_eq!(read("10.0.0.1"), Some(("10.0.0.1".into(), Some(32))));
        assert_eq!(read("::1"), Some(("::1".into(), Some(128))));
        for bad in ["", "10.0.0.0/33", "a/8", "10.0.0.0/-1"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
