//! Gateways: servers that are left out because another one has their port or their host (XDS-TRAFFIC 9.1).

use std::collections::BTreeSet;

use mesh_types::{Code, Labels};

use super::{Report, spec};
use crate::servers::{Reason, Rejected, merge};
use crate::{Mesh, ProxyKind, ViewKey};

pub(super) fn check(mesh: &Mesh, report: &mut Report) {
    // The routers that each Gateway asks for have at least these labels; what they translate ports to is theirs alone to know.
    let labels: BTreeSet<Labels> = mesh.gateways.iter().map(|g| g.selector.0.clone()).collect();
    for labels in labels {
        let key = ViewKey {
            kind: ProxyKind::Router,
            namespace: mesh.root().into(),
            labels,
            cluster_id: "".into(),
            gateway_ports: Vec::new(),
        };
        for rejected in merge(mesh, &key).1 {
            say(&rejected, report);
        }
    }
}

fn say(rejected: &Rejected, report: &mut Report) {
    let (field, message) = match &rejected.reason {
        Reason::HostTaken(host) => (
            "hosts",
            format!("another TLS server of the port has host {host} already"),
        ),
        Reason::OtherProtocol { port, taken } => (
            "port",
            format!(
                "port {port} is open for {} already; choose another port or bind",
                if taken.is_http() {
                    "HTTP"
                } else {
                    "TCP or TLS"
                }
            ),
        ),
        Reason::RouteName(_) => (
            "port",
            "another server of this Gateway has the same port and port name; name it differently"
                .to_owned(),
        ),
        Reason::NoTls(port) => (
            "tls",
            format!("port {port} has other servers and this one says nothing of TLS"),
        ),
        Reason::NoPort => return, // refused by the check of the object itself
    };
    report.say(
        &rejected.key,
        spec("servers").index(rejected.server).field(field),
        Code::NoEffect,
        format!("{message}; the server is left out"),
    );
}
