//! A client of ADS that does what it is told, in either protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes};
use envoy_api::envoy::config::core::v3::Node;
use envoy_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_api::google::rpc;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};

use crate::rig::{PATIENCE, Pilot};

pub const CDS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
pub const EDS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
pub const LDS: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
pub const RDS: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Sotw,
    Delta,
}

/// One stream.
pub struct Ads {
    protocol: Protocol,
    pub node: Option<Node>,
    requests: mpsc::Sender<Bytes>,
    responses: Streaming<Bytes>,
    /// What is subscribed by name, which state of the world repeats in every request.
    names: BTreeMap<&'static str, BTreeSet<String>>,
    barriers: u32,
    /// Nonce of the last response with routes: what a request for more routes must name.
    last_route_nonce: String,
}

/// A request in words of both protocols.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    pub type_url: String,
    pub names: Vec<String>,
    pub unsubscribe: Vec<String>,
    pub nonce: String,
    pub version: String,
    pub error: Option<String>,
    pub initial: BTreeMap<String, String>,
}

/// A response in words of both protocols.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub type_url: String,
    pub nonce: String,
    /// `version_info`; empty in delta.
    pub version: String,
    /// Bodies by name.
    pub resources: BTreeMap<String, Bytes>,
    /// Versions by name; delta only.
    pub versions: BTreeMap<String, String>,
    pub removed: Vec<String>,
}

impl Reply {
    pub fn names(&self) -> Vec<&str> {
        self.resources.keys().map(String::as_str).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.resources.contains_key(name)
    }

    /// The resource of a name, decoded.
    pub fn read<M: Message + Default>(&self, name: &str) -> M {
        let body = self.resources.get(name);
        let body = body.unwrap_or_else(|| panic!("{name} is not among {:?}", self.names()));
        M::decode(body.clone()).unwrap()
    }

    /// Names of what is there, and of what is gone.
    pub fn what(&self) -> (Vec<&str>, Vec<&str>) {
        (
            self.names(),
            self.removed.iter().map(String::as_str).collect(),
        )
    }

    /// The resource of a name as JSON text.
    pub fn text(&self, name: &str) -> String {
        let json = envoy_api::json::to_json(&self.type_url, &self.resources[name]);
        json.unwrap().to_string()
    }

    /// Revision in the nonce.
    pub fn revision(&self) -> u64 {
        self.nonce.split('-').next().unwrap().parse().unwrap()
    }
}

pub fn node(id: &str) -> Node {
    Node {
        id: format!("sidecar~10.9.9.9~{id}~default.svc.cluster.local"),
        cluster: "test".into(),
        ..Node::default()
    }
}

pub fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

impl Ads {
    pub async fn sotw(pilot: &Pilot, id: &str) -> Ads {
        Ads::open(pilot.grpc, Protocol::Sotw, Some(node(id))).await
    }

    pub async fn delta(pilot: &Pilot, id: &str) -> Ads {
        Ads::open(pilot.grpc, Protocol::Delta, Some(node(id))).await
    }

    pub async fn open(address: SocketAddr, protocol: Protocol, node: Option<Node>) -> Ads {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        Ads::over(channel, protocol, node).await.unwrap()
    }

    /// Over a connection of any kind.
    pub async fn over<T>(channel: T, protocol: Protocol, node: Option<Node>) -> Result<Ads, Status>
    where
        T: GrpcService<Body>,
        T::Error: std::fmt::Debug,
        T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
        <T::ResponseBody as http_body::Body>::Error: Into<BoxError> + Send,
    {
        let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(64 << 20);
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(format!("{error:?}")))?;
        let (requests, outbox) = mpsc::channel(8);
        let method = match protocol {
            Protocol::Sotw => "StreamAggregatedResources",
            Protocol::Delta => "DeltaAggregatedResources",
        };
        let path = format!("/envoy.service.discovery.v3.AggregatedDiscoveryService/{method}");
        let outbox = tonic::Request::new(ReceiverStream::new(outbox));
        let opened = grpc.streaming(outbox, path.parse().unwrap(), Raw);
        let responses = timeout(PATIENCE, opened).await.unwrap()?;
        Ok(Ads {
            protocol,
            node,
            requests,
            responses: responses.into_inner(),
            names: BTreeMap::new(),
            barriers: 0,
            last_route_nonce: String::new(),
        })
    }

    /// Sends bytes as one message.
    pub async fn raw(&self, message: impl Into<Bytes>) {
        // A stream that has ended takes nothing; the next read says why.
        let _ = timeout(PATIENCE, self.requests.send(message.into()))
            .await
            .unwrap();
    }

    /// Sends a request as it is, with the node if it is the first.
    pub async fn send(&mut self, ask: Ask) {
        let node = self.node.take();
        let error_detail = ask.error.map(|message| rpc::Status {
            code: 13,
            message,
            ..rpc::Status::default()
        });
        let message = match self.protocol {
            Protocol::Sotw => DiscoveryRequest {
                version_info: ask.version,
                node,
                resource_names: ask.names,
                type_url: ask.type_url,
                response_nonce: ask.nonce,
                error_detail,
                ..DiscoveryRequest::default()
            }
            .encode_to_vec(),
            Protocol::Delta => DeltaDiscoveryRequest {
                node,
                type_url: ask.type_url,
                resource_names_subscribe: ask.names,
                resource_names_unsubscribe: ask.unsubscribe,
                initial_resource_versions: ask.initial.into_iter().collect(),
                response_nonce: ask.nonce,
                error_detail,
                ..DeltaDiscoveryRequest::default()
            }
            .encode_to_vec(),
        };
        self.raw(message).await;
    }

    /// Subscribes to names (none: everything) besides what is subscribed already.
    pub async fn subscribe(&mut self, type_url: &'static str, list: &[&str]) {
        let known = self.names.entry(type_url).or_default();
        known.extend(names(list));
        let all = known.iter().cloned().collect();
        let names = match self.protocol {
            Protocol::Sotw => all,
            Protocol::Delta => names(list),
        };
        self.send(Ask {
            type_url: type_url.into(),
            names,
            ..Ask::default()
        })
        .await;
    }

    fn answer(&self, reply: &Reply) -> Ask {
        let subscribed = self.names.iter().find(|(url, _)| **url == reply.type_url);
        let names = match self.protocol {
            Protocol::Sotw => subscribed
                .into_iter()
                .flat_map(|(_, names)| names.clone())
                .collect(),
            Protocol::Delta => Vec::new(),
        };
        Ask {
            type_url: reply.type_url.clone(),
            names,
            nonce: reply.nonce.clone(),
            version: reply.version.clone(),
            ..Ask::default()
        }
    }

    pub async fn ack(&mut self, reply: &Reply) {
        let ask = self.answer(reply);
        self.send(ask).await;
    }

    pub async fn nack(&mut self, reply: &Reply, text: &str) {
        let mut ask = self.answer(reply);
        ask.error = Some(text.into());
        self.send(ask).await;
    }

    /// The next response, whatever it is.
    pub async fn next(&mut self) -> Reply {
        match self.read().await {
            Ok(reply) => reply,
            Err(status) => panic!("the stream ended: {status}"),
        }
    }

    /// The next response, which must be of this type; accepted.
    pub async fn take(&mut self, type_url: &str) -> Reply {
        let reply = self.next().await;
        assert_eq!(
            reply.type_url,
            type_url,
            "{:?} {:?}",
            reply.names(),
            reply.removed
        );
        self.ack(&reply).await;
        reply
    }

    /// The next response of this type; others are accepted on the way.
    pub async fn next_of(&mut self, type_url: &str) -> Reply {
        loop {
            let reply = self.next().await;
            self.ack(&reply).await;
            if reply.type_url == type_url {
                return reply;
            }
        }
    }

    /// How the stream ends.
    pub async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.read().await {
                return status;
            }
        }
    }

    async fn read(&mut self) -> Result<Reply, Status> {
        let message = timeout(PATIENCE, self.responses.message());
        let message = message.await.expect("a response in time")?;
        let message = message.ok_or_else(|| Status::new(Code::Ok, "the end"))?;
        let reply = match self.protocol {
            Protocol::Sotw => {
                let response = DiscoveryResponse::decode(message).unwrap();
                let named = response.resources.into_iter().map(|any| {
                    let name = envoy_api::resource_name(&any.type_url, &any.value).unwrap();
                    (name, Bytes::from(any.value))
                });
                Reply {
                    resources: named.collect(),
                    type_url: response.type_url,
                    nonce: response.nonce,
                    version: response.version_info,
                    ..Reply::default()
                }
            }
            Protocol::Delta => {
                let response = DeltaDiscoveryResponse::decode(message).unwrap();
                let mut reply = Reply {
                    type_url: response.type_url,
                    nonce: response.nonce,
                    removed: response.removed_resources,
                    ..Reply::default()
                };
                for resource in response.resources {
                    let body = resource.resource.unwrap_or_default().value;
                    reply.resources.insert(resource.name.clone(), body.into());
                    reply.versions.insert(resource.name, resource.version);
                }
                reply
            }
        };
        if reply.type_url == RDS {
            self.last_route_nonce.clone_from(&reply.nonce);
        }
        Ok(reply)
    }

    /// Subscribes to everything as Envoy does, step by step, and accepts it. Returns what came, in order.
    pub async fn settle(&mut self) -> Settled {
        self.subscribe(CDS, &[]).await;
        let cds = self.take(CDS).await;
        let clusters = cds
            .names()
            .into_iter()
            .filter(|name| name.starts_with("outbound|"));
        let clusters: Vec<String> = clusters.map(str::to_owned).collect();
        let clusters: Vec<&str> = clusters.iter().map(String::as_str).collect();
        let mut eds = Reply::default();
        if !clusters.is_empty() {
            self.subscribe(EDS, &clusters).await;
            eds = self.take(EDS).await;
        }
        self.subscribe(LDS, &[]).await;
        let lds = self.take(LDS).await;
        self.subscribe(RDS, &["80"]).await;
        let rds = self.take(RDS).await;
        Settled { cds, eds, lds, rds }
    }

    /// Asserts that nothing is on its way: an answer to a question that can only be answered after everything that is due.
    pub async fn nothing(&mut self) {
        let name = self.barrier().await;
        let reply = self.take(RDS).await;
        assert_eq!(reply.names(), [name]);
        assert_eq!(reply.removed, Vec::<String>::new());
    }

    /// Asks for a route that does not exist, which is answered after all that is due now.
    async fn barrier(&mut self) -> String {
        self.barriers += 1;
        let name = format!("barrier-{}", self.barriers);
        self.names.entry(RDS).or_default().insert(name.clone());
        let mut ask = Ask {
            type_url: RDS.into(),
            names: vec![name.clone()],
            ..Ask::default()
        };
        if self.protocol == Protocol::Sotw {
            ask.names = self.names[RDS].iter().cloned().collect();
            ask.nonce = self.last_route_nonce.clone();
        }
        self.send(ask).await;
        name
    }
}

/// What [`Ads::settle`] received.
pub struct Settled {
    pub cds: Reply,
    pub eds: Reply,
    pub lds: Reply,
    pub rds: Reply,
}

/// Messages as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
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
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
