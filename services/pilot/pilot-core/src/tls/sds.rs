//! Where Envoy gets certificates from.

use envoy_api::envoy::config::core::v3::api_config_source::ApiType;
use envoy_api::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_api::envoy::config::core::v3::{
    AggregatedConfigSource, ApiConfigSource, ApiVersion, ConfigSource, DataSource, GrpcService,
    config_source, data_source,
};
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SdsSecretConfig, TlsCertificate,
};

use crate::proto;

/// Cluster of the agent's secret service, in every agent's bootstrap.
const AGENT: &str = "sds-grpc";
/// The workload's own certificate.
const OWN: &str = "default";
/// The mesh's roots.
const ROOTS: &str = "ROOTCA";
/// Where a proxy without agent has the roots of its system: Debian's place, which Envoy's images have. Where it is missing Envoy refuses the
/// cluster. What Envoy calls `system_root_certs` it does not act on, and then it takes any certificate.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How a proxy reads files and certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// Through its agent, which notices when a file changes.
    Agent,
    /// By itself: there is no agent.
    Direct,
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Certificate<'a> {
    /// The workload's own, from the agent.
    Own,
    /// In files.
    Files(&'a str, &'a str),
    /// In a Secret.
    Credential(&'a str),
}

/// Whom to believe.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Roots<'a> {
    /// The mesh's roots, from the agent.
    Mesh,
    /// In a file; `system` for those of the system.
    File(&'a str),
    /// In a Secret.
    Credential(&'a str),
}

/// A secret that the agent hands out. However long it takes: what needs it is not served without.
fn from_agent(name: impl Into<String>) -> SdsSecretConfig {
    let api = ApiConfigSource {
        api_type: ApiType::Grpc as i32,
        transport_api_version: ApiVersion::V3 as i32,
        set_node_on_first_message_only: true,
        grpc_services: vec![GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: AGENT.to_owned(),
                ..EnvoyGrpc::default()
            })),
            ..GrpcService::default()
        }],
        ..ApiConfigSource::default()
    };
    SdsSecretConfig {
        name: name.into(),
        sds_config: Some(ConfigSource {
            initial_fetch_timeout: Some(proto::seconds(0)),
            resource_api_version: ApiVersion::V3 as i32,
            config_source_specifier: Some(config_source::ConfigSourceSpecifier::ApiConfigSource(
                api,
            )),
            ..ConfigSource::default()
        }),
    }
}

/// A secret that Pilot hands out. One that does not come holds nothing up for longer than Envoy's own time.
fn from_pilot(name: impl Into<String>) -> SdsSecretConfig {
    SdsSecretConfig {
        name: name.into(),
        sds_config: Some(ConfigSource {
            resource_api_version: ApiVersion::V3 as i32,
            config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(
                AggregatedConfigSource {},
            )),
            ..ConfigSource::default()
        }),
    }
}

/// A credential by name, as the resource that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Credential {
    /// The agent's own certificate and roots.
    Builtin,
    /// Pilot's resource of this name.
    Pilot(String),
}

/// What a `credentialName` (or its CA part) names: a Secret's name, or a resource name with its scheme.
pub(crate) fn credential(name: &str, authority: bool) -> Credential {
    if name.starts_with("builtin://") {
        return Credential::Builtin;
    }
    let mut resource = match name.contains("://") {
        true => name.to_owned(),
        false => format!("kubernetes://{name}"),
    };
    // A ConfigMap has nothing but an authority.
    if authority && !name.starts_with("configmap://") && !name.ends_with("-cacert") {
        resource.push_str("-cacert");
    }
    Credential::Pilot(resource)
}

fn file(path: &str) -> DataSource {
    DataSource {
        specifier: Some(data_source::Specifier::Filename(path.to_owned())),
        ..DataSource::default()
    }
}

impl Source {
    /// Adds a certificate to show.
    pub(super) fn show(self, context: &mut CommonTlsContext, certificate: &Certificate<'_>) {
        let by_sds = &mut context.tls_certificate_sds_secret_configs;
        match certificate {
            Certificate::Own => by_sds.push(from_agent(OWN)),
            Certificate::Files(chain, key) => match self {
                Source::Agent => by_sds.push(from_agent(format!("file-cert:{chain}~{key}"))),
                Source::Direct => context.tls_certificates.push(TlsCertificate {
                    certificate_chain: Some(file(chain)),
                    private_key: Some(file(key)),
                    ..TlsCertificate::default()
                }),
            },
            Certificate::Credential(name) => by_sds.push(match credential(name, false) {
                Credential::Builtin => from_agent(OWN),
                Credential::Pilot(name) => from_pilot(name),
            }),
        }
    }

    /// Whom to believe: written into `context`, or as the resource to ask for.
    pub(super) fn believe(
        self,
        context: &mut CertificateValidationContext,
        roots: &Roots<'_>,
    ) -> Option<SdsSecretConfig> {
        match (roots, self) {
            (Roots::Mesh, _) => Some(from_agent(ROOTS)),
            (Roots::File(path), Source::Agent) => Some(from_agent(format!("file-root:{path}"))),
            (Roots::File(path), Source::Direct) => {
                context.trusted_ca = Some(file(match path {
                    &"system" => SYSTEM,
                    path => path,
                }));
                None
            }
            (Roots::Credential(name), _) => Some(match credential(name, true) {
                Credential::Builtin => from_agent(ROOTS),
                Credential::Pilot(name) => from_pilot(name),
            }),
        }
    }
}

/// A revocation list in a file.
pub(super) fn crl(path: &str) -> Option<DataSource> {
    (!path.is_empty()).then(|| file(path))
}
