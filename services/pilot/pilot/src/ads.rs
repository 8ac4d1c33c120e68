//! The xDS endpoint: one HTTP/2 stream per proxy, served straight from shared bytes.
//!
//! A response is a small header and slices of the snapshot, so the body is our own `http_body::Body` and no gRPC library stands in
//! between. What to send is decided when the connection has room: a slow proxy skips snapshots, and nothing queues up.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body as AxumBody;
use axum::extract::State;
use axum::http::{HeaderValue, Request, Response, header};
use axum::routing::post;
use bytes::Bytes;
use futures::Stream;
use http_body::{Body, Frame};
use mesh_api::pilot::ClientCertificate;
use mesh_types::SpiffeId;
use parking_lot::Mutex;
use service_kit::Stop;
use service_kit::tls::Peer;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use xds_core::{Answer, Encoded, Outcome, Session, Setup, Snapshot, TypeId, TypeUrl};

use crate::clock::now_us;
use crate::frames::Frames;
use crate::metrics::Metrics;
use crate::planner::ConnectionId;
use crate::roster::{Arrival, Connection, Roster};
use crate::status::{Status, refuse};

const SERVICE: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService";
/// Messages taken from a stream before it lets others run.
const BURST: usize = 32;
/// What Istio's agents send on the same stream: how their workload is. Not a type to subscribe to.
const HEALTH: &str = "type.googleapis.com/istio.v1.HealthInformation";

/// Makes the object for a name that does not exist.
pub type MissingFn = dyn Fn(TypeId, &str) -> Option<Arc<Encoded>> + Send + Sync;

/// Who decides what a proxy gets: the planner, or a folder served as it is.
pub trait Snapshots: Send + Sync {
    /// Admits a proxy by the node of its first request, and by who its certificate shows if it came over TLS.
    fn admit(&self, id: ConnectionId, node: Option<Bytes>, client: Client) -> Admission;
    /// The stream is over.
    fn leave(&self, id: ConnectionId);
}

/// How a stream came, and from whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Client {
    /// Without TLS, from this machine.
    Plaintext,
    /// Over TLS, with whom the certificate shows; `None` if it showed none.
    Tls(Option<SpiffeId>),
}

/// The outcome of an admission, once it is known.
pub type Admission = Pin<Box<dyn Future<Output = Result<Admitted, Status>> + Send>>;

/// An admitted proxy.
pub struct Admitted {
    /// Names for the roster.
    pub proxy: Arc<str>,
    /// Whole node id.
    pub node_id: Arc<str>,
    /// Cluster.
    pub cluster_id: Arc<str>,
    /// Version the proxy says it is.
    pub version: String,
    /// Where its snapshots appear.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
}

/// Serves ADS in both protocols.
#[derive(Clone)]
pub struct Ads {
    /// Who decides what a proxy gets.
    pub snapshots: Arc<dyn Snapshots>,
    /// Who is connected.
    pub roster: Arc<Roster>,
    /// What all sessions share.
    pub setup: Arc<Setup>,
    /// Objects for names that do not exist.
    pub missing: Arc<MissingFn>,
    /// Counters.
    pub metrics: Metrics,
    /// Whether it is served over TLS.
    pub tls: bool,
    /// Ends every stream.
    pub stop: Stop,
}

impl Ads {
    /// The routes of the gRPC service.
    pub fn router(self) -> Router {
        Router::new()
            .route(&format!("{SERVICE}/StreamAggregatedResources"), post(sotw))
            .route(&format!("{SERVICE}/DeltaAggregatedResources"), post(delta))
            .fallback(unknown_method)
            .with_state(self)
    }

    fn respond(self, session: Session, request: Request<AxumBody>) -> Response<AxumBody> {
        let is_grpc = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with("application/grpc"));
        if !is_grpc {
            return refuse(Status::new(3, "content-type must be application/grpc"));
        }
        let id = self.roster.next_id();
        let stop = self.stop.clone();
        let peer = Peer::of(request.extensions()).filter(|_| self.tls);
        let client = if self.tls {
            Client::Tls(peer.map(|peer| peer.id.clone()))
        } else {
            Client::Plaintext
        };
        let stream = AdsStream {
            id,
            client,
            certificate: peer.map(shown),
            inbound: request.into_body(),
            frames: Frames::default(),
            session: Arc::new(Mutex::new(session)),
            phase: Phase::Silent,
            early: VecDeque::new(),
            queue: VecDeque::new(),
            unknown_told: false,
            stopped: Box::pin(async move { stop.wait().await }),
            ads: self,
        };
        let mut response = Response::new(AxumBody::new(stream));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        response
    }
}

fn shown(peer: &Peer) -> ClientCertificate {
    ClientCertificate {
        spiffe_id: peer.id.to_string(),
        serial: peer.certificate.serial().to_string(),
        not_before: peer.certificate.not_before().unix_timestamp(),
        not_after: peer.certificate.not_after().unix_timestamp(),
    }
}

async fn sotw(State(ads): State<Ads>, request: Request<AxumBody>) -> Response<AxumBody> {
    let session = Session::sotw(ads.setup.clone());
    ads.respond(session, request)
}

async fn delta(State(ads): State<Ads>, request: Request<AxumBody>) -> Response<AxumBody> {
    let session = Session::delta(ads.setup.clone());
    ads.respond(session, request)
}

async fn unknown_method() -> Response<AxumBody> {
    refuse(Status::new(
        12,
        "unknown method; this port serves envoy.service.discovery.v3.AggregatedDiscoveryService",
    ))
}

enum Phase {
    /// Nothing was asked yet.
    Silent,
    /// The first request is being admitted.
    Joining(Admission),
    /// Snapshots come.
    Live {
        snapshots: WatchStream<Arc<Snapshot>>,
        current: Arc<Snapshot>,
        connection: Arc<Connection>,
        settled: bool,
        /// A change since the proxy last had everything: what its convergence is measured by.
        converging: bool,
    },
    /// Trailers were sent.
    Over,
}

struct AdsStream {
    id: ConnectionId,
    client: Client,
    certificate: Option<ClientCertificate>,
    ads: Ads,
    inbound: AxumBody,
    frames: Frames,
    session: Arc<Mutex<Session>>,
    phase: Phase,
    /// Requests that came before admission was over.
    early: VecDeque<Bytes>,
    queue: VecDeque<Bytes>,
    /// A type that is not served was asked for, and the log has it.
    unknown_told: bool,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Body for AdsStream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if matches!(this.phase, Phase::Over) {
            return Poll::Ready(None);
        }
        match this.step(context) {
            Poll::Ready(Ok(piece)) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            Poll::Ready(Err(status)) => {
                this.end(&status);
                Poll::Ready(Some(Ok(Frame::trailers(status.trailers()))))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AdsStream {
    /// The next piece to send, or the end.
    fn step(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        if let Some(piece) = self.queue.pop_front() {
            return Poll::Ready(Ok(piece));
        }
        if self.stopped.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(Status::new(
                14,
                "this server is going away; connect to another one",
            )));
        }
        for _ in 0..BURST {
            match self.poll_message(context) {
                Poll::Ready(Ok(Some(message))) => self.take(message)?,
                Poll::Ready(Ok(None)) => return Poll::Ready(Err(Status::new(0, ""))),
                Poll::Ready(Err(status)) => return Poll::Ready(Err(status)),
                Poll::Pending => return self.push(context),
            }
        }
        // More may be waiting: answer what is there, and come back.
        let pushed = self.push(context);
        if pushed.is_pending() {
            context.waker().wake_by_ref();
        }
        pushed
    }

    /// The next whole message of the request, `None` at its end.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        let limit = self.ads.setup.limits.message;
        loop {
            if let Some(message) = self.frames.next(limit)? {
                return Poll::Ready(Ok(Some(message)));
            }
            match std::task::ready!(Pin::new(&mut self.inbound).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.frames.feed(&data);
                    }
                }
                // A client that vanishes ends the stream like one that says goodbye.
                Some(Err(_)) | None => return Poll::Ready(Ok(None)),
            }
        }
    }

    fn take(&mut self, message: Bytes) -> Result<(), Status> {
        match &self.phase {
            Phase::Silent => {
                let parsed = self
                    .session
                    .lock()
                    .parse(message.clone())
                    .map_err(|e| refusal(&e))?;
                if is_health(&parsed.type_url) {
                    return Ok(());
                }
                self.phase = Phase::Joining(self.ads.snapshots.admit(
                    self.id,
                    parsed.node,
                    self.client.clone(),
                ));
                self.early.push_back(message);
                Ok(())
            }
            Phase::Joining(_) if self.early.len() < BURST => {
                self.early.push_back(message);
                Ok(())
            }
            Phase::Joining(_) => Err(Status::new(8, "too many requests before the first answer")),
            Phase::Live { .. } => self.handle(message),
            Phase::Over => Ok(()),
        }
    }

    fn handle(&mut self, message: Bytes) -> Result<(), Status> {
        let Phase::Live {
            connection,
            settled,
            ..
        } = &mut self.phase
        else {
            return Ok(());
        };
        let mut session = self.session.lock();
        let request = session.parse(message).map_err(|e| refusal(&e))?;
        if is_health(&request.type_url) {
            return Ok(());
        }
        let outcome = session.on_request(request).map_err(|e| refusal(&e))?;
        *settled = false;
        match outcome {
            Outcome::UnknownType(url) => {
                if !std::mem::replace(&mut self.unknown_told, true) {
                    tracing::warn!(proxy = %connection.proxy, type_url = %url, "a type that is not served was asked for; further ones of this stream are only counted");
                }
                self.ads.metrics.unknown_type();
            }
            Outcome::Known {
                type_id, answer, ..
            } => match answer {
                // Whether the proxy has everything now is found out when nothing more is owed to it.
                Answer::None | Answer::Ack(_) => {}
                Answer::Stale => self.ads.metrics.expired_nonce(type_id),
                Answer::Nack(nonce) => {
                    let text = session
                        .status(type_id)
                        .and_then(|s| s.nack.map(|n| n.text.to_string()))
                        .unwrap_or_default();
                    drop(session);
                    connection
                        .rejected_us
                        .lock()
                        .insert(type_id.index(), now_us());
                    let nonce = nonce.map(|n| n.to_string()).unwrap_or_default();
                    tracing::warn!(proxy = %connection.proxy, type_url = type_id.url(), nonce, error = text, "rejected");
                    self.ads.metrics.rejected(type_id);
                    self.ads.roster.tell();
                }
            },
        }
        Ok(())
    }

    /// Sends what is due.
    fn push(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        if let Phase::Joining(admission) = &mut self.phase {
            let admitted = std::task::ready!(admission.as_mut().poll(context))?;
            let current = admitted.snapshots.borrow().clone();
            let connection = self.ads.roster.arrive(Arrival {
                id: self.id,
                proxy: admitted.proxy,
                node_id: admitted.node_id,
                cluster_id: admitted.cluster_id,
                proxy_version: admitted.version,
                certificate: self.certificate.take(),
                session: self.session.clone(),
                snapshot: admitted.snapshots.clone(),
            });
            self.ads.metrics.connected(&connection.proxy, self.id);
            self.phase = Phase::Live {
                snapshots: WatchStream::from_changes(admitted.snapshots),
                current,
                connection,
                settled: false,
                converging: false,
            };
            for message in std::mem::take(&mut self.early) {
                self.handle(message)?;
            }
        }
        let Phase::Live {
            snapshots,
            current,
            settled,
            converging,
            ..
        } = &mut self.phase
        else {
            return Poll::Pending;
        };
        loop {
            match Pin::new(&mut *snapshots).poll_next(context) {
                Poll::Ready(Some(newer)) => {
                    *current = newer;
                    *settled = false;
                    *converging = true;
                }
                Poll::Ready(None) => {
                    return Poll::Ready(Err(Status::new(14, "this server is going away")));
                }
                Poll::Pending => break,
            }
        }
        if *settled {
            return Poll::Pending;
        }
        let missing = &*self.ads.missing;
        let mut session = self.session.lock();
        let response = session.poll(current, &|type_id, name| missing(type_id, name));
        let synced = response.is_none() && session.is_synced(current);
        drop(session);
        match response {
            Some(response) => {
                self.ads.metrics.pushed(&response);
                self.queue = response.pieces;
                match self.queue.pop_front() {
                    Some(piece) => Poll::Ready(Ok(piece)),
                    None => Poll::Pending,
                }
            }
            None => {
                *settled = true;
                // Also without an answer from it: a proxy that comes back with what is current is sent nothing that it could accept.
                if synced {
                    if std::mem::take(converging) {
                        self.ads.metrics.converged(current.revision);
                    }
                    self.ads.roster.tell();
                }
                Poll::Pending
            }
        }
    }

    fn end(&mut self, status: &Status) {
        if let Phase::Live { connection, .. } = &self.phase {
            tracing::debug!(proxy = %connection.proxy, code = status.code, message = status.message, "stream over");
            self.ads.roster.leave(self.id);
            self.ads.metrics.disconnected();
        }
        if !matches!(self.phase, Phase::Over | Phase::Silent) {
            self.ads.snapshots.leave(self.id);
        }
        if status.code != 0 && status.code != 14 {
            tracing::warn!(
                code = status.code,
                message = status.message,
                "a stream was refused"
            );
            self.ads.metrics.refused();
        }
        self.phase = Phase::Over;
    }
}

impl Drop for AdsStream {
    fn drop(&mut self) {
        self.end(&Status::new(0, ""));
    }
}

fn is_health(url: &TypeUrl) -> bool {
    matches!(url, TypeUrl::Other(url) if **url == *HEALTH)
}

fn refusal(refusal: &xds_core::Refusal) -> Status {
    Status::new(refusal.code() as u32, refusal.to_string())
}
