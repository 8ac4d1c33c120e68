//! Small, bounded HTTP/1 requests: to Envoy's administration, to applications that are probed or scraped.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// A request without a body.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// GET, POST...
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// `Host`, unless the headers have one.
    pub host: &'a str,
    /// Headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// Most bytes of the answer's body.
    pub most: usize,
    /// What becomes of an answer with more.
    pub beyond: Beyond,
    /// How long all of it may take.
    pub patience: Duration,
}

/// What becomes of an answer that is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// It is an error.
    Refuse,
    /// Its beginning is enough; the rest is not waited for.
    Cut,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: u16,
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

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It took too long.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// Nobody listens, or the connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is no HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// What should be sent is no HTTP.
    #[error("{0}")]
    Request(#[from] http::Error),
    /// The answer is too large.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
}

/// Asks over a new connection.
///
/// # Errors
/// See [`AskError`].
pub async fn ask(at: SocketAddr, ask: &Ask<'_>) -> Result<Answer, AskError> {
    let exchange = async { exchange(TcpStream::connect(at).await?, ask).await };
    timeout(ask.patience, exchange)
        .await
        .map_err(|_| AskError::Late(ask.patience))?
}

/// Opens a connection from an address of this machine.
pub async fn connect_from(from: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(from) = from
        && from.is_ipv4() == to.is_ipv4()
    {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(to).await
}

/// Asks over a connection that is there, once. The caller bounds the time.
pub async fn exchange<I>(io: I, ask: &Ask<'_>) -> Result<Answer, AskError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    let mut request = http::Request::builder()
        .method(ask.method)
        .uri(ask.path)
        .body(Empty::<Bytes>::new())?;
    let headers = request.headers_mut();
    for (name, value) in ask.headers {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).map_err(http::Error::from)?,
            HeaderValue::from_str(value).map_err(http::Error::from)?,
        );
    }
    if !headers.contains_key(http::header::HOST) {
        headers.insert(
            http::header::HOST,
            HeaderValue::from_str(ask.host).map_err(http::Error::from)?,
        );
    }
    headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    let receive = async {
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: read(body, ask).await?,
        })
    };
    // The connection is driven beside the exchange, and ends with it.
    let mut connection = std::pin::pin!(connection);
    let mut receive = std::pin::pin!(receive);
    tokio::select! {
        answer = &mut receive => answer,
        ended = &mut connection => {
            ended?;
            receive.await
        }
    }
}

async fn read(mut body: hyper::body::Incoming, ask: &Ask<'_>) -> Result<Bytes, AskError> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        let room = ask.most - read.len();
        read.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return match ask.beyond {
                Beyond::Refuse => Err(AskError::TooLarge(ask.most)),
                Beyond::Cut => Ok(read.freeze()),
            };
        }
    }
    Ok(read.freeze())
}
