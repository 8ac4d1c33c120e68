//! All resources of one type that one class of proxies gets, in name order.

use std::cmp::Ordering;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use bytes::{Bytes, BytesMut};

use crate::Encoded;

/// Entries of at least this many bytes are sent as slices of their own; smaller ones are copied together.
///
/// Unit: bytes. A DATA frame per small resource costs more than copying it.
pub const LARGE: usize = 4096;

/// An immutable set of resources, sorted by name, names unique.
pub struct Set {
    items: Box<[Arc<Encoded>]>,
    /// Wrapping sum of the items' fingerprints: order-free, so it can be updated and added across sets.
    sum: u64,
    step: Option<Step>,
    joined: [OnceLock<Joined>; 2],
}

/// How a set came from the one before it, so that a proxy that has that one needs no walk.
struct Step {
    base: Weak<Set>,
    changes: Box<[Change]>,
}

/// One difference between two sets.
#[derive(Clone, Debug)]
pub enum Change {
    /// New or different content; the new resource.
    Put(Arc<Encoded>),
    /// No longer there; the old resource.
    Removed(Arc<Encoded>),
}

/// The entries of a set in one buffer: built on first use, shared by every stream.
///
/// Large entries stay where they are (their own `Bytes` is sent), so they take no room here.
pub(crate) struct Joined {
    pub(crate) small: Bytes,
    /// `at[i]..at[i + 1]` is entry `i` in `small`; empty for a large entry.
    pub(crate) at: Box<[u32]>,
    /// Indices of large entries.
    pub(crate) large: Box<[u32]>,
    /// Bytes of all entries, large ones included.
    pub(crate) total: usize,
}

impl Set {
    /// A set from any resources; of two with one name the first stays.
    pub fn new(mut items: Vec<Arc<Encoded>>) -> Self {
        items.sort_by(|a, b| a.name().cmp(b.name()));
        items.dedup_by(|later, kept| later.name() == kept.name());
        Self::build(items, None)
    }

    /// A set from resources already in strict name order; anything else is sorted as by [`Set::new`].
    pub fn from_sorted(items: Vec<Arc<Encoded>>) -> Self {
        if items.is_sorted_by(|a, b| a.name() < b.name()) {
            Self::build(items, None)
        } else {
            Self::new(items)
        }
    }

    /// The set without resources.
    pub fn empty() -> Self {
        Self::build(Vec::new(), None)
    }

    fn build(items: Vec<Arc<Encoded>>, step: Option<Step>) -> Self {
        let sum = items
            .iter()
            .fold(0u64, |sum, e| sum.wrapping_add(e.fingerprint()));
        Self {
            items: items.into(),
            sum,
            step,
            joined: Default::default(),
        }
    }

    /// This set with some resources put and some names removed; the same `Arc` if that changes nothing.
    ///
    /// Costs a pointer copy per resource, no hashing and no encoding. Of two puts of one name the last wins; a put wins over a removal.
    /// The result remembers the step, so proxies that have `self` are served in time proportional to the change.
    pub fn with_changes<'a>(
        self: &Arc<Self>,
        put: impl IntoIterator<Item = Arc<Encoded>>,
        removed: impl IntoIterator<Item = &'a str>,
    ) -> Arc<Self> {
        let mut edits: Vec<(Arc<str>, Option<Arc<Encoded>>)> = removed
            .into_iter()
            .map(|name| (Arc::from(name), None))
            .collect();
        edits.extend(put.into_iter().map(|e| (e.name().clone(), Some(e))));
        edits.sort_by(|a, b| a.0.cmp(&b.0)); // stable: the last edit of a name stays last
        edits.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });

        let mut items = Vec::with_capacity(self.items.len() + edits.len());
        let (mut changes, mut sum, mut at) = (Vec::new(), self.sum, 0);
        for (name, edit) in edits {
            let upto = at + self.items[at..].partition_point(|e| e.name() < &name);
            items.extend_from_slice(&self.items[at..upto]);
            let old = self.items.get(upto).filter(|e| *e.name() == name);
            at = upto + usize::from(old.is_some());
            match (old, edit) {
                (Some(old), Some(new)) if old.same(&new) => items.push(old.clone()),
                (old, Some(new)) => {
                    sum = sum
                        .wrapping_sub(old.map_or(0, |e| e.fingerprint()))
                        .wrapping_add(new.fingerprint());
                    items.push(new.clone());
                    changes.push(Change::Put(new));
                }
                (Some(old), None) => {
                    sum = sum.wrapping_sub(old.fingerprint());
                    changes.push(Change::Removed(old.clone()));
                }
                (None, None) => {}
            }
        }
        if changes.is_empty() {
            return self.clone();
        }
        items.extend_from_slice(&self.items[at..]);
        let step = Step {
            base: Arc::downgrade(self),
            changes: changes.into(),
        };
        Arc::new(Self {
            items: items.into(),
            sum,
            step: Some(step),
            joined: Default::default(),
        })
    }

    /// The resources in name order.
    pub fn items(&self) -> &[Arc<Encoded>] {
        &self.items
    }

    /// The resource of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Encoded>> {
        self.find(name.as_bytes()).map(|i| &self.items[i])
    }

    /// Position of the resource of that name.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        self.items
            .binary_search_by(|e| e.name().as_bytes().cmp(name))
            .ok()
    }

    /// Number of resources.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no resource.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Hash of the list of names and contents, equal on every replica.
    pub fn version(&self) -> u64 {
        finish(self.sum, self.items.len())
    }

    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// Whether both hold the same names with the same content.
    pub fn same(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
            || (self.sum == other.sum
                && self.items.len() == other.items.len()
                && self.items.iter().zip(&other.items).all(|(a, b)| a.same(b)))
    }

    /// Calls `each` for every difference, in name order. Contents are compared by pointer first.
    pub fn diff(self: &Arc<Self>, newer: &Arc<Self>, mut each: impl FnMut(Change)) {
        if Arc::ptr_eq(self, newer) {
            return;
        }
        if let Some(step) = &newer.step
            && std::ptr::eq(step.base.as_ptr(), Arc::as_ptr(self))
        {
            step.changes.iter().cloned().for_each(each);
            return;
        }
        let (mut a, mut b) = (self.items.iter().peekable(), newer.items.iter().peekable());
        loop {
            let order = match (a.peek(), b.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(x), Some(y)) if Arc::ptr_eq(x, y) => Ordering::Equal,
                (Some(x), Some(y)) => x.name().cmp(y.name()),
            };
            match order {
                Ordering::Less => a
                    .next()
                    .cloned()
                    .map(Change::Removed)
                    .into_iter()
                    .for_each(&mut each),
                Ordering::Greater => b
                    .next()
                    .cloned()
                    .map(Change::Put)
                    .into_iter()
                    .for_each(&mut each),
                Ordering::Equal => {
                    if let (Some(x), Some(y)) = (a.next(), b.next())
                        && !x.same(y)
                    {
                        each(Change::Put(y.clone()));
                    }
                }
            }
        }
    }

    /// The joined entries, made when they are first wanted.
    pub(crate) fn joined(&self, delta: bool) -> &Joined {
        self.joined[usize::from(delta)].get_or_init(|| Joined::build(&self.items, delta))
    }

    /// Bytes this set occupies in responses of one protocol.
    pub fn wire_len(&self, delta: bool) -> usize {
        match self.joined[usize::from(delta)].get() {
            Some(joined) => joined.total,
            None => self.items.iter().map(|e| e.entry_bytes(delta).len()).sum(),
        }
    }
}

impl Joined {
    fn build(items: &[Arc<Encoded>], delta: bool) -> Self {
        let is_large = |len: usize, used: usize| len >= LARGE || used + len > u32::MAX as usize;
        let (mut used, mut total) = (0, 0);
        for e in items {
            let len = e.entry_bytes(delta).len();
            total += len;
            used += if is_large(len, used) { 0 } else { len };
        }
        let mut small = BytesMut::with_capacity(used);
        let (mut at, mut large) = (Vec::with_capacity(items.len() + 1), Vec::new());
        at.push(0);
        for (i, e) in items.iter().enumerate() {
            let bytes = e.entry_bytes(delta);
            if is_large(bytes.len(), small.len()) {
                large.push(i as u32);
            } else {
                small.extend_from_slice(bytes);
            }
            at.push(small.len() as u32);
        }
        Self {
            small: small.freeze(),
            at: at.into(),
            large: large.into(),
            total,
        }
    }
}

/// Turns a sum of fingerprints and a count into a version.
pub(crate) fn finish(sum: u64, len: usize) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&sum.to_le_bytes(), len as u64)
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.items).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TypeId;

    fn e(name: &str, body: &str) -> Arc<Encoded> {
        Arc::new(Encoded::new(name, TypeId::Cds, body.as_bytes()))
    }

    fn set(text: &str) -> Arc<Set> {
        Arc::new(Set::new(
            text.split_whitespace()
                .map(|w| e(&w[..1], &w[1..]))
                .collect(),
        ))
    }

    fn changes(old: &Arc<Set>, new: &Arc<Set>) -> String {
        let mut out = Vec::new();
        old.diff(new, |c| {
            out.push(match c {
                Change::Put(e) => format!("+{}", e.name()),
                Change::Removed(e) => format!("-{}", e.name()),
            });
        });
        out.join(" ")
    }

    #[test]
    fn version_is_of_content_and_not_of_how_the_set_came_about() {
        let a = set("a1 b1 c1");
        let b = set("a1 b2 d1").with_changes([e("b", "1"), e("c", "1")], ["d"]);
        assert_eq!(a.version(), b.version());
        assert!(a.same(&b));
        assert_ne!(a.version(), set("a1 b1").version());
        assert_ne!(set("a1 b2").version(), set("a2 b1").version());
    }

    #[test]
    fn unsorted_input_is_sorted_and_the_first_of_a_name_stays() {
        let s = Set::from_sorted(vec![e("b", "1"), e("a", "1"), e("b", "2")]);
        assert_eq!(
            s.items()
                .iter()
                .map(|e| e.name().as_ref())
                .collect::<Vec<&str>>(),
            ["a", "b"]
        );
        assert!(s.get("b").unwrap().same(&e("b", "1")));
    }

    #[test]
    fn with_changes_that_change_nothing_is_the_same_set() {
        let a = set("a1 b1");
        assert!(Arc::ptr_eq(&a, &a.with_changes([e("a", "1")], ["x"])));
    }

    #[test]
    fn diff_by_step_and_by_walk_agree() {
        let a = set("a1 b1 c1 e1");
        let b = a.with_changes([e("b", "2"), e("d", "1")], ["a", "e"]);
        let walked = Arc::new(Set::from_sorted(b.items().to_vec()));
        assert_eq!(changes(&a, &b), "-a +b +d -e");
        assert_eq!(changes(&a, &walked), "-a +b +d -e");
        assert_eq!(changes(&b, &a), "+a +b -d +e");
        assert_eq!(changes(&b, &walked), "");
    }

    #[test]
    fn a_put_wins_over_a_removal_and_the_last_put_wins() {
        let a = set("a1").with_changes([e("a", "2"), e("a", "3")], ["a"]);
        assert!(a.get("a").unwrap().same(&e("a", "3")));
        assert_eq!(a.version(), set("a3").version());
    }

    #[test]
    fn large_entries_stay_out_of_the_joined_buffer() {
        let big = "x".repeat(LARGE);
        let s = Set::new(vec![e("a", "1"), e("b", &big), e("c", "1")]);
        let joined = s.joined(false);
        assert_eq!(&*joined.large, [1]);
        assert_eq!(
            joined.total,
            s.items()
                .iter()
                .map(|e| e.sotw_entry().len())
                .sum::<usize>()
        );
        assert_eq!(joined.at[1], joined.at[2]);
    }
}
