//! TLS towards a service: what a rule says, or mutual TLS wherever the other side can (SECURITY-INJECTION C.5, C.6).

use envoy_api::envoy::config::cluster::v3::Cluster;
use envoy_api::envoy::config::cluster::v3::cluster::TransportSocketMatch;
use envoy_api::envoy::config::core::v3::UpstreamHttpProtocolOptions;
use mesh_config::resource::destination_rule::{ClientTlsMode, ClientTlsSettings, SimpleLb};
use mesh_config::resource::normal::{Registry, ServiceResolution};
use mesh_model::{EndpointPeers, Service};
use prost_types::Struct;

use super::plan::{ClusterInput, Discovery};
use super::policy::Policy;
use super::pool::Upstream;
use super::settings::Settings;
use crate::endpoints::TLS_MODE;
use crate::naming::ClusterName;
use crate::proto;
use crate::tls::{Alpn, ClientTls, Offer, raw_buffer};

/// How connections of a cluster are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Secure {
    /// As they are.
    Plain,
    /// With mutual TLS to endpoints that take it, as nobody said anything.
    Auto,
    /// With mutual TLS of the mesh, as a rule says.
    Mesh,
    /// With the TLS a rule describes.
    Own,
}

impl Secure {
    /// What a policy and what is known of a service come to.
    pub(super) fn of(
        service: &Service,
        policy: &Policy<'_>,
        peers: Option<&EndpointPeers>,
        settings: &Settings,
    ) -> Secure {
        if let Some(tls) = policy.tls {
            return match tls.mode {
                ClientTlsMode::Disable => Secure::Plain,
                ClientTlsMode::IstioMutual => Secure::Mesh,
                ClientTlsMode::Simple | ClientTlsMode::Mutual => Secure::Own,
            };
        }
        let closed = peers.is_some_and(|peers| peers.plaintext_namespace);
        let unknown = match service.resolution {
            ServiceResolution::DynamicDns => true,
            // Nobody can tell connection by connection: it is all endpoints or none.
            _ if dialled_directly(service, policy) => !peers.is_some_and(|peers| peers.all_mtls),
            _ => false,
        };
        let auto = settings.auto_mtls && settings.can_mutual();
        if !auto || service.external || closed || unknown {
            Secure::Plain
        } else {
            Secure::Auto
        }
    }

    /// Whether the identities of the service's servers are looked at.
    pub(super) fn names_servers(self, service: &Service, tls: Option<&ClientTlsSettings>) -> bool {
        let given = tls.is_some_and(|tls| !tls.subject_alt_names.is_empty());
        match self {
            Secure::Plain => false,
            Secure::Auto => true,
            Secure::Mesh => !given,
            Secure::Own => !given && service.registry == Registry::External,
        }
    }
}

fn dialled_directly(service: &Service, policy: &Policy<'_>) -> bool {
    let simple = policy.load_balancer.and_then(|lb| lb.simple);
    service.resolution == ServiceResolution::Passthrough || simple == Some(SimpleLb::Passthrough)
}

/// Sets the transport sockets of a cluster. Gives what HTTP must do for them.
pub(super) fn apply(
    cluster: &mut Cluster,
    input: &ClusterInput,
    policy: &Policy<'_>,
    upstream: Upstream,
) -> Option<UpstreamHttpProtocolOptions> {
    let settings = &*input.settings;
    let client = ClientTls {
        mesh: &settings.tls,
        source: settings.source(),
    };
    let files = settings.client_files.as_ref();
    let offer = Offer {
        protocol: input.port().protocol,
        http: match upstream {
            Upstream::Http1 => Alpn::One,
            Upstream::Http2 => Alpn::Two,
            Upstream::AsDownstream => Alpn::Any,
        },
        vanilla: settings.vanilla,
    };
    let names = &input.identities;
    match (input.secure, policy.tls) {
        (Secure::Plain, _) | (Secure::Mesh | Secure::Own, None) => {}
        (Secure::Auto, _) => {
            let socket = client.mutual(files, names, sni(input), offer);
            if input.discovery == Discovery::OriginalDst {
                cluster.transport_socket = Some(socket);
            } else {
                cluster.transport_socket_matches = vec![
                    TransportSocketMatch {
                        name: "tlsMode-istio".to_owned(),
                        r#match: Some(proto::object([(TLS_MODE, proto::text("istio"))])),
                        transport_socket: Some(socket),
                    },
                    TransportSocketMatch {
                        name: "tlsMode-disabled".to_owned(),
                        r#match: Some(Struct::default()),
                        transport_socket: Some(raw_buffer()),
                    },
                ];
            }
        }
        (Secure::Mesh, Some(tls)) => {
            cluster.transport_socket = Some(match (settings.can_mutual(), files) {
                (false, _) => client.refused(),
                (true, Some(_)) => {
                    client.mutual(files, &tls.subject_alt_names, tls.sni.clone(), offer)
                }
                (true, None) => {
                    let name = match &*tls.sni {
                        "" => sni(input),
                        given => given.to_owned(),
                    };
                    match tls.subject_alt_names.is_empty() {
                        true => client.mutual(None, names, name, offer),
                        false => client.mutual(None, &tls.subject_alt_names, name, offer),
                    }
                }
            });
        }
        (Secure::Own, Some(tls)) => {
            if tls.mode == ClientTlsMode::Mutual && files.is_some() && !input.service.external {
                let socket = client.mutual(files, &tls.subject_alt_names, tls.sni.clone(), offer);
                cluster.transport_socket = Some(socket);
                return None;
            }
            let rule = input.rule.as_ref();
            let chosen = rule.is_some_and(|rule| rule.spec.workload_selector.is_some());
            let credentials = settings.router || chosen;
            let http2 = upstream == Upstream::Http2;
            let Some(made) = client.simple(tls, names, credentials, http2) else {
                // As Istio does it, without TLS; its author is told.
                cluster.transport_socket = settings.refuse_unavailable.then(|| client.refused());
                return None;
            };
            cluster.transport_socket = Some(made.socket);
            let names = UpstreamHttpProtocolOptions {
                auto_sni: made.auto_sni,
                auto_san_validation: made.auto_san_validation,
                ..UpstreamHttpProtocolOptions::default()
            };
            return (names != UpstreamHttpProtocolOptions::default()).then_some(names);
        }
    }
    None
}

/// The server name of mutual TLS in the mesh: what gateways that pass it on choose the cluster by.
fn sni(input: &ClusterInput) -> String {
    match input.name() {
        ClusterName::Outbound { port, subset, host } => {
            ClusterName::sni_dnat(port, subset, host).to_string()
        }
        other @ (ClusterName::Inbound { .. } | ClusterName::SniDnat { .. }) => other.to_string(),
    }
}
