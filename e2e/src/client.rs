//! The application's side: HTTP requests to one address, under any host name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::HeaderMap;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::ClientConfig;
use serde_json::Value;
use testkit::netns::Namespace;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::capture;

/// Longest time one request may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// A request that is still being described.
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    target: String,
    host: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Call {
    /// A GET of a path, at a host as the application knows it: `reviews`, `reviews:9080`.
    pub fn get(host: impl Into<String>, path: impl Into<String>) -> Call {
        Call::new(Method::GET, host, path)
    }

    /// A request with any method.
    pub fn new(method: Method, host: impl Into<String>, path: impl Into<String>) -> Call {
        Call {
            method,
            target: path.into(),
            host: host.into(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Call {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Call {
        self.body = body.into();
        self
    }

    fn request(&self, absolute: bool) -> Result<Request<Full<Bytes>>, CallError> {
        let target = if absolute {
            format!("http://{}{}", self.host, self.target)
        } else {
            self.target.clone()
        };
        let mut builder = Request::builder().method(self.method.clone()).uri(target);
        if !absolute {
            builder = builder.header("host", &self.host);
        }
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        builder
            .body(Full::new(self.body.clone()))
            .map_err(|error| CallError(format!("not a request: {error}")))
    }
}

/// A response, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What the backend says it saw; null if the answer is not one of our backends'.
    pub fn seen(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Which backend answered; empty if none of ours did.
    pub fn backend(&self) -> String {
        self.seen()["backend"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// A header; empty if there is none.
    pub fn header(&self, name: &str) -> String {
        let values = self.headers.get_all(name);
        let values: Vec<_> = values.iter().filter_map(|v| v.to_str().ok()).collect();
        values.join(",")
    }
}

/// Why there is no response.
#[derive(Debug, Clone)]
pub struct CallError(String);

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CallError {}

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Version {
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// Sends requests to one address. Cheap to clone; clones share idle connections.
#[derive(Debug, Clone)]
pub struct Client {
    to: SocketAddr,
    /// Where the application believes it connects to, told to a capturing proxy.
    destination: Option<SocketAddr>,
    /// Where its sockets are, and of which user.
    namespace: Option<(Arc<Namespace>, u32)>,
    version: Version,
    forward_proxy: bool,
    tls: Option<Arc<ClientConfig>>,
    idle: Arc<Mutex<Vec<http1::SendRequest<Full<Bytes>>>>>,
}

impl Client {
    /// A client of an address.
    pub fn to(to: SocketAddr) -> Client {
        Client {
            to,
            destination: None,
            namespace: None,
            version: Version::default(),
            forward_proxy: false,
            tls: None,
            idle: Arc::default(),
        }
    }

    /// The same over HTTP/2 with prior knowledge.
    pub fn http2(mut self) -> Client {
        self.version = Version::Http2;
        self
    }

    /// The same as a client of a forward proxy: absolute request targets, as with `HTTP_PROXY` set.
    pub fn by_forward_proxy(mut self) -> Client {
        self.forward_proxy = true;
        self
    }

    /// The same as if connections to `destination` had been redirected to the proxy ([`crate::capture`]).
    pub fn captured(mut self, destination: SocketAddr) -> Client {
        self.destination = Some(destination);
        self.idle = Arc::default();
        self
    }

    /// The same with sockets in a network namespace that are of a user, and of the group of that number.
    pub fn from_namespace(mut self, namespace: Arc<Namespace>, user: u32) -> Client {
        self.namespace = Some((namespace, user));
        self.idle = Arc::default();
        self
    }

    /// The same inside TLS.
    pub fn over_tls(mut self, tls: Arc<ClientConfig>) -> Client {
        self.tls = Some(tls);
        self.idle = Arc::default();
        self
    }

    /// The same without the connections of before.
    pub fn fresh(&self) -> Client {
        Client {
            idle: Arc::default(),
            ..self.clone()
        }
    }

    /// Opens a connection, for what is not HTTP; without TLS.
    ///
    /// # Errors
    /// The system's.
    pub async fn connect(&self) -> std::io::Result<TcpStream> {
        let mut stream = match &self.namespace {
            None => TcpStream::connect(self.to).await?,
            Some((namespace, user)) => {
                let make = || match self.to {
                    SocketAddr::V4(_) => TcpSocket::new_v4(),
                    SocketAddr::V6(_) => TcpSocket::new_v6(),
                };
                let socket = namespace.as_user(*user, *user, make)?;
                socket.connect(self.to).await?
            }
        };
        stream.set_nodelay(true)?;
        if let Some(destination) = self.destination {
            let source = stream.local_addr()?;
            stream
                .write_all(&capture::header(source, destination))
                .await?;
        }
        Ok(stream)
    }

    /// Sends a request and reads the whole response.
    ///
    /// # Errors
    /// There is no response: refused, reset, cut short, or nothing for 40 s.
    pub async fn send(&self, call: &Call) -> Result<Answer, CallError> {
        match tokio::time::timeout(PATIENCE, self.exchange(call)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CallError(format!("no response within {PATIENCE:?}"))),
        }
    }

    /// A GET that must have a response, whatever it says.
    ///
    /// # Panics
    /// Without response.
    pub async fn get(&self, host: &str, path: &str) -> Answer {
        self.must(&Call::get(host, path)).await
    }

    /// A request that must have a response, whatever it says.
    ///
    /// # Panics
    /// Without response.
    pub async fn must(&self, call: &Call) -> Answer {
        match self.send(call).await {
            Ok(answer) => answer,
            Err(error) => panic!("{} {}{}: {error}", call.method, call.host, call.target),
        }
    }

    /// The same request `count` times, `abreast` at a time; the answers in any order.
    ///
    /// # Panics
    /// If one has no response.
    pub async fn burst(&self, call: &Call, count: usize, abreast: usize) -> Vec<Answer> {
        futures::stream::iter(0..count)
            .map(|_| self.must(call))
            .buffer_unordered(abreast)
            .collect()
            .await
    }

    async fn exchange(&self, call: &Call) -> Result<Answer, CallError> {
        let request = call.request(self.forward_proxy || self.version == Version::Http2)?;
        match self.version {
            Version::Http1 => self.http1(request).await,
            Version::Http2 => {
                let (mut sender, connection) =
                    http2::handshake(TokioExecutor::new(), self.io().await?)
                        .await
                        .map_err(explain)?;
                let connection = tokio::spawn(connection);
                let answer = read(sender.send_request(request).await.map_err(explain)?).await;
                connection.abort();
                answer
            }
        }
    }

    async fn http1(&self, request: Request<Full<Bytes>>) -> Result<Answer, CallError> {
        let mut sender = loop {
            let Some(mut idle) = self.idle.lock().pop() else {
                let (sender, connection) =
                    http1::handshake(self.io().await?).await.map_err(explain)?;
                tokio::spawn(connection);
                break sender;
            };
            // A connection the proxy closed since is no failure: nothing was sent on it.
            if idle.ready().await.is_ok() {
                break idle;
            }
        };
        let answer = read(sender.send_request(request).await.map_err(explain)?).await?;
        if !answer.header("connection").eq_ignore_ascii_case("close") {
            self.idle.lock().push(sender);
        }
        Ok(answer)
    }

    async fn io(&self) -> Result<TokioIo<Box<dyn Stream>>, CallError> {
        let failed = |error| CallError(format!("{}: {error}", self.to));
        let stream = self.connect().await.map_err(failed)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                let connector = TlsConnector::from(tls.clone());
                let name = self.to.ip().into();
                Box::new(connector.connect(name, stream).await.map_err(failed)?)
            }
        };
        Ok(TokioIo::new(stream))
    }
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn read(response: Response<Incoming>) -> Result<Answer, CallError> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(explain)?.to_bytes();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}

fn explain(error: hyper::Error) -> CallError {
    use std::error::Error as _;
    let cause = error
        .source()
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    CallError(format!("{error}{cause}"))
}
