//! What rustls asks about certificates.

use std::fmt;
use std::sync::Arc;

use pki::Use;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::client::{ClientTls, ServerId};
use super::settings::provider;
use super::{Refused, TlsSettings, Trust, trust};

impl From<Refused> for Error {
    fn from(refused: Refused) -> Error {
        match refused {
            // It has an alert of its own, which tells the other end what to do.
            Refused::Revoked(_) => CertificateError::Revoked.into(),
            Refused::Missing => Error::NoCertificatesPresented,
            refused @ (Refused::Invalid(_)
            | Refused::Name { .. }
            | Refused::SomebodyElse { .. }) => {
                CertificateError::Other(OtherError(Arc::new(InWords(refused)))).into()
            }
        }
    }
}

/// rustls prints what it is given as for programmers.
#[derive(thiserror::Error)]
#[error("{0}")]
struct InWords(Refused);

impl fmt::Debug for InWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn chain<'a>(
    leaf: &'a CertificateDer<'a>,
    rest: &'a [CertificateDer<'a>],
) -> Vec<CertificateDer<'a>> {
    let borrow = |der: &'a CertificateDer<'a>| CertificateDer::from(der.as_ref());
    std::iter::once(leaf).chain(rest).map(borrow).collect()
}

/// Verifies clients under one trust; a listener makes another one for another trust.
#[derive(Debug)]
pub(super) struct VerifyClients {
    pub(super) trust: Arc<Trust>,
    pub(super) required: bool,
}

impl ClientCertVerifier for VerifyClients {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    /// None: clients have one certificate to show, and the names of our roots are nobody's business.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        trust::verify(
            &self.trust,
            &chain(end_entity, intermediates),
            Use::Client,
            now,
        )?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &provider().signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Verifies a server, and shows our own certificate, with what is known when a connection is made. Safe at the client's end only
/// because nothing is resumed: see [`config`].
#[derive(Debug)]
struct Live {
    tls: ClientTls,
    server: ServerId,
}

impl ServerCertVerifier for Live {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let trust = self
            .tls
            .trust()
            .ok_or_else(|| Error::General("no trust bundle yet".into()))?;
        self.server
            .verify(&trust, &chain(end_entity, intermediates), now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &provider().signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ResolvesClientCert for Live {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.tls.certified_key()
    }

    fn has_certs(&self) -> bool {
        self.tls.certified_key().is_some()
    }
}

/// A client's configuration without ALPN, reading certificate and trust anew for every connection.
pub(super) fn config(tls: ClientTls, server: ServerId, settings: &TlsSettings) -> ClientConfig {
    let live = Arc::new(Live { tls, server });
    // The versions come from the same settings as the ciphers.
    let builder = ClientConfig::builder_with_provider(settings.provider())
        .with_protocol_versions(&settings.versions());
    let builder = match builder {
        Ok(builder) => builder,
        Err(_) => unreachable!("TlsSettings has a cipher for each of its versions"),
    };
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(live.clone())
        .with_client_cert_resolver(live);
    // A resumed session would not ask again who the server is.
    config.resumption = Resumption::disabled();
    config
}
