//! Which names a client must subscribe to, following what clusters and listeners refer to.
//!
//! Clients that got the same responses hold the same list: the first one makes it, the others find it by what they had and what they were
//! told. So a thousand proxies cost one list for each scope, and its encoded form is made once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::Xxh3;

use crate::args::Variant;
use crate::response::{Fact, Kind, Response};
use crate::wire::{Malformed, put};

/// Field of `resource_names` and of `resource_names_subscribe`.
const NAMES: u8 = 3;
/// Field of `resource_names_unsubscribe`.
const UNSUBSCRIBE: u8 = 4;

/// What clusters refer to, or listeners.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Unlike any other catalog's; the empty one has 0.
    id: u64,
    references: BTreeMap<Box<str>, Vec<Box<str>>>,
    names: BTreeSet<Box<str>>,
    /// The names as repeated field of a request.
    pub encoded: Bytes,
}

impl Catalog {
    /// How many names are referred to.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether a cluster or listener is in it.
    pub fn holds(&self, resource: &str) -> bool {
        self.references.contains_key(resource)
    }
}

/// From one catalog to the next.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it leads.
    pub catalog: Arc<Catalog>,
    /// Names that came, as `resource_names_subscribe`.
    pub subscribe: Bytes,
    /// Names that went, as `resource_names_unsubscribe`.
    pub unsubscribe: Bytes,
}

impl Step {
    /// Whether other names are asked for than before.
    pub fn changes_names(&self) -> bool {
        !self.subscribe.is_empty() || !self.unsubscribe.is_empty()
    }
}

/// All steps that any client took.
#[derive(Debug, Default)]
pub struct Catalogs {
    steps: HashMap<(u64, Kind, u64), Arc<Step>>,
    made: u64,
}

impl Catalogs {
    /// The step that a response of clusters or listeners makes.
    ///
    /// # Errors
    /// A resource cannot be read.
    pub fn step(
        &mut self,
        from: &Arc<Catalog>,
        variant: Variant,
        response: &Response<'_>,
    ) -> Result<Arc<Step>, Malformed> {
        let mut hash = Xxh3::new();
        variant.hash(&mut hash);
        response.facts(|fact| fact.hash(&mut hash))?;
        let key = (from.id, response.kind, hash.finish());
        if let Some(step) = self.steps.get(&key) {
            return Ok(step.clone());
        }
        let step = Arc::new(self.take(from, variant, response)?);
        self.steps.insert(key, step.clone());
        Ok(step)
    }

    fn take(
        &mut self,
        from: &Arc<Catalog>,
        variant: Variant,
        response: &Response<'_>,
    ) -> Result<Step, Malformed> {
        let mut references = match variant {
            Variant::Sotw => BTreeMap::new(),
            Variant::Delta => from.references.clone(),
        };
        let mut latest: Box<str> = "".into();
        response.facts(|fact| match fact {
            Fact::Resource(name) => {
                latest = name.into();
                references.insert(latest.clone(), Vec::new());
            }
            Fact::Reference(name) => references
                .entry(latest.clone())
                .or_default()
                .push(name.into()),
            Fact::Removed(name) => {
                references.remove(name);
            }
        })?;
        if references == from.references {
            return Ok(Step {
                catalog: from.clone(),
                subscribe: Bytes::new(),
                unsubscribe: Bytes::new(),
            });
        }
        let names: BTreeSet<_> = references.values().flatten().cloned().collect();
        let subscribe = encode(NAMES, names.difference(&from.names));
        let unsubscribe = encode(UNSUBSCRIBE, from.names.difference(&names));
        let encoded = encode(NAMES, names.iter());
        self.made += 1;
        let catalog = Arc::new(Catalog {
            id: self.made,
            references,
            names,
            encoded,
        });
        Ok(Step {
            catalog,
            subscribe,
            unsubscribe,
        })
    }
}

fn encode<'a>(field: u8, names: impl Iterator<Item = &'a Box<str>>) -> Bytes {
    let mut out = BytesMut::new();
    for name in names {
        put(&mut out, field, name.as_bytes());
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use envoy_api::type_url::CLUSTER;

    use super::*;
    use crate::response::testing::{cluster, delta, sotw};
    use crate::wire::{each, text};

    fn names(field: u8, bytes: &Bytes) -> Vec<String> {
        each(bytes, field.into())
            .map(|name| text(name.unwrap()).unwrap().to_owned())
            .collect()
    }

    fn step(
        catalogs: &mut Catalogs,
        from: &Arc<Catalog>,
        variant: Variant,
        message: &[u8],
    ) -> Arc<Step> {
        catalogs
            .step(from, variant, &Response::read(variant, message).unwrap())
            .unwrap()
    }

    #[test]
    fn the_second_client_reuses_what_the_first_made() {
        let mut catalogs = Catalogs::default();
        let clusters = || {
            vec![
                cluster("b", true),
                cluster("a", true),
                cluster("static", false),
            ]
        };
        let first = step(
            &mut catalogs,
            &Arc::default(),
            Variant::Sotw,
            &sotw(CLUSTER, "1", clusters()),
        );
        let second = step(
            &mut catalogs,
            &Arc::default(),
            Variant::Sotw,
            &sotw(CLUSTER, "other nonce", clusters()),
        );
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(names(NAMES, &first.catalog.encoded), ["a", "b"]);
        assert!(first.catalog.holds("static"));
    }

    #[test]
    fn state_of_the_world_replaces() {
        let mut catalogs = Catalogs::default();
        let first = step(
            &mut catalogs,
            &Arc::default(),
            Variant::Sotw,
            &sotw(CLUSTER, "1", vec![cluster("a", true), cluster("b", true)]),
        );
        let next = step(
            &mut catalogs,
            &first.catalog,
            Variant::Sotw,
            &sotw(CLUSTER, "2", vec![cluster("b", true), cluster("c", true)]),
        );
        assert_eq!(names(NAMES, &next.catalog.encoded), ["b", "c"]);
        assert_eq!(names(NAMES, &next.subscribe), ["c"]);
        assert_eq!(names(UNSUBSCRIBE, &next.unsubscribe), ["a"]);
        let same = step(
            &mut catalogs,
            &next.catalog,
            Variant::Sotw,
            &sotw(CLUSTER, "3", vec![cluster("b", true), cluster("c", true)]),
        );
        assert!(!same.changes_names() && Arc::ptr_eq(&same.catalog, &next.catalog));
    }

    #[test]
    fn delta_adds_and_removes() {
        let mut catalogs = Catalogs::default();
        let first = step(
            &mut catalogs,
            &Arc::default(),
            Variant::Delta,
            &delta(
                CLUSTER,
                "1",
                vec![cluster("a", true), cluster("b", true)],
                &[],
            ),
        );
        let next = step(
            &mut catalogs,
            &first.catalog,
            Variant::Delta,
            &delta(
                CLUSTER,
                "2",
                vec![cluster("c", true), cluster("b", false)],
                &["a"],
            ),
        );
        assert_eq!(names(NAMES, &next.catalog.encoded), ["c"]);
        assert_eq!(names(NAMES, &next.subscribe), ["c"]);
        assert_eq!(names(UNSUBSCRIBE, &next.unsubscribe), ["a", "b"]);
    }
}
