//! One scrape for everything of a pod: Envoy, the agent, the application, in that order.

mod merge;
#[cfg(test)]
mod tests;

pub use merge::{Merged, OPEN_METRICS, Part, TEXT, merge};

use serde::Deserialize;
use serde_json::Value;

/// Most bytes of one target's answer when there are several. Unit: bytes.
pub const MAX_OF_SEVERAL: usize = 10 << 20;
/// Most bytes of the one target's answer. Unit: bytes.
pub const MAX_OF_ONE: usize = 128 << 20;
/// Most targets.
const MAX_TARGETS: usize = 32;

/// Ports of the proxy itself, which cannot be an application's: a scrape of them would come back here.
const RESERVED: &[u16] = &[
    15_000, 15_001, 15_004, 15_006, 15_008, 15_020, 15_021, 15_053, 15_090,
];

/// Where the application's metrics are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrapeTarget {
    /// Port on loopback.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

/// A configuration that cannot be acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScrapeError {
    /// No JSON of the right form.
    #[error("ISTIO_PROMETHEUS_ANNOTATIONS: {0}")]
    Json(String),
    /// No number, or none of a port.
    #[error("ISTIO_PROMETHEUS_ANNOTATIONS: port {0:?} is not in 1..=65535")]
    Port(String),
    /// A port of the proxy.
    #[error("ISTIO_PROMETHEUS_ANNOTATIONS: port {0} is the proxy's own; name the application's")]
    Reserved(u16),
    /// A path that cannot be sent.
    #[error("ISTIO_PROMETHEUS_ANNOTATIONS: path {0:?} cannot be sent")]
    Path(String),
    /// More than anybody needs.
    #[error("ISTIO_PROMETHEUS_ANNOTATIONS: more than {MAX_TARGETS} targets")]
    TooMany,
}

#[derive(Deserialize)]
#[serde(default)]
struct Written {
    scrape: Value,
    path: String,
    port: Value,
    targets: Vec<WrittenTarget>,
}

impl Default for Written {
    fn default() -> Written {
        Written {
            scrape: Value::Null,
            path: String::new(),
            port: Value::Null,
            targets: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
struct WrittenTarget {
    port: Value,
    #[serde(default)]
    path: String,
}

/// Reads `ISTIO_PROMETHEUS_ANNOTATIONS`: where the application's metrics are, nowhere if it does not want to be scraped. `own` are more ports of
/// the proxy.
///
/// # Errors
/// See [`ScrapeError`].
pub fn targets(text: &str, own: &[u16]) -> Result<Vec<ScrapeTarget>, ScrapeError> {
    let written: Written =
        serde_json::from_str(text).map_err(|error| ScrapeError::Json(error.to_string()))?;
    let said_no = match &written.scrape {
        Value::Bool(wanted) => !wanted,
        Value::String(text) => text == "false",
        _ => false,
    };
    if said_no {
        return Ok(Vec::new());
    }
    if written.targets.len() > MAX_TARGETS {
        return Err(ScrapeError::TooMany);
    }
    if written.targets.is_empty() {
        let port = match &written.port {
            Value::Null => 80,
            Value::String(text) if text.is_empty() => 80,
            port => number(port)?,
        };
        return Ok(vec![target(port, &written.path, own)?]);
    }
    let targets = written.targets.iter();
    targets
        .map(|written| target(number(&written.port)?, &written.path, own))
        .collect()
}

fn number(value: &Value) -> Result<u16, ScrapeError> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // Digits alone: a sign or a leading zero would be read differently elsewhere.
    let plain = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    text.parse::<u16>()
        .ok()
        .filter(|port| plain && *port > 0)
        .ok_or(ScrapeError::Port(text))
}

fn target(port: u16, path: &str, own: &[u16]) -> Result<ScrapeTarget, ScrapeError> {
    if RESERVED.contains(&port) || own.contains(&port) {
        return Err(ScrapeError::Reserved(port));
    }
    let path = match path {
        "" => "/metrics".to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    };
    if !path.bytes().all(|b| matches!(b, b'!'..=b'~')) {
        return Err(ScrapeError::Path(path));
    }
    Ok(ScrapeTarget { port, path })
}

/// What the application is asked to answer in. Several answers can only be put together as plain text.
pub fn accept(said: Option<&str>, targets: usize) -> &str {
    match said {
        Some(said) if targets == 1 && !said.is_empty() => said,
        _ => TEXT,
    }
}
