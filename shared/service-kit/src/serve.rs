//! Serving an axum `Router` over HTTP/1 and HTTP/2 (without TLS: h2c with prior knowledge, as gRPC clients do) on one port.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Extensions;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use crate::{Backoff, Stop};

/// How a listener treats its connections. The default fits the small HTTP endpoints; see [`ServeConfig::streams`].
#[derive(Clone, Debug, PartialEq)]
pub struct ServeConfig {
    /// HTTP/2 settings.
    pub http2: Http2Config,
    /// Most connections at once; further ones wait in the kernel's queue. Default 10 000.
    pub max_connections: usize,
    /// How long a new connection may stay silent, and how long HTTP/1 headers may take. Default 10 s.
    pub header_timeout: Duration,
    /// A connection older than this is asked to leave (GOAWAY), so that clients spread again over replicas. `None`, the
    /// default: never.
    pub max_age: Option<Duration>,
    /// After being asked to leave for its age, how long a connection may finish what it does. Default 30 s.
    pub max_age_grace: Duration,
    /// After the stop signal, how long connections may finish what they do. Default 5 s.
    pub stop_grace: Duration,
}

/// HTTP/2 settings of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Http2Config {
    /// Bytes a client may send on one stream before it is read. Range 1..=2^31-1, default 1 MiB. Ignored if `adaptive`.
    pub stream_window: u32,
    /// Bytes a client may send on all streams of a connection. Range 1..=2^31-1, default 2 MiB. Ignored if `adaptive`.
    pub connection_window: u32,
    /// Size the windows by measured bandwidth and delay. Default off.
    pub adaptive: bool,
    /// Ping a connection this often. Default 30 s; `None`: never.
    pub keepalive_interval: Option<Duration>,
    /// Close the connection if a ping is not answered within this. Default 10 s.
    pub keepalive_timeout: Duration,
    /// Most streams a client may have open on one connection. Default 1 000.
    pub max_concurrent_streams: u32,
    /// Most bytes of headers in one request. Default 64 KiB.
    pub max_header_list: u32,
    /// Bytes of one response held back per stream while the client does not read. Default 64 KiB.
    pub max_send_buffer: usize,
}

impl Default for Http2Config {
    fn default() -> Self {
        Self {
            stream_window: 1 << 20,
            connection_window: 2 << 20,
            adaptive: false,
            keepalive_interval: Some(Duration::from_secs(30)),
            keepalive_timeout: Duration::from_secs(10),
            max_concurrent_streams: 1_000,
            max_header_list: 64 << 10,
            max_send_buffer: 64 << 10,
        }
    }
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            http2: Http2Config::default(),
            max_connections: 10_000,
            header_timeout: Duration::from_secs(10),
            max_age: None,
            max_age_grace: Duration::from_secs(30),
            stop_grace: Duration::from_secs(5),
        }
    }
}

impl ServeConfig {
    /// For long-lived streams from many clients (xDS): more connections, fewer streams on each.
    pub fn streams() -> Self {
        Self {
            http2: Http2Config {
                max_concurrent_streams: 100,
                ..Http2Config::default()
            },
            max_connections: 100_000,
            ..Self::default()
        }
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout);
        let h2 = &self.http2;
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(h2.stream_window)
            .initial_connection_window_size(h2.connection_window)
            .keep_alive_interval(h2.keepalive_interval)
            .keep_alive_timeout(h2.keepalive_timeout)
            .max_concurrent_streams(h2.max_concurrent_streams)
            .max_header_list_size(h2.max_header_list)
            .max_send_buf_size(h2.max_send_buffer);
        if h2.adaptive {
            builder.http2().adaptive_window(true);
        }
        builder
    }
}

/// Serves `router` with the default [`ServeConfig`] until `stop`.
///
/// # Errors
/// None at present: a failing `accept` is retried. The type leaves room for it.
pub async fn serve_http(listener: TcpListener, router: Router, stop: Stop) -> io::Result<()> {
    serve(listener, router, ServeConfig::default(), stop).await
}

/// Serves `router` over HTTP/1 and HTTP/2 on `listener` until `stop`; then closes the listener, asks connections to leave,
/// waits `stop_grace` for them and drops the rest.
///
/// Handlers find the client's address as `ConnectInfo<SocketAddr>`. A stream without end should watch the stop signal
/// itself, or it is cut after the grace.
///
/// # Errors
/// None at present: a failing `accept` is retried. The type leaves room for it.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: ServeConfig,
    stop: Stop,
) -> io::Result<()> {
    let config = Arc::new(config);
    accept_all(listener, &config, &stop, |tcp, peer| {
        let (router, config, stop) = (router.clone(), config.clone(), stop.clone());
        async move {
            if silent(&tcp, config.header_timeout, &stop).await {
                return;
            }
            let _ = tcp.set_nodelay(true);
            serve_connection(tcp, peer, router, &config, &stop).await;
        }
    })
    .await;
    Ok(())
}

/// Accepts connections until `stop`, and runs `handle` for each in a task of its own, `max_connections` at most at once; then closes
/// the listener and gives them `stop_grace` to end.
pub(crate) async fn accept_all<F>(
    listener: TcpListener,
    config: &ServeConfig,
    stop: &Stop,
    mut handle: impl FnMut(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    crate::files::raise_limit();
    let places = Arc::new(Semaphore::new(
        config.max_connections.min(Semaphore::MAX_PERMITS),
    ));
    let mut connections = JoinSet::new();
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1));
    loop {
        let accepted = tokio::select! {
            () = stop.wait() => break,
            accepted = accept(&listener, &places) => accepted,
            // Collects what ended, so that the set does not grow.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((tcp, peer, place)) => {
                backoff.reset();
                let work = handle(tcp, peer);
                connections.spawn(async move {
                    let _place = place;
                    work.await;
                });
            }
            Err(error) => {
                // Out of file descriptors or memory: waiting lets connections end.
                let wait = backoff.next_delay();
                tracing::warn!(%error, ?wait, "cannot accept a connection, trying again");
                tokio::select! { () = stop.wait() => break, () = sleep(wait) => {} }
            }
        }
    }
    drop(listener);
    let drain = async { while connections.join_next().await.is_some() {} };
    if timeout(config.stop_grace, drain).await.is_err() {
        tracing::info!(
            connections = connections.len(),
            "dropping connections that did not end in time"
        );
        connections.shutdown().await;
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let place = places
        .clone()
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (tcp, peer) = listener.accept().await?;
    Ok((tcp, peer, place))
}

/// Whether the client sent nothing for `bound`, or the stop signal came first.
async fn silent(tcp: &TcpStream, bound: Duration, stop: &Stop) -> bool {
    tokio::select! {
        () = stop.wait() => true,
        ready = timeout(bound, tcp.readable()) => !matches!(ready, Ok(Ok(()))),
    }
}

/// Serves one connection (plain or already decrypted) until the client closes it, it is too old, or `stop`: then it is
/// asked to leave, and the caller bounds how long that may take.
pub async fn serve_connection<I>(
    io: I,
    peer: SocketAddr,
    router: Router,
    config: &ServeConfig,
    stop: &Stop,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let aged = async {
        match config.max_age {
            Some(age) => sleep(spread(age)).await,
            None => std::future::pending().await,
        }
    };
    let leave = async {
        tokio::select! {
            () = stop.wait() => None,
            () = aged => Some(config.max_age_grace),
        }
    };
    let mark = move |extensions: &mut Extensions| {
        extensions.insert(ConnectInfo(peer));
    };
    drive(io, peer, mark, router, config, leave).await;
}

/// Serves one connection. `mark` says who the client is in each request's extensions. When `leave` is ready the client is asked to
/// leave; if it gives a time, the connection is cut after that.
pub(crate) async fn drive<I>(
    io: I,
    peer: SocketAddr,
    mark: impl Fn(&mut Extensions),
    router: Router,
    config: &ServeConfig,
    leave: impl Future<Output = Option<Duration>>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        mark(request.extensions_mut());
        let router = router.clone();
        async move { Ok::<_, Infallible>(never(router.oneshot(request.map(Body::new)).await)) }
    });
    let builder = config.builder();
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut leave = pin!(leave);
    let grace = tokio::select! {
        ended = connection.as_mut() => return over(peer, ended),
        grace = leave.as_mut() => grace,
    };
    connection.as_mut().graceful_shutdown();
    match grace {
        None => over(peer, connection.await),
        Some(grace) => {
            if let Ok(ended) = timeout(grace, connection).await {
                over(peer, ended);
            }
        }
    }
}

fn over(peer: SocketAddr, ended: Result<(), impl std::fmt::Display>) {
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// `age` plus or minus a tenth, so that clients that came together do not leave together.
pub(crate) fn spread(age: Duration) -> Duration {
    age.mul_f64(rand::RngExt::random_range(&mut rand::rng(), 0.9..=1.1))
}

fn never<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
    }
}

#[cfg(test)]
mod tests;
