//! Addresses to listen on, and errors about them that say what to try.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::net::{TcpListener, TcpSocket, lookup_host};

/// An address to listen on, as written: `host:port`, or `:port` for every interface (IPv4 and IPv6, as Go does). Port 0
/// takes any free port. Numeric IPv6 hosts stand in brackets: `[::1]:15010`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenAddr {
    text: String,
    /// Empty: every interface.
    host: String,
    port: u16,
}

/// Why a text is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no address to listen on ({reason}); write 127.0.0.1:15010, [::1]:15010, or :15010 for every interface"
)]
pub struct ListenAddrError {
    text: String,
    reason: &'static str,
}

impl FromStr for ListenAddr {
    type Err = ListenAddrError;

    fn from_str(text: &str) -> Result<Self, ListenAddrError> {
        let wrong = |reason| ListenAddrError {
            text: text.to_owned(),
            reason,
        };
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| wrong("there is no port"))?;
        let port = port
            .parse()
            .map_err(|_| wrong("the port is not a number in 0..=65535"))?;
        let host = match host.strip_prefix('[').map(|inner| inner.strip_suffix(']')) {
            Some(Some(inner)) => {
                inner
                    .parse::<Ipv6Addr>()
                    .map_err(|_| wrong("what is in brackets is no IPv6 address"))?;
                inner
            }
            Some(None) => return Err(wrong("a bracket is not closed")),
            None if host.contains(':') => return Err(wrong("an IPv6 address needs brackets")),
            None if host.contains(char::is_whitespace) || host.contains('/') => {
                return Err(wrong("the host has characters a host cannot have"));
            }
            None if host == "*" => "",
            None => host,
        };
        Ok(Self {
            text: text.to_owned(),
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl AsRef<str> for ListenAddr {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl ListenAddr {
    /// The port as written; 0 means any free one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether only processes of this machine can connect: `localhost` or a loopback address.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    async fn candidates(&self) -> io::Result<Vec<SocketAddr>> {
        if self.host.is_empty() {
            // `[::]` takes IPv4 too; machines without IPv6 fall back to the second.
            return Ok(vec![
                (Ipv6Addr::UNSPECIFIED, self.port).into(),
                (Ipv4Addr::UNSPECIFIED, self.port).into(),
            ]);
        }
        Ok(lookup_host((self.host.as_str(), self.port))
            .await?
            .collect())
    }
}

/// Why a service cannot listen. The message names the flag to change.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be read.
    #[error("--{flag}: {source}")]
    Address {
        /// The flag, without dashes.
        flag: String,
        /// What is wrong with the address.
        source: ListenAddrError,
    },
    /// The host name has no address.
    #[error(
        "--{flag} {addr}: the host cannot be resolved ({source}); use an IP address, or :PORT for every interface"
    )]
    Resolve {
        /// The flag, without dashes.
        flag: String,
        /// The address as written.
        addr: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// Another process listens there.
    #[error(
        "--{flag} {addr}: the port is taken by another process; find it with `ss -ltnp 'sport = :{port}'`, stop it, or choose another port (0 = any free one)"
    )]
    InUse {
        /// The flag, without dashes.
        flag: String,
        /// The address as written.
        addr: String,
        /// The port that is taken.
        port: u16,
    },
    /// Ports below 1024 need a privilege.
    #[error(
        "--{flag} {addr}: not permitted; choose a port of 1024 or more, or grant the process CAP_NET_BIND_SERVICE"
    )]
    Denied {
        /// The flag, without dashes.
        flag: String,
        /// The address as written.
        addr: String,
    },
    /// The address belongs to no interface of this machine.
    #[error(
        "--{flag} {addr}: this machine has no such address (see `ip addr`); use 127.0.0.1:{port}, or :{port} for every interface"
    )]
    NotHere {
        /// The flag, without dashes.
        flag: String,
        /// The address as written.
        addr: String,
        /// The port as written.
        port: u16,
    },
    /// Anything else.
    #[error("--{flag} {addr}: cannot listen: {source}")]
    Other {
        /// The flag, without dashes.
        flag: String,
        /// The address as written.
        addr: String,
        /// The system's error.
        source: io::Error,
    },
}

/// Connections that may wait to be accepted. A fleet that lost its server comes back at once, and whoever finds no room is reset; the
/// system's own limit (`net.core.somaxconn`) still holds.
const BACKLOG: u32 = 4096;

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait for the last connections of its predecessor to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Listens on `addr` (see [`ListenAddr`]), which came from the flag `flag` (without dashes, for error messages).
///
/// # Errors
/// See [`BindError`].
pub async fn bind(addr: impl AsRef<str>, flag: &str) -> Result<TcpListener, BindError> {
    let text = addr.as_ref();
    let flag = flag.to_owned();
    let parsed: ListenAddr = match text.parse() {
        Ok(parsed) => parsed,
        Err(source) => return Err(BindError::Address { flag, source }),
    };
    let addr = text.to_owned();
    let candidates = match parsed.candidates().await {
        Ok(found) => found,
        Err(source) => return Err(BindError::Resolve { flag, addr, source }),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for candidate in candidates {
        match listen(candidate) {
            Ok(listener) => return Ok(listener),
            // On every interface, the second candidate is only for machines without IPv6: a taken port is taken.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                last = error;
                break;
            }
            Err(error) => last = error,
        }
    }
    let port = parsed.port();
    Err(match last.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { flag, addr, port },
        io::ErrorKind::PermissionDenied => BindError::Denied { flag, addr },
        io::ErrorKind::AddrNotAvailable => BindError::NotHere { flag, addr, port },
        _ => BindError::Other {
            flag,
            addr,
            source: last,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    async fn check(addr: &str, want: Expect) {
        want.assert_eq(&match bind(addr, "grpc-addr").await {
            Ok(listener) => listener.local_addr().unwrap().ip().to_string(),
            Err(error) => error.to_string(),
        });
    }

    #[tokio::test]
    async fn takes_hosts_and_free_ports() {
        check("127.0.0.1:0", expect!["127.0.0.1"]).await;
        let any = bind(":0", "grpc-addr").await.unwrap().local_addr().unwrap();
        assert!(any.ip().is_unspecified() && any.port() != 0);
        assert!(
            bind("localhost:0", "x")
                .await
                .unwrap()
                .local_addr()
                .unwrap()
                .ip()
                .is_loopback()
        );
    }

    #[tokio::test]
    async fn errors_name_the_flag_and_what_to_try() {
        check("15010", expect![[r#"--grpc-addr: "15010" is no address to listen on (there is no port); write 127.0.0.1:15010, [::1]:15010, or :15010 for every interface"#]]).await;
        check("::1:80", expect![[r#"--grpc-addr: "::1:80" is no address to listen on (an IPv6 address needs brackets); write 127.0.0.1:15010, [::1]:15010, or :15010 for every interface"#]]).await;
        check("localhost:99999", expect![[r#"--grpc-addr: "localhost:99999" is no address to listen on (the port is not a number in 0..=65535); write 127.0.0.1:15010, [::1]:15010, or :15010 for every interface"#]]).await;
        check("192.0.2.1:0", expect!["--grpc-addr 192.0.2.1:0: this machine has no such address (see `ip addr`); use 127.0.0.1:0, or :0 for every interface"]).await;
    }

    #[tokio::test]
    async fn a_taken_port_is_said_so() {
        let first = bind("127.0.0.1:0", "grpc-addr").await.unwrap();
        let port = first.local_addr().unwrap().port();
        let error = bind(format!("127.0.0.1:{port}"), "http-addr")
            .await
            .unwrap_err();
        assert!(matches!(&error, BindError::InUse { port: p, .. } if *p == port));
        assert_eq!(
            error.to_string(),
            format!(
                "--http-addr 127.0.0.1:{port}: the port is taken by another process; find it with `ss -ltnp 'sport = :{port}'`, stop it, or choose another port (0 = any free one)"
            )
        );
    }

    #[test]
    fn knows_loopback() {
        for (addr, want) in [
            ("127.0.0.1:1", true),
            ("localhost:1", true),
            ("[::1]:1", true),
            (":1", false),
            ("10.0.0.1:1", false),
        ] {
            assert_eq!(
                addr.parse::<ListenAddr>().unwrap().is_loopback(),
                want,
                "{addr}"
            );
        }
    }
}
