//! The ports of an application behind a sidecar: those of its services, or those that a Sidecar lists; and what ends their TLS.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use envoy_api::envoy::config::core::v3::TransportSocket;
use mesh_config::resource::gateway::{ServerTlsMode, ServerTlsSettings};
use mesh_config::resource::mesh::MeshConfig;
use mesh_config::resource::sidecar::CaptureMode;
use mesh_model::{CertificateFiles, IngressListener, Interception, PeerMode, ServiceTarget, View};
use mesh_types::Protocol;

use super::facts::Facts;
use super::inbound_chains::{self, Row};
use super::ports;
use crate::naming::{self, ClusterName};
use crate::tls::{MeshTls, Own, ServerTls, Source};
use crate::{InboundKey, Memos};

/// One port of the application.
#[derive(Debug, Clone)]
pub struct InboundPort {
    /// Port of the workload, or of the Sidecar's ingress.
    pub port: u16,
    /// Port of the service, for the name of the virtual host; 0 for anything else.
    pub service_port: u16,
    /// What is spoken.
    pub protocol: Protocol,
    /// Address the port belongs to.
    pub bind: String,
    /// Host that telemetry names; empty for ports of no service.
    pub host: String,
    /// Statistics prefix of the TCP chain.
    pub stat_prefix: String,
    /// Whether it has a listener of its own.
    pub bound: bool,
    /// Cluster it leads to.
    pub cluster: String,
    /// Its chains.
    pub(super) rows: Vec<Row>,
    /// What ends TLS of a Sidecar's own certificates, instead of the mesh's.
    pub(super) custom_tls: Option<Box<ServerTls>>,
}

/// TLS of a class: what its chains end mutual TLS with.
pub(super) struct Ends {
    mesh: Arc<MeshTls>,
    files: Option<CertificateFiles>,
    /// Whether an agent hands out certificates. Without, and without files, there is none.
    agent: bool,
    vanilla: bool,
    http10: bool,
}

impl Ends {
    pub(super) fn of(view: &View, key: &InboundKey, memo: &Memos) -> Ends {
        Ends {
            mesh: Arc::new(MeshTls::of(&view.mesh, memo.options.compliance)),
            files: key.server_files.clone(),
            agent: key.agent,
            vanilla: key.vanilla,
            http10: key.http10,
        }
    }

    fn source(&self) -> Source {
        if self.agent {
            Source::Agent
        } else {
            Source::Direct
        }
    }

    /// The chains of a port; none if it must not be open.
    pub(super) fn rows(&self, protocol: Protocol, mode: PeerMode) -> Vec<Row> {
        match (mode, self.agent || self.files.is_some()) {
            (PeerMode::Strict, false) => Vec::new(),
            (PeerMode::Permissive, false) => {
                inbound_chains::rows(protocol, PeerMode::Disable, self.http10)
            }
            (mode, _) => inbound_chains::rows(protocol, mode, self.http10),
        }
    }

    pub(super) fn socket(&self, port: &InboundPort, row: &Row) -> Option<TransportSocket> {
        if !row.ends_tls {
            return None;
        }
        let own = port.custom_tls.as_ref().map(|tls| tls.socket());
        own.or_else(|| {
            let (source, files) = (self.source(), self.files.as_ref());
            let tls = ServerTls::of_mesh(&self.mesh, source, files, row.http, self.vanilla);
            Some(tls.socket())
        })
    }
}

/// The ports of services that are captured for a sidecar without ingress listeners of its own: none without interception, and none of the
/// proxy's own.
pub(crate) fn captured_targets<'a>(
    mesh: &'a MeshConfig,
    key: &'a InboundKey,
) -> impl Iterator<Item = &'a ServiceTarget> {
    let free = |port| {
        ports::allowed(
            "0.0.0.0",
            port,
            false,
            key.unprivileged,
            &key.reserved_ports,
            mesh,
        )
    };
    key.targets.iter().filter(move |target| {
        key.interception != Interception::None
            && target.target_port != 0
            && target.port.protocol != Protocol::Udp
            && free(target.target_port)
    })
}

/// One port per distinct target port of the services the proxy belongs to; the oldest service decides.
pub(super) fn of_services(
    view: &View,
    key: &InboundKey,
    facts: &Facts,
    ends: &Ends,
) -> Vec<InboundPort> {
    let mut out = BTreeMap::new();
    for target in captured_targets(&view.mesh, key) {
        let port = target.target_port;
        out.entry(port).or_insert_with(|| {
            let name = ClusterName::inbound(port);
            InboundPort {
                port,
                service_port: target.port.number,
                protocol: target.port.protocol,
                bind: facts.wildcard().to_owned(),
                host: target.service.hostname.to_string(),
                stat_prefix: naming::stat_name(
                    &view.mesh.inbound_cluster_stat_name,
                    name,
                    Some((&target.service.spec, &target.service.key.namespace)),
                    Some(&target.port),
                ),
                bound: false,
                cluster: name.to_string(),
                rows: ends.rows(target.port.protocol, view.peers.at(port)),
                custom_tls: None,
            }
        });
    }
    out.into_values().collect()
}

/// The ports that a Sidecar lists.
pub(super) fn of_sidecar(
    view: &View,
    key: &InboundKey,
    facts: &Facts,
    ends: &Ends,
) -> Vec<InboundPort> {
    let host = view.sidecar.as_ref().map_or_else(String::new, |s| {
        format!("{}.{}", s.key.name, s.key.namespace)
    });
    let mut out = BTreeMap::new();
    for ingress in view.ingress.iter() {
        let bound = match ingress.spec.capture_mode {
            CaptureMode::None => true,
            CaptureMode::Default => key.interception == Interception::None,
            CaptureMode::Iptables => false,
        };
        let bind = match &*ingress.spec.bind {
            "" => key
                .addresses
                .iter()
                .find(|ip| is_global(ip))
                .map_or(facts.wildcard().to_owned(), IpAddr::to_string),
            given => given.to_owned(),
        };
        let free = ports::allowed(
            &bind,
            ingress.port,
            bound,
            key.unprivileged,
            &key.reserved_ports,
            &view.mesh,
        );
        if !free || ingress.protocol == Protocol::Udp {
            continue;
        }
        let cluster = ClusterName::inbound(ingress.port).to_string();
        let mode = view.peers.at(ingress.port);
        let (protocol, rows, custom_tls) = match &ingress.spec.tls {
            // Mutual TLS of the mesh comes before certificates of a port's own.
            Some(tls) if mode == PeerMode::Disable && terminates(tls) => {
                own_tls(ingress, tls, ends)
            }
            _ => (ingress.protocol, ends.rows(ingress.protocol, mode), None),
        };
        out.entry(ingress.port).or_insert_with(|| InboundPort {
            port: ingress.port,
            service_port: ingress.port,
            protocol,
            bind,
            host: host.clone(),
            stat_prefix: cluster.clone(),
            bound,
            cluster,
            rows,
            custom_tls,
        });
    }
    out.into_values().collect()
}

/// Whether settings of a Sidecar's port end TLS.
fn terminates(tls: &ServerTlsSettings) -> bool {
    match tls.mode {
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => true,
        ServerTlsMode::Passthrough
        | ServerTlsMode::AutoPassthrough
        | ServerTlsMode::IstioMutual => false,
    }
}

/// A port with certificates of its own: one chain, and what is inside. Closed if they are in a Secret, which no sidecar is given.
fn own_tls(
    ingress: &IngressListener,
    tls: &ServerTlsSettings,
    ends: &Ends,
) -> (Protocol, Vec<Row>, Option<Box<ServerTls>>) {
    let inside = match ingress.protocol {
        Protocol::Https => Protocol::Http,
        Protocol::Tls => Protocol::Tcp,
        other => other,
    };
    let in_files = tls.credential_name.is_empty() && tls.credential_names.is_empty();
    let rows = if in_files {
        vec![Row {
            tls: true,
            alpn: Vec::new(),
            ends_tls: true,
            http: inside.is_http(),
        }]
    } else {
        Vec::new()
    };
    let own = ServerTls {
        mesh: ends.mesh.clone(),
        source: ends.source(),
        own: Own::Written(Arc::new(tls.clone())),
        alpn: ["h2", "http/1.1"].map(str::to_owned).into(),
    };
    (inside, rows, Some(Box::new(own)))
}

/// Whether others can dial an address, as far as its kind tells.
fn is_global(ip: &IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local)
}
