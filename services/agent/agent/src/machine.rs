//! What the machine tells: variables, files of the pod, addresses.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

/// Variables of this process that are texts. The agent's options are variables, some with open-ended names (ISTIO_META_*): they are read here, and
/// nowhere else.
pub fn variables() -> BTreeMap<String, String> {
    let all = std::env::vars_os();
    all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// A file that need not be there.
///
/// # Errors
/// It is there and cannot be read.
pub fn optional(path: &Path) -> io::Result<Option<String>> {
    match crate::sds::read_file(path) {
        Ok(content) => String::from_utf8(content)
            .map(Some)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is no text")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The addresses by which this machine reaches others, of each family; loopback if it reaches none.
pub fn addresses() -> Vec<IpAddr> {
    // Nothing is sent: asking the system for a way is enough. The addresses are set aside for documentation.
    let ways = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    let found = ways.into_iter().filter_map(|(from, to)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    let mut found: Vec<IpAddr> = found.filter(|ip| !ip.is_unspecified()).collect();
    if found.is_empty() {
        found.push(std::net::Ipv4Addr::LOCALHOST.into());
    }
    found
}

/// An address with a port that is free now, if port 0 was asked for. Envoy takes it a moment later; if somebody else does before, Envoy says so and
/// ends, and so does the agent.
///
/// # Errors
/// The address cannot be listened on.
pub fn free(at: SocketAddr) -> io::Result<SocketAddr> {
    if at.port() != 0 {
        return Ok(at);
    }
    TcpListener::bind(at)?.local_addr()
}
