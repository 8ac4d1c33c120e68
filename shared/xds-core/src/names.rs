//! The names a proxy subscribes to, shared by all proxies that subscribe to the same.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::proto::{field_len, key, put_varint};
use crate::{Refusal, wire};

/// An immutable set of resource names, sorted and unique; `*` is kept apart.
pub struct NameSet {
    /// The names as one request listed them: field 3 entries, keys and lengths included.
    span: Bytes,
    /// Where each name stands in `span`, in name order.
    at: Box<[(u32, u32)]>,
    star: bool,
    hash: u64,
}

impl NameSet {
    /// Number of names, `*` not counted.
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Whether there is no name besides `*`.
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }

    /// Whether `*` was among the names.
    pub fn star(&self) -> bool {
        self.star
    }

    /// The names in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.iter_bytes().map(as_str)
    }

    pub(crate) fn iter_bytes(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.at
            .iter()
            .map(|&(from, to)| &self.span[from as usize..to as usize])
    }

    /// Whether the name is in the set.
    pub fn contains(&self, name: &str) -> bool {
        self.contains_bytes(name.as_bytes())
    }

    pub(crate) fn contains_bytes(&self, name: &[u8]) -> bool {
        self.at
            .binary_search_by(|&(from, to)| self.span[from as usize..to as usize].cmp(name))
            .is_ok()
    }

    /// Hash of the names, however they were listed.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    fn same(&self, other: &Self) -> bool {
        self.hash == other.hash
            && self.star == other.star
            && self.len() == other.len()
            && self.iter_bytes().eq(other.iter_bytes())
    }

    fn from_span(span: &[u8]) -> Result<Self, Refusal> {
        let base = span.as_ptr() as usize;
        let (mut at, mut star) = (Vec::new(), false);
        for name in wire::entries(span) {
            match name {
                b"*" => star = true,
                b"" => {}
                _ => {
                    std::str::from_utf8(name).map_err(|_| Refusal::NotUtf8 {
                        field: "resource name",
                    })?;
                    let from = name.as_ptr() as usize - base;
                    at.push((from as u32, (from + name.len()) as u32));
                }
            }
        }
        at.sort_by(|a, b| span[a.0 as usize..a.1 as usize].cmp(&span[b.0 as usize..b.1 as usize]));
        at.dedup_by(|a, b| span[a.0 as usize..a.1 as usize] == span[b.0 as usize..b.1 as usize]);
        // A copy: the span is a slice of the whole request, which must not be kept alive.
        Ok(Self::build(Bytes::copy_from_slice(span), at, star))
    }

    fn from_sorted(names: &[&[u8]]) -> Self {
        let mut span = BytesMut::with_capacity(names.iter().map(|n| field_len(n.len())).sum());
        let mut at = Vec::with_capacity(names.len());
        for name in names {
            span.put_u8(key(3));
            put_varint(name.len() as u64, &mut span);
            at.push((span.len() as u32, (span.len() + name.len()) as u32));
            span.put_slice(name);
        }
        Self::build(span.freeze(), at, false)
    }

    fn build(span: Bytes, at: Vec<(u32, u32)>, star: bool) -> Self {
        let mut h = Xxh3::with_seed(u64::from(star));
        for &(from, to) in &at {
            h.update(&span[from as usize..to as usize]);
            h.update(&[0xff]); // never in UTF-8
        }
        Self {
            span,
            at: at.into(),
            star,
            hash: h.digest(),
        }
    }
}

/// Names are checked when a set is built; this does not fail.
pub(crate) fn as_str(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap_or_default()
}

impl fmt::Debug for NameSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Calls `each` with every name of `a` that is not in `b`, in order.
pub(crate) fn difference<'a>(a: &'a NameSet, b: Option<&NameSet>, mut each: impl FnMut(&'a [u8])) {
    let mut b = b.into_iter().flat_map(NameSet::iter_bytes).peekable();
    for name in a.iter_bytes() {
        while b.next_if(|other| *other < name).is_some() {}
        if b.peek() != Some(&name) {
            each(name);
        }
    }
}

/// Turns equal sets of names into one `Arc`, so that the proxies of a class share one. Holds weak references only.
#[derive(Default)]
pub struct NameSetInterner {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// By the bytes of a request: most proxies of a class list names alike, and then nothing is decoded.
    by_span: HashMap<u64, Weak<NameSet>>,
    by_content: HashMap<u64, Weak<NameSet>>,
    sweep_at: usize,
}

impl NameSetInterner {
    /// The set a request lists in this span.
    ///
    /// # Errors
    /// [`Refusal::NotUtf8`].
    pub fn span(&self, span: &[u8]) -> Result<Arc<NameSet>, Refusal> {
        let hash = xxh3_64(span);
        let known = self.lock().by_span.get(&hash).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| known.span == span) {
            return Ok(known);
        }
        let set = self.intern(NameSet::from_span(span)?);
        // A set remembers one order of its names. Others are not worth an entry, and every proxy may have its own.
        if set.span == span {
            self.lock().by_span.insert(hash, Arc::downgrade(&set));
        }
        Ok(set)
    }

    /// The set of these names, which must be sorted and unique.
    pub(crate) fn sorted(&self, names: &[&[u8]]) -> Option<Arc<NameSet>> {
        (!names.is_empty()).then(|| self.intern(NameSet::from_sorted(names)))
    }

    fn intern(&self, set: NameSet) -> Arc<NameSet> {
        let mut table = self.lock();
        if let Some(known) = table.by_content.get(&set.hash).and_then(Weak::upgrade)
            && known.same(&set)
        {
            return known;
        }
        if table.by_content.len() + table.by_span.len() >= table.sweep_at {
            table.by_content.retain(|_, weak| weak.strong_count() > 0);
            table.by_span.retain(|_, weak| weak.strong_count() > 0);
            table.sweep_at = (2 * (table.by_content.len() + table.by_span.len())).max(256);
        }
        let set = Arc::new(set);
        table.by_content.insert(set.hash, Arc::downgrade(&set));
        set
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names in `a` or `b`.
    pub(crate) fn union(
        &self,
        a: &Option<Arc<NameSet>>,
        b: &Option<Arc<NameSet>>,
    ) -> Option<Arc<NameSet>> {
        self.combine(a, b, |order| {
            (order != Ordering::Greater, order != Ordering::Less)
        })
    }

    /// Names in `a` but not in `b`.
    pub(crate) fn minus(
        &self,
        a: &Option<Arc<NameSet>>,
        b: &Option<Arc<NameSet>>,
    ) -> Option<Arc<NameSet>> {
        self.combine(a, b, |order| (order == Ordering::Less, false))
    }

    /// Names in `a` and `b`.
    pub(crate) fn intersection(
        &self,
        a: &Option<Arc<NameSet>>,
        b: &Option<Arc<NameSet>>,
    ) -> Option<Arc<NameSet>> {
        self.combine(a, b, |order| (order == Ordering::Equal, false))
    }

    /// Merges; `keep` says for a name of `a` alone (Less), both (Equal) or `b` alone (Greater) which side's copy to take: (a's, b's).
    fn combine(
        &self,
        a: &Option<Arc<NameSet>>,
        b: &Option<Arc<NameSet>>,
        keep: impl Fn(Ordering) -> (bool, bool),
    ) -> Option<Arc<NameSet>> {
        let (mut i, mut j) = (
            a.iter().flat_map(|s| s.iter_bytes()).peekable(),
            b.iter().flat_map(|s| s.iter_bytes()).peekable(),
        );
        let mut names = Vec::new();
        loop {
            let order = match (i.peek(), j.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(x), Some(y)) => x.cmp(y),
            };
            let x = if order.is_le() { i.next() } else { None };
            let y = if order.is_ge() { j.next() } else { None };
            let (from_a, from_b) = keep(order);
            names.extend(x.filter(|_| from_a).or(y.filter(|_| from_b)));
        }
        for known in [a, b].into_iter().flatten() {
            if known.len() == names.len()
                && !known.star
                && known.iter_bytes().eq(names.iter().copied())
            {
                return Some(known.clone());
            }
        }
        self.sorted(&names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(names: &[&str]) -> Vec<u8> {
        let mut out = BytesMut::new();
        names
            .iter()
            .for_each(|n| crate::proto::put_field(3, n.as_bytes(), &mut out));
        out.to_vec()
    }

    fn text(set: &Option<Arc<NameSet>>) -> String {
        set.iter()
            .flat_map(|s| s.iter())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn equal_names_in_any_order_are_one_set() {
        let i = NameSetInterner::default();
        let a = i.span(&span(&["b", "a", "b", ""])).unwrap();
        assert_eq!(a.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(Arc::ptr_eq(&a, &i.span(&span(&["a", "b"])).unwrap()));
        assert!(Arc::ptr_eq(
            &a,
            &i.span(&span(&["b", "a", "b", ""])).unwrap()
        ));
        assert!(!Arc::ptr_eq(&a, &i.span(&span(&["a", "b", "*"])).unwrap()));
        assert!(a.contains("b") && !a.contains("c"));
    }

    #[test]
    fn star_is_kept_apart() {
        let s = NameSetInterner::default().span(&span(&["*", "a"])).unwrap();
        assert!(s.star());
        assert_eq!(s.len(), 1);
    }

    #[test]
    fn names_that_are_not_utf8_are_refused() {
        let i = NameSetInterner::default();
        assert_eq!(
            i.span(b"\x1a\x01\xff").unwrap_err(),
            Refusal::NotUtf8 {
                field: "resource name"
            }
        );
    }

    #[test]
    fn set_operations() {
        let i = NameSetInterner::default();
        let set = |names: &[&str]| Some(i.span(&span(names)).unwrap());
        let (a, b) = (set(&["a", "b", "c"]), set(&["b", "d"]));
        assert_eq!(text(&i.union(&a, &b)), "a b c d");
        assert_eq!(text(&i.minus(&a, &b)), "a c");
        assert_eq!(text(&i.intersection(&a, &b)), "b");
        assert_eq!(text(&i.minus(&a, &a)), "");
        assert_eq!(text(&i.union(&None, &b)), "b d");
        assert!(Arc::ptr_eq(
            i.union(&a, &set(&["b"])).as_ref().unwrap(),
            a.as_ref().unwrap()
        ));
        let mut out = Vec::new();
        difference(a.as_ref().unwrap(), b.as_deref(), |n| out.push(as_str(n)));
        assert_eq!(out, ["a", "c"]);
    }

    #[test]
    fn the_same_names_in_ever_other_orders_take_no_room() {
        let i = NameSetInterner::default();
        let mut names: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        let kept = i.sorted(&[b"other"]);
        let first = i
            .span(&span(&names.iter().map(|n| &**n).collect::<Vec<_>>()))
            .unwrap();
        for _ in 0..1000 {
            names.rotate_left(1);
            assert!(Arc::ptr_eq(
                &first,
                &i.span(&span(&names.iter().map(|n| &**n).collect::<Vec<_>>()))
                    .unwrap()
            ));
        }
        let table = i.lock();
        assert_eq!((table.by_content.len(), table.by_span.len()), (2, 1));
        drop(kept);
    }

    #[test]
    fn dead_sets_are_forgotten() {
        let i = NameSetInterner::default();
        for n in 0..2000 {
            i.span(&span(&[&n.to_string()])).unwrap();
        }
        let table = i.lock();
        assert!(table.by_content.len() + table.by_span.len() <= 600);
    }
}
