//! Ports that a proxy may listen on (XDS-TRAFFIC 1.6).

use mesh_config::resource::mesh::MeshConfig;

use super::convert::is_wildcard;
use crate::OutboundKey;

/// Ports of virtualOutbound and virtualInbound: no wildcard listener may take them.
const CAPTURE: [u16; 2] = [15001, 15006];

/// Whether a listener may take an address and port: not below 1024 for a proxy that cannot open those, not the proxy's own on a wildcard.
pub fn may_listen(
    key: &OutboundKey,
    mesh: &MeshConfig,
    bind: &str,
    port: u16,
    bound: bool,
) -> bool {
    let own = bound && port != 0 && port == key.http_proxy_port; // the forward proxy is there
    !own && allowed(
        bind,
        port,
        bound,
        key.unprivileged,
        &key.reserved_ports,
        mesh,
    )
}

/// As [`may_listen`], for any kind of class.
pub fn allowed(
    bind: &str,
    port: u16,
    bound: bool,
    unprivileged: bool,
    reserved: &[u16],
    mesh: &MeshConfig,
) -> bool {
    let low = bound && unprivileged && (1..1024).contains(&port);
    let capture =
        [mesh.proxy_listen_port, mesh.proxy_inbound_listen_port].contains(&u32::from(port));
    let taken =
        is_wildcard(bind) && (reserved.contains(&port) || CAPTURE.contains(&port) || capture);
    !low && !taken
}
