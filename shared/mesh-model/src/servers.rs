//! Servers of all Gateways of a router, merged (XDS-TRAFFIC 9.1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_config::resource::gateway::{Server, ServerTlsMode};
use mesh_types::{Hostname, Key, Protocol};

use crate::scope::protocol;
use crate::{Gateway, GatewayServer, MergedServer, Mesh, ViewKey};

/// A server that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejected {
    /// Its Gateway.
    pub(crate) key: Key,
    /// Index in `servers`.
    pub(crate) server: usize,
    /// What it is in the way of.
    pub(crate) reason: Reason,
}

/// Why a server was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Another TLS server of the port has this host.
    HostTaken(String),
    /// The port is open for another protocol.
    OtherProtocol {
        /// The port.
        port: u16,
        /// What it is open for.
        taken: Protocol,
    },
    /// Another server of the port has the same route name.
    RouteName(String),
    /// A TLS protocol without a `tls` block on a port with TLS servers.
    NoTls(u16),
    /// No port, or none of 1..=65535.
    NoPort,
}

/// What kind of port a server makes.
fn is_plaintext(server: &Server, protocol: Protocol) -> bool {
    server.tls.is_none() || protocol.is_http()
}

/// Whether a `tls` block ends TLS here.
fn terminates(server: &Server) -> bool {
    server.tls.as_ref().is_some_and(|tls| {
        !matches!(
            tls.mode,
            ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough
        )
    })
}

/// The merged servers of a router by (port, bind), and what was left out.
pub(crate) fn merge(mesh: &Mesh, key: &ViewKey) -> (Vec<MergedServer>, Vec<Rejected>) {
    let mut ports = Ports::default();
    let translated: BTreeMap<u16, u16> = key.gateway_ports.iter().copied().collect();
    for gateway in mesh.gateways.of(&key.labels) {
        for (index, server) in gateway.spec.servers.iter().enumerate() {
            let reject = |reason| Rejected {
                key: gateway.key.clone(),
                server: index,
                reason,
            };
            let written = server
                .port
                .as_ref()
                .and_then(|port| u16::try_from(port.number).ok())
                .filter(|n| *n != 0);
            let Some(written) = written else {
                ports.rejected.push(reject(Reason::NoPort));
                continue;
            };
            let port = translated.get(&written).copied().unwrap_or(written);
            if let Err(reason) = ports.add(gateway, server, written, port) {
                ports.rejected.push(reject(reason));
            }
        }
    }
    let mut merged = ports.merged;
    for server in merged.iter_mut().flat_map(|merged| &mut merged.servers) {
        server.virtual_services = mesh
            .virtual_services
            .visible(&server.gateway, &key.namespace);
    }
    merged.sort_by(|a, b| (a.port, &a.bind).cmp(&(b.port, &b.bind)));
    (merged, ports.rejected)
}

#[derive(Default)]
struct Ports {
    /// In the order they were met.
    merged: Vec<MergedServer>,
    /// Hosts of TLS servers, by port and bind.
    tls_hosts: BTreeMap<(u16, Arc<str>), BTreeSet<String>>,
    rejected: Vec<Rejected>,
}

impl Ports {
    fn add(
        &mut self,
        gateway: &Gateway,
        server: &Server,
        written: u16,
        port: u16,
    ) -> Result<(), Reason> {
        let bind: Arc<str> = server.bind.as_str().into();
        let spoken = server
            .port
            .as_ref()
            .map_or(Protocol::Auto, |port| protocol(&port.protocol));
        let hosts = hosts(server, &gateway.key.namespace);
        let route_name = route_name(gateway, server, spoken, written, port);
        let on_port = || {
            self.merged
                .iter()
                .enumerate()
                .filter(|(_, merged)| merged.port == port)
        };
        let join = if is_plaintext(server, spoken) {
            let plain = on_port().find(|(_, m)| {
                m.bind == bind && m.servers.iter().any(|s| is_plaintext(&s.spec, m.protocol))
            });
            match plain {
                Some((index, first)) if first.protocol.is_http() && spoken.is_http() => Some(index),
                Some((_, first)) => {
                    return Err(Reason::OtherProtocol {
                        port,
                        taken: first.protocol,
                    });
                }
                None => match on_port().find(|(_, m)| m.bind == bind) {
                    // A TLS port cannot be a plaintext one at the same address; Envoy would refuse the second listener.
                    Some((_, first)) => {
                        return Err(Reason::OtherProtocol {
                            port,
                            taken: first.protocol,
                        });
                    }
                    None => None,
                },
            }
        } else {
            if let Some((_, first)) = on_port().find(|(_, m)| {
                m.bind == bind && m.servers.iter().any(|s| is_plaintext(&s.spec, m.protocol))
            }) {
                let reason = if server.tls.is_none() {
                    Reason::NoTls(port)
                } else {
                    Reason::OtherProtocol {
                        port,
                        taken: first.protocol,
                    }
                };
                return Err(reason);
            }
            let taken = self.tls_hosts.get(&(port, bind.clone()));
            let names: BTreeSet<String> = hosts.iter().map(|host| bare(host).to_owned()).collect();
            if let Some(host) = names
                .iter()
                .find(|host| taken.is_some_and(|taken| taken.contains(*host)))
            {
                return Err(Reason::HostTaken(host.clone()));
            }
            if !route_name.is_empty() && self.merged.iter().any(|m| m.route_name == route_name) {
                return Err(Reason::RouteName(route_name.to_string()));
            }
            self.tls_hosts
                .entry((port, bind.clone()))
                .or_default()
                .extend(names);
            None
        };
        let server = GatewayServer {
            gateway: format!("{}/{}", gateway.key.namespace, gateway.key.name).into(),
            namespace: gateway.key.namespace.clone(),
            hosts,
            spec: Arc::new(server.clone()),
            virtual_services: Vec::new(),
        };
        match join {
            Some(index) => self.merged[index].servers.push(server),
            None => self.merged.push(MergedServer {
                port,
                protocol: spoken,
                bind,
                route_name,
                servers: vec![server],
            }),
        }
        Ok(())
    }
}

/// The hosts of a server in normal form: `namespace/host`, or `host` for any namespace.
pub(crate) fn hosts(server: &Server, namespace: &str) -> Vec<Arc<str>> {
    let mut hosts: Vec<Arc<str>> = Vec::with_capacity(server.hosts.len());
    for host in &server.hosts {
        let normal: Arc<str> = match host.split_once('/') {
            Some((".", host)) => format!("{namespace}/{host}").into(),
            Some(("*", "*")) => return vec!["*".into()],
            Some(("*", host)) => host.into(),
            _ => host.as_str().into(),
        };
        if !hosts.contains(&normal) {
            hosts.push(normal);
        }
    }
    hosts
}

/// A host in normal form without its namespace.
pub(crate) fn bare(host: &str) -> &str {
    host.split_once('/').map_or(host, |(_, host)| host)
}

/// The route name of a server (XDS-TRAFFIC 2.3); empty where there are no routes.
fn route_name(
    gateway: &Gateway,
    server: &Server,
    spoken: Protocol,
    written: u16,
    port: u16,
) -> Arc<str> {
    let bind = if server.bind.is_empty() {
        String::new()
    } else {
        format!(".{}", server.bind)
    };
    if spoken.is_http() {
        format!("http.{port}{bind}").into()
    } else if spoken == Protocol::Https && terminates(server) {
        let name = server
            .port
            .as_ref()
            .map(|port| port.name.as_str())
            .unwrap_or_default();
        let Key {
            namespace,
            name: gateway,
            ..
        } = &gateway.key;
        format!("https.{written}.{name}.{gateway}.{namespace}{bind}").into()
    } else {
        Arc::default()
    }
}

/// Whether a VirtualService host and a server host (normal form) of some namespace have a name in common.
pub(crate) fn serves(server_host: &str, namespace: &str, host: &Hostname) -> bool {
    let own = server_host
        .split_once('/')
        .is_none_or(|(ns, _)| ns == namespace);
    own && Hostname::new(bare(server_host)).is_ok_and(|server| server.matches(host))
}
