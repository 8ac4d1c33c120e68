//! Options of the way to Pilot.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::read::Reader;

/// A server of the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Host name or address, an IPv6 address without brackets.
    pub host: String,
    /// Port, 1..=65535.
    pub port: u16,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
}

impl FromStr for Endpoint {
    type Err = String;

    /// `host:port` and `https://host:port` mean TLS, `http://host:port` means plaintext, which only a loopback address may have.
    fn from_str(text: &str) -> Result<Endpoint, String> {
        let wrong = |why: &str| format!("{text:?} is no address of a server: {why}");
        let (tls, rest) = match text.split_once("://") {
            None => (true, text),
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some(_) => return Err(wrong("want host:port, https:// or http://")),
        };
        let (host, port) = rest
            .trim_end_matches('/')
            .rsplit_once(':')
            .ok_or_else(|| wrong("there is no port"))?;
        let host = host
            .strip_prefix('[')
            .and_then(|inner| inner.strip_suffix(']'))
            .unwrap_or(host);
        let port = match port.parse() {
            Ok(port @ 1..) => port,
            _ => return Err(wrong("the port is not in 1..=65535")),
        };
        let clean = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(clean) {
            return Err(wrong("the host is none"));
        }
        let loopback = host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback());
        if !tls && !loopback {
            return Err(wrong(
                "plaintext is for loopback only; leave http:// out to use TLS",
            ));
        }
        Ok(Endpoint {
            host: host.to_owned(),
            port,
            tls,
        })
    }
}

impl fmt::Display for Endpoint {
    /// As a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// By what a server's certificate is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The operating system's own.
    System,
    /// Certificates of a file.
    File(PathBuf),
}

/// How Pilot is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlane {
    /// Pilots, tried in turn. All with TLS or all without.
    pub pilots: Vec<Endpoint>,
    /// `XDS_ROOT_CA`. `None`: where it is looked for is in [`crate::paths`].
    pub roots: Option<Roots>,
    /// `ISTIOD_SAN`, `PILOT_SAN`: names that Pilot's certificate may have, SPIFFE IDs or DNS names; empty means its usual ones.
    pub sans: Vec<String>,
    /// `ISTIO_NAMESPACE`: where the control plane's service accounts are. Default istio-system.
    pub namespace: String,
    /// `XDS_HEADER_*`: more metadata of the stream; names in lower case.
    pub headers: Vec<(String, String)>,
    /// `PROXY_CONFIG_XDS_AGENT`: the trust bundle is asked for in Istio's way from the start.
    pub pcds: bool,
    /// `ISTIO_DELTA_XDS`: Envoy uses the delta variant. Default true.
    pub delta: bool,
}

pub(super) fn read(reader: &mut Reader<'_>, addresses: &[String]) -> ControlPlane {
    let mut pilots: Vec<Endpoint> = Vec::new();
    for text in addresses {
        match text.parse() {
            Ok(pilot) if pilots.contains(&pilot) => {}
            Ok(pilot) => pilots.push(pilot),
            Err(reason) => reader.refuse("discoveryAddress", reason),
        }
    }
    if pilots.iter().any(|pilot| pilot.tls) && pilots.iter().any(|pilot| !pilot.tls) {
        reader.refuse(
            "discoveryAddress",
            "some Pilots are with TLS and some without: failing over must not turn it off",
        );
    }
    if pilots.len() > MAX_PILOTS {
        reader.refuse(
            "discoveryAddress",
            format!("{} addresses, want {MAX_PILOTS} at most", pilots.len()),
        );
    }
    let mut sans = reader.list("ISTIOD_SAN");
    sans.extend(reader.list("PILOT_SAN"));
    ControlPlane {
        pilots,
        roots: roots(reader, "XDS_ROOT_CA"),
        sans,
        namespace: reader.text_or("ISTIO_NAMESPACE", "istio-system"),
        headers: headers(reader, "XDS_HEADER_"),
        pcds: reader.flag("PROXY_CONFIG_XDS_AGENT", false),
        delta: reader.flag("ISTIO_DELTA_XDS", true),
    }
}

/// Most addresses of Pilots.
const MAX_PILOTS: usize = 64;

/// A path, or `SYSTEM`.
pub(super) fn roots(reader: &Reader<'_>, name: &str) -> Option<Roots> {
    Some(match reader.text(name)? {
        "SYSTEM" => Roots::System,
        path => Roots::File(path.into()),
    })
}

/// Variables that are headers: `XDS_HEADER_X_Y_Z` is the header `x-y-z`.
pub(super) fn headers(reader: &mut Reader<'_>, prefix: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let members: Vec<_> = reader.prefixed(prefix).collect();
    for (name, value) in members {
        let header = name.to_ascii_lowercase().replace('_', "-");
        let is_name = header
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let is_value = value.bytes().all(|b| matches!(b, b' '..=b'~'));
        if is_name && is_value && !header.starts_with("grpc-") {
            found.push((header, value.to_owned()));
        } else {
            reader.refuse(&format!("{prefix}{name}"), "is no header");
        }
    }
    found
}
