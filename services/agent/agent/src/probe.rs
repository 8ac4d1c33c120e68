//! Asking the application for the kubelet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use agent_core::probes::{Ask, MAX_BODY, Probe, Redirect, Target, follow, headers};
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use prost::Message;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;

use crate::http::{self as small, Answer, AskError, Beyond};

/// Probes come from here, so that capture rules know them and leave them alone.
const FROM_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
const FROM_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6));

/// Asks applications.
#[derive(Clone)]
pub struct Prober {
    host: IpAddr,
    tls: Arc<ClientConfig>,
}

impl Prober {
    /// Applications are at `host`.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(host: IpAddr) -> Result<Prober, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(unverified::Anybody(provider)))
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Prober {
            host,
            tls: Arc::new(tls),
        })
    }

    /// Asks, with the headers of the request that came, and answers it.
    pub async fn ask(&self, probe: &Probe, came: &HeaderMap) -> Response {
        let bounded = |what| tokio::time::timeout(probe.timeout, what);
        match &probe.ask {
            Ask::Http {
                https,
                port,
                path,
                headers,
            } => {
                let target = Target {
                    https: *https,
                    host: self.host.to_string(),
                    port: *port,
                    path: path.clone(),
                };
                match bounded(self.http(target, headers, came)).await {
                    Ok(Ok(answer)) => pass_on(answer),
                    Ok(Err(error)) => failed(&error),
                    Err(_) => failed("no answer in time"),
                }
            }
            Ask::Tcp { port } => {
                let at = SocketAddr::new(self.host, *port);
                match tokio::time::timeout(probe.timeout, self.connect(at)).await {
                    Ok(Ok(_)) => plain(StatusCode::OK, ""),
                    Ok(Err(error)) => failed(&error.to_string()),
                    Err(_) => failed("no connection in time"),
                }
            }
            Ask::Grpc { port, service } => {
                let at = SocketAddr::new(self.host, *port);
                match tokio::time::timeout(probe.timeout, self.health(at, service)).await {
                    Ok(Ok(())) => plain(StatusCode::OK, ""),
                    Ok(Err(error)) => failed(&error),
                    Err(_) => failed("no answer in time"),
                }
            }
        }
    }

    async fn connect(&self, at: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
        let from = if at.is_ipv4() { FROM_V4 } else { FROM_V6 };
        match small::connect_from(Some(from), at).await {
            // There is no ::6 where nobody has set it up.
            Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
                small::connect_from(None, at).await
            }
            connected => connected,
        }
    }

    async fn http(
        &self,
        first: Target,
        own: &[(String, String)],
        came: &HeaderMap,
    ) -> Result<Answer, String> {
        let came: Vec<(&str, &str)> = came
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .collect();
        let headers = headers(own, came.into_iter());
        let mut at = first.clone();
        let mut followed = 0;
        loop {
            let answer = self.once(&at, &headers).await?;
            let location = answer.header("location");
            let Some(location) = location.filter(|_| (300..400).contains(&answer.status)) else {
                return Ok(answer);
            };
            match follow(followed, &first, &at, location) {
                Redirect::Follow(next) => at = next,
                Redirect::Enough => {
                    return Ok(Answer {
                        status: 200,
                        headers: HeaderMap::new(),
                        body: bytes::Bytes::new(),
                    });
                }
                Redirect::Fail => return Err("too many redirects, or one to nowhere".into()),
            }
            followed += 1;
        }
    }

    async fn once(&self, at: &Target, headers: &[(&str, &str)]) -> Result<Answer, String> {
        let address = SocketAddr::new(self.host, at.port);
        let host = address.to_string();
        let ask = small::Ask {
            method: "GET",
            path: &at.path,
            host: &host,
            headers,
            most: MAX_BODY,
            beyond: Beyond::Cut,
            patience: Duration::MAX,
        };
        let tcp = self
            .connect(address)
            .await
            .map_err(|error| error.to_string())?;
        let answer = if at.https {
            let name = ServerName::from(self.host);
            let tls = TlsConnector::from(self.tls.clone()).connect(name, tcp);
            small::exchange(tls.await.map_err(|error| error.to_string())?, &ask).await
        } else {
            small::exchange(tcp, &ask).await
        };
        answer.map_err(|error: AskError| error.to_string())
    }

    async fn health(&self, at: SocketAddr, service: &str) -> Result<(), String> {
        let wrong = |error: tonic::transport::Error| error.to_string();
        let endpoint = Endpoint::from_shared(format!("http://{at}")).map_err(wrong)?;
        // From where the other probes come: the proxy's own address would be captured as inbound, and want mutual TLS.
        let prober = self.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let prober = prober.clone();
            async move { prober.connect(at).await.map(TokioIo::new) }
        });
        let channel = endpoint
            .connect_with_connector(connector)
            .await
            .map_err(wrong)?;
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(wrong)?;
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = client
            .unary(tonic::Request::new(request), path, codec)
            .await;
        match answer {
            Ok(answer) if answer.get_ref().status == SERVING => Ok(()),
            Ok(answer) => Err(format!("health status {}", answer.get_ref().status)),
            Err(status) => Err(format!("{:?}: {}", status.code(), status.message())),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SERVING` of grpc.health.v1.
const SERVING: i32 = 1;

fn pass_on(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = status;
    response
}

fn failed(why: &str) -> Response {
    tracing::debug!(error = why, "a probe failed");
    plain(StatusCode::INTERNAL_SERVER_ERROR, "")
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

/// Whether an application is alive does not depend on its certificate, as with the kubelet's own probes.
mod unverified {
    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub(super) struct Anybody(pub(super) Arc<CryptoProvider>);

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let known = &self.0.signature_verification_algorithms;
            verify_tls12_signature(message, certificate, signature, known)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let known = &self.0.signature_verification_algorithms;
            verify_tls13_signature(message, certificate, signature, known)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
