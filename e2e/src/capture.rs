//! Redirected connections without iptables.
//!
//! A sidecar normally gets connections by a NAT rule and asks the kernel where they were going. Here the client says it itself, in a PROXY
//! protocol header, to a listener of the bootstrap that restores that address and hands the connection to whichever listener of Pilot's it
//! belongs to. From there on everything is as in a pod.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use serde_json::{Value, json};

/// Version 2 of the PROXY protocol: signature, version and PROXY command, TCP over IPv4, 12 bytes of addresses.
const PREAMBLE: [u8; 16] = [
    0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0x00, 0x0c,
];

/// What a captured connection begins with.
///
/// # Panics
/// For addresses other than IPv4.
pub fn header(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut bytes = PREAMBLE.to_vec();
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => panic!("{ip}: worlds live in 127.0.0.0/8"),
        }
    }
    bytes.extend(source.port().to_be_bytes());
    bytes.extend(destination.port().to_be_bytes());
    bytes
}

/// Mesh settings that give the listeners of 15001 and 15006, which open on every address, ports that nobody else uses.
///
/// # Panics
/// If there are none.
pub fn mesh_config() -> String {
    let [a, b] = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port"));
    let port = |listener: &TcpListener| listener.local_addr().expect("its address").port();
    format!(
        "proxyListenPort: {}\nproxyInboundListenPort: {}\n",
        port(&a),
        port(&b)
    )
}

/// The listener that takes captured connections.
pub fn listener(at: SocketAddr) -> Value {
    json!({
        "name": "capture",
        "address": { "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } },
        "use_original_dst": true,
        "listener_filters": [{
            "name": "envoy.filters.listener.proxy_protocol",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol" },
        }],
        // Only for destinations that no listener of Pilot's takes; without a cluster of this name they are closed.
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "nobody",
                "cluster": "nobody",
            },
        }] }],
    })
}
