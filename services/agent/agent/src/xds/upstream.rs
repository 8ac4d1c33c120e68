//! The way to Pilot: several addresses, tried in turn.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent_core::options::Endpoint;
use agent_core::wire::Variant;
use bytes::Bytes;
use http::uri::PathAndQuery;
use service_kit::tls::{Channel, ClientTls, ServerId};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::{Request, Status, Streaming, transport};

use super::codec::Raw;
use super::{MAX_REQUEST, MAX_RESPONSE, method};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// The Pilots, of which one is asked at a time. Clones share which.
#[derive(Clone)]
pub struct Pilots(Arc<Inner>);

struct Inner {
    servers: Vec<(String, Server)>,
    /// Which is asked: the last that worked, or the one after the last that did not.
    turn: AtomicUsize,
    headers: Vec<(AsciiMetadataKey, AsciiMetadataValue)>,
    token: Option<PathBuf>,
}

enum Server {
    Tls(Channel),
    Plain(transport::Channel),
}

/// Pilots that cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// There is none.
    #[error("discoveryAddress: there is no Pilot to ask")]
    None,
    /// An address that is none.
    #[error("discoveryAddress {address}: {reason}")]
    Address {
        /// As a URL.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// Pilot is to be asked over TLS, and nobody says who it is.
    #[error(
        "discoveryAddress: Pilot is asked over TLS, and there is no source of an identity to ask it with"
    )]
    NoIdentity,
    /// Something that cannot be a header.
    #[error("XDS_HEADER_{0}: is no header")]
    Header(String),
}

impl Pilots {
    /// `tls` is who we are and whom we believe; needed unless all addresses are without TLS. `token` is a file with a token that says who we are, for
    /// who has no certificate; it is sent over TLS only.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub fn new(
        addresses: &[Endpoint],
        tls: Option<(ClientTls, ServerId)>,
        headers: &[(String, String)],
        token: Option<PathBuf>,
    ) -> Result<Pilots, UpstreamError> {
        if addresses.is_empty() {
            return Err(UpstreamError::None);
        }
        let servers = addresses.iter().map(|address| {
            let url = address.to_string();
            let wrong = |reason: String| UpstreamError::Address {
                address: url.clone(),
                reason,
            };
            let server = if address.tls {
                let (tls, id) = tls.clone().ok_or(UpstreamError::NoIdentity)?;
                let endpoint =
                    service_kit::tls::endpoint(&url).map_err(|error| wrong(error.to_string()))?;
                let endpoint = with_windows(endpoint);
                Server::Tls(service_kit::tls::connect_with(endpoint, tls, id))
            } else {
                let endpoint = transport::Endpoint::from_shared(url.clone())
                    .map_err(|error| wrong(error.to_string()))?
                    .connect_timeout(CONNECT)
                    .tcp_nodelay(true)
                    .http2_keep_alive_interval(Duration::from_secs(30))
                    .keep_alive_timeout(Duration::from_secs(10))
                    .keep_alive_while_idle(true);
                Server::Plain(with_windows(endpoint).connect_lazy())
            };
            Ok((url, server))
        });
        let servers = servers.collect::<Result<_, _>>()?;
        let headers = headers.iter().map(|(name, value)| {
            let key = AsciiMetadataKey::from_bytes(name.as_bytes());
            match (key, AsciiMetadataValue::try_from(value.as_str())) {
                (Ok(key), Ok(value)) => Ok((key, value)),
                _ => Err(UpstreamError::Header(name.clone())),
            }
        });
        Ok(Pilots(Arc::new(Inner {
            servers,
            turn: AtomicUsize::new(0),
            headers: headers.collect::<Result<_, _>>()?,
            token,
        })))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.servers.len()
    }

    /// The one that is asked now.
    pub(super) fn current(&self) -> (usize, &str) {
        let turn = self.0.turn.load(Ordering::Relaxed) % self.0.servers.len();
        (turn, &self.0.servers[turn].0)
    }

    /// This one did not work: the next is asked from now on, unless somebody has moved on already.
    pub(super) fn pass(&self, turn: usize) {
        let next = (turn + 1) % self.0.servers.len();
        let _ = self
            .0
            .turn
            .compare_exchange(turn, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Opens a stream.
    pub(super) async fn open(
        &self,
        turn: usize,
        variant: Variant,
        requests: ReceiverStream<Bytes>,
    ) -> Result<Streaming<Bytes>, Status> {
        let mut request = Request::new(requests);
        for (key, value) in &self.0.headers {
            request.metadata_mut().insert(key.clone(), value.clone());
        }
        let path = PathAndQuery::from_static(method(variant));
        match &self.0.servers[turn].1 {
            Server::Tls(channel) => {
                if let Some(bearer) = self.bearer().await {
                    request.metadata_mut().insert("authorization", bearer);
                }
                stream(channel.clone(), request, path).await
            }
            Server::Plain(channel) => stream(channel.clone(), request, path).await,
        }
    }
}

impl Pilots {
    /// The token, if there is one: read for each stream, since whoever keeps it replaces it.
    async fn bearer(&self) -> Option<AsciiMetadataValue> {
        let path = self.0.token.clone()?;
        let read = tokio::task::spawn_blocking(move || crate::sds::read_file(&path)).await;
        let token = String::from_utf8(read.ok()?.ok()?).ok()?;
        let mut value = AsciiMetadataValue::try_from(format!("Bearer {}", token.trim())).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Room for the big answers of a big mesh.
fn with_windows(endpoint: transport::Endpoint) -> transport::Endpoint {
    endpoint
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20)
}

async fn stream<S>(
    service: S,
    request: Request<ReceiverStream<Bytes>>,
    path: PathAndQuery,
) -> Result<Streaming<Bytes>, Status>
where
    S: tonic::client::GrpcService<tonic::body::Body, ResponseBody = tonic::body::Body>,
{
    let mut client = tonic::client::Grpc::new(service)
        .max_decoding_message_size(MAX_RESPONSE)
        .max_encoding_message_size(MAX_REQUEST);
    client.ready().await.map_err(|error| {
        let error: Box<dyn std::error::Error + Send + Sync> = error.into();
        Status::unavailable(error.to_string())
    })?;
    let response = client.streaming(request, path, Raw).await?;
    Ok(response.into_inner())
}
