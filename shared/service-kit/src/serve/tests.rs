//! Served over real sockets, by hyper's own clients.

use super::*;
use axum::routing::get;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn;

async fn start(config: ServeConfig) -> (SocketAddr, Stop, tokio::task::JoinHandle<io::Result<()>>) {
    let router = Router::new()
        .route(
            "/peer",
            get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }),
        )
        .route(
            "/never",
            get(|| async { std::future::pending::<String>().await }),
        );
    let listener = crate::bind("127.0.0.1:0", "test").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let stop = Stop::new();
    let server = tokio::spawn(serve(listener, router, config, stop.clone()));
    (addr, stop, server)
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://test{path}"))
        .header("host", "test")
        .body(Empty::new())
        .unwrap()
}

async fn h2(addr: SocketAddr) -> conn::http2::SendRequest<Empty<Bytes>> {
    let tcp = TcpStream::connect(addr).await.unwrap();
    let (send, conn) = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
        .await
        .unwrap();
    tokio::spawn(conn);
    send
}

async fn text(response: hyper::Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8_lossy(&body).into_owned()
}

#[tokio::test]
async fn serves_both_versions_on_one_port_and_knows_the_client() {
    let (addr, stop, server) = start(ServeConfig::default()).await;
    let response = h2(addr).await.send_request(request("/peer")).await.unwrap();
    assert_eq!(response.version(), hyper::Version::HTTP_2);
    assert_eq!(text(response).await, "127.0.0.1");

    let tcp = TcpStream::connect(addr).await.unwrap();
    let (mut send, conn) = conn::http1::handshake(TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(conn);
    let response = send.send_request(request("/peer")).await.unwrap();
    assert_eq!(response.version(), hyper::Version::HTTP_11);
    assert_eq!(text(response).await, "127.0.0.1");

    stop.trigger();
    server.await.unwrap().unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn a_request_without_end_does_not_keep_the_server() {
    let config = ServeConfig {
        stop_grace: Duration::from_millis(20),
        ..ServeConfig::default()
    };
    let (addr, stop, server) = start(config).await;
    let mut send = h2(addr).await;
    send.send_request(request("/peer")).await.unwrap();
    let endless = tokio::spawn(send.send_request(request("/never")));
    tokio::task::yield_now().await;
    stop.trigger();
    server.await.unwrap().unwrap();
    assert!(endless.await.unwrap().is_err());
}

#[tokio::test]
async fn a_silent_or_idle_client_does_not_delay_the_stop() {
    let (addr, stop, server) = start(ServeConfig {
        stop_grace: Duration::from_secs(3600),
        ..ServeConfig::default()
    })
    .await;
    let _silent = TcpStream::connect(addr).await.unwrap();
    let mut idle = h2(addr).await;
    idle.send_request(request("/peer")).await.unwrap();
    stop.trigger();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_old_connection_is_asked_to_leave() {
    let (addr, _stop, _server) = start(ServeConfig {
        max_age: Some(Duration::from_millis(10)),
        ..ServeConfig::default()
    })
    .await;
    let mut send = h2(addr).await;
    // Requests work until the server says GOAWAY; then the client's half closes by itself.
    while send.ready().await.is_ok() {
        if send.send_request(request("/peer")).await.is_err() {
            break;
        }
    }
    let mut next = h2(addr).await;
    assert!(next.send_request(request("/peer")).await.is_ok());
}

#[tokio::test]
async fn the_last_place_is_given_again_when_it_is_free() {
    let (addr, _stop, _server) = start(ServeConfig {
        max_connections: 1,
        ..ServeConfig::default()
    })
    .await;
    let mut first = h2(addr).await;
    first.send_request(request("/peer")).await.unwrap();
    let waiting = tokio::spawn(async move {
        let mut second = h2(addr).await;
        second.send_request(request("/peer")).await.is_ok()
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(first);
    assert!(waiting.await.unwrap());
}
