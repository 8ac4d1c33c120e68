//! The HTTP forward proxy on loopback, for applications with `HTTP_PROXY` set (XDS-TRAFFIC 3.8).

use mesh_types::Protocol;

use super::facts::Facts;
use super::hcm::Side;
use super::plan::{ChainPlan, ListenerPlan, Match, Stack};

/// Name of its RouteConfiguration.
pub const ROUTE: &str = "http_proxy";

/// The listener on a port.
pub fn plan(facts: &Facts, port: u16) -> ListenerPlan {
    ListenerPlan {
        bind: facts.loopback().into(),
        port,
        bound: true,
        side: Side::Outbound,
        chains: vec![ChainPlan {
            matching: Match::default(),
            stack: Stack::Http {
                route: ROUTE.into(),
                protocol: Protocol::HttpProxy,
                forward_proxy: true,
            },
            source: None,
            tls: None,
        }],
    }
}
