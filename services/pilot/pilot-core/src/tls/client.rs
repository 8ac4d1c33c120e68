//! What a cluster makes connections with.

use envoy_api::envoy::config::core::v3::TransportSocket;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, UpstreamTlsContext,
};
use mesh_config::resource::destination_rule::{ClientTlsMode, ClientTlsSettings};
use mesh_model::CertificateFiles;
use mesh_types::Protocol;

use super::sds::{self, Certificate, Roots, Source};
use super::server::validation;
use super::{MeshTls, NOBODY, TLS, names, socket};

/// What HTTP version a cluster's connections carry, if it is known before there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpn {
    /// HTTP/1.1, or bytes.
    One,
    /// HTTP/2.
    Two,
    /// As the client's.
    Any,
}

/// What a client offers to have inside TLS of the mesh, which decides which chain of the server takes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Protocol of the port.
    pub(crate) protocol: Protocol,
    /// HTTP version.
    pub(crate) http: Alpn,
    /// Whether Envoy lacks Istio's extensions.
    pub(crate) vanilla: bool,
}

impl Offer {
    /// The list. Istio's build puts the HTTP version in by itself, request by request (`istio.alpn`); elsewhere the cluster says it. Without
    /// the filter that does it, no exchange of metadata is offered.
    fn list(self) -> Vec<String> {
        let list: &[&str] = match (self.vanilla, self.http) {
            (false, Alpn::Two) => &["istio-peer-exchange", "istio", "h2"],
            (false, Alpn::One | Alpn::Any) => &["istio-peer-exchange", "istio"],
            (true, Alpn::Two) => &["istio-h2", "istio", "h2"],
            (true, Alpn::One) if self.protocol.is_http() => {
                &["istio-http/1.1", "istio", "http/1.1"]
            }
            // One of both versions: nothing is agreed on, and the server looks at the first bytes.
            (true, Alpn::Any) if self.protocol.is_http() => &["istio-http/1.1", "istio"],
            // Bytes, or who knows: to a port that does not know either, bytes.
            (true, Alpn::One | Alpn::Any) => &["istio"],
        };
        list.iter().map(|name| (*name).to_owned()).collect()
    }
}

/// TLS that a cluster begins.
pub(crate) struct ClientTls<'a> {
    /// What all TLS of the mesh has in common.
    pub(crate) mesh: &'a MeshTls,
    /// How files are read.
    pub(crate) source: Source,
}

/// TLS to a server that is none of the mesh's: the context, and what HTTP must do for it.
pub(crate) struct Simple {
    /// The transport socket.
    pub(crate) socket: TransportSocket,
    /// Whether the host of a request is the server's name.
    pub(crate) auto_sni: bool,
    /// Whether the host of a request must be in the server's certificate.
    pub(crate) auto_san_validation: bool,
}

impl ClientTls<'_> {
    /// Mutual TLS with a server of the mesh that is one of `names`; of any name if there are none.
    pub(crate) fn mutual<S: AsRef<str>>(
        &self,
        files: Option<&CertificateFiles>,
        names: &[S],
        sni: String,
        offer: Offer,
    ) -> TransportSocket {
        let (shown, roots) = match files {
            Some(f) => (Certificate::Files(&f.chain, &f.key), Roots::File(&f.root)),
            None => (Certificate::Own, Roots::Mesh),
        };
        let mut common = CommonTlsContext {
            alpn_protocols: offer.list(),
            tls_params: Some(self.mesh.mesh_client()),
            ..CommonTlsContext::default()
        };
        self.source.show(&mut common, &shown);
        let check = CertificateValidationContext {
            match_typed_subject_alt_names: names::exact(names),
            ..CertificateValidationContext::default()
        };
        common.validation_context_type = validation(self.source, check, Some(&roots));
        self.finish(common, sni)
    }

    /// TLS as a rule of mode SIMPLE or MUTUAL says; `declared` are names that the service's declaration gives, `http2` whether nothing else is
    /// spoken. `None` if the rule does not say enough, or names a credential that the proxy cannot have.
    pub(crate) fn simple<S: AsRef<str>>(
        &self,
        tls: &ClientTlsSettings,
        declared: &[S],
        credentials: bool,
        http2: bool,
    ) -> Option<Simple> {
        let mutual = tls.mode == ClientTlsMode::Mutual;
        let credential = &*tls.credential_name;
        if !credential.is_empty() && !credentials && !credential.starts_with("configmap://") {
            return None;
        }
        let mut common = CommonTlsContext {
            alpn_protocols: if http2 {
                vec!["h2".to_owned()]
            } else {
                Vec::new()
            },
            tls_params: self.mesh.client(),
            ..CommonTlsContext::default()
        };
        let (shown, roots) = if credential.is_empty() {
            let pair = (&*tls.client_certificate, &*tls.private_key);
            if mutual && (pair.0.is_empty() || pair.1.is_empty()) {
                return None;
            }
            let roots = match &*tls.ca_certificates {
                "" => "system",
                path => path,
            };
            (Certificate::Files(pair.0, pair.1), Roots::File(roots))
        } else {
            (
                Certificate::Credential(credential),
                Roots::Credential(credential),
            )
        };
        if mutual {
            self.source.show(&mut common, &shown);
        }
        let trusting = tls.insecure_skip_verify == Some(true);
        let named = !tls.subject_alt_names.is_empty();
        let auto_san_validation = tls.sni.is_empty() && !named && declared.is_empty() && !trusting;
        common.validation_context_type = if trusting {
            Some(ValidationContextType::ValidationContext(
                CertificateValidationContext::default(),
            ))
        } else {
            let check = CertificateValidationContext {
                match_typed_subject_alt_names: match named {
                    true => names::exact(&tls.subject_alt_names),
                    false => names::exact(declared),
                },
                crl: sds::crl(&tls.ca_crl),
                ..CertificateValidationContext::default()
            };
            validation(self.source, check, Some(&roots))
        };
        Some(Simple {
            auto_sni: tls.sni.is_empty(),
            auto_san_validation,
            socket: self.finish(common, tls.sni.clone()),
        })
    }

    /// TLS with nobody: every connection fails before a byte of anybody's is sent.
    pub(crate) fn refused(&self) -> TransportSocket {
        let nobody = CertificateValidationContext {
            verify_certificate_hash: vec![NOBODY.to_owned()],
            ..CertificateValidationContext::default()
        };
        let common = CommonTlsContext {
            validation_context_type: Some(ValidationContextType::ValidationContext(nobody)),
            ..CommonTlsContext::default()
        };
        self.finish(common, String::new())
    }

    fn finish(&self, mut common: CommonTlsContext, sni: String) -> TransportSocket {
        self.mesh.comply(&mut common);
        let context = UpstreamTlsContext {
            common_tls_context: Some(common),
            sni,
            ..UpstreamTlsContext::default()
        };
        socket(TLS, envoy_api::any::pack(&context))
    }
}
