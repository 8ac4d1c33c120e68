//! An authority that does as it is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use mesh_api::citadel::trust_server::{Trust as TrustApi, TrustServer};
use mesh_api::citadel::{TrustBundle, WatchRequest};
use mesh_api::istio::ca::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use mesh_api::istio::ca::{IstioCertificateRequest, IstioCertificateResponse};
use mesh_types::{SpiffeId, TrustDomain};
use parking_lot::Mutex;
use pki::{Authority, Bundle, KeyType, LeafRequest, PrivateKey, Serial, csr};
use service_kit::tls::{Clients, Peer, TlsIdentity, TlsServer, read_trust, serve_tls};
use service_kit::{ServeConfig, Stop};
use time::{Duration, OffsetDateTime};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::id;

#[derive(Clone)]
pub struct TestCa(Arc<Inner>);

struct Inner {
    dir: tempfile::TempDir,
    state: Mutex<State>,
    bundle: watch::Sender<TrustBundle>,
    identity: watch::Sender<Option<Arc<TlsIdentity>>>,
    running: Mutex<Option<Running>>,
    addr: Mutex<SocketAddr>,
}

struct Running {
    stop: Stop,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

pub struct State {
    pub authority: Authority,
    /// All roots, in PEM.
    pub roots: String,
    /// Bearer tokens, and whose they are.
    pub tokens: BTreeMap<String, SpiffeId>,
    /// Tokens that are good for one use.
    pub join_tokens: BTreeSet<String>,
    /// What the next calls answer instead of a certificate.
    pub failures: VecDeque<Status>,
    /// What the next answers are changed by.
    pub twist: Option<Twist>,
    /// What certificates are valid for, whatever is asked.
    pub ttl: Duration,
    /// How each call showed who asks: "token", "join", "certificate", "nothing"; with the status it ended in.
    pub calls: Vec<String>,
    /// Bundles that were sent.
    pub bundles: u64,
    /// Headers of the last call.
    pub headers: BTreeMap<String, String>,
}

#[derive(Clone, Copy)]
pub enum Twist {
    /// The leaf alone.
    Short,
    /// A certificate of somebody else.
    SomebodyElse,
    /// A certificate of another key.
    OtherKey,
    /// A leaf that the roots do not vouch for.
    ForeignRoots,
    /// Not even PEM.
    Garbage,
}

#[expect(
    clippy::disallowed_methods,
    reason = "handshakes look at the real clock"
)]
pub fn now() -> OffsetDateTime {
    std::time::SystemTime::now().into()
}

fn domain() -> TrustDomain {
    id("x").trust_domain().clone()
}

pub fn root() -> Authority {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let serial = Serial::from_random(rand::random());
    Authority::self_signed(key, &domain(), Duration::days(10), serial, now()).unwrap()
}

pub fn leaf(
    authority: &Authority,
    id: &SpiffeId,
    key: &pki::PublicKey,
    ttl: Duration,
) -> pki::Certificate {
    let request = LeafRequest {
        id,
        public_key: key,
        ttl,
        names: &[],
        common_name: false,
    };
    authority
        .issue(&request, Serial::from_random(rand::random()), now())
        .unwrap()
}

impl TestCa {
    pub async fn start() -> TestCa {
        let authority = root();
        let roots = authority.certificate().to_pem();
        let state = State {
            roots,
            authority,
            tokens: [("good".to_owned(), id("pilot"))].into(),
            join_tokens: ["flotilla-join.1.secret".to_owned()].into(),
            failures: VecDeque::new(),
            twist: None,
            ttl: Duration::hours(24),
            calls: Vec::new(),
            bundles: 0,
            headers: BTreeMap::new(),
        };
        let ca = TestCa(Arc::new(Inner {
            dir: tempfile::tempdir().unwrap(),
            state: Mutex::new(state),
            bundle: watch::Sender::new(TrustBundle::default()),
            identity: watch::Sender::new(None),
            running: Mutex::new(None),
            addr: Mutex::new(([127, 0, 0, 1], 0).into()),
        }));
        ca.announce();
        ca.write_root_file();
        ca.listen().await;
        ca
    }

    /// Listens, on the same port as before.
    pub async fn listen(&self) {
        let addr = *self.0.addr.lock();
        let listener = service_kit::bind(addr.to_string(), "test").await.unwrap();
        *self.0.addr.lock() = listener.local_addr().unwrap();
        let stop = Stop::new();
        let mut routes = Routes::builder();
        routes
            .add_service(IstioCertificateServiceServer::new(self.clone()))
            .add_service(TrustServer::new(self.clone()));
        let tls = TlsServer::new(self.0.identity.subscribe(), Clients::Optional);
        let config = ServeConfig {
            stop_grace: std::time::Duration::from_millis(10),
            ..ServeConfig::default()
        };
        let router = routes.routes().into_axum_router();
        let task = tokio::spawn(serve_tls(listener, router, config, tls, stop.clone()));
        *self.0.running.lock() = Some(Running { stop, task });
    }

    /// Goes away.
    pub async fn kill(&self) {
        let running = self.0.running.lock().take().unwrap();
        running.stop.trigger();
        running.task.await.unwrap().unwrap();
    }

    pub fn address(&self) -> String {
        self.0.addr.lock().to_string()
    }

    pub fn root_file(&self) -> PathBuf {
        self.0.dir.path().join("root-cert.pem")
    }

    pub fn write_root_file(&self) {
        std::fs::write(self.root_file(), &self.0.state.lock().roots).unwrap();
    }

    /// A file beside it.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.state.lock())
    }

    pub fn calls(&self) -> Vec<String> {
        self.0.state.lock().calls.clone()
    }

    /// Another authority signs from now on, and `roots` are trusted.
    pub fn rotate(&self, authority: Authority, roots: String) {
        self.state(|state| {
            state.authority = authority;
            state.roots = roots;
        });
        self.announce();
    }

    /// Tells the bundle, and shows a certificate of the one that signs.
    pub fn announce(&self) {
        let state = self.0.state.lock();
        let bundle = Bundle::from_pem(&state.roots).unwrap();
        self.0.bundle.send_modify(|told| {
            *told = TrustBundle {
                trust_domain: "cluster.local".into(),
                generation: told.generation + 1,
                digest: bundle.digest(),
                roots: bundle.pems(),
                crls: Vec::new(),
                denied: Vec::new(),
                signing: root_fingerprint(&state.authority, &bundle),
            };
        });
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let server = id("istio-citadel-service-account");
        let leaf = leaf(
            &state.authority,
            &server,
            key.public_key(),
            Duration::hours(1),
        );
        let trust = read_trust(domain(), &state.roots, "").unwrap();
        let identity = TlsIdentity::new(&leaf.to_pem(), &key.to_pkcs8_pem(), Arc::new(trust));
        self.0
            .identity
            .send_replace(Some(Arc::new(identity.unwrap())));
    }

    /// Tells any bundle, and waits until it is sent.
    pub async fn tell(&self, change: impl FnOnce(&mut TrustBundle)) {
        let before = self.state(|state| state.bundles);
        self.0.bundle.send_modify(change);
        while self.state(|state| state.bundles) == before {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    fn who(&self, request: &Request<IstioCertificateRequest>) -> (&'static str, Option<SpiffeId>) {
        let mut state = self.0.state.lock();
        let token = request.metadata().get("authorization");
        let token = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        if let Some(peer) = Peer::of(request.extensions()) {
            ("certificate", Some(peer.id.clone()))
        } else if let Some(token) = token {
            if token.starts_with("flotilla-join.") {
                ("join", state.join_tokens.remove(token).then(|| id("pilot")))
            } else {
                ("token", state.tokens.get(token).cloned())
            }
        } else {
            ("nothing", None)
        }
    }

    fn answer(
        &self,
        request: &Request<IstioCertificateRequest>,
    ) -> (String, Result<IstioCertificateResponse, Status>) {
        let (how, who) = self.who(request);
        let mut state = self.0.state.lock();
        state.headers = request
            .metadata()
            .iter()
            .filter_map(|entry| match entry {
                tonic::metadata::KeyAndValueRef::Ascii(key, value) => {
                    Some((key.to_string(), value.to_str().ok()?.to_owned()))
                }
                tonic::metadata::KeyAndValueRef::Binary(..) => None,
            })
            .collect();
        if let Some(status) = state.failures.pop_front() {
            return (how.to_owned(), Err(status));
        }
        let Some(who) = who else {
            let refused = Status::unauthenticated("request authenticate failure");
            return (how.to_owned(), Err(refused));
        };
        let asked = match csr::check(&request.get_ref().csr) {
            Ok(csr) => csr.public_key,
            Err(error) => {
                return (
                    how.to_owned(),
                    Err(Status::invalid_argument(error.to_string())),
                );
            }
        };
        let other = PrivateKey::generate(KeyType::EcP256).unwrap();
        let (who, key) = match state.twist {
            Some(Twist::SomebodyElse) => (id("somebody-else"), &asked),
            Some(Twist::OtherKey) => (who, other.public_key()),
            _ => (who, &asked),
        };
        let leaf = leaf(&state.authority, &who, key, state.ttl).to_pem();
        let chain = match state.twist {
            Some(Twist::Short) => vec![leaf],
            Some(Twist::ForeignRoots) => vec![leaf, root().certificate().to_pem()],
            Some(Twist::Garbage) => vec!["x".into(), "y".into()],
            _ => vec![leaf, state.roots.clone()],
        };
        (
            how.to_owned(),
            Ok(IstioCertificateResponse { cert_chain: chain }),
        )
    }
}

fn root_fingerprint(authority: &Authority, bundle: &Bundle) -> String {
    let signs = |root: &&pki::Certificate| root.signed(authority.certificate());
    bundle.roots().iter().find(signs).unwrap().fingerprint()
}

#[tonic::async_trait]
impl IstioCertificateService for TestCa {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let (how, answer) = self.answer(&request);
        let code = answer
            .as_ref()
            .map_or_else(Status::code, |_| tonic::Code::Ok);
        self.0.state.lock().calls.push(format!("{how} {code:?}"));
        answer.map(Response::new)
    }
}

#[tonic::async_trait]
impl TrustApi for TestCa {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<TrustBundle, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut bundles = self.0.bundle.subscribe();
        if bundles.borrow().digest != request.get_ref().digest {
            bundles.mark_changed();
        } else {
            bundles.mark_unchanged();
        }
        let ca = self.clone();
        let stream = futures::stream::unfold((bundles, ca), |(mut bundles, ca)| async move {
            bundles.changed().await.ok()?;
            let bundle = bundles.borrow_and_update().clone();
            ca.state(|state| state.bundles += 1);
            Some((Ok(bundle), (bundles, ca)))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
