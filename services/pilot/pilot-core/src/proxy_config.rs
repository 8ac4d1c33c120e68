//! What is read of a ProxyConfig: connection limits and header behaviour.

use std::ops::RangeInclusive;

use mesh_config::resource::Duration;
use mesh_config::resource::mesh::{GatewayTopology, ProxyConfig, Tracing};
use serde_json::Value;

/// Largest number of streams, and largest window in bytes, that HTTP/2 knows.
const MOST: u32 = i32::MAX as u32;

/// Settings of a proxy's HTTP connection managers and listeners (XDS-TRAFFIC 5.1).
///
/// Source: ProxyConfig `connectionSettings`, `proxyHeaders`, `gatewayTopology`, `tracing`, of the node or else of the mesh. A value of the
/// wrong type counts as unset; the parser of ProxyConfig reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct HttpSettings {
    /// Limits of downstream connections; `None` changes nothing.
    pub connection: Option<ConnectionSettings>,
    /// Which headers the proxy adds.
    pub headers: ProxyHeaders,
}

/// Limits of downstream connections. Every unset field keeps what Envoy or the rest of the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ConnectionSettings {
    /// `profile: EDGE`: routers get safe values where nothing is set.
    pub edge: bool,
    /// Soft limit of a connection's buffers, in bytes.
    pub buffer_limit: Option<u32>,
    /// Idle time of a connection without streams.
    pub idle_timeout: Option<Duration>,
    /// Longest life of a connection.
    pub max_connection_duration: Option<Duration>,
    /// Longest life of a stream.
    pub max_stream_duration: Option<Duration>,
    /// Idle time of a stream.
    pub stream_idle_timeout: Option<Duration>,
    /// Time to receive a whole request.
    pub request_timeout: Option<Duration>,
    /// Time to receive the headers of a request.
    pub request_headers_timeout: Option<Duration>,
    /// Time between the two GOAWAY frames of a drain.
    pub drain_timeout: Option<Duration>,
    /// HTTP/2 streams at a time.
    pub max_concurrent_streams: Option<u32>,
    /// HTTP/2 window of a stream, in bytes.
    pub stream_window: Option<u32>,
    /// HTTP/2 window of a connection, in bytes.
    pub connection_window: Option<u32>,
    /// What becomes of headers with underscores: `ALLOW`, `REJECT_REQUEST`, `DROP_HEADER`.
    pub underscores: Option<String>,
    /// Whether adjacent slashes are merged; overrides the mesh.
    pub merge_slashes: Option<bool>,
    /// What becomes of escaped slashes, by Envoy's enum name; overrides the mesh.
    pub escaped_slashes: Option<String>,
}

/// Which headers the proxy adds or keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ProxyHeaders {
    /// Do not touch `server`.
    pub server_disabled: bool,
    /// Value of `server`.
    pub server: Option<String>,
    /// Inbound: what becomes of `x-forwarded-client-cert`, by Envoy's enum name.
    pub forwarded_client_cert: Option<String>,
    /// Inbound: which details of the client certificate are passed on.
    pub client_cert: ClientCertDetails,
    /// Do not number attempts in `x-envoy-attempt-count`.
    pub attempt_count_disabled: bool,
    /// Do not make `x-request-id`.
    pub request_id_disabled: bool,
    /// Do not add Envoy's debug headers.
    pub debug_headers_disabled: bool,
    /// Exchange peer metadata only with workloads of the mesh.
    pub metadata_exchange_in_mesh: bool,
    /// Keep the case of HTTP/1.1 header names.
    pub preserve_case: bool,
    /// Add `x-forwarded-host` where the authority is rewritten.
    pub x_forwarded_host: bool,
    /// Add `x-forwarded-port`.
    pub x_forwarded_port: bool,
}

/// Overrides of the client certificate details that are passed on; `None` keeps the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ClientCertDetails {
    /// Subject.
    pub subject: Option<bool>,
    /// The certificate.
    pub cert: Option<bool>,
    /// The chain.
    pub chain: Option<bool>,
    /// DNS names.
    pub dns: Option<bool>,
    /// URIs.
    pub uri: Option<bool>,
}

impl HttpSettings {
    /// Reads the settings of a proxy: its own ProxyConfig where it says something, else the mesh's `defaultConfig`.
    pub fn of(own: &ProxyConfig, default: &ProxyConfig) -> HttpSettings {
        let part = |name: &str| own.other.0.get(name).or_else(|| default.other.0.get(name));
        HttpSettings {
            connection: part("connectionSettings")
                .filter(|v| v.is_object())
                .map(ConnectionSettings::read),
            headers: part("proxyHeaders")
                .map(ProxyHeaders::read)
                .unwrap_or_default(),
        }
    }
}

impl ConnectionSettings {
    fn read(value: &Value) -> ConnectionSettings {
        let time = |name: &str| {
            let text = value.get(name)?.as_str()?;
            Duration::parse(text).filter(|d| d.nanos >= 0)
        };
        // Negative numbers are ignored, as Istio does; so is what Envoy would refuse, and with it the whole listener.
        let number = |name: &str| value.get(name).and_then(as_u32);
        let within = |name: &str, range: RangeInclusive<u32>| {
            number(name).filter(|number| range.contains(number))
        };
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        ConnectionSettings {
            edge: value.get("profile").and_then(Value::as_str) == Some("EDGE"),
            buffer_limit: number("listenerPerConnectionBufferLimitBytes"),
            idle_timeout: time("httpIdleTimeout"),
            max_connection_duration: time("httpMaxConnectionDuration"),
            max_stream_duration: time("httpMaxStreamDuration"),
            stream_idle_timeout: time("httpStreamIdleTimeout"),
            request_timeout: time("httpRequestTimeout"),
            request_headers_timeout: time("httpRequestHeadersTimeout"),
            drain_timeout: time("httpDrainTimeout"),
            max_concurrent_streams: within("httpMaxConcurrentStreams", 1..=MOST),
            stream_window: within("http2InitialStreamWindowSize", 65_535..=MOST),
            connection_window: within("http2InitialConnectionWindowSize", 65_535..=MOST),
            underscores: text("httpHeadersWithUnderscoresAction"),
            merge_slashes: value.get("httpMergeSlashes").and_then(Value::as_bool),
            escaped_slashes: text("httpPathWithEscapedSlashesAction"),
        }
    }

    /// These settings with the gaps of an edge proxy filled, if `profile: EDGE` asks for it and the proxy is a router.
    pub fn on(&self, router: bool) -> ConnectionSettings {
        let mut out = self.clone();
        if !(router && self.edge) {
            return out;
        }
        let secs = |s| Some(Duration::from_secs(s));
        out.buffer_limit = out.buffer_limit.or(Some(32_768));
        out.idle_timeout = out.idle_timeout.or(secs(3600));
        out.stream_idle_timeout = out.stream_idle_timeout.or(secs(300));
        out.request_timeout = out.request_timeout.or(secs(300));
        out.request_headers_timeout = out.request_headers_timeout.or(secs(60));
        out.max_concurrent_streams = out.max_concurrent_streams.or(Some(100));
        out.stream_window = out.stream_window.or(Some(65_536));
        out.connection_window = out.connection_window.or(Some(1_048_576));
        out.underscores = out.underscores.or(Some("REJECT_REQUEST".into()));
        out.merge_slashes = out.merge_slashes.or(Some(true));
        out.escaped_slashes = out.escaped_slashes.or(Some("UNESCAPE_AND_REDIRECT".into()));
        out
    }
}

impl ProxyHeaders {
    fn read(value: &Value) -> ProxyHeaders {
        let at = |pointer: &str| value.pointer(pointer);
        let flag = |pointer: &str| at(pointer).and_then(Value::as_bool).unwrap_or(false);
        let text = |pointer: &str| at(pointer).and_then(Value::as_str).map(str::to_owned);
        let detail = |name: &str| {
            at(&format!("/setCurrentClientCertDetails/{name}")).and_then(Value::as_bool)
        };
        ProxyHeaders {
            server_disabled: flag("/server/disabled"),
            // Of a header's value Envoy takes no control characters.
            server: text("/server/value")
                .filter(|s| !s.is_empty() && !s.contains(char::is_control)),
            forwarded_client_cert: text("/forwardedClientCert").filter(|s| s != "UNDEFINED"),
            client_cert: ClientCertDetails {
                subject: detail("subject"),
                cert: detail("cert"),
                chain: detail("chain"),
                dns: detail("dns"),
                uri: detail("uri"),
            },
            attempt_count_disabled: flag("/attemptCount/disabled"),
            request_id_disabled: flag("/requestId/disabled"),
            debug_headers_disabled: flag("/envoyDebugHeaders/disabled"),
            metadata_exchange_in_mesh: text("/metadataExchangeHeaders/mode").as_deref()
                == Some("IN_MESH"),
            preserve_case: flag("/preserveHttp1HeaderCase"),
            x_forwarded_host: flag("/xForwardedHost/enabled"),
            x_forwarded_port: flag("/xForwardedPort/enabled"),
        }
    }
}

/// How many trusted proxies stand before a gateway.
pub fn trusted_proxies(topology: Option<&GatewayTopology>) -> u32 {
    topology.map_or(0, |t| t.num_trusted_proxies)
}

/// Longest path written into a span, in bytes; `None` keeps Envoy's 256. Source: ProxyConfig `tracing.maxPathTagLength`.
pub fn max_path_tag_length(tracing: Option<&Tracing>) -> Option<u32> {
    tracing
        .and_then(|t| t.other.0.get("maxPathTagLength"))
        .and_then(as_u32)
        .filter(|n| *n > 0)
}

fn as_u32(value: &Value) -> Option<u32> {
    value
        .as_u64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
        .and_then(|n| u32::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(value: Value) -> ProxyConfig {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn own_settings_replace_those_of_the_mesh() {
        let mesh = config(
            json!({"connectionSettings": {"httpIdleTimeout": "5s"}, "proxyHeaders": {"requestId": {"disabled": true}}}),
        );
        let own = config(
            json!({"connectionSettings": {"httpMaxConcurrentStreams": 7, "http2InitialStreamWindowSize": -1}}),
        );
        let settings = HttpSettings::of(&own, &mesh);
        let connection = settings.connection.unwrap();
        assert_eq!(connection.idle_timeout, None);
        assert_eq!(connection.max_concurrent_streams, Some(7));
        assert_eq!(connection.stream_window, None);
        assert!(settings.headers.request_id_disabled);
    }

    #[test]
    fn edge_profile_fills_gaps_of_routers_only() {
        let own =
            config(json!({"connectionSettings": {"profile": "EDGE", "httpIdleTimeout": "5s"}}));
        let settings = HttpSettings::of(&own, &ProxyConfig::default())
            .connection
            .unwrap();
        assert_eq!(settings.on(false).buffer_limit, None);
        let edge = settings.on(true);
        assert_eq!(
            (edge.buffer_limit, edge.idle_timeout),
            (Some(32_768), Some(Duration::from_secs(5)))
        );
    }
}
