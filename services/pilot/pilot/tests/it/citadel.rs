//! An authority that signs for whoever asks, and tells of a trust bundle that the test sets. And clients with certificates of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use mesh_api::citadel::trust_server::{Trust as TrustService, TrustServer};
use mesh_api::citadel::{TrustBundle, WatchRequest};
use mesh_api::istio::ca::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use mesh_api::istio::ca::{IstioCertificateRequest, IstioCertificateResponse};
use mesh_types::{SpiffeId, TrustDomain};
use pki::{Authority, KeyType, LeafRequest, PrivateKey, Serial, csr};
use service_kit::tls::{ClientTls, Clients, TlsIdentity, TlsServer, Trust, read_trust, serve_tls};
use service_kit::{ServeConfig, Stop};
use time::{Duration, OffsetDateTime};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

pub const PILOT: &str = "spiffe://cluster.local/ns/istio-system/sa/istio-pilot-service-account";
pub const GALLEY: &str = "spiffe://cluster.local/ns/istio-system/sa/istio-galley-service-account";
const CITADEL: &str = "spiffe://cluster.local/ns/istio-system/sa/istio-citadel-service-account";

pub fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "handshakes look at the real clock"
)]
fn now() -> OffsetDateTime {
    std::time::SystemTime::now().into()
}

/// A number that no other certificate of this process has.
fn serial() -> Serial {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&next.to_be_bytes());
    Serial::from_random(bytes)
}

/// A root of `cluster.local`.
#[derive(Clone)]
pub struct Ca(Arc<Authority>);

impl Ca {
    pub fn new() -> Ca {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let life = Duration::days(1);
        let root = Authority::self_signed(key, &TrustDomain::default(), life, serial(), now());
        Ca(Arc::new(root.unwrap()))
    }

    pub fn root(&self) -> String {
        self.0.certificate().to_pem()
    }

    fn trust(&self) -> Arc<Trust> {
        Arc::new(read_trust(TrustDomain::default(), &self.root(), "").unwrap())
    }

    /// Chain and key of somebody, in PEM.
    pub fn issue(&self, whom: &str) -> (String, String) {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let request = LeafRequest {
            id: &id(whom),
            public_key: key.public_key(),
            ttl: Duration::hours(1),
            names: &[],
            common_name: false,
        };
        let leaf = self.0.issue(&request, serial(), now()).unwrap();
        (leaf.to_pem(), key.to_pkcs8_pem().to_string())
    }

    fn identity(&self, whom: &str, trust: Arc<Trust>) -> TlsIdentity {
        let (chain, key) = self.issue(whom);
        TlsIdentity::new(&chain, &key, trust).unwrap()
    }

    /// A server that is `whom` by this root, and believes it.
    pub fn server(&self, whom: &str) -> TlsServer {
        let identity = self.identity(whom, self.trust());
        let identities = watch::channel(Some(Arc::new(identity))).1;
        TlsServer::new(identities, Clients::Required)
    }

    /// A client that is `whom` by this root, and believes it.
    pub fn client(&self, whom: &str) -> ClientTls {
        self.client_of(whom, self)
    }

    /// A client that is `whom` by this root, and believes another one.
    pub fn client_of(&self, whom: &str, believed: &Ca) -> ClientTls {
        let identity = self.identity(whom, believed.trust());
        ClientTls::from(watch::channel(Some(Arc::new(identity))).1)
    }

    /// A client that shows nothing.
    pub fn anonymous(&self) -> ClientTls {
        ClientTls::from(self.trust())
    }

    /// A folder with the identity of a Pilot.
    pub fn folder(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = self.issue(PILOT);
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        write("cert-chain.pem", &chain);
        write("key.pem", &key);
        write("root-cert.pem", &self.root());
        folder
    }
}

/// A running authority.
pub struct Citadel {
    pub ca: Ca,
    pub address: SocketAddr,
    pub bundles: watch::Sender<TrustBundle>,
    folder: tempfile::TempDir,
    stop: Stop,
}

impl Citadel {
    /// With a bundle of its root, generation 1.
    pub async fn start() -> Citadel {
        Citadel::at("127.0.0.1:0".parse().unwrap(), Ca::new()).await
    }

    async fn at(address: SocketAddr, ca: Ca) -> Citadel {
        let bundles = watch::Sender::new(bundle(&ca, 1, &[]));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = TlsServer {
            clients: Clients::Optional,
            ..ca.server(CITADEL)
        };
        let service = Service {
            ca: ca.clone(),
            bundles: bundles.subscribe(),
        };
        let router = Routes::new(IstioCertificateServiceServer::new(service.clone()))
            .add_service(TrustServer::new(service))
            .into_axum_router();
        let stop = Stop::new();
        tokio::spawn(serve_tls(
            listener,
            router,
            ServeConfig::streams(),
            server,
            stop.clone(),
        ));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("root-cert.pem"), ca.root()).unwrap();
        std::fs::write(folder.path().join("token"), "anything").unwrap();
        Citadel {
            ca,
            address,
            bundles,
            folder,
            stop,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Flags of a Pilot that gets its identity here and keeps it in a folder.
    pub fn flags(&self, data: &Path) -> Vec<String> {
        vec![
            format!("--ca-addr={}", self.address),
            format!("--ca-root={}", self.file("root-cert.pem").display()),
            format!("--ca-token-file={}", self.file("token").display()),
            format!("--data-dir={}", data.display()),
        ]
    }

    /// Everybody's bundle from now on.
    pub fn announce(&self, generation: u64, denied: &[&str]) -> TrustBundle {
        let bundle = bundle(&self.ca, generation, denied);
        self.bundles.send_replace(bundle.clone());
        bundle
    }

    /// Is gone, with all connections.
    pub fn end(&self) {
        self.stop.trigger();
    }
}

pub fn bundle(ca: &Ca, generation: u64, denied: &[&str]) -> TrustBundle {
    TrustBundle {
        trust_domain: "cluster.local".into(),
        generation,
        digest: format!("digest-of-{}", denied.join("-")),
        roots: vec![ca.root()],
        denied: denied.iter().map(|id| (*id).to_owned()).collect(),
        ..TrustBundle::default()
    }
}

#[derive(Clone)]
struct Service {
    ca: Ca,
    bundles: watch::Receiver<TrustBundle>,
}

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let request = csr::check(&request.into_inner().csr);
        let request = request.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let leaf = LeafRequest {
            id: &id(PILOT),
            public_key: &request.public_key,
            ttl: Duration::hours(1),
            names: &[],
            common_name: false,
        };
        let leaf = self.ca.0.issue(&leaf, serial(), now()).unwrap();
        Ok(Response::new(IstioCertificateResponse {
            cert_chain: self.ca.0.response(&leaf),
        }))
    }
}

#[tonic::async_trait]
impl TrustService for Service {
    type WatchStream = BoxStream<'static, Result<TrustBundle, Status>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(
            WatchStream::new(self.bundles.clone()).map(Ok).boxed(),
        ))
    }
}
