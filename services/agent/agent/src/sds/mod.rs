//! Secrets for Envoy and other workloads of the pod, over a Unix socket.
//!
//! Only `StreamSecrets` is served. Start at [`Server`].

mod files;
mod socket;
mod store;

pub use files::{FileSecrets, Watched, read_file, system_roots, watch_files};
pub use socket::{SocketError, foreign_server, listen};
pub use store::{Material, Materials, Store};

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_core::secrets::SecretName;
use envoy_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_api::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryService;
use envoy_api::type_url::SECRET;
use futures::Stream;
use service_kit::Stop;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_stream::{StreamExt as _, StreamMap};
use tonic::{Request, Response, Status, Streaming};

use crate::metrics::Metrics;
use store::RootStream;

/// Most names that one stream may ask for.
const MAX_NAMES: usize = 256;

/// Serves secrets.
#[derive(Clone)]
pub struct Server {
    /// The workload's secrets; `None`: another server has them, or nobody.
    pub store: Option<Store>,
    /// Secrets of files.
    pub files: FileSecrets,
    /// Counters.
    pub metrics: Metrics,
    /// Ends every stream.
    pub stop: Stop,
    /// Numbers of streams.
    pub streams: Arc<AtomicU64>,
    /// What stands before versions: those of an agent that was restarted are others.
    pub epoch: Arc<str>,
}

impl Server {
    fn look_up(&self, name: &str) -> Result<(SecretName, Materials), Status> {
        let unknown = |why: &str| Status::invalid_argument(format!("{name:?}: {why}"));
        let parsed = SecretName::parse(name).map_err(|error| unknown(&error.to_string()))?;
        let materials = match (&parsed, &self.store) {
            (SecretName::Workload, Some(store)) => store.workload(),
            (SecretName::Root, Some(store)) => store.root(),
            (SecretName::Workload | SecretName::Root, None) => {
                return Err(unknown("this agent has no identity to serve"));
            }
            (
                SecretName::FileCertificate { .. }
                | SecretName::FileRoot(_)
                | SecretName::SystemRoot,
                _,
            ) => self.files.subscribe(name, &parsed),
        };
        Ok((parsed, materials))
    }
}

type Responses = Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Server {
    type StreamSecretsStream = Responses;
    type DeltaSecretsStream =
        Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let (responses, stream) = mpsc::channel(4);
        let conversation = Conversation {
            server: self.clone(),
            id: self.streams.fetch_add(1, Ordering::Relaxed),
            asked: BTreeMap::new(),
            secrets: StreamMap::new(),
            sent: BTreeMap::new(),
            root: None,
            responses,
        };
        let stop = self.stop.clone();
        let requests = request.into_inner();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.wait() => {}
                () = conversation.run(requests) => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("only StreamSecrets is served"))
    }

    async fn fetch_secrets(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("only StreamSecrets is served"))
    }
}

/// One stream.
struct Conversation {
    server: Server,
    id: u64,
    asked: BTreeMap<String, SecretName>,
    secrets: StreamMap<String, WatchStream<Option<Arc<Material>>>>,
    /// What each nonce that is not answered yet was about.
    sent: BTreeMap<String, (String, u64)>,
    root: Option<RootStream>,
    responses: mpsc::Sender<Result<DiscoveryResponse, Status>>,
}

impl Conversation {
    async fn run(mut self, mut requests: Streaming<DiscoveryRequest>) {
        loop {
            let step = tokio::select! {
                () = self.responses.closed() => return,
                request = requests.next() => match request {
                    Some(Ok(request)) => self.take(request),
                    Some(Err(_)) | None => return,
                },
                Some((name, material)) = self.secrets.next(), if !self.secrets.is_empty() => {
                    match material {
                        Some(material) => self.send(name, &material).await,
                        None => Ok(()),
                    }
                }
            };
            if let Err(status) = step {
                tracing::warn!(message = status.message(), "a secret cannot be served");
                self.server.metrics.sds_failures.inc();
                let _ = self.responses.send(Err(status)).await;
                return;
            }
        }
    }

    fn take(&mut self, request: DiscoveryRequest) -> Result<(), Status> {
        if !request.type_url.is_empty() && request.type_url != SECRET {
            return Err(Status::invalid_argument("only secrets are served here"));
        }
        if let Some((name, version)) = self.sent.remove(&request.response_nonce) {
            self.answered(&name, version, &request);
        }
        if request.resource_names.len() > MAX_NAMES {
            return Err(Status::resource_exhausted("too many secrets at once"));
        }
        self.asked.retain(|name, secret| {
            let kept = request.resource_names.contains(name);
            if !kept {
                self.secrets.remove(name);
                if *secret == SecretName::Root {
                    self.root = None;
                }
            }
            kept
        });
        for name in request.resource_names {
            if self.asked.contains_key(&name) {
                continue;
            }
            let (secret, materials) = self.server.look_up(&name)?;
            if secret == SecretName::Root
                && let Some(store) = &self.server.store
            {
                self.root = Some(store.root_stream(self.id));
            }
            self.secrets
                .insert(name.clone(), WatchStream::new(materials));
            self.asked.insert(name, secret);
        }
        Ok(())
    }

    /// An answer to what was sent. What was rejected is not sent again: nothing sends it but a change.
    fn answered(&self, name: &str, version: u64, request: &DiscoveryRequest) {
        let rejected = request.error_detail.as_ref().map(|e| e.message.clone());
        match &rejected {
            Some(error) => {
                tracing::warn!(name, version, error, "Envoy rejected a secret");
                self.server.metrics.sds_rejections.inc();
            }
            None => tracing::debug!(name, version, "Envoy has taken a secret"),
        }
        if let (Some(SecretName::Root), Some(root)) = (self.asked.get(name), &self.root) {
            root.said(version, rejected);
        }
    }

    async fn send(&mut self, name: String, material: &Material) -> Result<(), Status> {
        let secret = match &material.secret {
            Ok(secret) => secret.clone(),
            Err(reason) => return Err(Status::unavailable(format!("{name:?}: {reason}"))),
        };
        let nonce = uuid::Uuid::new_v4().to_string();
        let response = DiscoveryResponse {
            version_info: format!("{}-{}", self.server.epoch, material.version),
            resources: vec![secret],
            type_url: SECRET.to_owned(),
            nonce: nonce.clone(),
            ..DiscoveryResponse::default()
        };
        // Only the newest of a name can still be answered in a way that matters.
        self.sent.retain(|_, (other, _)| *other != name);
        self.sent.insert(nonce, (name, material.version));
        self.server.metrics.sds_pushes.inc();
        let _ = self.responses.send(Ok(response)).await;
        Ok(())
    }
}
