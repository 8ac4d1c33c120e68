//! An API server that answers what a test wants: TokenReviews by token, pods by name and node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::{Path as Segments, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use service_kit::tls::{Clients, TlsIdentity, TlsServer, read_trust, serve_tls};
use service_kit::{ServeConfig, Stop};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::authority;

/// The server. Ends when dropped.
pub struct ApiServer {
    address: SocketAddr,
    state: Shared,
    stop: Stop,
    _identity: watch::Sender<Option<Arc<TlsIdentity>>>,
}

type Shared = Arc<Mutex<World>>;

#[derive(Default)]
struct World {
    reviews: BTreeMap<String, Value>,
    pods: Vec<Value>,
    pages: BTreeMap<String, (StatusCode, String)>,
    asked: usize,
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop.trigger();
    }
}

/// A good review of a pod's token.
pub fn review(namespace: &str, account: &str, pod: &str, uid: &str) -> Value {
    json!({
        "authenticated": true, "audiences": ["istio-ca"],
        "user": {
            "username": format!("system:serviceaccount:{namespace}:{account}"),
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/pod-name": [pod],
                "authentication.kubernetes.io/pod-uid": [uid],
                "authentication.kubernetes.io/node-name": ["n1"],
            },
        },
    })
}

/// A pod.
pub fn pod(
    namespace: &str,
    name: &str,
    uid: &str,
    account: &str,
    node: &str,
    phase: &str,
) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "uid": uid},
        "spec": {"serviceAccountName": account, "nodeName": node},
        "status": {"phase": phase},
    })
}

impl ApiServer {
    /// A server on loopback; its certificate's root and our own token are written to `dir`.
    pub async fn start(dir: &Path) -> ApiServer {
        let root = authority::root("kube", time::Duration::days(1));
        let (leaf, key) = authority::server(&root, "127.0.0.1");
        let roots = root.roots().to_pem();
        std::fs::write(dir.join("kube-ca.pem"), &roots).unwrap();
        std::fs::write(dir.join("kube-token"), "citadels-own-token\n").unwrap();
        let trust = read_trust("kube".parse().unwrap(), &roots, "").unwrap();
        let identity = TlsIdentity::new(&leaf.to_pem(), &key.to_pkcs8_pem(), Arc::new(trust));
        let (keep, identities) = watch::channel(Some(Arc::new(identity.unwrap())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, stop) = (Shared::default(), Stop::new());
        let router = Router::new()
            .route("/apis/authentication.k8s.io/v1/tokenreviews", post(answer))
            .route("/api/v1/namespaces/{namespace}/pods/{name}", get(one))
            .route("/api/v1/namespaces/{namespace}/pods", get(list))
            .fallback(page)
            .with_state(state.clone());
        let tls = TlsServer::new(identities, Clients::Optional);
        let work = serve_tls(listener, router, ServeConfig::default(), tls, stop.clone());
        tokio::spawn(work);
        ApiServer {
            address,
            state,
            stop,
            _identity: keep,
        }
    }

    /// Flags for a citadel that asks it.
    pub fn flags(&self, dir: &Path) -> [String; 3] {
        [
            format!("--kubernetes-api=https://{}", self.address),
            format!("--kubernetes-ca={}", dir.join("kube-ca.pem").display()),
            format!("--kubernetes-token={}", dir.join("kube-token").display()),
        ]
    }

    pub fn knows(&self, token: &str, status: Value) {
        let mut world = self.state.lock().unwrap();
        world.reviews.insert(token.to_owned(), status);
    }

    pub fn runs(&self, pod: Value) {
        self.state.lock().unwrap().pods.push(pod);
    }

    /// A page of its own: with a status of 302 the text is where to.
    pub fn page(&self, path: &str, status: u16, text: impl Into<String>) {
        let page = (StatusCode::from_u16(status).unwrap(), text.into());
        let mut world = self.state.lock().unwrap();
        world.pages.insert(path.to_owned(), page);
    }

    /// `https://..`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// How many reviews were asked for.
    pub fn asked(&self) -> usize {
        self.state.lock().unwrap().asked
    }
}

fn ours(headers: &HeaderMap) -> bool {
    headers
        .get("authorization")
        .is_some_and(|value| value == "Bearer citadels-own-token")
}

async fn answer(
    State(state): State<Shared>,
    headers: HeaderMap,
    Json(question): Json<Value>,
) -> (StatusCode, Json<Value>) {
    if !ours(&headers) {
        return (StatusCode::UNAUTHORIZED, Json(json!({"kind": "Status"})));
    }
    assert_eq!(question["spec"]["audiences"], json!(["istio-ca"]));
    let token = question["spec"]["token"].as_str().unwrap();
    let mut world = state.lock().unwrap();
    world.asked += 1;
    let unknown = json!({"user": {}, "error": "invalid bearer token"});
    let status = world.reviews.get(token).cloned().unwrap_or(unknown);
    let review =
        json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status});
    (StatusCode::CREATED, Json(review))
}

async fn page(State(state): State<Shared>, uri: Uri) -> (StatusCode, HeaderMap, String) {
    let world = state.lock().unwrap();
    let found = world.pages.get(uri.path()).cloned();
    let (status, text) = found.unwrap_or((StatusCode::NOT_FOUND, String::new()));
    let mut headers = HeaderMap::new();
    if status == StatusCode::FOUND {
        headers.insert("location", text.parse().unwrap());
    }
    (status, headers, text)
}

async fn one(
    State(state): State<Shared>,
    Segments((namespace, name)): Segments<(String, String)>,
) -> (StatusCode, Json<Value>) {
    let world = state.lock().unwrap();
    let found = world
        .pods
        .iter()
        .find(|pod| pod["metadata"]["namespace"] == *namespace && pod["metadata"]["name"] == *name);
    match found {
        Some(pod) => (StatusCode::OK, Json(pod.clone())),
        None => (StatusCode::NOT_FOUND, Json(json!({"kind": "Status"}))),
    }
}

async fn list(
    State(state): State<Shared>,
    Segments(namespace): Segments<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Json<Value> {
    let world = state.lock().unwrap();
    let selector = &query["fieldSelector"];
    let fits = |pod: &&Value| {
        let text = |path: &str| pod["spec"][path].as_str().unwrap().to_owned();
        let of = format!(
            "spec.nodeName={},spec.serviceAccountName={}",
            text("nodeName"),
            text("serviceAccountName")
        );
        pod["metadata"]["namespace"] == *namespace && of == *selector
    };
    let items: Vec<Value> = world.pods.iter().filter(fits).cloned().collect();
    Json(json!({"kind": "PodList", "items": items}))
}
