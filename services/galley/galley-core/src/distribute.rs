//! One revision in normal form, each object encoded once.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use envoy_api::envoy::service::discovery::v3::Resource;
use imbl::OrdMap;
use mesh_api::{Digest, galley};
use mesh_config::Object;
use mesh_registry::ChangeSet;
use mesh_types::{Key, Kind};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

/// Field number of `resources` in a `DeltaDiscoveryResponse`.
const RESOURCES: u32 = 2;

/// An object as it goes over the wire.
#[derive(Debug, Clone)]
pub struct Item {
    /// Content hash.
    pub version: u64,
    /// The whole field of a response: tag, length and resource. Shared by all subscribers.
    pub field: Bytes,
}

/// Equal content has an equal hash.
impl PartialEq for Item {
    fn eq(&self, other: &Item) -> bool {
        self.version == other.version
    }
}

impl Item {
    fn new(key: &Key, object: &Object) -> Item {
        let resource = Resource {
            name: key.path(),
            version: format!("{:016x}", object.version),
            resource: Some(prost_types::Any {
                type_url: key.kind.type_url(),
                value: galley::Object {
                    json: object.to_wire().into(),
                }
                .encode_to_vec(),
            }),
            ..Resource::default()
        };
        Item {
            version: object.version,
            field: field(&resource),
        }
    }
}

/// A resource as a field of a response.
pub(crate) fn field(resource: &Resource) -> Bytes {
    let len = resource.encoded_len();
    let mut out = BytesMut::with_capacity(len + 16);
    encode_key(RESOURCES, WireType::LengthDelimited, &mut out);
    encode_varint(len as u64, &mut out);
    out.put(&*resource.encode_to_vec());
    out.freeze()
}

/// Objects of one kind by their name on the wire.
pub type Items = OrdMap<Arc<str>, Arc<Item>>;

/// All objects of one kind.
#[derive(Debug, Clone, Default)]
pub struct Collection {
    /// By name on the wire.
    pub items: Items,
    /// Digest of these.
    pub digest: Digest,
}

/// One revision as subscribers get it. Cheap to clone and to derive from the one before: unchanged parts are shared.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Its number; 0 is "nothing yet" and is never distributed.
    pub revision: u64,
    /// When it was committed, in microseconds since 1970.
    pub committed_us: i64,
    /// By kind; a kind that is missing has no objects.
    pub collections: BTreeMap<Kind, Collection>,
}

impl Snapshot {
    /// The next revision, after `changes` in normal form.
    pub fn next(&self, revision: u64, committed_us: i64, changes: &ChangeSet) -> Snapshot {
        let mut next = Snapshot {
            revision,
            committed_us,
            collections: self.collections.clone(),
        };
        for (key, object) in changes {
            let collection = next.collections.entry(key.kind).or_default();
            let (url, name): (_, Arc<str>) = (key.kind.type_url(), key.path().into());
            let old = match object {
                Some(object) => {
                    collection.digest.add(&url, &name, object.version);
                    let item = Arc::new(Item::new(key, object));
                    collection.items.insert(name.clone(), item)
                }
                None => collection.items.remove(&name),
            };
            if let Some(old) = old {
                collection.digest.remove(&url, &name, old.version);
            }
        }
        next
    }

    /// Objects of a kind.
    pub fn items(&self, kind: Kind) -> Items {
        self.collections
            .get(&kind)
            .map(|collection| collection.items.clone())
            .unwrap_or_default()
    }

    /// How many objects there are of all kinds.
    pub fn len(&self) -> usize {
        self.collections.values().map(|c| c.items.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What ends the revision for a client of these collections.
    pub fn end<'a>(&self, kinds: impl IntoIterator<Item = &'a Kind>) -> galley::Revision {
        let mut end = galley::Revision {
            number: self.revision,
            committed_us: self.committed_us,
            ..galley::Revision::default()
        };
        for collection in kinds.into_iter().filter_map(|k| self.collections.get(k)) {
            end.digest = end.digest.wrapping_add(collection.digest.0);
            end.objects += collection.items.len() as u64;
        }
        end
    }
}
