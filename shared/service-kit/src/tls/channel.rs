//! gRPC over TLS, for tonic's clients.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{self, Endpoint};
use tower::service_fn;

use super::client::{ClientTls, ServerId, client_config};
use super::{Refused, Trust};

/// Longest time to connect, and then to shake hands.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what runs over a connection may go on when the server is not believed any more, unless its certificate was taken back.
const GRACE: Duration = Duration::from_secs(10);

/// A gRPC channel over TLS: the transport of tonic's clients (`XClient::new(channel)`).
///
/// It connects when it is used, and again whenever the connection breaks. When the trust changes, calls go over a new connection, and
/// the old one ends when what runs over it has ended; at the latest soon after its server is not believed any more.
#[derive(Clone, Debug)]
pub struct Channel {
    shared: Arc<Shared>,
    /// The connection that said it has room, until it is used.
    picked: Option<transport::Channel>,
}

#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    tls: ClientTls,
    server: ServerId,
    config: Arc<ClientConfig>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    trust: Option<Arc<Trust>>,
    channel: transport::Channel,
}

/// Why an address cannot be connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// It is no address.
    #[error("{address:?} is no address to connect to over TLS ({reason}); write https://host:port")]
    Address {
        /// As written.
        address: String,
        /// What is wrong.
        reason: String,
    },
}

/// The endpoint of `https://host:port` (`tls://` and no scheme mean the same), with keepalive and time-outs; to be changed and handed to
/// [`connect_with`].
///
/// # Errors
/// See [`ConnectError`]; `http://` is refused.
pub fn endpoint(address: &str) -> Result<Endpoint, ConnectError> {
    let wrong = |reason: &str| ConnectError::Address {
        address: address.to_owned(),
        reason: reason.to_owned(),
    };
    let host = match address.split_once("://") {
        None => address,
        Some(("https" | "tls" | "grpcs", host)) => host,
        Some(("http", _)) => return Err(wrong("http:// is plaintext")),
        Some(_) => return Err(wrong("the scheme is not known")),
    };
    let uri: Uri = format!("http://{}", host.trim_end_matches('/'))
        .parse()
        .map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
    if uri.port_u16().is_none() {
        return Err(wrong("there is no port"));
    }
    if uri.path() != "/" {
        return Err(wrong("a path has no meaning"));
    }
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let origin: Uri = format!("https://{host}")
        .parse()
        .map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
    Ok(Endpoint::from(uri)
        .origin(origin)
        .connect_timeout(PATIENCE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true))
}

/// A channel to the server at `address`, which must be `server`. Returns at once; must be called inside a tokio runtime.
///
/// # Errors
/// The address is none; see [`endpoint`].
pub fn connect(
    address: &str,
    tls: impl Into<ClientTls>,
    server: ServerId,
) -> Result<Channel, ConnectError> {
    Ok(connect_with(endpoint(address)?, tls, server))
}

/// As [`connect`], with an endpoint of one's own: from [`endpoint`], or another one with an `http://` address.
pub fn connect_with(endpoint: Endpoint, tls: impl Into<ClientTls>, server: ServerId) -> Channel {
    let tls = tls.into();
    let mut config = client_config(tls.clone(), server.clone());
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let current = Current {
        trust: tls.trust(),
        channel: open(&endpoint, &tls, &server, &config),
    };
    Channel {
        shared: Arc::new(Shared {
            endpoint,
            tls,
            server,
            config,
            current: Mutex::new(current),
        }),
        picked: None,
    }
}

fn open(
    endpoint: &Endpoint,
    tls: &ClientTls,
    server: &ServerId,
    config: &Arc<ClientConfig>,
) -> transport::Channel {
    let (tls, server, config) = (tls.clone(), server.clone(), config.clone());
    endpoint.connect_with_connector_lazy(service_fn(move |uri: Uri| {
        let (tls, server, config) = (tls.clone(), server.clone(), config.clone());
        async move { dial(&uri, tls, server, config).await.map(TokioIo::new) }
    }))
}

async fn dial(
    uri: &Uri,
    tls: ClientTls,
    server: ServerId,
    config: Arc<ClientConfig>,
) -> io::Result<Believed> {
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(443);
    let tcp = TcpStream::connect((host, port)).await?;
    tcp.set_nodelay(true)?;
    let name = match &server {
        ServerId::Name(name) => name.clone(),
        ServerId::Spiffe(_) => ServerName::try_from(host.to_owned()).map_err(io::Error::other)?,
    };
    let handshake = TlsConnector::from(config).connect(name, tcp);
    let stream = tokio::time::timeout(PATIENCE, handshake)
        .await
        .map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake takes too long")
        })??;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
    let doubt = Box::pin(async move {
        let refused = tls.refuses(chain, server).await;
        if !matches!(refused, Refused::Revoked(_)) {
            tokio::time::sleep(GRACE).await;
        }
        refused
    });
    Ok(Believed {
        stream,
        doubt: Some(doubt),
        refused: None,
    })
}

/// A connection that breaks when its server is not believed any more.
struct Believed {
    stream: TlsStream<TcpStream>,
    doubt: Option<Pin<Box<dyn Future<Output = Refused> + Send>>>,
    refused: Option<Refused>,
}

impl Believed {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(doubt) = &mut self.doubt
            && let Poll::Ready(refused) = doubt.as_mut().poll(cx)
        {
            tracing::info!(error = %refused, "leaving a server: the trust has changed");
            self.doubt = None;
            self.refused = Some(refused);
        }
        match &self.refused {
            None => Ok(()),
            Some(refused) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                refused.clone(),
            )),
        }
    }
}

impl AsyncRead for Believed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Believed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Channel {
    /// The connection for new calls: another one when the trust is another one.
    fn newest(&self) -> transport::Channel {
        let shared = &*self.shared;
        let trust = shared.tls.trust();
        let mut current = shared.current.lock();
        if current.trust != trust {
            // Nobody holds the old one but calls that run; it ends with them.
            current.channel = open(
                &shared.endpoint,
                &shared.tls,
                &shared.server,
                &shared.config,
            );
            current.trust = trust;
        }
        current.channel.clone()
    }
}

impl tower::Service<http::Request<tonic::body::Body>> for Channel {
    type Response = http::Response<tonic::body::Body>;
    type Error = transport::Error;
    type Future = transport::channel::ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), transport::Error>> {
        let mut channel = self.newest();
        ready!(channel.poll_ready(cx))?;
        self.picked = Some(channel);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let mut channel = self.picked.take().unwrap_or_else(|| self.newest());
        channel.call(request)
    }
}
