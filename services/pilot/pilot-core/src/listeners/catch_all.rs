//! virtualOutbound, which takes every captured connection and hands it to the listener of its destination (XDS-TRAFFIC 3.7).

use envoy_api::envoy::config::core::v3::TrafficDirection;
use envoy_api::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};

use super::access_log;
use super::assembly;
use super::convert::address;
use super::facts::Facts;
use super::hcm::Side;
use super::plan::TcpPlan;
use super::tcp;
use crate::naming;

/// Name of the listener.
pub const NAME: &str = "virtualOutbound";

/// The listener on a port; `transparent` for TPROXY.
pub fn virtual_outbound(facts: &Facts, port: u16, transparent: bool) -> Listener {
    let blackhole = FilterChain {
        name: "virtualOutbound-blackhole".into(),
        // A connection to the proxy itself would come back to it for ever.
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(port.into()),
            ..Default::default()
        }),
        filters: tcp::filters(
            facts,
            Side::Outbound,
            &TcpPlan::to(naming::BLACK_HOLE, None),
        ),
        ..Default::default()
    };
    let rest = FilterChain {
        name: "virtualOutbound-catchall-tcp".into(),
        filters: assembly::fallback(facts),
        ..Default::default()
    };
    Listener {
        name: NAME.into(),
        address: Some(address(facts.wildcard(), port)),
        filter_chains: vec![blackhole, rest],
        use_original_dst: Some(true),
        transparent: transparent.then_some(true),
        traffic_direction: TrafficDirection::Outbound.into(),
        max_connections_to_accept_per_socket_event: Some(1),
        access_log: match facts.listener_log {
            true => access_log::listener_loggers(&facts.log),
            false => Vec::new(),
        },
        ..assembly::common(facts)
    }
}
