//! Everything one proxy should have, as bytes that travel between Pilots and as JSON.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use envoy_api::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use mesh_api::Digest;
use pilot_core::secrets::redacted;
use prost::Message as _;
use serde_json::{Value, json};
use xds_core::{Encoded, Snapshot, TypeId};

/// The resources of a snapshot in push order and by name: equal snapshots list alike on every Pilot.
///
/// Its bytes are those of a `DeltaDiscoveryResponse` with all of them. They are not put together before somebody wants them all.
pub struct Whole {
    resources: Vec<Arc<Encoded>>,
    version: u64,
}

impl Whole {
    /// Lists a snapshot.
    pub fn of(snapshot: &Snapshot) -> Whole {
        let (mut resources, mut digest) = (Vec::new(), Digest::default());
        for type_id in TypeId::ALL {
            let layers = snapshot.layers(type_id);
            digest.add(type_id.url(), "", layers.version());
            // Whoever looks at a proxy, here or over the bus, sees no private key.
            let mut of_type: Vec<_> = match type_id {
                TypeId::Sds => layers.iter().map(redacted).collect(),
                _ => layers.iter().cloned().collect(),
            };
            of_type.sort_by(|a, b| a.name().cmp(b.name()));
            resources.append(&mut of_type);
        }
        Whole {
            resources,
            version: digest.0,
        }
    }

    /// Hash of the content.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Size of all of it. Unit: bytes.
    pub fn len(&self) -> usize {
        self.entries().map(|entry| entry.len()).sum()
    }

    /// The bytes from `from` on, `most` of them; fewer at the end.
    pub fn piece(&self, from: usize, most: usize) -> Bytes {
        let (mut skip, mut out) = (from, BytesMut::new());
        for entry in self.entries() {
            let Some(rest) = entry.get(skip..) else {
                skip -= entry.len();
                continue;
            };
            skip = 0;
            let room = most - out.len();
            out.extend_from_slice(&rest[..rest.len().min(room)]);
            if out.len() == most {
                break;
            }
        }
        out.freeze()
    }

    fn entries(&self) -> impl Iterator<Item = &Bytes> {
        self.resources.iter().map(|encoded| encoded.delta_entry())
    }
}

/// What is in such bytes, as proto3 JSON by kind; `None` if they are no such bytes.
pub fn to_json(whole: Bytes) -> Option<Value> {
    let whole = DeltaDiscoveryResponse::decode(whole).ok()?;
    let list = |type_id: TypeId| -> Value {
        let resources = whole.resources.iter();
        let of_type = resources.filter_map(|resource| {
            let any = resource.resource.as_ref()?;
            (any.type_url == type_id.url()).then(|| {
                envoy_api::json::to_json(&any.type_url, &any.value).unwrap_or_else(
                    |_| json!({ "name": resource.name, "error": "this resource cannot be printed" }),
                )
            })
        });
        of_type.collect()
    };
    Some(json!({
        "clusters": list(TypeId::Cds),
        "endpoints": list(TypeId::Eds),
        "listeners": list(TypeId::Lds),
        "routes": list(TypeId::Rds),
        "secrets": list(TypeId::Sds),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_api::envoy::config::cluster::v3::Cluster;
    use xds_core::{Layers, Set};

    fn cluster(name: &str) -> Arc<Encoded> {
        let message = Cluster {
            name: name.into(),
            ..Cluster::default()
        };
        Arc::new(Encoded::new(name, TypeId::Cds, &message.encode_to_vec()))
    }

    fn snapshot(layers: &[&[&str]]) -> Snapshot {
        let set = |names: &&[&str]| Arc::new(Set::new(names.iter().map(|n| cluster(n)).collect()));
        Snapshot::new(1).with(TypeId::Cds, Layers::new(layers.iter().map(set)))
    }

    #[test]
    fn pieces_put_together_are_the_whole_however_they_are_cut() {
        let whole = Whole::of(&snapshot(&[&["a", "b", "long-name-of-a-cluster"]]));
        let all = whole.piece(0, usize::MAX);
        assert_eq!(all.len(), whole.len());
        for most in 1..=all.len() + 1 {
            let mut joined = BytesMut::new();
            while joined.len() < whole.len() {
                let piece = whole.piece(joined.len(), most);
                assert!(!piece.is_empty() && piece.len() <= most);
                joined.extend_from_slice(&piece);
            }
            assert_eq!(joined, all);
        }
        assert!(whole.piece(all.len(), 10).is_empty());
        assert!(whole.piece(usize::MAX, 10).is_empty());
    }

    #[test]
    fn the_same_resources_are_the_same_bytes_however_they_are_layered() {
        let (one, two) = (
            Whole::of(&snapshot(&[&["a", "b", "c"]])),
            Whole::of(&snapshot(&[&["b"], &["a", "c"]])),
        );
        assert_eq!(one.version(), two.version());
        assert_eq!(one.piece(0, usize::MAX), two.piece(0, usize::MAX));
        let other = Whole::of(&snapshot(&[&["a", "b"]]));
        assert_ne!(one.version(), other.version());
    }

    #[test]
    fn prints_by_kind() {
        let printed = to_json(Whole::of(&snapshot(&[&["b", "a"]])).piece(0, usize::MAX)).unwrap();
        assert_eq!(printed["clusters"][0]["name"], "a");
        assert_eq!(printed["clusters"][1]["name"], "b");
        assert_eq!(printed["routes"], json!([]));
        assert!(to_json(Bytes::from_static(b"\xff")).is_none());
    }
}
