//! Configuration from Galley: one delta stream, applied revision by revision, resumed for ever.

use std::path::PathBuf;
use std::time::Duration;

use envoy_api::envoy::config::core::v3::Node;
use envoy_api::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_api::google::rpc;
use mesh_api::galley::Revision as RevisionEnd;
use mesh_model::Change;
use mesh_types::{Kind, Revision};
use prost::{Message, Name};
use service_kit::{Backoff, Ready, Stop};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::transport::Endpoint;

use crate::held::{COLLECTIONS, Configuration};
use crate::metrics::Metrics;

/// Largest response taken: Galley sends chunks of at most 1 MiB and one object of any size it accepts.
const MAX_RESPONSE: usize = 64 << 20;
/// A revision is written to disk this long after it arrived, with those that followed: a burst costs one write.
const SAVE_AFTER: Duration = Duration::from_secs(1);

/// Where Galley is and what is kept of it.
pub struct GalleyOptions {
    /// Address, `http://host:port`.
    pub address: String,
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
}

/// Follows Galley until `stop`, handing over every revision; starts from the file if there is one.
pub async fn follow(
    options: GalleyOptions,
    out: mpsc::Sender<Arrived>,
    metrics: Metrics,
    ready: Ready,
    stop: Stop,
) {
    let mut configuration = Configuration::default();
    if let Some(file) = &options.file
        && let Some(saved) = Configuration::load(file)
    {
        tracing::info!(
            revision = saved.revision().0,
            "starting from the last revision on disk"
        );
        let arrived = Arrived {
            revision: saved.revision(),
            changes: saved.everything(),
        };
        configuration = saved;
        if out.send(arrived).await.is_err() {
            return;
        }
    }
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        let mut stream = Stream {
            configuration,
            options: &options,
            out: &out,
            metrics: &metrics,
            ready: &ready,
            heard: false,
            unsaved: false,
            save_at: Instant::now(),
        };
        let outcome = tokio::select! {
            () = stop.wait() => return,
            outcome = stream.run() => outcome,
        };
        if stream.heard {
            backoff.reset();
        }
        configuration = stream.configuration;
        configuration.drop_arriving();
        metrics.galley(false);
        let revision = configuration.revision();
        ready.note(
            "galley",
            format!("Galley is away; serving revision {revision}"),
        );
        match outcome {
            End::Closed(why) => tracing::warn!(
                address = options.address,
                why,
                "no stream from Galley; trying again"
            ),
            End::Diverged => {
                tracing::error!(
                    revision = revision.0,
                    "this Pilot's copy differs from Galley's: fetching everything again"
                );
                metrics.diverged();
                configuration.distrust();
            }
            End::Unwanted => return,
        }
        tokio::select! {
            () = stop.wait() => return,
            () = tokio::time::sleep(backoff.next_delay()) => {}
        }
    }
}

enum End {
    Closed(String),
    Diverged,
    Unwanted,
}

struct Stream<'a> {
    configuration: Configuration,
    options: &'a GalleyOptions,
    out: &'a mpsc::Sender<Arrived>,
    metrics: &'a Metrics,
    ready: &'a Ready,
    heard: bool,
    unsaved: bool,
    save_at: Instant,
}

impl Stream<'_> {
    async fn run(&mut self) -> End {
        match self.try_run().await {
            Ok(end) => end,
            Err(error) => End::Closed(error.to_string()),
        }
    }

    async fn try_run(&mut self) -> anyhow::Result<End> {
        let channel = Endpoint::from_shared(self.options.address.clone())?
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .connect()
            .await?;
        let mut client =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE);
        let (requests, outbox) = mpsc::channel(64);
        for request in self.subscriptions() {
            requests.send(request).await?;
        }
        let outbox = tokio_stream::wrappers::ReceiverStream::new(outbox);
        let mut responses = client
            .delta_aggregated_resources(outbox)
            .await?
            .into_inner();
        loop {
            let response = tokio::select! {
                response = responses.message() => response?,
                () = tokio::time::sleep_until(self.save_at), if self.unsaved => {
                    self.save().await;
                    continue;
                }
            };
            let Some(response) = response else { break };
            if !self.heard {
                self.heard = true;
                self.metrics.galley(true);
                self.ready.clear_note("galley");
            }
            let ack = DeltaDiscoveryRequest {
                type_url: response.type_url.clone(),
                response_nonce: response.nonce.clone(),
                ..DeltaDiscoveryRequest::default()
            };
            match self.take(&response).await {
                Ok(None) => requests.send(ack).await?,
                Ok(Some(end)) => return Ok(end),
                Err(error) => {
                    tracing::error!(%error, type_url = response.type_url, "a resource from Galley cannot be used");
                    let detail = rpc::Status {
                        code: 3,
                        message: error.to_string(),
                        ..rpc::Status::default()
                    };
                    requests
                        .send(DeltaDiscoveryRequest {
                            error_detail: Some(detail),
                            ..ack
                        })
                        .await?;
                }
            }
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

    async fn take(&mut self, response: &DeltaDiscoveryResponse) -> anyhow::Result<Option<End>> {
        if response.type_url != RevisionEnd::type_url() {
            let kind = Kind::from_type_url(&response.type_url)
                .ok_or_else(|| anyhow::anyhow!("{} was not asked for", response.type_url))?;
            self.configuration.take(kind, response)?;
            return Ok(None);
        }
        for resource in response
            .resources
            .iter()
            .filter_map(|r| r.resource.as_ref())
        {
            let end = RevisionEnd::decode(&*resource.value)?;
            let (changes, agrees) = self.configuration.finish(&end);
            if !agrees {
                return Ok(Some(End::Diverged));
            }
            let revision = self.configuration.revision();
            if self.out.send(Arrived { revision, changes }).await.is_err() {
                return Ok(Some(End::Unwanted));
            }
            if !self.unsaved {
                self.unsaved = self.options.file.is_some();
                self.save_at = Instant::now() + SAVE_AFTER;
            }
        }
        Ok(None)
    }

    async fn save(&mut self) {
        self.unsaved = false;
        let Some(file) = self.options.file.clone() else {
            return;
        };
        let configuration = self.configuration.clone();
        let saved = tokio::task::spawn_blocking(move || configuration.save(&file)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%error, "the revision could not be kept on disk");
        }
    }
}
