//! xDS between Envoy and Pilot: Envoy's stream comes over a Unix socket, and goes to one of the Pilots.
//!
//! Start at [`Proxy`] (the server for Envoy), then [`session`] (one stream), then [`upstream`] (the way to Pilot), then [`own`] (what the agent asks
//! for itself).

mod codec;
mod own;
mod session;
mod upstream;

pub use own::{Inbox, Names};
pub use upstream::{Pilots, UpstreamError};

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use agent_core::wire::Variant;
use bytes::Bytes;
use futures::Stream;
use parking_lot::Mutex;
use service_kit::Stop;
use tonic::body::Body;
use tonic::server::{NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use crate::metrics::Metrics;
use codec::Raw;

/// Largest request of Envoy. Unit: bytes.
const MAX_REQUEST: usize = 32 << 20;
/// Largest response of Pilot. Unit: bytes.
const MAX_RESPONSE: usize = 256 << 20;

const SERVICE: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
const SOTW: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const DELTA: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// The method of a variant.
fn method(variant: Variant) -> &'static str {
    match variant {
        Variant::StateOfTheWorld => SOTW,
        Variant::Delta => DELTA,
    }
}

/// The aggregated discovery service, for one Envoy: a newer stream takes the place of an older one.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

struct Shared {
    pilots: Pilots,
    inbox: Inbox,
    metrics: Metrics,
    stop: Stop,
    /// Ends the stream that is open now.
    current: Mutex<Stop>,
}

impl Proxy {
    /// For Envoy, until `stop`.
    pub fn new(pilots: Pilots, inbox: Inbox, metrics: Metrics, stop: Stop) -> Proxy {
        Proxy {
            shared: Arc::new(Shared {
                current: Mutex::new(stop.child()),
                pilots,
                inbox,
                metrics,
                stop,
            }),
        }
    }

    fn open(&self, variant: Variant, requests: Streaming<Bytes>) -> Responses {
        let mine = self.shared.stop.child();
        let before = std::mem::replace(&mut *self.shared.current.lock(), mine.clone());
        before.trigger();
        let (responses, stream) = tokio::sync::mpsc::channel(16);
        let session = session::Session {
            variant,
            pilots: self.shared.pilots.clone(),
            inbox: self.shared.inbox.clone(),
            metrics: self.shared.metrics.clone(),
            stop: mine,
        };
        tokio::spawn(session.run(requests, responses));
        Box::pin(tokio_stream::wrappers::ReceiverStream::new(stream))
    }
}

type Responses = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

struct Method {
    proxy: Proxy,
    variant: Variant,
}

impl StreamingService<Bytes> for Method {
    type Response = Bytes;
    type ResponseStream = Responses;
    type Future = std::future::Ready<Result<Response<Responses>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let responses = self.proxy.open(self.variant, request.into_inner());
        std::future::ready(Ok(Response::new(responses)))
    }
}

impl NamedService for Proxy {
    const NAME: &'static str = SERVICE;
}

impl tower::Service<http::Request<Body>> for Proxy {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let proxy = self.clone();
        Box::pin(async move {
            let variant = match request.uri().path() {
                SOTW => Variant::StateOfTheWorld,
                DELTA => Variant::Delta,
                _ => return Ok(Status::unimplemented("no such method").into_http()),
            };
            let mut grpc = tonic::server::Grpc::new(Raw).max_decoding_message_size(MAX_REQUEST);
            Ok(grpc.streaming(Method { proxy, variant }, request).await)
        })
    }
}
