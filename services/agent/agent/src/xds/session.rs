//! One stream of Envoy's, and the stream to Pilot that belongs to it.

use std::time::Duration;

use agent_core::wire::{self, Variant};
use bytes::Bytes;
use service_kit::{Backoff, Stop};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::Pilots;
use super::own::{Inbox, Own};
use crate::metrics::Metrics;

/// Requests that may wait for a Pilot to answer at all.
const MAX_WAITING: usize = 10_000;
/// Bytes of them.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// What Envoy's own types begin with; others are not for it.
const ENVOYS: &str = "type.googleapis.com/envoy.";
/// Asking for listeners is the end of Envoy's start: what the agent asks for itself comes after it.
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

pub(super) struct Session {
    pub(super) variant: Variant,
    pub(super) pilots: Pilots,
    pub(super) inbox: Inbox,
    pub(super) metrics: Metrics,
    pub(super) stop: Stop,
}

/// A stream to Pilot that has answered, if only with headers.
struct Connected {
    turn: usize,
    requests: mpsc::Sender<Bytes>,
    responses: Streaming<Bytes>,
}

impl Session {
    /// Until either end closes, a newer stream comes, or the agent stops.
    pub(super) async fn run(
        self,
        requests: Streaming<Bytes>,
        responses: mpsc::Sender<Result<Bytes, Status>>,
    ) {
        let stop = self.stop.clone();
        let ended = tokio::select! {
            () = stop.wait() => Err(Status::unavailable("a newer stream, or the end of the agent")),
            () = responses.closed() => Ok(()),
            ended = self.carry(requests, &responses) => ended,
        };
        if let Err(status) = ended {
            // Envoy may have gone: nobody is left to tell.
            let _ = responses.send(Err(status)).await;
        }
    }

    async fn carry(
        &self,
        mut requests: Streaming<Bytes>,
        responses: &mpsc::Sender<Result<Bytes, Status>>,
    ) -> Result<(), Status> {
        let Some((mut upstream, sent)) = self.connect(&mut requests).await? else {
            return Ok(());
        };
        let mut own = Own::new(self.variant, self.inbox.clone());
        let mut asked = false;
        for request in &sent {
            asked |= self.asks_for_listeners(request);
        }
        if asked {
            self.ask(&mut own, &upstream).await?;
        }
        let ended = loop {
            tokio::select! {
                request = requests.next() => match request {
                    Some(Ok(request)) => {
                        self.metrics.xds_requests.inc();
                        let first = !asked && self.asks_for_listeners(&request);
                        if upstream.requests.send(request).await.is_err() {
                            break Err(Status::unavailable("Pilot closed the stream"));
                        }
                        if first {
                            asked = true;
                            self.ask(&mut own, &upstream).await?;
                        }
                    }
                    Some(Err(status)) => {
                        tracing::debug!(code = ?status.code(), message = status.message(), "Envoy's stream ended");
                        self.metrics.envoy_terminations.inc();
                        return Ok(());
                    }
                    None => return Ok(()),
                },
                response = upstream.responses.next() => match response {
                    Some(Ok(response)) => self.respond(&mut own, response, responses).await?,
                    Some(Err(status)) => break Err(status),
                    None => break Err(Status::unavailable("Pilot closed the stream")),
                },
                // What the agent has to say itself: an answer to what it was sent, or a question.
                message = own.next() => {
                    if upstream.requests.send(message).await.is_err() {
                        break Err(Status::unavailable("Pilot closed the stream"));
                    }
                }
            }
        };
        self.pilots.pass(upstream.turn);
        self.metrics.pilot_terminations.inc();
        if let Err(status) = &ended {
            tracing::info!(code = ?status.code(), message = status.message(), "the stream to Pilot ended; Envoy opens another one");
        }
        ended
    }

    fn asks_for_listeners(&self, request: &[u8]) -> bool {
        wire::request_type(request, self.variant).is_ok_and(|url| url == LISTENER)
    }

    async fn ask(&self, own: &mut Own, upstream: &Connected) -> Result<(), Status> {
        for message in own.start() {
            let sent = upstream.requests.send(message).await;
            sent.map_err(|_| Status::unavailable("Pilot closed the stream"))?;
        }
        Ok(())
    }

    async fn respond(
        &self,
        own: &mut Own,
        response: Bytes,
        responses: &mpsc::Sender<Result<Bytes, Status>>,
    ) -> Result<(), Status> {
        self.metrics.xds_responses.inc();
        let head = wire::response(&response).map_err(|error| {
            Status::internal(format!("Pilot sent what is no response: {error}"))
        })?;
        if own.takes(&head.type_url) {
            own.take(head, &response);
        } else if head.type_url.starts_with(ENVOYS) {
            // Waits while Envoy does not read, and with that Pilot waits.
            let _ = responses.send(Ok(response)).await;
        } else {
            tracing::warn!(
                type_url = head.type_url,
                "a type that Envoy does not know came and is dropped"
            );
        }
        Ok(())
    }

    /// Tries the Pilots in turn, with pauses after each round, until one answers. Requests that come meanwhile go to whoever does. `None` if Envoy
    /// left.
    async fn connect(
        &self,
        requests: &mut Streaming<Bytes>,
    ) -> Result<Option<(Connected, Vec<Bytes>)>, Status> {
        let mut waiting: Vec<Bytes> = Vec::new();
        let mut bytes = 0;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let mut failed = 0;
        loop {
            let (turn, address) = self.pilots.current();
            // Room for everything that waits and comes, so that nothing waits for the network here.
            let (sender, receiver) = mpsc::channel(MAX_WAITING + 64);
            for request in &waiting {
                let _ = sender.try_send(request.clone());
            }
            let mut opening = std::pin::pin!(self.pilots.open(
                turn,
                self.variant,
                ReceiverStream::new(receiver)
            ));
            let opened = loop {
                tokio::select! {
                    opened = &mut opening => break opened,
                    request = requests.next() => match request {
                        Some(Ok(request)) => {
                            self.metrics.xds_requests.inc();
                            bytes += request.len();
                            if waiting.len() == MAX_WAITING || bytes > MAX_WAITING_BYTES {
                                return Err(Status::resource_exhausted("too many requests, and no Pilot answers"));
                            }
                            waiting.push(request.clone());
                            let _ = sender.try_send(request);
                        }
                        Some(Err(_)) | None => return Ok(None),
                    }
                }
            };
            match opened {
                Ok(responses) => {
                    tracing::info!(pilot = address, "connected");
                    let connected = Connected {
                        turn,
                        requests: sender,
                        responses,
                    };
                    return Ok(Some((connected, waiting)));
                }
                Err(status) => {
                    self.metrics.pilot_failures.inc();
                    tracing::warn!(pilot = address, code = ?status.code(), message = status.message(), "Pilot cannot be asked");
                    if matches!(
                        status.code(),
                        Code::PermissionDenied | Code::InvalidArgument
                    ) && self.pilots.len() == 1
                    {
                        return Err(status);
                    }
                    self.pilots.pass(turn);
                    failed += 1;
                    if failed % self.pilots.len() == 0 {
                        tokio::time::sleep(backoff.next_delay()).await;
                    }
                }
            }
        }
    }
}
