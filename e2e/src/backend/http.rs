//! HTTP.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{Behaviour, Seen, State};

pub(super) async fn serve(name: Arc<str>, listener: TcpListener, state: Arc<Mutex<State>>) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, peer)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        state.lock().connections += 1;
        let (name, state) = (name.clone(), state.clone());
        connections.spawn(async move {
            let service = service_fn(|request| answer(name.clone(), state.clone(), peer, request));
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    name: Arc<str>,
    state: Arc<Mutex<State>>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let seen = seen(&request, peer);
    let behaviour = {
        let mut state = state.lock();
        state.seen.push(seen.clone());
        let now = state.behaviour.clone();
        if let Some(times) = &mut state.behaviour.times {
            *times = times.saturating_sub(1);
        }
        now
    };
    let _ = request.into_body().collect().await;
    if !behaviour.delay.is_zero() {
        tokio::time::sleep(behaviour.delay).await;
    }
    Ok(response(&name, &seen, &behaviour))
}

fn seen(request: &Request<Incoming>, peer: SocketAddr) -> Seen {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in request.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(name.to_string())
            .and_modify(|all| {
                all.push(',');
                all.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    let uri = request.uri();
    Seen {
        method: request.method().to_string(),
        path: uri
            .path_and_query()
            .map_or_else(|| uri.to_string(), ToString::to_string),
        host: match uri.authority() {
            Some(authority) => authority.to_string(),
            None => headers.get("host").cloned().unwrap_or_default(),
        },
        protocol: format!("{:?}", request.version()),
        headers,
        peer: peer.ip().to_string(),
    }
}

fn response(name: &str, seen: &Seen, behaviour: &Behaviour) -> Response<Full<Bytes>> {
    let body = json!({
        "backend": name,
        "method": seen.method,
        "path": seen.path,
        "host": seen.host,
        "protocol": seen.protocol,
        "headers": seen.headers,
        "peer": seen.peer,
    });
    let status = match behaviour.times {
        Some(0) => 200,
        _ => behaviour.status.unwrap_or(200),
    };
    let mut builder = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    for (name, value) in &behaviour.headers {
        builder = builder.header(name, value);
    }
    let body = match &behaviour.body {
        Some(body) => body.clone(),
        None => format!("{body}\n"),
    };
    builder
        .body(Full::new(body.into()))
        .unwrap_or_else(|error| panic!("{name}: {behaviour:?}: {error}"))
}
