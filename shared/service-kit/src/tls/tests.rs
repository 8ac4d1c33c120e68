//! Over real sockets: who gets in, who stays, and what a client is told.

mod authority;
mod bounds;
mod rotation;
mod who;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_types::SpiffeId;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use self::authority::Ca;
use super::*;
use crate::{ServeConfig, Stop};

type Send = conn::http2::SendRequest<Empty<Bytes>>;

/// A server with an identity that can be changed.
struct Server {
    addr: SocketAddr,
    identity: watch::Sender<Option<Arc<TlsIdentity>>>,
    stop: Stop,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start(
        identity: Option<TlsIdentity>,
        clients: Clients,
        change: impl FnOnce(&mut TlsServer, &mut ServeConfig),
    ) -> Server {
        let (sender, receiver) = watch::channel(identity.map(Arc::new));
        let mut tls = TlsServer::new(receiver, clients);
        let mut config = ServeConfig::default();
        change(&mut tls, &mut config);
        let listener = crate::bind("127.0.0.1:0", "test").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = Stop::new();
        let task = tokio::spawn(serve_tls(listener, router(), config, tls, stop.clone()));
        Server {
            addr,
            identity: sender,
            stop,
            task,
        }
    }

    async fn with(identity: TlsIdentity, clients: Clients) -> Server {
        Server::start(Some(identity), clients, |_, _| {}).await
    }

    fn becomes(&self, identity: TlsIdentity) {
        self.identity.send_replace(Some(Arc::new(identity)));
    }
}

fn router() -> Router {
    async fn who(request: axum::extract::Request) -> String {
        match Peer::of(request.extensions()) {
            Some(peer) => peer.id.to_string(),
            None => "anonymous".into(),
        }
    }
    Router::new()
        .route("/who", get(who))
        .route("/never", get(std::future::pending::<String>))
        // A gRPC method that answers with OK, and one that never answers.
        .route("/test.Test/Ok", post(|| async { ok() }))
        .route("/test.Test/Never", post(std::future::pending::<String>))
}

fn ok() -> http::Response<axum::body::Body> {
    // An empty message, and the status in the trailers' place.
    let mut response = http::Response::new(axum::body::Body::empty());
    let headers = response.headers_mut();
    headers.insert("content-type", "application/grpc".parse().unwrap());
    headers.insert("grpc-status", "0".parse().unwrap());
    response
}

fn id(account: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://one.test/ns/mesh/sa/{account}")).unwrap()
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://test{path}"))
        .body(Empty::new())
        .unwrap()
}

/// Connects and asks once: only then it is known whether the server took the certificate.
async fn connect_as(addr: SocketAddr, tls: ClientTls) -> Result<Send, String> {
    connect_to(addr, tls, ServerId::spiffe(id("server"))).await
}

async fn connect_to(addr: SocketAddr, tls: ClientTls, server: ServerId) -> Result<Send, String> {
    with_config(addr, client_config(tls, server)).await
}

async fn with_config(addr: SocketAddr, mut config: ClientConfig) -> Result<Send, String> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(addr).await.map_err(|e| e.to_string())?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .map_err(|e| e.to_string())?;
    let (send, connection) = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let mut send = send;
    match ask(&mut send, "/who").await {
        Ok(_) => Ok(send),
        Err(error) => Err(match driver.await {
            Ok(Err(error)) => format!("{error:?}"),
            _ => error,
        }),
    }
}

async fn ask(send: &mut Send, path: &str) -> Result<String, String> {
    send.ready().await.map_err(|e| e.to_string())?;
    let response = send
        .send_request(request(path))
        .await
        .map_err(|e| e.to_string())?;
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

/// Long enough for anything that happens, short enough for a test that fails.
async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), what)
        .await
        .expect("within 10 s")
}
