//! A small authority: signs what bears the right token or certificate, tells its trust bundle, and fails on demand.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures::{Stream, StreamExt as _};
use mesh_api::citadel::trust_server::{Trust, TrustServer};
use mesh_api::citadel::{TrustBundle, WatchRequest};
use mesh_api::istio::ca::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use mesh_api::istio::ca::{IstioCertificateRequest, IstioCertificateResponse};
use mesh_types::{SpiffeId, TrustDomain, WorkloadId};
use pki::{Authority as Signer, KeyType, LeafRequest, PrivateKey, Serial, csr};
use service_kit::tls::{Clients, Identities, TlsIdentity, TlsServer, read_trust, serve_tls};
use service_kit::{ServeConfig, Stop};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// What the agent shows.
pub const TOKEN: &str = "a-token-of-the-test";

/// A root, and everything it signed.
pub struct Root {
    signer: Signer,
}

/// Who is asked.
pub fn domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

fn serial() -> Serial {
    Serial::from_random(*uuid::Uuid::new_v4().as_bytes())
}

pub fn workload(namespace: &str, account: &str) -> SpiffeId {
    WorkloadId::new(domain(), namespace, account)
        .unwrap()
        .to_spiffe_id()
}

impl Root {
    pub fn new() -> Arc<Root> {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let life = time::Duration::days(10);
        let signer =
            Signer::self_signed(key, &domain(), life, serial(), SystemTime::now().into()).unwrap();
        Arc::new(Root { signer })
    }

    pub fn pem(&self) -> String {
        self.signer.roots().to_pem()
    }

    /// Chain and key of a new certificate.
    pub fn issue(&self, id: &SpiffeId, ttl: Duration) -> (String, String) {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let request = LeafRequest {
            id,
            public_key: key.public_key(),
            ttl: time::Duration::try_from(ttl).unwrap(),
            names: &[],
            common_name: false,
        };
        let leaf = self
            .signer
            .issue(&request, serial(), SystemTime::now().into())
            .unwrap();
        (leaf.to_pem(), key.to_pkcs8_pem().to_string())
    }

    /// A revocation list without entries.
    pub fn crl(&self) -> String {
        let now = time::OffsetDateTime::from(SystemTime::now());
        let until = now + time::Duration::days(1);
        pki::crl::build(&self.signer, &[], 1, now, until)
            .unwrap()
            .to_pem()
    }

    /// An identity that believes these roots.
    pub fn identity(&self, id: &SpiffeId, roots: &str) -> Identities {
        let (chain, key) = self.issue(id, Duration::from_secs(86_400));
        let trust = Arc::new(read_trust(domain(), roots, "").unwrap());
        let identity = TlsIdentity::new(&chain, &key, trust).unwrap();
        watch::channel(Some(Arc::new(identity))).1
    }
}

/// How it behaves.
#[derive(Clone)]
struct Behaviour {
    root: Arc<Root>,
    /// All roots that it hands out.
    roots: String,
    ttl: Option<Duration>,
    /// What it answers instead of a certificate.
    refusal: Option<tonic::Code>,
    /// Whether it leaves the roots out.
    short: bool,
}

/// A running authority.
pub struct Authority {
    pub address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    asked: Arc<AtomicUsize>,
    bundle: watch::Sender<Option<TrustBundle>>,
    running: Mutex<Option<(Stop, tokio::task::JoinHandle<()>)>>,
}

impl Authority {
    pub async fn start() -> Authority {
        let root = Root::new();
        let authority = Authority {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            behaviour: Arc::new(Mutex::new(Behaviour {
                roots: root.pem(),
                root,
                ttl: None,
                refusal: None,
                short: false,
            })),
            asked: Arc::default(),
            bundle: watch::Sender::new(None),
            running: Mutex::default(),
        };
        let listener = tokio::net::TcpListener::bind(authority.address)
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        authority.serve(listener);
        Authority {
            address,
            ..authority
        }
    }

    /// Nobody answers any more.
    pub async fn down(&self) {
        let running = self.running.lock().unwrap().take();
        let (stop, task) = running.unwrap();
        stop.trigger();
        task.await.unwrap();
    }

    /// It answers again, at the same address.
    pub async fn up(&self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.serve(socket.listen(64).unwrap());
    }

    fn serve(&self, listener: tokio::net::TcpListener) {
        let root = self.root();
        let id = workload("istio-system", "istio-citadel-service-account");
        let identity = root.identity(&id, &self.roots());
        let service = Service {
            behaviour: self.behaviour.clone(),
            asked: self.asked.clone(),
            bundle: self.bundle.subscribe(),
        };
        let router = Routes::new(IstioCertificateServiceServer::new(service.clone()))
            .add_service(TrustServer::new(service))
            .into_axum_router();
        let (stop, config) = (
            Stop::new(),
            ServeConfig {
                stop_grace: Duration::from_millis(100),
                ..ServeConfig::default()
            },
        );
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let tls = TlsServer::new(identity, Clients::Optional);
            serve_tls(listener, router, config, tls, stopped)
                .await
                .unwrap();
        });
        *self.running.lock().unwrap() = Some((stop, task));
    }

    /// The root that signs.
    pub fn root(&self) -> Arc<Root> {
        self.behaviour.lock().unwrap().root.clone()
    }

    /// The roots that it hands out.
    pub fn roots(&self) -> String {
        self.behaviour.lock().unwrap().roots.clone()
    }

    /// From now on another root signs, and these are handed out.
    pub fn set_root(&self, root: Arc<Root>, roots: String) {
        let mut behaviour = self.behaviour.lock().unwrap();
        behaviour.root = root;
        behaviour.roots = roots;
    }

    /// Certificates live that long, whatever was asked for.
    pub fn set_ttl(&self, ttl: Duration) {
        self.behaviour.lock().unwrap().ttl = Some(ttl);
    }

    pub fn refuse(&self, code: Option<tonic::Code>) {
        self.behaviour.lock().unwrap().refusal = code;
    }

    pub fn leave_roots_out(&self, short: bool) {
        self.behaviour.lock().unwrap().short = short;
    }

    /// How often a certificate was asked for.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Service {
    behaviour: Arc<Mutex<Behaviour>>,
    asked: Arc<AtomicUsize>,
    bundle: watch::Receiver<Option<TrustBundle>>,
}

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let behaviour = self.behaviour.lock().unwrap().clone();
        if let Some(code) = behaviour.refusal {
            return Err(Status::new(code, "as the test says"));
        }
        let bearer = request.metadata().get("authorization");
        let peer = request.extensions().get::<service_kit::tls::Peer>();
        let known = bearer.is_some_and(|bearer| bearer == format!("Bearer {TOKEN}").as_str());
        if !known && peer.is_none() {
            return Err(Status::unauthenticated("who is it?"));
        }
        let request = request.into_inner();
        let csr = csr::check(&request.csr).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let asked = Duration::from_secs(request.validity_duration.unsigned_abs());
        let id = workload("default", "web");
        let request = LeafRequest {
            id: &id,
            public_key: &csr.public_key,
            ttl: time::Duration::try_from(behaviour.ttl.unwrap_or(asked)).unwrap(),
            names: &[],
            common_name: false,
        };
        let signer = &behaviour.root.signer;
        let leaf = signer
            .issue(&request, serial(), SystemTime::now().into())
            .map_err(|error| Status::internal(error.to_string()))?;
        let mut chain = vec![leaf.to_pem()];
        if !behaviour.short {
            chain.push(behaviour.roots);
        }
        Ok(Response::new(IstioCertificateResponse {
            cert_chain: chain,
        }))
    }
}

#[tonic::async_trait]
impl Trust for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<TrustBundle, Status>> + Send>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let bundles = WatchStream::new(self.bundle.clone());
        let bundles = bundles.filter_map(async |bundle| bundle.map(Ok));
        Ok(Response::new(Box::pin(bundles)))
    }
}
