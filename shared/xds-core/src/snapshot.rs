//! What one proxy should have: layers of sets per type, under one revision.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::set::{Change, finish};
use crate::{Encoded, Set, TypeId};

/// What a proxy gets of one type: the set its outbound class shares and the set of its own inbound side.
///
/// Names are disjoint across layers; where they are not, the earlier layer wins.
#[derive(Clone, Debug, Default)]
pub struct Layers(SmallVec<[Arc<Set>; 2]>);

impl Layers {
    /// Layers from sets, earlier ones winning. Empty sets are left out.
    ///
    /// Costs a lookup per resource of the smaller sets.
    pub fn new(sets: impl IntoIterator<Item = Arc<Set>>) -> Self {
        let mut layers = Self::default();
        for set in sets {
            layers.push(set);
        }
        layers
    }

    fn push(&mut self, set: Arc<Set>) {
        if set.is_empty() {
            return;
        }
        let clash = |e: &Arc<Encoded>| self.0.iter().any(|s| s.get(e.name()).is_some());
        let shared = if set.len() <= self.len() {
            set.items().iter().any(clash)
        } else {
            self.iter().any(|e| set.get(e.name()).is_some())
        };
        if shared {
            let rest = set.items().iter().filter(|e| !clash(e)).cloned().collect();
            self.push(Arc::new(Set::from_sorted(rest)));
        } else {
            self.0.push(set);
        }
    }

    /// The sets.
    pub fn sets(&self) -> &[Arc<Set>] {
        &self.0
    }

    /// The resource of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Encoded>> {
        self.0.iter().find_map(|s| s.get(name))
    }

    pub(crate) fn get_bytes(&self, name: &[u8]) -> Option<&Arc<Encoded>> {
        self.0
            .iter()
            .find_map(|s| s.find(name).map(|i| &s.items()[i]))
    }

    /// Every resource, layer by layer.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Encoded>> {
        self.0.iter().flat_map(|s| s.items())
    }

    /// Number of resources.
    pub fn len(&self) -> usize {
        self.0.iter().map(|s| s.len()).sum()
    }

    /// Whether there is no resource.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Hash of the names and contents, the `version_info` of a state-of-the-world response. How resources are spread over
    /// layers does not matter.
    pub fn version(&self) -> u64 {
        finish(
            self.0.iter().fold(0, |sum, s| sum.wrapping_add(s.sum())),
            self.len(),
        )
    }

    /// Whether both are made of the very same sets: constant time.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// Whether both hold the same names with the same content.
    pub fn same(&self, other: &Self) -> bool {
        if self.ptr_eq(other) {
            return true;
        }
        let mut same = self.len() == other.len() && self.version() == other.version();
        if same {
            self.diff(other, |_| same = false);
        }
        same
    }

    /// Calls `each` for every difference towards `newer`. Equal sets are skipped by pointer.
    pub fn diff(&self, newer: &Self, mut each: impl FnMut(Change)) {
        let empty = Arc::new(Set::empty());
        let alone = self.0.len() <= 1 && newer.0.len() <= 1;
        // Sets that stayed are paired with themselves wherever they stand, the others in order.
        let gone: SmallVec<[_; 2]> = self
            .0
            .iter()
            .filter(|a| !newer.0.iter().any(|b| Arc::ptr_eq(a, b)))
            .collect();
        let come: SmallVec<[_; 2]> = newer
            .0
            .iter()
            .filter(|b| !self.0.iter().any(|a| Arc::ptr_eq(a, b)))
            .collect();
        for i in 0..gone.len().max(come.len()) {
            let (a, b) = (
                gone.get(i).copied().unwrap_or(&empty),
                come.get(i).copied().unwrap_or(&empty),
            );
            a.diff(b, |change| match &change {
                Change::Put(e) if !alone && self.get(e.name()).is_some_and(|old| old.same(e)) => {}
                Change::Removed(e) if !alone && newer.get(e.name()).is_some() => {}
                _ => each(change),
            });
        }
    }
}

impl From<Arc<Set>> for Layers {
    fn from(set: Arc<Set>) -> Self {
        Self::new([set])
    }
}

/// Everything one group of proxies should have at one revision.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The mesh revision this was built from.
    pub revision: u64,
    types: [Layers; TypeId::COUNT],
}

impl Snapshot {
    /// An empty snapshot of a revision.
    pub fn new(revision: u64) -> Self {
        Self {
            revision,
            types: Default::default(),
        }
    }

    /// What is there of a type.
    pub fn layers(&self, type_id: TypeId) -> &Layers {
        &self.types[type_id.index()]
    }

    /// Replaces what is there of a type.
    pub fn set(&mut self, type_id: TypeId, layers: impl Into<Layers>) {
        self.types[type_id.index()] = layers.into();
    }

    /// As [`Snapshot::set`], for building in one expression.
    #[must_use]
    pub fn with(mut self, type_id: TypeId, layers: impl Into<Layers>) -> Self {
        self.set(type_id, layers);
        self
    }

    /// Whether both hold the same resources; revisions may differ. Then nobody needs waking: a proxy that has acknowledged one has the other.
    pub fn same_content(&self, other: &Self) -> bool {
        self.types.iter().zip(&other.types).all(|(a, b)| a.same(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Arc<Set> {
        let e = |w: &str| Arc::new(Encoded::new(&w[..1], TypeId::Cds, &w.as_bytes()[1..]));
        Arc::new(Set::new(text.split_whitespace().map(e).collect()))
    }

    fn changes(old: &Layers, new: &Layers) -> String {
        let mut out = Vec::new();
        old.diff(new, |c| {
            out.push(match c {
                Change::Put(e) => format!("+{}", e.name()),
                Change::Removed(e) => format!("-{}", e.name()),
            });
        });
        out.sort();
        out.join(" ")
    }

    #[test]
    fn the_earlier_layer_wins_a_name_clash() {
        let l = Layers::new([set("a1 b1"), set("b2 c1"), set("")]);
        assert_eq!(l.len(), 3);
        assert!(l.get("b").unwrap().same(set("b1").get("b").unwrap()));
        let l = Layers::new([set("b2"), set("a1 b1 c1")]);
        assert_eq!(l.len(), 3);
    }

    #[test]
    fn version_does_not_depend_on_layering() {
        assert_eq!(
            Layers::new([set("a1"), set("b1")]).version(),
            Layers::from(set("a1 b1")).version()
        );
        assert!(Layers::new([set("a1"), set("b1")]).same(&Layers::from(set("a1 b1"))));
    }

    #[test]
    fn a_name_that_moves_between_layers_is_no_change() {
        let (old, new) = (
            Layers::new([set("a1 b1"), set("c1")]),
            Layers::new([set("a1"), set("b1 c2")]),
        );
        assert_eq!(changes(&old, &new), "+c");
    }

    #[test]
    fn a_layer_that_comes_or_goes() {
        let shared = set("a1 b1");
        let (one, two) = (
            Layers::new([shared.clone()]),
            Layers::new([set("x1"), shared]),
        );
        assert_eq!(changes(&one, &two), "+x");
        assert_eq!(changes(&two, &one), "-x");
        assert_eq!(changes(&Layers::default(), &one), "+a +b");
    }

    #[test]
    fn a_revision_without_changes_has_the_same_content() {
        let a = Snapshot::new(1).with(TypeId::Cds, set("a1"));
        let b = Snapshot::new(2).with(TypeId::Cds, set("a1"));
        assert!(a.same_content(&b));
        assert!(!a.same_content(&Snapshot::new(3)));
    }
}
