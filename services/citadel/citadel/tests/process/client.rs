//! Callers: with a token, with a certificate, with neither.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use mesh_api::citadel::operator_client::OperatorClient;
use mesh_api::citadel::trust_client::TrustClient;
use mesh_api::istio::ca::IstioCertificateRequest;
use mesh_api::istio::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_types::{SpiffeId, TrustDomain};
use pki::{Certificate, KeyType, PrivateKey, csr};
use prost_types::{Struct, Value, value::Kind};
use service_kit::tls::{self, Channel, ClientTls, ServerId, TlsIdentity, Trust, read_trust};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tonic::transport::Endpoint;
use tonic::{Request, Status};

/// Who Citadel is.
pub fn citadel() -> SpiffeId {
    id("spiffe://cluster.local/ns/istio-system/sa/istio-citadel-service-account")
}

pub fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

/// A request in PEM, with its key.
pub fn request(claims: &str) -> (PrivateKey, String) {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let csr = csr::create(&key, &id(claims)).unwrap();
    (key, csr)
}

/// A request of default/app.
pub fn app_csr() -> String {
    request("spiffe://cluster.local/ns/default/sa/app").1
}

/// Somebody without a certificate.
#[derive(Clone)]
pub struct Anybody {
    address: SocketAddr,
    trust: Arc<Trust>,
    channel: Channel,
}

/// What is sent.
#[derive(Clone, Default)]
pub struct Ask {
    pub csr: String,
    pub seconds: i64,
    pub token: Option<String>,
    pub headers: Vec<(&'static str, String)>,
    pub hints: Vec<(&'static str, String)>,
}

impl Ask {
    /// A good request with this token.
    pub fn token(token: impl Into<String>) -> Ask {
        Ask {
            csr: app_csr(),
            token: Some(token.into()),
            ..Ask::default()
        }
    }

    fn message(&self) -> Request<IstioCertificateRequest> {
        let mut metadata = Struct::default();
        for (name, text) in &self.hints {
            let kind = Some(Kind::StringValue(text.clone()));
            metadata.fields.insert((*name).into(), Value { kind });
        }
        let mut request = Request::new(IstioCertificateRequest {
            csr: self.csr.clone(),
            validity_duration: self.seconds,
            metadata: (!self.hints.is_empty()).then_some(metadata),
        });
        let headers = request.metadata_mut();
        if let Some(token) = &self.token {
            headers.append("authorization", format!("Bearer {token}").parse().unwrap());
        }
        for (name, value) in &self.headers {
            headers.append(*name, value.parse().unwrap());
        }
        request
    }
}

/// Asks over a channel; gives the chain.
pub async fn sign(channel: Channel, ask: &Ask) -> Result<Vec<String>, Status> {
    let mut client = IstioCertificateServiceClient::new(channel);
    let answer = client.create_certificate(ask.message()).await?;
    Ok(answer.into_inner().cert_chain)
}

/// The first certificate of a chain.
pub fn leaf(chain: &[String]) -> Certificate {
    Certificate::from_pem(&chain[0]).unwrap()
}

impl Anybody {
    pub fn new(address: SocketAddr, roots: &str) -> Anybody {
        let trust = Arc::new(read_trust(TrustDomain::default(), roots, "").unwrap());
        let server = ServerId::spiffe(citadel());
        let channel = tls::connect(&address.to_string(), trust.clone(), server).unwrap();
        Anybody {
            address,
            trust,
            channel,
        }
    }

    pub async fn sign(&self, ask: &Ask) -> Result<Vec<String>, Status> {
        sign(self.channel.clone(), ask).await
    }

    pub fn trust(&self) -> TrustClient<Channel> {
        TrustClient::new(self.channel.clone())
    }

    pub fn operator(&self) -> OperatorClient<Channel> {
        OperatorClient::new(self.channel.clone())
    }

    /// A certificate for a token, and a client that shows it.
    pub async fn enroll(&self, token: &str) -> Client {
        let (key, csr) = request("spiffe://cluster.local/enroll");
        let ask = Ask {
            csr,
            ..Ask::token(token)
        };
        let chain = self.sign(&ask).await.unwrap();
        self.with(&chain[..chain.len() - 1].concat(), &key)
    }

    /// A client that shows a certificate, whoever signed it.
    pub fn with(&self, chain: &str, key: &PrivateKey) -> Client {
        let identity = TlsIdentity::new(chain, &key.to_pkcs8_pem(), self.trust.clone()).unwrap();
        let serial = identity.certificate().serial().to_string();
        let (keep, identities) = watch::channel(Some(Arc::new(identity)));
        let tls = ClientTls::from(identities);
        let server = ServerId::spiffe(citadel());
        Client {
            channel: tls::connect(&self.address.to_string(), tls, server).unwrap(),
            serial,
            _keep: keep,
        }
    }
}

/// Somebody with a certificate.
pub struct Client {
    pub channel: Channel,
    pub serial: String,
    _keep: watch::Sender<Option<Arc<TlsIdentity>>>,
}

impl Client {
    /// Another certificate for the one that is shown.
    pub async fn renew(&self) -> Result<Vec<String>, Status> {
        let ask = Ask {
            csr: app_csr(),
            ..Ask::default()
        };
        sign(self.channel.clone(), &ask).await
    }

    pub fn operator(&self) -> OperatorClient<Channel> {
        OperatorClient::new(self.channel.clone())
    }
}

/// An operator on this machine.
pub async fn socket(path: std::path::PathBuf) -> OperatorClient<tonic::transport::Channel> {
    let dial = tower::service_fn(move |_: hyper::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://citadel");
    OperatorClient::new(endpoint.connect_with_connector(dial).await.unwrap())
}
