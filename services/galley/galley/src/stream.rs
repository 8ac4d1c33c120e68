//! A Pilot's stream: delta ADS, straight from shared bytes.
//!
//! What to send next is decided when the connection has room for it: a slow Pilot skips revisions, and nothing queues up.

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{Request, Response};
use axum::routing::post;
use bytes::{Buf, BufMut};
use envoy_api::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use futures::{FutureExt, Stream};
use galley_core::{Chunk, Heard, Snapshot, Subscriber};
use prost::Message;
use service_kit::Stop;
use tokio::sync::watch;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, StreamingService};
use tonic::{Status, Streaming};

use crate::metrics::Metrics;

const METHOD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// Largest request taken: the versions a Pilot holds of half a million objects.
const MAX_REQUEST: usize = 64 << 20;
/// Longest text of a client that is logged, in characters.
const MAX_TEXT: usize = 1000;

/// What streams are served from.
#[derive(Clone)]
pub struct Streams {
    /// The newest revision.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Counters.
    pub metrics: Metrics,
    /// Ends every stream.
    pub stop: Stop,
}

impl Streams {
    /// The routes of the gRPC service.
    pub fn router(self) -> Router {
        Router::new()
            .route(METHOD, post(delta))
            .fallback(unknown_method)
            .with_state(self)
    }
}

async fn delta(State(streams): State<Streams>, request: Request<Body>) -> Response<Body> {
    let peer = request
        .extensions()
        .get::<ConnectInfo<std::net::SocketAddr>>()
        .map(|info| info.0.to_string())
        .unwrap_or_default();
    let mut grpc = Grpc::new(Raw).apply_max_message_size_config(Some(MAX_REQUEST), None);
    grpc.streaming(Method { streams, peer }, request)
        .await
        .map(Body::new)
}

async fn unknown_method() -> Response<Body> {
    Status::unimplemented(
        "unknown method; this port serves envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
    )
    .into_http()
}

/// Requests decoded, responses as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Chunk;
    type Decode = DeltaDiscoveryRequest;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Chunk;
    type Error = Status;

    fn encode(&mut self, chunk: Chunk, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(chunk.len());
        for piece in chunk.pieces {
            out.put(piece);
        }
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = DeltaDiscoveryRequest;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let bytes = buf.copy_to_bytes(buf.remaining());
        let request = DeltaDiscoveryRequest::decode(bytes).map_err(|error| {
            Status::invalid_argument(format!("no DeltaDiscoveryRequest: {error}"))
        })?;
        Ok(Some(request))
    }
}

struct Method {
    streams: Streams,
    peer: String,
}

type Responses = Pin<Box<dyn Stream<Item = Result<Chunk, Status>> + Send>>;

impl StreamingService<DeltaDiscoveryRequest> for Method {
    type Response = Chunk;
    type ResponseStream = Responses;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Responses>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        self.streams.metrics.client(true);
        let client = Client {
            streams: self.streams.clone(),
            requests: request.into_inner(),
            subscriber: Subscriber::default(),
            peer: self.peer.clone(),
            name: String::new(),
            over: false,
        };
        let responses = futures::stream::unfold(client, |mut client| async move {
            let next = client.next().await?;
            Some((next, client))
        });
        async move { Ok(tonic::Response::new(Box::pin(responses) as Responses)) }.boxed()
    }
}

/// One stream.
struct Client {
    streams: Streams,
    requests: Streaming<DeltaDiscoveryRequest>,
    subscriber: Subscriber,
    peer: String,
    name: String,
    over: bool,
}

impl Client {
    /// The next response, once there is one.
    async fn next(&mut self) -> Option<Result<Chunk, Status>> {
        if self.over {
            return None;
        }
        loop {
            // Between two chunks only the newest revision is looked at, when the one before is through.
            if let Some(chunk) = self.subscriber.next_chunk() {
                self.streams.metrics.sent(chunk.len());
                if chunk.last {
                    tracing::debug!(pilot = self.name, revision = chunk.revision, "sent");
                }
                return Some(Ok(chunk));
            }
            tokio::select! {
                () = self.streams.stop.wait() => {
                    self.over = true;
                    return Some(Err(Status::unavailable("this Galley is going away; connect to another one")));
                }
                request = self.requests.message() => match request {
                    Ok(Some(request)) => {
                        if let Err(status) = self.hear(&request) {
                            self.over = true;
                            return Some(Err(status));
                        }
                    }
                    Ok(None) => return None,
                    Err(status) => {
                        tracing::debug!(pilot = self.name, peer = self.peer, error = status.message(), "stream broke");
                        self.over = true;
                        return Some(Err(status));
                    }
                },
                Ok(()) = self.streams.snapshots.changed() => self.offer(),
            }
        }
    }

    fn offer(&mut self) {
        let snapshot = self.streams.snapshots.borrow_and_update().clone();
        self.subscriber.offer(snapshot);
    }

    fn hear(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Status> {
        if self.name.is_empty() {
            let id = request.node.as_ref().map_or("", |node| &node.id);
            self.name = id.chars().take(MAX_TEXT).collect();
            tracing::info!(pilot = self.name, peer = self.peer, "connected");
            self.offer();
        }
        let heard = self
            .subscriber
            .on_request(request)
            .map_err(|refusal| Status::invalid_argument(refusal.to_string()))?;
        match heard {
            Heard::Subscription => {}
            Heard::Ack => self.streams.metrics.answered(true),
            Heard::Nack(error) => {
                self.streams.metrics.answered(false);
                let error: String = error.chars().take(MAX_TEXT).collect();
                tracing::warn!(
                    pilot = self.name,
                    type_url = request.type_url,
                    error,
                    "rejected"
                );
            }
            Heard::Unknown(type_url) => {
                let type_url: String = type_url.chars().take(MAX_TEXT).collect();
                tracing::warn!(
                    pilot = self.name,
                    type_url,
                    "a collection that is not known was asked for"
                );
            }
        }
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.streams.metrics.client(false);
        if !self.name.is_empty() {
            tracing::info!(
                pilot = self.name,
                peer = self.peer,
                revision = self.subscriber.sent(),
                "left"
            );
        }
    }
}
