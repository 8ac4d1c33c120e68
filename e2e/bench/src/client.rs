//! One proxy's connection: TCP, HTTP/2, one ADS stream.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::args::Variant;
use crate::catalog::Catalogs;
use crate::door::Door;
use crate::session::Session;
use crate::tally::Tally;
use crate::wire::Deframer;

/// Window of a stream: what Envoy asks for today.
const STREAM_WINDOW: u32 = 16 << 20;
/// Window of a connection: what Envoy asks for today.
const CONNECTION_WINDOW: u32 = 24 << 20;
/// Time between attempts to connect.
const RETRY: Duration = Duration::from_millis(100);

/// What the clients of a fleet share.
#[derive(Debug, Default)]
pub struct Shared {
    tally: Mutex<Tally>,
    catalogs: Mutex<Catalogs>,
}

impl Shared {
    /// What was seen. A client that panicked while it held this ends the run anyway.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn catalogs(&self) -> MutexGuard<'_, Catalogs> {
        self.catalogs
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// One proxy.
#[derive(Debug)]
pub struct Client {
    /// Which of the fleet it is.
    pub index: usize,
    /// Where the server is.
    pub door: Door,
    /// Which protocol it speaks.
    pub variant: Variant,
    /// Its encoded node.
    pub node: Bytes,
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// Said once it has a cluster of this name.
    pub awaited: Option<(String, mpsc::UnboundedSender<()>)>,
}

impl Client {
    /// Connects, and again until it once had everything; then stays until the stream ends.
    pub async fn run(self) {
        let started = Instant::now();
        let mut configured = false;
        loop {
            let reason = match self.stream(started, &mut configured).await {
                Ok(()) => "the server ended the stream".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            self.shared.tally().end(reason, configured);
            if configured {
                return;
            }
            sleep(RETRY).await;
        }
    }

    async fn stream(&self, started: Instant, configured: &mut bool) -> anyhow::Result<()> {
        let wire = self.door.connect().await?;
        let (mut sender, connection) =
            hyper::client::conn::http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .handshake(TokioIo::new(wire))
                .await
                .context("handshake")?;
        // Ends by itself when `sender` and the stream are gone.
        tokio::spawn(connection);

        let mut session = Session::new(self.variant, self.node.clone());
        let (outbox, requests) = mpsc::unbounded_channel();
        let send = |pieces: Vec<Bytes>| {
            for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
                // Refused only when the connection is gone, which the response tells.
                let _ = outbox.send(piece);
            }
        };
        send(session.open());
        let method = match self.variant {
            Variant::Sotw => "StreamAggregatedResources",
            Variant::Delta => "DeltaAggregatedResources",
        };
        let request = Request::post(format!(
            "http://{}/envoy.service.discovery.v3.AggregatedDiscoveryService/{method}",
            self.door.address
        ))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "bench")
        .body(Outbox(requests))?;
        let response = sender.send_request(request).await.context("request")?;
        if !response.status().is_success() {
            bail!("HTTP status {}", response.status());
        }
        status(response.headers())?;
        let mut body = response.into_body();
        let mut deframer = Deframer::default();
        while let Some(piece) = body.frame().await {
            let piece = match piece.context("stream")?.into_data() {
                Ok(data) => data,
                Err(other) => {
                    status(other.trailers_ref().unwrap_or(&HeaderMap::new()))?;
                    continue;
                }
            };
            deframer.push(&piece, |message| -> anyhow::Result<()> {
                let reaction = session.receive(message, &mut self.shared.catalogs())?;
                send(reaction.send);
                let now = Instant::now();
                let mut tally = self.shared.tally();
                tally.note(
                    self.index,
                    reaction.kind,
                    message.len(),
                    reaction.resources,
                    now,
                );
                if !*configured && session.is_configured() {
                    *configured = true;
                    tally
                        .configured
                        .insert(self.index, now.duration_since(started));
                }
                Ok(())
            })?;
            if let Some((name, found)) = &self.awaited
                && session.has_cluster(name)
            {
                let _ = found.send(());
            }
        }
        Ok(())
    }
}

/// Fails unless a gRPC status says that all is well, or says nothing.
fn status(headers: &HeaderMap) -> anyhow::Result<()> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    match text("grpc-status") {
        "" | "0" => Ok(()),
        code => bail!("gRPC status {code} {}", text("grpc-message")),
    }
}

/// The body of a request that is written as it goes.
struct Outbox(mpsc::UnboundedReceiver<Bytes>);

impl Body for Outbox {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
