//! A small Pilot: serves what it is told to, and remembers what it was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy_api::any::Any;
use envoy_api::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_api::type_url::{CLUSTER, LISTENER};
use futures::Stream;
use serde_json::Value;
use service_kit::tls::{Clients, Identities, Peer, TlsServer, serve_tls};
use service_kit::{ServeConfig, Stop};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::rig::PATIENCE;

/// What was asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    pub stream: usize,
    pub type_url: String,
    pub names: Vec<String>,
    pub nonce: String,
    pub error: Option<String>,
    /// Node id, if it was said.
    pub node: String,
    pub metadata: BTreeMap<String, String>,
}

#[derive(Default)]
struct State {
    /// Resources by name, by type; the version of each type.
    types: BTreeMap<String, (u64, BTreeMap<String, Any>)>,
    streams: usize,
    open: usize,
    peers: Vec<String>,
    asked: Vec<Asked>,
}

#[derive(Clone)]
pub struct Pilot {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
    stop: Stop,
}

impl Pilot {
    /// Without TLS.
    pub async fn plain() -> Pilot {
        Pilot::start(None).await
    }

    /// For clients with a certificate.
    pub async fn tls(identity: Identities) -> Pilot {
        Pilot::start(Some(identity)).await
    }

    async fn start(identity: Option<Identities>) -> Pilot {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pilot = Pilot {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
            changed: Arc::new(watch::Sender::new(0)),
            stop: Stop::new(),
        };
        for empty in [CLUSTER, LISTENER] {
            pilot.set(empty, []);
        }
        let router = Routes::new(AggregatedDiscoveryServiceServer::new(pilot.clone()));
        let (router, stop) = (router.into_axum_router(), pilot.stop.clone());
        let config = ServeConfig {
            stop_grace: Duration::from_millis(50),
            ..ServeConfig::streams()
        };
        tokio::spawn(async move {
            match identity {
                None => service_kit::serve(listener, router, config, stop).await,
                Some(identity) => {
                    let tls = TlsServer::new(identity, Clients::Required);
                    serve_tls(listener, router, config, tls, stop).await
                }
            }
        });
        pilot
    }

    /// Nobody answers any more.
    pub fn down(&self) {
        self.stop.trigger();
    }

    /// These are all resources of a type from now on.
    pub fn set(&self, type_url: &str, resources: impl IntoIterator<Item = (String, Any)>) {
        let mut state = self.state.lock().unwrap();
        let entry = state.types.entry(type_url.to_owned()).or_default();
        entry.0 += 1;
        entry.1 = resources.into_iter().collect();
        drop(state);
        self.changed.send_modify(|n| *n += 1);
    }

    /// The same, written as JSON; each has a `name`.
    pub fn set_json(&self, type_url: &str, resources: &[Value]) {
        let resources = resources.iter().map(|json| {
            let mut json = json.clone();
            json["@type"] = type_url.into();
            let (type_url, value) = envoy_api::json::from_json(&json).unwrap();
            let name = json["name"].as_str().unwrap().to_owned();
            (name, Any { type_url, value })
        });
        self.set(type_url, resources);
    }

    /// Everything that was asked of a type.
    pub fn asked(&self, type_url: &str) -> Vec<Asked> {
        let state = self.state.lock().unwrap();
        let asked = state.asked.iter();
        asked
            .filter(|asked| asked.type_url == type_url)
            .cloned()
            .collect()
    }

    /// Streams that were opened so far, and those that are open.
    pub fn streams(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.streams, state.open)
    }

    /// SPIFFE IDs of the clients of streams.
    pub fn peers(&self) -> Vec<String> {
        self.state.lock().unwrap().peers.clone()
    }

    /// Waits until something was asked.
    pub async fn until(&self, what: &str, condition: impl Fn(&Pilot) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(tokio::time::Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn open(&self, peer: Option<&Peer>) -> usize {
        let mut state = self.state.lock().unwrap();
        state.streams += 1;
        state.open += 1;
        state.peers.extend(peer.map(|peer| peer.id.to_string()));
        state.streams
    }

    /// Runs a stream: `read` turns a request into what was asked, `write` a type's resources into a response.
    fn run<Q, R>(
        &self,
        request: Request<Streaming<Q>>,
        read: impl Fn(Q) -> Asked + Send + 'static,
        write: impl Fn(&str, u64, &BTreeMap<String, Any>) -> R + Send + 'static,
    ) -> Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>>
    where
        Q: Send + 'static,
        R: Send + 'static,
    {
        let stream = self.open(request.extensions().get::<Peer>());
        let metadata: BTreeMap<String, String> = request
            .metadata()
            .as_ref()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("").to_owned()))
            .collect();
        let mut requests = request.into_inner();
        let (sender, responses) = mpsc::channel(16);
        let pilot = self.clone();
        let mut changed = self.changed.subscribe();
        tokio::spawn(async move {
            let mut subscribed: BTreeSet<String> = BTreeSet::new();
            let mut sent: BTreeMap<String, u64> = BTreeMap::new();
            'stream: loop {
                let due: Vec<R> = {
                    let state = pilot.state.lock().unwrap();
                    let types = state.types.iter().filter(|(url, (version, _))| {
                        subscribed.contains(*url) && sent.get(*url) != Some(version)
                    });
                    let types: Vec<_> = types
                        .map(|(url, (version, resources))| {
                            (url.clone(), *version, resources.clone())
                        })
                        .collect();
                    types
                        .into_iter()
                        .map(|(url, version, resources)| {
                            let response = write(&url, version, &resources);
                            sent.insert(url, version);
                            response
                        })
                        .collect()
                };
                for response in due {
                    if sender.send(Ok(response)).await.is_err() {
                        break 'stream;
                    }
                }
                tokio::select! {
                    () = pilot.stop.wait() => break,
                    request = requests.next() => match request {
                        Some(Ok(request)) => {
                            let asked = Asked { stream, metadata: metadata.clone(), ..read(request) };
                            subscribed.insert(asked.type_url.clone());
                            pilot.state.lock().unwrap().asked.push(asked);
                        }
                        Some(Err(_)) | None => break,
                    },
                    _ = changed.changed() => {}
                }
            }
            pilot.state.lock().unwrap().open -= 1;
        });
        Box::pin(ReceiverStream::new(responses))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Pilot {
    type StreamAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;
    type DeltaAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let read = |request: DiscoveryRequest| Asked {
            type_url: request.type_url,
            names: request.resource_names,
            nonce: request.response_nonce,
            error: request.error_detail.map(|error| error.message),
            node: request.node.map(|node| node.id).unwrap_or_default(),
            ..Asked::default()
        };
        Ok(Response::new(self.run(
            request,
            read,
            |url, version, all| DiscoveryResponse {
                version_info: version.to_string(),
                nonce: format!("{url}#{version}"),
                type_url: url.to_owned(),
                resources: all.values().cloned().collect(),
                ..DiscoveryResponse::default()
            },
        )))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let read = |request: DeltaDiscoveryRequest| Asked {
            type_url: request.type_url,
            names: request.resource_names_subscribe,
            nonce: request.response_nonce,
            error: request.error_detail.map(|error| error.message),
            node: request.node.map(|node| node.id).unwrap_or_default(),
            ..Asked::default()
        };
        Ok(Response::new(self.run(
            request,
            read,
            |url, version, all| {
                DeltaDiscoveryResponse {
                    system_version_info: version.to_string(),
                    nonce: format!("{url}#{version}"),
                    type_url: url.to_owned(),
                    resources: all
                        .iter()
                        .map(|(name, any)| Resource {
                            name: name.clone(),
                            version: version.to_string(),
                            resource: Some(any.clone()),
                            ..Resource::default()
                        })
                        .collect(),
                    ..DeltaDiscoveryResponse::default()
                }
            },
        )))
    }
}
