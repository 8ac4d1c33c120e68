//! Probes of the application, which the kubelet asks the agent for because the application itself takes mutual TLS only.
//!
//! Where a probe goes is decided by the configuration alone, never by the path or headers of a request.

mod redirect;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

pub use redirect::{Redirect, Target, follow};

/// Most of an answer's body that is passed on. Unit: bytes.
pub const MAX_BODY: usize = 10 << 10;
/// Most probes of one pod.
const MAX_PROBES: usize = 256;

/// Probes by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probes(BTreeMap<String, Probe>);

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub ask: Ask,
    /// How long it may take; a second at least.
    pub timeout: Duration,
}

/// What is asked of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// A GET.
    Http {
        /// Whether over TLS; its certificate is not verified.
        https: bool,
        /// Port of the application.
        port: u16,
        /// Path and query, beginning with `/`.
        path: String,
        /// Headers, in the order they were written.
        headers: Vec<(String, String)>,
    },
    /// A connection.
    Tcp {
        /// Port of the application.
        port: u16,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// Port of the application.
        port: u16,
        /// Name of the service; empty means the whole server.
        service: String,
    },
}

/// A configuration that cannot be acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbesError {
    /// No JSON of the right form.
    #[error("ISTIO_KUBE_APP_PROBERS: {0}")]
    Json(String),
    /// A path that no probe has.
    #[error(
        "ISTIO_KUBE_APP_PROBERS {0:?}: want /app-health/CONTAINER/{{livez,readyz,startupz}} or /app-lifecycle/CONTAINER/{{prestopz,poststartz}}"
    )]
    Path(String),
    /// None of the ways to ask, or several.
    #[error("ISTIO_KUBE_APP_PROBERS {0:?}: want exactly one of httpGet, tcpSocket, grpc")]
    Kind(String),
    /// No number, or none of a port.
    #[error("ISTIO_KUBE_APP_PROBERS {0:?}: the port is no number in 1..=65535")]
    Port(String),
    /// A path of a request or a header that cannot be sent.
    #[error("ISTIO_KUBE_APP_PROBERS {0:?}: {1} cannot be sent")]
    Unsendable(String, &'static str),
    /// More than a pod can have.
    #[error("ISTIO_KUBE_APP_PROBERS: more than {MAX_PROBES} probes")]
    TooMany,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    http_get: Option<HttpGet>,
    tcp_socket: Option<Socket>,
    grpc: Option<Grpc>,
    #[serde(default)]
    timeout_seconds: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpGet {
    #[serde(default)]
    path: String,
    port: serde_json::Value,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    http_headers: Vec<Header>,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct Socket {
    port: serde_json::Value,
}

#[derive(Deserialize)]
struct Grpc {
    port: serde_json::Value,
    service: Option<String>,
}

impl Probes {
    /// Reads `ISTIO_KUBE_APP_PROBERS`.
    ///
    /// # Errors
    /// See [`ProbesError`]: the agent does not start with probes that it cannot answer.
    pub fn parse(text: &str) -> Result<Probes, ProbesError> {
        let written: BTreeMap<String, Written> =
            serde_json::from_str(text).map_err(|error| ProbesError::Json(error.to_string()))?;
        if written.len() > MAX_PROBES {
            return Err(ProbesError::TooMany);
        }
        let probes = written.into_iter().map(|(path, written)| {
            if !is_probe(&path) {
                return Err(ProbesError::Path(path));
            }
            let probe = probe(&path, written)?;
            Ok((path, probe))
        });
        Ok(Probes(probes.collect::<Result<_, _>>()?))
    }

    /// The probe of a request's path, which must be the same letter by letter.
    pub fn get(&self, path: &str) -> Option<&Probe> {
        self.0.get(path)
    }

    /// Whether a path looks like one of probes: an unknown one is a bad request rather than not found.
    pub fn is_below(path: &str) -> bool {
        path.starts_with("/app-health/") || path.starts_with("/app-lifecycle/")
    }
}

fn is_probe(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    let (area, container, kind) = (parts.next(), parts.next(), parts.next());
    matches!(area, Some("app-health" | "app-lifecycle"))
        && container.is_some_and(|name| !name.is_empty())
        && matches!(
            kind,
            Some("livez" | "readyz" | "startupz" | "prestopz" | "poststartz")
        )
        && path.starts_with('/')
        && parts.next().is_none()
}

fn probe(path: &str, written: Written) -> Result<Probe, ProbesError> {
    let ask = match (written.http_get, written.tcp_socket, written.grpc) {
        (Some(http), None, None) => http_ask(path, http)?,
        (None, Some(socket), None) => Ask::Tcp {
            port: port(path, &socket.port)?,
        },
        (None, None, Some(grpc)) => Ask::Grpc {
            port: port(path, &grpc.port)?,
            service: grpc.service.unwrap_or_default(),
        },
        _ => return Err(ProbesError::Kind(path.to_owned())),
    };
    Ok(Probe {
        ask,
        timeout: Duration::from_secs(written.timeout_seconds.clamp(1, 3600).unsigned_abs()),
    })
}

fn http_ask(probe: &str, written: HttpGet) -> Result<Ask, ProbesError> {
    let mut path = written.path;
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    if !path.bytes().all(|b| matches!(b, b'!'..=b'~')) {
        return Err(ProbesError::Unsendable(probe.to_owned(), "the path"));
    }
    let sendable = |header: &Header| {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        !header.name.is_empty()
            && header.name.bytes().all(token)
            && header
                .value
                .bytes()
                .all(|b| matches!(b, b' '..=b'~' | b'\t'))
    };
    if !written.http_headers.iter().all(sendable) {
        return Err(ProbesError::Unsendable(probe.to_owned(), "a header"));
    }
    let headers = written.http_headers.into_iter();
    Ok(Ask::Http {
        https: written.scheme.eq_ignore_ascii_case("https"),
        port: port(probe, &written.port)?,
        path,
        headers: headers.map(|header| (header.name, header.value)).collect(),
    })
}

fn port(path: &str, value: &serde_json::Value) -> Result<u16, ProbesError> {
    let number = value.as_u64().and_then(|port| u16::try_from(port).ok());
    number
        .filter(|port| *port > 0)
        .ok_or_else(|| ProbesError::Port(path.to_owned()))
}

/// Headers that a probe is sent with: its own, and those that came with the request unless it has them itself. Of `Host` and connection headers only
/// its own count.
pub fn headers<'a>(
    own: &'a [(String, String)],
    came: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<(&'a str, &'a str)> {
    const CONNECTION: &[&str] = &[
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "expect",
    ];
    let mut all: Vec<(&str, &str)> = own
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    all.extend(came.filter(|(name, _)| {
        let overridden = own.iter().any(|(mine, _)| mine.eq_ignore_ascii_case(name));
        let connection = CONNECTION.iter().any(|own| own.eq_ignore_ascii_case(name));
        !overridden && !connection
    }));
    all
}
