//! One subscriber's stream: what was asked, what was sent, what is owed.
//!
//! Between two chunks nothing is held but references into a snapshot. A subscriber that reads slowly is offered the newest revision when it
//! is done with the one before, and never sees those in between.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use envoy_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
};
use imbl::ordmap::DiffItem;
use mesh_api::galley;
use mesh_types::Kind;
use prost::{Message, Name};

use crate::distribute::{self, Item, Items, Snapshot};

/// Largest response, unless one object alone is larger: 1 MiB.
pub const MAX_CHUNK: usize = 1 << 20;
/// The one name that collections are subscribed with.
const ALL: &str = "*";
/// The name of the resource that ends a revision.
const REVISION: &str = "revision";

/// A request that ends the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Single objects were asked for.
    #[error("{type_url}: subscribe the whole collection, with \"*\"")]
    NotWhole {
        /// The collection.
        type_url: String,
    },
    /// A version held that Galley never gave out.
    #[error("{type_url}: the version {version:?} of {name:?} is no content hash")]
    NoHash {
        /// The collection.
        type_url: String,
        /// The object.
        name: String,
        /// What the client says it holds.
        version: String,
    },
}

/// What a request meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A collection was subscribed or left, or nothing was said.
    Subscription,
    /// A response was taken.
    Ack,
    /// A response was rejected.
    Nack(String),
    /// A collection that does not exist; it is and stays empty.
    Unknown(String),
}

/// One response.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The encoded response, to be sent one after the other.
    pub pieces: Vec<Bytes>,
    /// Revision it belongs to.
    pub revision: u64,
    /// Whether it ends the revision.
    pub last: bool,
}

impl Chunk {
    /// Bytes of the whole response.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Whether there is nothing in it; never so.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a client has of one collection.
#[derive(Debug)]
enum Holds {
    /// What it said it has when it subscribed.
    Said(BTreeMap<String, u64>),
    /// What it was sent.
    Sent(Items),
}

/// What is left to be sent of one collection.
#[derive(Debug)]
struct Owed {
    kind: Kind,
    items: VecDeque<Arc<Item>>,
    removed: VecDeque<String>,
}

/// A revision on its way.
#[derive(Debug)]
struct Sending {
    snapshot: Arc<Snapshot>,
    owed: VecDeque<Owed>,
    end: galley::Revision,
}

/// The state of one stream.
#[derive(Debug, Default)]
pub struct Subscriber {
    collections: BTreeMap<Kind, Holds>,
    /// Whether revisions were subscribed: from then on things are sent.
    follows: bool,
    latest: Option<Arc<Snapshot>>,
    sent: Option<u64>,
    sending: Option<Sending>,
    nonce: u64,
}

impl Subscriber {
    /// The newest revision there is. Revision 0 is "unknown", and nothing is sent of it.
    pub fn offer(&mut self, snapshot: Arc<Snapshot>) {
        if snapshot.revision > 0 {
            self.latest = Some(snapshot);
        }
    }

    /// The last revision that was sent whole.
    pub fn sent(&self) -> Option<u64> {
        self.sent
    }

    /// Takes a request.
    ///
    /// # Errors
    /// The stream must end; see [`Refusal`].
    pub fn on_request(&mut self, request: &DeltaDiscoveryRequest) -> Result<Heard, Refusal> {
        let heard = self.subscribe(request)?;
        if let Some(error) = &request.error_detail {
            return Ok(Heard::Nack(error.message.clone()));
        }
        if !request.response_nonce.is_empty() {
            return Ok(Heard::Ack);
        }
        Ok(heard)
    }

    fn subscribe(&mut self, request: &DeltaDiscoveryRequest) -> Result<Heard, Refusal> {
        let (asked, left) = (
            &request.resource_names_subscribe,
            &request.resource_names_unsubscribe,
        );
        if let Some(odd) = asked.iter().find(|name| *name != ALL)
            && !(request.type_url == galley::Revision::type_url() && odd == REVISION)
        {
            return Err(Refusal::NotWhole {
                type_url: request.type_url.clone(),
            });
        }
        if request.type_url == galley::Revision::type_url() {
            self.follows = (self.follows || !asked.is_empty()) && left.is_empty();
            return Ok(Heard::Subscription);
        }
        let Some(kind) = Kind::from_type_url(&request.type_url) else {
            return Ok(Heard::Unknown(request.type_url.clone()));
        };
        if left.iter().any(|name| name == ALL) {
            self.collections.remove(&kind);
        }
        if !asked.is_empty() && !self.collections.contains_key(&kind) {
            let mut said = BTreeMap::new();
            for (name, version) in &request.initial_resource_versions {
                let hash = u64::from_str_radix(version, 16).map_err(|_| Refusal::NoHash {
                    type_url: request.type_url.clone(),
                    name: name.clone(),
                    version: version.clone(),
                })?;
                said.insert(name.clone(), hash);
            }
            self.collections.insert(kind, Holds::Said(said));
        }
        Ok(Heard::Subscription)
    }

    /// The next response that is due.
    pub fn next_chunk(&mut self) -> Option<Chunk> {
        if self.sending.is_none() {
            let due = self
                .latest
                .as_ref()
                .filter(|latest| self.follows && self.sent != Some(latest.revision));
            let snapshot = due?.clone();
            self.sending = Some(self.start(snapshot));
        }
        let sending = self.sending.as_mut()?;
        while let Some(owed) = sending.owed.front_mut() {
            if owed.items.is_empty() && owed.removed.is_empty() {
                sending.owed.pop_front();
                continue;
            }
            self.nonce += 1;
            return Some(part(sending.snapshot.revision, self.nonce, owed));
        }
        self.nonce += 1;
        let chunk = last(&sending.end, self.nonce);
        self.sent = Some(sending.snapshot.revision);
        self.sending = None;
        Some(chunk)
    }

    fn start(&mut self, snapshot: Arc<Snapshot>) -> Sending {
        let owed = self
            .collections
            .iter_mut()
            .map(|(kind, holds)| {
                let items = snapshot.items(*kind);
                let owed = owed(*kind, holds, &items);
                *holds = Holds::Sent(items);
                owed
            })
            .collect();
        let end = snapshot.end(self.collections.keys());
        Sending {
            snapshot,
            owed,
            end,
        }
    }
}

/// What leads from what the client has to `now`.
fn owed(kind: Kind, holds: &Holds, now: &Items) -> Owed {
    let mut owed = Owed {
        kind,
        items: VecDeque::new(),
        removed: VecDeque::new(),
    };
    match holds {
        Holds::Said(said) => {
            let missing = now
                .iter()
                .filter(|(name, item)| said.get(&***name) != Some(&item.version));
            owed.items.extend(missing.map(|(_, item)| item.clone()));
            let gone = said.keys().filter(|name| !now.contains_key(name.as_str()));
            owed.removed.extend(gone.cloned());
        }
        Holds::Sent(before) => {
            for difference in before.diff(now) {
                match difference {
                    DiffItem::Add(_, item) | DiffItem::Update { new: (_, item), .. } => {
                        owed.items.push_back(item.clone());
                    }
                    DiffItem::Remove(name, _) => owed.removed.push_back(name.to_string()),
                }
            }
        }
    }
    owed
}

/// As much of a collection as fits one response, one object at least.
fn part(revision: u64, nonce: u64, owed: &mut Owed) -> Chunk {
    let mut header = DeltaDiscoveryResponse {
        system_version_info: revision.to_string(),
        type_url: owed.kind.type_url(),
        nonce: nonce.to_string(),
        ..DeltaDiscoveryResponse::default()
    };
    let mut room = MAX_CHUNK.saturating_sub(header.encoded_len());
    let mut pieces = vec![Bytes::new()];
    while let Some(name) = owed.removed.front() {
        // A tag, and a length of up to five bytes.
        let size = name.len() + 6;
        if size > room && !header.removed_resources.is_empty() {
            break;
        }
        room = room.saturating_sub(size);
        header.removed_resources.extend(owed.removed.pop_front());
    }
    while let Some(item) = owed.items.front() {
        let size = item.field.len();
        if size > room && (pieces.len() > 1 || !header.removed_resources.is_empty()) {
            break;
        }
        room = room.saturating_sub(size);
        pieces.extend(owed.items.pop_front().map(|item| item.field.clone()));
    }
    // The fields of a message may stand in any order.
    pieces[0] = header.encode_to_vec().into();
    Chunk {
        pieces,
        revision,
        last: false,
    }
}

fn last(end: &galley::Revision, nonce: u64) -> Chunk {
    let header = DeltaDiscoveryResponse {
        system_version_info: end.number.to_string(),
        type_url: galley::Revision::type_url(),
        nonce: nonce.to_string(),
        ..DeltaDiscoveryResponse::default()
    };
    let resource = Resource {
        name: REVISION.into(),
        version: end.number.to_string(),
        resource: Some(prost_types::Any {
            type_url: galley::Revision::type_url(),
            value: end.encode_to_vec(),
        }),
        ..Resource::default()
    };
    Chunk {
        pieces: vec![header.encode_to_vec().into(), distribute::field(&resource)],
        revision: end.number,
        last: true,
    }
}

#[cfg(test)]
mod tests;
