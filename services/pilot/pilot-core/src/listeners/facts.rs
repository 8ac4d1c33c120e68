//! What every listener of a class depends on besides its own chains: the first half of a listener's cache key.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use mesh_config::resource::mesh::{MeshConfig, NormalizationType};
use mesh_config::resource::sidecar::{OutboundMode, OutboundTrafficPolicy};
use mesh_config::resource::{Double, Duration};
use mesh_model::{ProxyKind, View};
use mesh_types::version_of;

use super::access_log::{self, LogFile};
use crate::class::ProxyConfigFacts;
use crate::naming::{self, ClusterName};
use crate::proxy_config::{self, HttpSettings};
use crate::security::Guard;
use crate::{InboundKey, OutboundKey};

/// Everything that is the same for all listeners of a class. Free of names of proxies and namespaces, so that classes share encodings.
#[derive(Debug, Clone)]
pub struct Facts {
    hash: u64,
    inner: Inner,
}

/// The facts themselves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Inner {
    /// Whether the proxy is a gateway.
    pub router: bool,
    /// Whether Envoy lacks Istio's extensions.
    pub vanilla: bool,
    /// Whether HTTP/1.0 is accepted.
    pub http10: bool,
    /// Whether the proxy has IPv4; decides the wildcard and the loopback.
    pub ipv4: bool,
    /// IDLE_TIMEOUT of the node.
    pub idle_timeout: Option<Duration>,
    /// Whether connections are balanced exactly.
    pub exact_balance: bool,
    /// Connection limits and headers.
    pub http: HttpSettings,
    /// Tracing; `None` is off.
    pub tracing: Option<Tracing>,
    /// Files logged to.
    pub log: Vec<LogFile>,
    /// Whether listeners log connections that found no chain.
    pub listener_log: bool,
    /// How paths are normalized.
    pub paths: NormalizationType,
    /// How long protocol detection waits.
    pub detection_timeout: Duration,
    /// Cluster that unknown destinations go to.
    pub fallback: String,
    /// Whether HTTP metrics of Istio's own are wanted (never on vanilla Envoy).
    pub metrics: bool,
    /// Trusted proxies before a gateway.
    pub trusted_proxies: u32,
    /// What a gateway does with `x-forwarded-client-cert`, by Envoy's enum name.
    pub forward_client_cert: Option<String>,
    /// Whether a gateway expects the PROXY protocol.
    pub proxy_protocol: bool,
    /// What decides about requests that the proxy accepts; none for those that it sends.
    pub guard: Option<Arc<Guard>>,
}

/// Tracing of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tracing {
    /// Share of requests, in percent.
    pub sampling: Double,
    /// Longest path in a span.
    pub max_path_tag_length: Option<u32>,
    /// Whether Istio's tags are written.
    pub istio_tags: bool,
}

impl Facts {
    /// Facts of an outbound or gateway class.
    pub fn outbound(view: &View, key: &OutboundKey) -> Facts {
        Facts::new(Inner {
            router: view.key.kind == ProxyKind::Router,
            vanilla: key.vanilla,
            http10: key.http10,
            ipv4: key.ipv4 || !key.ipv6,
            idle_timeout: key.idle_timeout,
            exact_balance: key.exact_balance,
            fallback: fallback(&view.outbound_policy),
            guard: match view.key.kind {
                ProxyKind::Router => Guard::of(view),
                ProxyKind::Sidecar => None,
            },
            ..Inner::of(&view.mesh, &key.proxy_config, key.vanilla)
        })
    }

    /// Facts of an inbound class.
    pub fn inbound(view: &View, key: &InboundKey) -> Facts {
        Facts::new(Inner {
            vanilla: key.vanilla,
            http10: key.http10,
            ipv4: key.ipv4 || !key.ipv6,
            idle_timeout: key.idle_timeout,
            exact_balance: key.exact_balance,
            fallback: naming::INBOUND_PASSTHROUGH.to_owned(),
            guard: Guard::of(view),
            ..Inner::of(&view.mesh, &key.proxy_config, key.vanilla)
        })
    }

    fn new(inner: Inner) -> Facts {
        let mut state = std::hash::DefaultHasher::new();
        inner.hash(&mut state);
        // Only within one process and one build: a cache key, never a version.
        let hash = version_of(&state.finish().to_le_bytes());
        Facts { hash, inner }
    }

    /// `0.0.0.0`, or `::` for a proxy that has IPv6 only.
    pub fn wildcard(&self) -> &'static str {
        if self.ipv4 { "0.0.0.0" } else { "::" }
    }

    /// `127.0.0.1`, or `::1` for a proxy that has IPv6 only.
    pub fn loopback(&self) -> &'static str {
        if self.ipv4 { "127.0.0.1" } else { "::1" }
    }
}

impl std::ops::Deref for Facts {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl PartialEq for Facts {
    fn eq(&self, other: &Facts) -> bool {
        self.hash == other.hash && self.inner == other.inner
    }
}
impl Eq for Facts {}
impl Hash for Facts {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Inner {
    fn of(mesh: &MeshConfig, config: &ProxyConfigFacts, vanilla: bool) -> Inner {
        let topology = config.gateway_topology.as_ref();
        let log = access_log::of_mesh(mesh);
        Inner {
            router: false,
            vanilla,
            http10: false,
            ipv4: true,
            idle_timeout: None,
            exact_balance: false,
            http: config.http.clone(),
            tracing: tracing(mesh, config),
            listener_log: !log.is_empty() && !mesh.disable_envoy_listener_log,
            log,
            paths: mesh.path_normalization.normalization,
            detection_timeout: mesh.protocol_detection_timeout,
            fallback: String::new(),
            metrics: !vanilla && prometheus(mesh),
            trusted_proxies: proxy_config::trusted_proxies(topology),
            forward_client_cert: topology.and_then(|t| t.forward_client_cert_details.clone()),
            proxy_protocol: topology.is_some_and(|t| t.proxy_protocol.is_some()),
            guard: None,
        }
    }
}

/// The cluster of traffic for unknown destinations (XDS-TRAFFIC 3.7).
pub fn fallback(policy: &OutboundTrafficPolicy) -> String {
    if let Some(proxy) = &policy.egress_proxy {
        let port = proxy.port.as_ref().map_or(0, |p| p.number);
        let port = u16::try_from(port).unwrap_or(0);
        return ClusterName::outbound(port, &proxy.subset, &proxy.host).to_string();
    }
    match policy.mode {
        OutboundMode::RegistryOnly => naming::BLACK_HOLE,
        OutboundMode::AllowAny | OutboundMode::AllowAnyDynamicDns => naming::PASSTHROUGH,
    }
    .to_owned()
}

/// The tracing of XDS-TRAFFIC 5.4 without a provider: the bootstrap's tracer, if it has one.
fn tracing(mesh: &MeshConfig, config: &ProxyConfigFacts) -> Option<Tracing> {
    if !mesh.enable_tracing {
        return None;
    }
    let own = config.tracing.as_ref();
    let sampling = own.map_or(0.0, |t| t.sampling.0);
    let tags = own
        .and_then(|t| t.other.0.get("enableIstioTags"))
        .and_then(serde_json::Value::as_bool);
    Some(Tracing {
        sampling: Double(if sampling > 0.0 && sampling <= 100.0 {
            sampling
        } else {
            1.0
        }),
        max_path_tag_length: proxy_config::max_path_tag_length(own),
        istio_tags: tags.unwrap_or(true),
    })
}

fn prometheus(mesh: &MeshConfig) -> bool {
    let metrics = mesh
        .other
        .0
        .get("defaultProviders")
        .and_then(|d| d.get("metrics"));
    let mut names = metrics
        .and_then(serde_json::Value::as_array)
        .into_iter()
        .flatten();
    names.any(|name| name == "prometheus")
}
