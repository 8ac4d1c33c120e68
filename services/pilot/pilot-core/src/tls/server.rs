//! What a chain takes connections with.

use std::sync::Arc;

use envoy_api::envoy::config::core::v3::TransportSocket;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context::TrustChainVerification;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext,
};
use mesh_config::resource::gateway::{ServerTlsMode, ServerTlsSettings};
use mesh_model::CertificateFiles;

use super::sds::{self, Certificate, Roots, Source};
use super::{MeshTls, NOBODY, TLS, names, socket};

/// TLS that a chain ends. Comparable: half of the key of a listener's encoding.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ServerTls {
    /// What all TLS of the mesh has in common.
    pub(crate) mesh: Arc<MeshTls>,
    /// How files are read.
    pub(crate) source: Source,
    /// What is asked of clients, and shown to them.
    pub(crate) own: Own,
    /// What may be inside, most wanted first.
    pub(crate) alpn: Vec<String>,
}

/// What a server shows and asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Own {
    /// The workload's certificate (or one from files), and that of a workload of the mesh.
    Mesh(Option<CertificateFiles>),
    /// The gateway's own certificate, and one that the mesh's roots vouch for with one of these names, if there are any.
    Workload(Vec<String>),
    /// What settings of a server say.
    Written(Arc<ServerTlsSettings>),
}

/// What ends up in a chain whose bytes go to applications as they are.
pub(crate) fn alpn(http: bool, exchange: bool) -> Vec<String> {
    // Whoever agrees on the exchange of metadata sends it, so it is not offered without the filter that takes it.
    let exchange = (exchange && !http).then_some("istio-peer-exchange");
    exchange
        .into_iter()
        .chain(["h2", "http/1.1"])
        .map(str::to_owned)
        .collect()
}

impl ServerTls {
    /// Mutual TLS of the mesh for a chain of a sidecar.
    pub(crate) fn of_mesh(
        mesh: &Arc<MeshTls>,
        source: Source,
        files: Option<&CertificateFiles>,
        http: bool,
        vanilla: bool,
    ) -> ServerTls {
        ServerTls {
            mesh: mesh.clone(),
            source,
            own: Own::Mesh(files.cloned()),
            alpn: alpn(http, !vanilla),
        }
    }

    /// The transport socket.
    pub(crate) fn socket(&self) -> TransportSocket {
        socket(TLS, envoy_api::any::pack(&self.context()))
    }

    /// The message inside the socket.
    pub(crate) fn context(&self) -> DownstreamTlsContext {
        let mut common = CommonTlsContext {
            alpn_protocols: self.alpn.clone(),
            ..CommonTlsContext::default()
        };
        let asks = match &self.own {
            Own::Mesh(files) => {
                common.tls_params = Some(self.mesh.mesh_server());
                let (shown, roots) = match files {
                    Some(f) => (Certificate::Files(&f.chain, &f.key), Roots::File(&f.root)),
                    None => (Certificate::Own, Roots::Mesh),
                };
                self.source.show(&mut common, &shown);
                let check = CertificateValidationContext {
                    match_typed_subject_alt_names: names::of_trust_domains(
                        &self.mesh.trust_domains,
                    ),
                    ..CertificateValidationContext::default()
                };
                common.validation_context_type = validation(self.source, check, Some(&roots));
                true
            }
            Own::Workload(names) => {
                common.tls_params = Some(self.mesh.mesh_server());
                self.source.show(&mut common, &Certificate::Own);
                let check = CertificateValidationContext {
                    match_typed_subject_alt_names: names::exact(names),
                    ..CertificateValidationContext::default()
                };
                common.validation_context_type = validation(self.source, check, Some(&Roots::Mesh));
                true
            }
            Own::Written(tls) => self.written(&mut common, tls),
        };
        self.mesh.comply(&mut common);
        DownstreamTlsContext {
            common_tls_context: Some(common),
            require_client_certificate: Some(asks),
            ..DownstreamTlsContext::default()
        }
    }

    /// Settings of a server; whether a client must show a certificate.
    fn written(&self, common: &mut CommonTlsContext, tls: &ServerTlsSettings) -> bool {
        common.tls_params = self.mesh.server(tls);
        for shown in certificates(tls) {
            self.source.show(common, &shown);
        }
        let mut check = CertificateValidationContext {
            match_typed_subject_alt_names: names::exact(&tls.subject_alt_names),
            ..CertificateValidationContext::default()
        };
        let (roots, must) = match tls.mode {
            ServerTlsMode::Mutual => (authority(tls), true),
            ServerTlsMode::OptionalMutual => (authority(tls), false),
            ServerTlsMode::Simple
            | ServerTlsMode::Passthrough
            | ServerTlsMode::AutoPassthrough
            | ServerTlsMode::IstioMutual => (None, false),
        };
        if tls.mode == ServerTlsMode::Mutual || tls.mode == ServerTlsMode::OptionalMutual {
            check.verify_certificate_spki = tls.verify_certificate_spki.clone();
            check.verify_certificate_hash = tls.verify_certificate_hash.clone();
            check.crl = sds::crl(&tls.ca_crl);
            if roots.is_none() {
                // The check refuses it. Here Envoy would take any certificate, whoever made it.
                check.verify_certificate_hash = vec![NOBODY.to_owned()];
                check.match_typed_subject_alt_names.clear();
            }
            if tls.insecure_skip_verify == Some(true) {
                check.trust_chain_verification = TrustChainVerification::AcceptUntrusted as i32;
            }
        } else {
            // Names alone, without anybody to vouch for them, are nothing that Envoy takes.
            check.match_typed_subject_alt_names.clear();
        }
        common.validation_context_type = validation(self.source, check, roots.as_ref());
        must
    }
}

/// The certificates that settings name.
fn certificates(tls: &ServerTlsSettings) -> Vec<Certificate<'_>> {
    let mut out = Vec::new();
    if !tls.credential_name.is_empty() {
        out.push(Certificate::Credential(&tls.credential_name));
    } else if !tls.credential_names.is_empty() {
        out.extend(
            tls.credential_names
                .iter()
                .map(|name| Certificate::Credential(name)),
        );
    } else if !tls.tls_certificates.is_empty() {
        let files = tls.tls_certificates.iter();
        out.extend(files.map(|c| Certificate::Files(&c.server_certificate, &c.private_key)));
    } else {
        out.push(Certificate::Files(
            &tls.server_certificate,
            &tls.private_key,
        ));
    }
    out
}

/// Who vouches for clients.
fn authority(tls: &ServerTlsSettings) -> Option<Roots<'_>> {
    let in_files = || tls.tls_certificates.iter().map(|c| &*c.ca_certificates);
    if !tls.ca_cert_credential_name.is_empty() {
        Some(Roots::Credential(&tls.ca_cert_credential_name))
    } else if !tls.credential_name.is_empty() {
        Some(Roots::Credential(&tls.credential_name))
    } else if let Some(first) = tls.credential_names.first() {
        Some(Roots::Credential(first))
    } else {
        let mut files = std::iter::once(&*tls.ca_certificates).chain(in_files());
        files.find(|path| !path.is_empty()).map(Roots::File)
    }
}

/// How a peer's certificate is checked; `None` if it is not.
pub(super) fn validation(
    source: Source,
    mut check: CertificateValidationContext,
    roots: Option<&Roots<'_>>,
) -> Option<ValidationContextType> {
    match roots.and_then(|roots| source.believe(&mut check, roots)) {
        Some(secret) => Some(ValidationContextType::CombinedValidationContext(
            CombinedCertificateValidationContext {
                default_validation_context: Some(check),
                validation_context_sds_secret_config: Some(secret),
                ..CombinedCertificateValidationContext::default()
            },
        )),
        None => (check != CertificateValidationContext::default())
            .then_some(ValidationContextType::ValidationContext(check)),
    }
}
