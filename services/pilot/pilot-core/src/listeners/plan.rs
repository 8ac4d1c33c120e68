//! The plan of a listener: what it will be, before it is written for Envoy. Small, comparable, and half of an encoding's cache key.

use std::sync::Arc;

use mesh_config::resource::Duration;
use mesh_types::{Key, Protocol};

use super::convert::network;
use super::hcm::Side;
use crate::tls::ServerTls;

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
    /// TLS that ends here; `None` passes bytes as they come.
    pub(crate) tls: Option<Arc<ServerTls>>,
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
            .map(|net| network(&net).unwrap_or(net))
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

    /// What is left of it beside a chain that takes its part first; `None` if nothing is. Envoy refuses a listener in which two chains name
    /// the same server name or network under otherwise equal conditions.
    pub fn without(mut self, taken: &Match) -> Option<Match> {
        if self.plain_http != taken.plain_http {
            return Some(self);
        }
        let shared = |a: &[Arc<str>], b: &[Arc<str>]| {
            (a.is_empty() && b.is_empty()) || a.iter().any(|x| b.contains(x))
        };
        if !shared(&self.sni, &taken.sni) || !shared(&self.cidrs, &taken.cidrs) {
            return Some(self);
        }
        let rest = if self.sni.is_empty() {
            self.cidrs.retain(|net| !taken.cidrs.contains(net));
            &self.cidrs
        } else {
            self.sni.retain(|name| !taken.sni.contains(name));
            &self.sni
        };
        (!rest.is_empty()).then_some(self)
    }

    /// Whether it takes every connection.
    pub fn is_all(&self) -> bool {
        *self == Match::default()
    }
}

fn is_any_v6(net: &str) -> bool {
    matches!(net, "::" | "::/0")
}

/// Adds chains, each with what the ones before it leave of its match.
pub fn add_chains(chains: &mut Vec<ChainPlan>, incoming: impl IntoIterator<Item = ChainPlan>) {
    for mut chain in incoming {
        let left = chains
            .iter()
            .try_fold(chain.matching, |left, taken| left.without(&taken.matching));
        if let Some(left) = left {
            chain.matching = left;
            chains.push(chain);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sni: &[&str], cidrs: &[&str]) -> Match {
        let all = |list: &[&str]| list.iter().map(|s| Arc::from(*s)).collect::<Vec<_>>();
        Match::of(all(sni), all(cidrs))
    }

    #[test]
    fn no_two_chains_take_the_same_connection() {
        let left = |a: Match, b: &Match| a.without(b).map(|m| (m.sni.join(","), m.cidrs.join(",")));
        let some = |sni: &str, cidrs: &str| Some((sni.to_owned(), cidrs.to_owned()));
        assert_eq!(left(of(&[], &[]), &of(&[], &[])), None);
        assert_eq!(left(of(&["a"], &[]), &of(&[], &[])), some("a", ""));
        assert_eq!(left(of(&["a", "b"], &[]), &of(&["b"], &[])), some("a", ""));
        assert_eq!(left(of(&["a"], &[]), &of(&["a", "b"], &[])), None);
        assert_eq!(
            left(of(&["a"], &["10.0.0.0/8"]), &of(&["a"], &["10.1.0.0/16"])),
            some("a", "10.0.0.0/8")
        );
        assert_eq!(
            left(
                of(&[], &["10.0.0.0/8", "10.1.0.0/16"]),
                &of(&[], &["10.1.9.9/16"])
            ),
            some("", "10.0.0.0/8")
        );
        assert_eq!(left(Match::http(), &of(&[], &[])), some("", ""));
    }
}
