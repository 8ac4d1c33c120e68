//! Ports and the protocols spoken on them.

use std::fmt;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

/// TCP or UDP port, 1..=65535; zero cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Port(NonZeroU16);

/// A number that is no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("port {0} is outside 1..=65535")]
pub struct PortError(pub u32);

impl Port {
    /// The port's number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl TryFrom<u32> for Port {
    type Error = PortError;

    fn try_from(n: u32) -> Result<Port, PortError> {
        u16::try_from(n)
            .ok()
            .and_then(NonZeroU16::new)
            .map(Port)
            .ok_or(PortError(n))
    }
}

impl From<Port> for u32 {
    fn from(port: Port) -> u32 {
        port.0.get().into()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is spoken on a port; [`Protocol::Auto`] is sniffed by the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.1.
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP/2 without TLS.
    #[serde(rename = "HTTP2")]
    Http2,
    /// A forward proxy's port (Sidecar egress).
    #[serde(rename = "HTTP_PROXY")]
    HttpProxy,
    /// gRPC.
    #[serde(rename = "GRPC")]
    Grpc,
    /// gRPC-Web.
    #[serde(rename = "GRPC-WEB")]
    GrpcWeb,
    /// HTTP inside TLS.
    #[serde(rename = "HTTPS")]
    Https,
    /// TLS, anything inside.
    #[serde(rename = "TLS")]
    Tls,
    /// Opaque bytes.
    #[serde(rename = "TCP")]
    Tcp,
    /// MongoDB's wire protocol.
    #[serde(rename = "MONGO")]
    Mongo,
    /// Redis' wire protocol.
    #[serde(rename = "REDIS")]
    Redis,
    /// MySQL's wire protocol.
    #[serde(rename = "MYSQL")]
    Mysql,
    /// Datagrams: no proxy carries them.
    #[serde(rename = "UDP")]
    Udp,
    /// Unknown: the proxy finds out.
    #[serde(rename = "AUTO")]
    Auto,
}

impl Protocol {
    /// Reads a protocol name in any case; `None` if it is none of the known ones.
    pub fn parse(text: &str) -> Option<Protocol> {
        Some(match text.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "grpc" => Protocol::Grpc,
            "grpc-web" => Protocol::GrpcWeb,
            "http" => Protocol::Http,
            "http2" => Protocol::Http2,
            "http_proxy" => Protocol::HttpProxy,
            "https" => Protocol::Https,
            "tls" => Protocol::Tls,
            "mongo" => Protocol::Mongo,
            "redis" => Protocol::Redis,
            "mysql" => Protocol::Mysql,
            _ => return None,
        })
    }

    /// HTTP the proxy can read: HTTP, HTTP/2, forward proxy, gRPC, gRPC-Web.
    pub fn is_http(self) -> bool {
        matches!(
            self,
            Protocol::Http
                | Protocol::Http2
                | Protocol::HttpProxy
                | Protocol::Grpc
                | Protocol::GrpcWeb
        )
    }

    /// HTTP/2, gRPC or gRPC-Web.
    pub fn is_http2(self) -> bool {
        matches!(self, Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb)
    }

    /// HTTP, or possibly HTTP.
    pub fn is_http_or_sniffed(self) -> bool {
        self.is_http() || self == Protocol::Auto
    }

    /// HTTPS or TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Protocol::Https | Protocol::Tls)
    }

    /// Known not to be readable HTTP: TCP, TLS and the database protocols.
    pub fn is_tcp(self) -> bool {
        matches!(
            self,
            Protocol::Tcp
                | Protocol::Https
                | Protocol::Tls
                | Protocol::Mongo
                | Protocol::Redis
                | Protocol::Mysql
        )
    }
}
