//! Configuration from Galley: one delta stream, applied revision by revision, resumed for ever.

use std::path::{Path, PathBuf};
use std::time::Duration;

use envoy_api::envoy::config::core::v3::Node;
use envoy_api::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_api::google::rpc;
use mesh_api::galley::Revision as RevisionEnd;
use mesh_model::Change;
use mesh_types::{Kind, Revision};
use prost::{Message, Name};
use service_kit::tls::{Channel, ClientTls, ConnectError, ServerId};
use service_kit::{Backoff, Ready, Stop};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::transport::Endpoint;

use crate::clock;
use crate::held::{Agreement, BadResource, COLLECTIONS, Configuration};
use crate::link::Link;
use crate::metrics::Metrics;

/// Largest response taken: Galley sends chunks of at most 1 MiB and one object of any size it accepts.
const MAX_RESPONSE: usize = 64 << 20;
/// A revision is written to disk this long after it arrived, with those that followed: a burst costs one write.
const SAVE_AFTER: Duration = Duration::from_secs(1);
/// What could not be written is tried again this much later.
const SAVE_AGAIN: Duration = Duration::from_secs(5);
/// While Galley is connected the file says so this often, so that after a restart it is known how old it is.
const TOUCH_EVERY: Duration = Duration::from_secs(30);

/// Where Galley is and what is kept of it.
pub struct GalleyOptions {
    /// Address, `host:port` or `http://host:port`.
    pub address: String,
    /// The way there over TLS; without it plaintext is spoken.
    pub tls: Option<Channel>,
    /// Name of this Pilot.
    pub pilot: String,
    /// File of the last whole revision; none is kept if unset.
    pub file: Option<PathBuf>,
}

/// A whole revision on its way to the planner.
pub struct Arrived {
    /// Its number.
    pub revision: Revision,
    /// What changes.
    pub changes: Vec<Change>,
    /// When it was whole.
    pub at: Instant,
}

/// Follows Galley until `stop`, handing over every revision; starts from the file if there is one.
pub async fn follow(
    options: GalleyOptions,
    out: mpsc::Sender<Arrived>,
    link: Link,
    metrics: Metrics,
    ready: Ready,
    stop: Stop,
) {
    let mut follower = Follower {
        configuration: Configuration::default(),
        options,
        out,
        link,
        metrics,
        ready,
        heard: false,
        unsaved: false,
        save_at: Instant::now(),
    };
    if !follower.start_from_file().await {
        return;
    }
    follower.note_away();
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        follower.heard = false;
        let outcome = tokio::select! {
            () = stop.wait() => break,
            outcome = follower.run() => outcome,
        };
        follower.configuration.drop_arriving();
        if follower.heard {
            follower.touch().await;
        }
        follower.link.away(Duration::ZERO);
        follower.metrics.galley(false);
        follower.note_away();
        // Galley may be gone for long, and this process with it.
        follower.save().await;
        match outcome {
            End::Closed(why) => {
                if follower.heard {
                    backoff.reset();
                }
                tracing::warn!(
                    address = follower.options.address,
                    why,
                    "no stream from Galley; trying again"
                );
            }
            End::Diverged => {
                tracing::error!(
                    revision = follower.configuration.revision().0,
                    "this Pilot's copy differs from Galley's: fetching everything again"
                );
                follower.metrics.diverged();
                follower.configuration.distrust();
            }
            End::Unwanted => return,
        }
        tokio::select! {
            () = stop.wait() => break,
            () = tokio::time::sleep(backoff.next_delay()) => {}
        }
    }
    if follower.heard {
        follower.touch().await;
    }
    follower.save().await;
}

/// Galley, over TLS: whoever answers there must be `server`.
///
/// # Errors
/// `address` is none, or says `http://`.
pub fn over_tls(address: &str, tls: ClientTls, server: ServerId) -> Result<Channel, ConnectError> {
    let endpoint = patient(service_kit::tls::endpoint(address)?);
    Ok(service_kit::tls::connect_with(endpoint, tls, server))
}

/// Notices soon that Galley is gone.
fn patient(endpoint: Endpoint) -> Endpoint {
    endpoint
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
}

/// An address with its scheme.
fn plain(address: &str) -> String {
    if address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{address}")
    }
}

enum End {
    Closed(String),
    Diverged,
    Unwanted,
}

struct Follower {
    configuration: Configuration,
    options: GalleyOptions,
    out: mpsc::Sender<Arrived>,
    link: Link,
    metrics: Metrics,
    ready: Ready,
    heard: bool,
    unsaved: bool,
    save_at: Instant,
}

impl Follower {
    /// Hands over what is on disk, if anything; `false` if nobody wants it.
    async fn start_from_file(&mut self) -> bool {
        let Some(file) = self.options.file.clone() else {
            self.link.away(Duration::ZERO);
            return true;
        };
        let loaded = tokio::task::spawn_blocking(move || {
            Configuration::load(&file).map(|loaded| (loaded, age(&file)))
        });
        let Ok(Some(((saved, bad), age))) = loaded.await else {
            self.link.away(Duration::ZERO);
            return true;
        };
        self.link.away(age);
        report(&bad, "the file of the last revision");
        tracing::info!(
            revision = saved.revision().0,
            age_seconds = age.as_secs(),
            "starting from the last revision on disk"
        );
        let arrived = Arrived {
            revision: saved.revision(),
            changes: saved.everything(),
            at: Instant::now(),
        };
        self.configuration = saved;
        self.out.send(arrived).await.is_ok()
    }

    fn note_away(&self) {
        let (revision, link) = (self.configuration.revision(), self.link.clone());
        self.ready.note_with("galley", move || match revision {
            Revision(0) => "Galley is away; nothing to serve yet".into(),
            revision => {
                let age = service_kit::spell_duration(link.report().1);
                format!("Galley is away; serving revision {revision} as it was {age} ago")
            }
        });
    }

    async fn run(&mut self) -> End {
        match self.try_run().await {
            Ok(end) => end,
            Err(error) => End::Closed(format!("{error:#}")),
        }
    }

    async fn try_run(&mut self) -> anyhow::Result<End> {
        let (requests, outbox) = mpsc::channel(64);
        for request in self.subscriptions() {
            requests.send(request).await?;
        }
        let outbox = tokio_stream::wrappers::ReceiverStream::new(outbox);
        let mut responses = match &self.options.tls {
            Some(channel) => {
                let mut client = AggregatedDiscoveryServiceClient::new(channel.clone())
                    .max_decoding_message_size(MAX_RESPONSE);
                client.delta_aggregated_resources(outbox).await?
            }
            None => {
                let channel = patient(Endpoint::from_shared(plain(&self.options.address))?)
                    .connect_timeout(Duration::from_secs(5))
                    .connect()
                    .await?;
                let mut client = AggregatedDiscoveryServiceClient::new(channel)
                    .max_decoding_message_size(MAX_RESPONSE);
                client.delta_aggregated_resources(outbox).await?
            }
        }
        .into_inner();
        let mut touch = tokio::time::interval(TOUCH_EVERY);
        loop {
            let response = tokio::select! {
                response = responses.message() => response?,
                () = tokio::time::sleep_until(self.save_at), if self.unsaved => {
                    self.save().await;
                    continue;
                }
                _ = touch.tick(), if self.heard => {
                    self.touch().await;
                    continue;
                }
            };
            let Some(response) = response else { break };
            if !self.heard {
                self.heard = true;
                self.metrics.galley(true);
                self.link.up();
                self.ready.clear_note("galley");
            }
            let mut answer = DeltaDiscoveryRequest {
                type_url: response.type_url.clone(),
                response_nonce: response.nonce.clone(),
                ..DeltaDiscoveryRequest::default()
            };
            let bad = match self.take(&response).await? {
                Taken::All => Vec::new(),
                Taken::Without(bad) => bad,
                Taken::End(end) => return Ok(end),
            };
            report(&bad, "Galley");
            if let Some(first) = bad.first() {
                answer.error_detail = Some(rpc::Status {
                    code: 3,
                    message: first.to_string(),
                    ..rpc::Status::default()
                });
            }
            requests.send(answer).await?;
        }
        Ok(End::Closed("the stream ended".into()))
    }

    fn subscriptions(&self) -> Vec<DeltaDiscoveryRequest> {
        let node = Node {
            id: self.options.pilot.clone(),
            user_agent_name: "flotilla-pilot".into(),
            ..Node::default()
        };
        let subscribe = |type_url: String, initial_resource_versions| DeltaDiscoveryRequest {
            node: Some(node.clone()),
            type_url,
            resource_names_subscribe: vec!["*".into()],
            initial_resource_versions,
            ..DeltaDiscoveryRequest::default()
        };
        let collections = COLLECTIONS
            .iter()
            .map(|kind| subscribe(kind.type_url(), self.configuration.versions(*kind)));
        // Last: a revision covers what was subscribed before it.
        collections
            .chain([subscribe(RevisionEnd::type_url(), Default::default())])
            .collect()
    }

    async fn take(&mut self, response: &DeltaDiscoveryResponse) -> anyhow::Result<Taken> {
        if response.type_url != RevisionEnd::type_url() {
            let kind = Kind::from_type_url(&response.type_url)
                .ok_or_else(|| anyhow::anyhow!("{} was not asked for", response.type_url))?;
            let bad = self.configuration.take(kind, response);
            return Ok(if bad.is_empty() {
                Taken::All
            } else {
                Taken::Without(bad)
            });
        }
        for resource in response
            .resources
            .iter()
            .filter_map(|r| r.resource.as_ref())
        {
            let end = RevisionEnd::decode(&*resource.value)?;
            let (changes, agreement) = self.configuration.finish(&end);
            match agreement {
                Agreement::Same => {}
                Agreement::Differs => return Ok(Taken::End(End::Diverged)),
                Agreement::DiffersAnew => {
                    self.metrics.diverged();
                    tracing::error!(
                        revision = end.number,
                        "this Pilot's copy differs from Galley's although all of it is new; serving it: are both of one version?"
                    );
                }
            }
            let arrived = Arrived {
                revision: self.configuration.revision(),
                changes,
                at: Instant::now(),
            };
            if self.out.send(arrived).await.is_err() {
                return Ok(Taken::End(End::Unwanted));
            }
            if !self.unsaved {
                self.unsaved = self.options.file.is_some();
                self.save_at = Instant::now() + SAVE_AFTER;
            }
        }
        Ok(Taken::All)
    }

    /// Writes the revision held to disk if that is still to be done.
    async fn save(&mut self) {
        if !std::mem::take(&mut self.unsaved) {
            return;
        }
        let Some(file) = self.options.file.clone() else {
            return;
        };
        let configuration = self.configuration.clone();
        let saved = tokio::task::spawn_blocking(move || configuration.save(&file)).await;
        let error = match saved {
            Ok(Ok(())) => return self.ready.clear_note("data-dir"),
            Ok(Err(error)) => error.to_string(),
            Err(panicked) => panicked.to_string(),
        };
        tracing::warn!(
            error,
            "the revision could not be kept on disk; trying again"
        );
        let note = format!("the last revision is not on disk: {error}");
        self.ready.note("data-dir", note);
        self.unsaved = true;
        self.save_at = Instant::now() + SAVE_AGAIN;
    }

    /// Says on the file that what it holds was still right a moment ago, if it holds the last revision.
    async fn touch(&self) {
        let Some(file) = self.options.file.clone().filter(|_| !self.unsaved) else {
            return;
        };
        let touched = tokio::task::spawn_blocking(move || touch(&file));
        if let Ok(Err(error)) = touched.await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "the time of the file of the last revision could not be set");
        }
    }
}

enum Taken {
    All,
    Without(Vec<BadResource>),
    End(End),
}

fn report(bad: &[BadResource], from: &str) {
    for bad in bad {
        tracing::error!(
            name = bad.name,
            reason = bad.reason,
            from,
            "a resource cannot be used; its last good version stays"
        );
    }
}

/// How long ago a file was written or touched.
fn age(file: &Path) -> Duration {
    let written = std::fs::metadata(file).and_then(|meta| meta.modified());
    written
        .ok()
        .and_then(|written| clock::now().duration_since(written).ok())
        .unwrap_or_default()
}

fn touch(file: &Path) -> std::io::Result<()> {
    let file = std::fs::File::options().append(true).open(file)?;
    file.set_modified(clock::now())
}
