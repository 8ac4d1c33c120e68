//! An authorizer that is asked over gRPC: `envoy.service.auth.v3.Authorization`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// The one method.
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// `CheckResponse { status { code: OK } }` and `CheckResponse { status { code: PERMISSION_DENIED } }`, each in a frame of gRPC.
const ALLOWED: &[u8] = &[0, 0, 0, 0, 2, 0x0a, 0];
const REFUSED: &[u8] = &[0, 0, 0, 0, 4, 0x0a, 2, 0x08, 7];

#[derive(Debug, Default)]
struct State {
    refuses: AtomicBool,
    asked: AtomicUsize,
}

/// A running authorizer, which allows everything at first. It ends when dropped.
#[derive(Debug)]
pub struct Authorizer {
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Authorizer {
    /// An authorizer at an address.
    ///
    /// # Panics
    /// If the address cannot be listened on.
    pub async fn start(address: SocketAddr) -> Authorizer {
        let listener = TcpListener::bind(address)
            .await
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        let state = Arc::<State>::default();
        let task = tokio::spawn(serve(listener, state.clone()));
        Authorizer { state, task }
    }

    /// Refuses everything from now on, or allows everything again.
    pub fn refuse(&self, refuses: bool) {
        self.state.refuses.store(refuses, Ordering::SeqCst);
    }

    /// How often it has been asked.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Authorizer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(|request| answer(state.clone(), request));
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let known = request.uri().path() == CHECK;
    let _ = request.into_body().collect().await;
    state.asked.fetch_add(1, Ordering::SeqCst);
    let message = match state.refuses.load(Ordering::SeqCst) {
        true => REFUSED,
        false => ALLOWED,
    };
    let mut trailers = HeaderMap::new();
    // 12: no such method.
    let status = if known { "0" } else { "12" };
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let body = Full::new(Bytes::from_static(message));
    let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    Ok(response)
}
