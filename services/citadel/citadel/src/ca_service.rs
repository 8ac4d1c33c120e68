//! `istio.v1.auth.IstioCertificateService`, field for field.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::ConnectInfo;
use axum::http::HeaderValue;
use axum::response::Response;
use mesh_api::istio::ca::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use mesh_api::istio::ca::{IstioCertificateRequest, IstioCertificateResponse};
use prost_types::Struct;
use prost_types::value::Kind;
use service_kit::tls::Peer;
use tonic::{Request, Status};

use crate::desk::{Desk, Wish};

/// Longest request that is decoded. A CSR has at most 64 KiB; whatever is longer than this is refused while it is received.
const MAX_REQUEST: usize = 128 << 10;

/// The service.
#[derive(Clone)]
pub struct CaService {
    /// Where it is decided.
    pub desk: Arc<Desk>,
}

impl CaService {
    /// The service with its bounds.
    pub fn server(self) -> IstioCertificateServiceServer<CaService> {
        IstioCertificateServiceServer::new(self).max_decoding_message_size(MAX_REQUEST)
    }
}

/// A body that is too long is the client's mistake: as gRPC's own code for it, clients would try it again.
pub async fn too_long(mut response: Response) -> Response {
    // OUT_OF_RANGE; none of our services answers so.
    let code = response.headers().get("grpc-status");
    if code.is_some_and(|code| code == "11") {
        let headers = response.headers_mut();
        headers.insert("grpc-status", HeaderValue::from_static("3"));
    }
    response
}

#[tonic::async_trait]
impl IstioCertificateService for CaService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<tonic::Response<IstioCertificateResponse>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let address = extensions.get::<ConnectInfo<SocketAddr>>();
        let address = address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |found| found.0.ip());
        let hint = |name| hint(message.metadata.as_ref(), name);
        let wish = Wish {
            csr: &message.csr,
            seconds: message.validity_duration,
            signer: hint("CertSigner"),
            impersonated: hint("ImpersonatedIdentity"),
        };
        let peer = Peer::of(&extensions);
        let cert_chain = self.desk.serve(peer, address, &metadata, wish).await?;
        Ok(tonic::Response::new(IstioCertificateResponse {
            cert_chain,
        }))
    }
}

/// A text of the hints; a value of another kind counts as none.
fn hint<'a>(metadata: Option<&'a Struct>, name: &str) -> &'a str {
    let value = metadata.and_then(|metadata| metadata.fields.get(name));
    match value.and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Value;

    use super::*;

    #[test]
    fn hints_of_another_kind_count_as_none() {
        let mut hints = Struct::default();
        for (name, kind) in [
            ("a", Kind::StringValue("x".into())),
            ("b", Kind::NumberValue(1.0)),
            ("c", Kind::NullValue(0)),
        ] {
            hints.fields.insert(name.into(), Value { kind: Some(kind) });
        }
        let of = |name| hint(Some(&hints), name);
        assert_eq!((of("a"), of("b"), of("c"), of("d")), ("x", "", "", ""));
        assert_eq!(hint(None, "a"), "");
    }
}
