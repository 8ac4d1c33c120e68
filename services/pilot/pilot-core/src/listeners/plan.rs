//! The plan of a listener: what it will be, before it is written for Envoy. Small, comparable, and half of an encoding's cache key.

use std::sync::Arc;

use mesh_config::resource::Duration;
use mesh_types::{Key, Protocol};

use super::hcm::Side;

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListenerPlan {
    /// Address, or `unix://` path.
    pub bind: Arc<str>,
    /// Port; 0 for a path.
    pub port: u16,
    /// Whether it opens the port itself; otherwise virtualOutbound hands it its connections.
    pub bound: bool,
    /// Which way its traffic goes, and with that who asked for it.
    pub side: Side,
    /// Filter chains in order.
    pub chains: Vec<ChainPlan>,
}

/// One filter chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChainPlan {
    /// Which connections it takes.
    pub matching: Match,
    /// What it does with them.
    pub stack: Stack,
    /// The VirtualService it comes from.
    pub source: Option<Key>,
}

/// Which connections a chain takes; the empty match takes all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Match {
    /// Server names, sorted, without `*`.
    pub sni: Vec<Arc<str>>,
    /// Destination networks, sorted, without wildcard addresses.
    pub cidrs: Vec<Arc<str>>,
    /// Only plaintext HTTP, found by looking at the first bytes.
    pub plain_http: bool,
}

impl Match {
    /// A match of server names and networks, brought to normal form.
    pub fn of(
        sni: impl IntoIterator<Item = Arc<str>>,
        cidrs: impl IntoIterator<Item = Arc<str>>,
    ) -> Match {
        let mut sni: Vec<_> = sni.into_iter().filter(|name| &**name != "*").collect();
        sni.sort_unstable();
        sni.dedup();
        let mut cidrs: Vec<_> = cidrs
            .into_iter()
            .filter(|net| !net.starts_with("0.0.0.0") && !is_any_v6(net))
            .collect();
        cidrs.sort_unstable();
        cidrs.dedup();
        Match {
            sni,
            cidrs,
            plain_http: false,
        }
    }

    /// Plaintext HTTP.
    pub fn http() -> Match {
        Match {
            plain_http: true,
            ..Match::default()
        }
    }

    /// Whether it takes every connection.
    pub fn is_all(&self) -> bool {
        *self == Match::default()
    }
}

fn is_any_v6(net: &str) -> bool {
    matches!(net, "::" | "::/0")
}

/// What a chain does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stack {
    /// Routes HTTP by the RouteConfiguration of that name.
    Http {
        /// Name of the RouteConfiguration.
        route: Arc<str>,
        /// Protocol of the port.
        protocol: Protocol,
        /// Whether it is the forward proxy.
        forward_proxy: bool,
    },
    /// Forwards bytes.
    Tcp(TcpPlan),
}

/// Where bytes go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TcpPlan {
    /// Statistics prefix.
    pub stat_prefix: String,
    /// Clusters and weights; a single one takes everything, whatever its weight.
    pub destinations: Vec<(String, u32)>,
    /// Idle timeout.
    pub idle_timeout: Option<Duration>,
    /// Longest life of a connection.
    pub max_duration: Option<Duration>,
    /// Whether the source address chooses the endpoint.
    pub hash_source_ip: bool,
    /// HTTP tunnel to open at the endpoint.
    pub tunnel: Option<Tunnel>,
    /// Protocol of the port: some have a filter of their own before the proxy.
    pub protocol: Protocol,
}

/// TCP inside HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tunnel {
    /// `host:port` to ask for.
    pub authority: String,
    /// POST instead of CONNECT.
    pub post: bool,
}

impl TcpPlan {
    /// Everything to one cluster.
    pub fn to(cluster: impl Into<String>, idle_timeout: Option<Duration>) -> TcpPlan {
        let cluster = cluster.into();
        TcpPlan {
            stat_prefix: cluster.clone(),
            destinations: vec![(cluster, 1)],
            idle_timeout,
            max_duration: None,
            hash_source_ip: false,
            tunnel: None,
            protocol: Protocol::Tcp,
        }
    }
}
