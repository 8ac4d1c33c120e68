//! One proxy's side of an ADS stream, as Envoy plays it: pure, responses in, requests out.
//!
//! Clusters and listeners are asked for as wildcards, endpoints by the names that clusters refer to, routes by the names that listeners
//! refer to. Everything is acknowledged. State of the world repeats all names in every request of a type; delta says what came and went.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::args::Variant;
use crate::catalog::{Catalog, Catalogs, Step};
use crate::response::{Kind, Response};
use crate::wire::{Malformed, frame, put};

/// One stream.
#[derive(Debug)]
pub struct Session {
    variant: Variant,
    /// Sent with the first request only.
    node: Option<Bytes>,
    clusters: Arc<Catalog>,
    listeners: Arc<Catalog>,
    types: [Progress; Kind::ALL.len()],
}

#[derive(Debug, Default)]
struct Progress {
    asked: bool,
    acknowledged: bool,
    version: Bytes,
    nonce: Bytes,
}

/// What a response was, and what is answered.
#[derive(Debug)]
pub struct Reaction {
    /// Its type.
    pub kind: Kind,
    /// Resources in it, removed ones included.
    pub resources: usize,
    /// Pieces of requests to send, in order.
    pub send: Vec<Bytes>,
}

impl Session {
    /// A stream of the proxy with this encoded node.
    pub fn new(variant: Variant, node: Bytes) -> Session {
        Session {
            variant,
            node: Some(node),
            clusters: Arc::default(),
            listeners: Arc::default(),
            types: Default::default(),
        }
    }

    /// The first requests.
    pub fn open(&mut self) -> Vec<Bytes> {
        let mut send = Vec::new();
        for kind in [Kind::Cds, Kind::Lds] {
            self.types[kind.index()].asked = true;
            send.extend(self.request(kind, false, Bytes::new()));
        }
        send
    }

    /// Whether everything asked for has come at least once.
    pub fn is_configured(&self) -> bool {
        let done = |kind: Kind, wanted: bool| !wanted || self.types[kind.index()].acknowledged;
        done(Kind::Cds, true)
            && done(Kind::Lds, true)
            && done(Kind::Eds, self.clusters.len() > 0)
            && done(Kind::Rds, self.listeners.len() > 0)
    }

    /// Whether a cluster of this name is there.
    pub fn has_cluster(&self, name: &str) -> bool {
        self.clusters.holds(name)
    }

    /// Takes a response and answers it.
    ///
    /// # Errors
    /// The response cannot be read.
    pub fn receive(
        &mut self,
        message: &[u8],
        catalogs: &mut Catalogs,
    ) -> Result<Reaction, Malformed> {
        let response = Response::read(self.variant, message)?;
        let kind = response.kind;
        let progress = &mut self.types[kind.index()];
        progress.acknowledged = true;
        progress.version = Bytes::copy_from_slice(response.version.as_bytes());
        progress.nonce = Bytes::copy_from_slice(response.nonce.as_bytes());
        let mut send = Vec::new();
        if kind != Kind::Other {
            send.extend(self.request(kind, true, Bytes::new()));
        }
        match kind {
            Kind::Cds => {
                let step = catalogs.step(&self.clusters, self.variant, &response)?;
                self.clusters = step.catalog.clone();
                send.extend(self.follow(Kind::Eds, &step));
            }
            Kind::Lds => {
                let step = catalogs.step(&self.listeners, self.variant, &response)?;
                self.listeners = step.catalog.clone();
                send.extend(self.follow(Kind::Rds, &step));
            }
            Kind::Eds | Kind::Rds | Kind::Other => {}
        }
        send.retain(|piece| !piece.is_empty());
        Ok(Reaction {
            kind,
            resources: response.resources + response.removed,
            send,
        })
    }

    /// Asks for other names than before.
    fn follow(&mut self, kind: Kind, step: &Step) -> Vec<Bytes> {
        if !step.changes_names() {
            return Vec::new();
        }
        self.types[kind.index()].asked = true;
        let changes = match self.variant {
            Variant::Sotw => Bytes::new(),
            Variant::Delta => [&step.subscribe[..], &step.unsubscribe].concat().into(),
        };
        self.request(kind, false, changes).into()
    }

    /// A request of a type. `ack` answers its last response; `changes` are the names that come and go in delta.
    fn request(&mut self, kind: Kind, ack: bool, changes: Bytes) -> [Bytes; 2] {
        let progress = &self.types[kind.index()];
        let node = self.node.take().unwrap_or_default();
        let mut head = BytesMut::new();
        match self.variant {
            Variant::Sotw => {
                put(&mut head, 1, &progress.version);
                put(&mut head, 2, &node);
                put(&mut head, 4, kind.url().as_bytes());
                put(&mut head, 5, &progress.nonce);
                let names = match kind {
                    Kind::Eds => self.clusters.encoded.clone(),
                    Kind::Rds => self.listeners.encoded.clone(),
                    Kind::Cds | Kind::Lds | Kind::Other => Bytes::new(),
                };
                frame(head, names)
            }
            Variant::Delta => {
                put(&mut head, 1, &node);
                put(&mut head, 2, kind.url().as_bytes());
                if ack {
                    put(&mut head, 6, &progress.nonce);
                }
                frame(head, changes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use envoy_api::envoy::config::core::v3::Node;
    use envoy_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
    use envoy_api::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
    use prost::Message;

    use super::*;
    use crate::response::testing::{cluster, delta, listener, sotw};
    use crate::wire::Deframer;

    fn session(variant: Variant) -> Session {
        Session::new(
            variant,
            Node {
                id: "me".into(),
                ..Default::default()
            }
            .encode_to_vec()
            .into(),
        )
    }

    fn requests<M: Message + Default>(send: Vec<Bytes>) -> Vec<M> {
        let mut got = Vec::new();
        Deframer::default()
            .push(&send.concat(), |message| {
                got.push(M::decode(message).unwrap());
                Ok::<_, Malformed>(())
            })
            .unwrap();
        got
    }

    fn short(request: &DiscoveryRequest) -> (&str, &str, &str, Vec<&str>) {
        let names = request.resource_names.iter().map(String::as_str).collect();
        (
            &request.type_url,
            &request.version_info,
            &request.response_nonce,
            names,
        )
    }

    #[test]
    fn state_of_the_world_repeats_names_and_says_who_it_is_once() {
        let (mut session, mut catalogs) = (session(Variant::Sotw), Catalogs::default());
        let first = requests::<DiscoveryRequest>(session.open());
        assert_eq!(
            first.iter().map(short).collect::<Vec<_>>(),
            [(CLUSTER, "", "", vec![]), (LISTENER, "", "", vec![])]
        );
        assert_eq!(
            first.iter().map(|r| r.node.is_some()).collect::<Vec<_>>(),
            [true, false]
        );

        let mut answer = |session: &mut Session, message: Vec<u8>| {
            requests::<DiscoveryRequest>(session.receive(&message, &mut catalogs).unwrap().send)
        };
        let got = answer(
            &mut session,
            sotw(CLUSTER, "1", vec![cluster("a", true), cluster("s", false)]),
        );
        assert_eq!(
            got.iter().map(short).collect::<Vec<_>>(),
            [(CLUSTER, "v1", "1", vec![]), (ENDPOINT, "", "", vec!["a"])]
        );
        let got = answer(&mut session, sotw(ENDPOINT, "2", vec![]));
        assert_eq!(
            got.iter().map(short).collect::<Vec<_>>(),
            [(ENDPOINT, "v2", "2", vec!["a"])]
        );
        let got = answer(
            &mut session,
            sotw(LISTENER, "3", vec![listener("l", "8080")]),
        );
        assert_eq!(
            got.iter().map(short).collect::<Vec<_>>(),
            [(LISTENER, "v3", "3", vec![]), (ROUTE, "", "", vec!["8080"])]
        );
        assert!(!session.is_configured());
        answer(&mut session, sotw(ROUTE, "4", vec![]));
        assert!(session.is_configured());
        // The same clusters again need no other endpoints; one more does, with the nonce that endpoints are at.
        let got = answer(
            &mut session,
            sotw(CLUSTER, "5", vec![cluster("a", true), cluster("s", false)]),
        );
        assert_eq!(
            got.iter().map(short).collect::<Vec<_>>(),
            [(CLUSTER, "v5", "5", vec![])]
        );
        let got = answer(
            &mut session,
            sotw(CLUSTER, "6", vec![cluster("a", true), cluster("b", true)]),
        );
        assert_eq!(
            got.iter().map(short).collect::<Vec<_>>(),
            [
                (CLUSTER, "v6", "6", vec![]),
                (ENDPOINT, "v2", "2", vec!["a", "b"])
            ]
        );
    }

    #[test]
    fn delta_says_what_came_and_went() {
        let (mut session, mut catalogs) = (session(Variant::Delta), Catalogs::default());
        let first = requests::<DeltaDiscoveryRequest>(session.open());
        assert_eq!(
            first
                .iter()
                .map(|r| (r.type_url.as_str(), r.node.is_some()))
                .collect::<Vec<_>>(),
            [(CLUSTER, true), (LISTENER, false)]
        );
        let mut answer = |session: &mut Session, message: Vec<u8>| {
            requests::<DeltaDiscoveryRequest>(
                session.receive(&message, &mut catalogs).unwrap().send,
            )
            .into_iter()
            .map(|r| {
                (
                    r.type_url,
                    r.response_nonce,
                    r.resource_names_subscribe.join(","),
                    r.resource_names_unsubscribe.join(","),
                )
            })
            .collect::<Vec<_>>()
        };
        let request = |url: &str, nonce: &str, came: &str, went: &str| {
            (
                url.to_owned(),
                nonce.to_owned(),
                came.to_owned(),
                went.to_owned(),
            )
        };
        assert_eq!(
            answer(
                &mut session,
                delta(
                    CLUSTER,
                    "1",
                    vec![cluster("a", true), cluster("b", true)],
                    &[]
                )
            ),
            [
                request(CLUSTER, "1", "", ""),
                request(ENDPOINT, "", "a,b", "")
            ]
        );
        assert_eq!(
            answer(&mut session, delta(ENDPOINT, "2", vec![], &[])),
            [request(ENDPOINT, "2", "", "")]
        );
        assert_eq!(
            answer(
                &mut session,
                delta(CLUSTER, "3", vec![cluster("c", true)], &["a"])
            ),
            [
                request(CLUSTER, "3", "", ""),
                request(ENDPOINT, "", "c", "a")
            ]
        );
    }
}
