//! A subscriber that keeps the contract of `galley.proto`, as a Pilot does.

use std::collections::BTreeMap;
use std::time::Duration;

use envoy_api::envoy::config::core::v3::Node;
use envoy_api::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_api::{Digest, galley};
use mesh_config::Object;
use mesh_types::Kind;
use prost::{Message, Name};
use tokio::sync::mpsc;
use tonic::Streaming;
use tonic::transport::Endpoint;

use crate::harness::PATIENCE;

const KINDS: [Kind; 4] = [
    Kind::MeshConfig,
    Kind::VirtualService,
    Kind::MeshService,
    Kind::MeshEndpoints,
];

/// What a client holds, across streams.
#[derive(Default)]
pub struct Client {
    held: BTreeMap<(Kind, String), Object>,
    pub revision: u64,
    /// Objects that came in the last revision.
    pub came: usize,
}

/// One stream.
pub struct Stream {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    arriving: Vec<DeltaDiscoveryResponse>,
}

fn ask(type_url: String) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node {
            id: "test".into(),
            ..Node::default()
        }),
        type_url,
        resource_names_subscribe: vec!["*".into()],
        ..DeltaDiscoveryRequest::default()
    }
}

impl Client {
    /// Opens a stream and says what is held; `None` if nobody answers.
    pub async fn connect(&self, address: &str) -> Option<Stream> {
        let endpoint = Endpoint::from_shared(address.to_owned()).unwrap();
        let channel = endpoint.connect().await.ok()?;
        let mut client =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let (requests, queue) = mpsc::channel(64);
        for kind in KINDS {
            let held = self.held.iter().filter(|((k, _), _)| *k == kind);
            let request = DeltaDiscoveryRequest {
                initial_resource_versions: held
                    .map(|((_, name), o)| (name.clone(), format!("{:016x}", o.version)))
                    .collect(),
                ..ask(kind.type_url())
            };
            requests.send(request).await.unwrap();
        }
        requests
            .send(ask(galley::Revision::type_url()))
            .await
            .unwrap();
        let queue = futures::stream::unfold(queue, |mut queue| async move {
            let next = queue.recv().await?;
            Some((next, queue))
        });
        let responses = client.delta_aggregated_resources(queue).await.ok()?;
        Some(Stream {
            requests,
            responses: responses.into_inner(),
            arriving: Vec::new(),
        })
    }

    /// Takes the next whole revision; `None` if the stream ends before.
    pub async fn next(&mut self, stream: &mut Stream) -> Option<u64> {
        loop {
            let response = stream.responses.message().await.ok()??;
            let ack = DeltaDiscoveryRequest {
                type_url: response.type_url.clone(),
                response_nonce: response.nonce.clone(),
                ..DeltaDiscoveryRequest::default()
            };
            stream.requests.send(ack).await.ok()?;
            if response.type_url != galley::Revision::type_url() {
                stream.arriving.push(response);
                continue;
            }
            let any = response.resources[0].resource.clone().unwrap();
            self.finish(
                std::mem::take(&mut stream.arriving),
                &galley::Revision::decode(&*any.value).unwrap(),
            );
            return Some(self.revision);
        }
    }

    fn finish(&mut self, arriving: Vec<DeltaDiscoveryResponse>, end: &galley::Revision) {
        self.came = 0;
        for response in arriving {
            assert_eq!(response.system_version_info, end.number.to_string());
            let kind = Kind::from_type_url(&response.type_url).unwrap();
            for name in response.removed_resources {
                assert!(self.held.remove(&(kind, name)).is_some());
            }
            for resource in response.resources {
                let any = resource.resource.unwrap();
                let json = galley::Object::decode(&*any.value).unwrap().json;
                let object = Object::from_wire(&json).unwrap();
                assert_eq!(format!("{:016x}", object.version), resource.version);
                self.held.insert((kind, resource.name), object);
                self.came += 1;
            }
        }
        let mut digest = Digest::default();
        for ((kind, name), object) in &self.held {
            digest.add(&kind.type_url(), name, object.version);
        }
        assert_eq!(
            (digest.0, self.held.len() as u64),
            (end.digest, end.objects)
        );
        assert!(end.committed_us > 0);
        self.revision = end.number;
    }

    /// Takes revisions until `revision` or a later one is there.
    pub async fn reach(&mut self, stream: &mut Stream, revision: u64) {
        let reached =
            async { while self.revision < revision && self.next(stream).await.is_some() {} };
        let in_time = tokio::time::timeout(PATIENCE + Duration::from_secs(1), reached).await;
        assert!(
            in_time.is_ok() && self.revision >= revision,
            "revision {} of {revision}",
            self.revision
        );
    }

    /// `name=n` of every VirtualService.
    pub fn says(&self) -> String {
        let all = self
            .held
            .iter()
            .filter(|((kind, _), _)| *kind == Kind::VirtualService);
        let words: Vec<String> = all
            .map(|(_, o)| {
                format!(
                    "{}={}",
                    o.meta.key.name,
                    o.meta.labels.get("n").unwrap_or("?")
                )
            })
            .collect();
        words.join(" ")
    }

    /// Names of one kind.
    pub fn names(&self, kind: Kind) -> Vec<&str> {
        let all = self.held.keys().filter(|(k, _)| *k == kind);
        all.map(|(_, name)| name.as_str()).collect()
    }
}
