//! Shared encodings: equal inputs of different classes are translated and encoded once.
//!
//! A generator gathers everything it reads into an input value, and the input is the key. Nothing is ever invalidated: other content is
//! another key. Entries are weak, so an encoding lives exactly as long as some class uses it.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use foldhash::fast::FixedState;
use smallvec::SmallVec;
use xds_core::Encoded;

/// Locks of one memo; the hash picks one, so threads seldom meet.
const SHARDS: usize = 16;
/// A shard is swept when it has grown to twice what the last sweep left, and at least to this.
const SWEEP_FROM: usize = 64;

/// Remembers what was made from an input as long as somebody uses it.
///
/// A hit costs one hash of the input, one short lock and one comparison. Making happens outside the lock; if two threads make the same
/// value, both get the first one.
pub struct Memo<K, V = Encoded> {
    shards: [Mutex<Shard<K, V>>; SHARDS],
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Entries whose keys have one hash.
type Bucket<K, V> = SmallVec<[(K, Weak<V>); 1]>;

struct Shard<K, V> {
    /// Entries by the hash of their key, which is never computed twice.
    entries: HashMap<u64, Bucket<K, V>, BuildHasherDefault<Already>>,
    len: usize,
    sweep_at: usize,
}

impl<K, V> Default for Shard<K, V> {
    fn default() -> Self {
        Shard {
            entries: HashMap::default(),
            len: 0,
            sweep_at: SWEEP_FROM,
        }
    }
}

/// How a memo did since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Inputs seen before whose value was still in use.
    pub hits: u64,
    /// Inputs that had to be made.
    pub misses: u64,
    /// Entries held, dead ones awaiting the next sweep included.
    pub entries: usize,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Stats) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.entries += other.entries;
    }
}

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Memo {
            shards: std::array::from_fn(|_| Mutex::default()),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }
}

impl<K: Hash + Eq, V> Memo<K, V> {
    /// What was made from this input before, or what `make` makes of it now.
    pub fn get_or(&self, input: K, make: impl FnOnce(&K) -> V) -> Arc<V> {
        let hash = FixedState::default().hash_one(&input);
        let shard = &self.shards[(hash >> 60) as usize % SHARDS];
        if let Some(known) = lock(shard).find(hash, &input) {
            self.hits.fetch_add(1, Relaxed);
            return known;
        }
        self.misses.fetch_add(1, Relaxed);
        let made = Arc::new(make(&input));
        let mut shard = lock(shard);
        if let Some(known) = shard.find(hash, &input) {
            return known;
        }
        shard.insert(hash, input, &made);
        made
    }

    /// How the memo did so far.
    pub fn stats(&self) -> Stats {
        Stats {
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            entries: self.shards.iter().map(|s| lock(s).len).sum(),
        }
    }
}

impl<K: Eq, V> Shard<K, V> {
    fn find(&self, hash: u64, input: &K) -> Option<Arc<V>> {
        let bucket = self.entries.get(&hash)?;
        bucket
            .iter()
            .find(|(key, _)| key == input)
            .and_then(|(_, value)| value.upgrade())
    }

    fn insert(&mut self, hash: u64, input: K, value: &Arc<V>) {
        if self.len >= self.sweep_at {
            self.sweep();
        }
        let bucket = self.entries.entry(hash).or_default();
        match bucket.iter_mut().find(|(key, _)| *key == input) {
            Some(slot) => slot.1 = Arc::downgrade(value),
            None => {
                bucket.push((input, Arc::downgrade(value)));
                self.len += 1;
            }
        }
    }

    fn sweep(&mut self) {
        let mut left = 0;
        self.entries.retain(|_, bucket| {
            bucket.retain(|(_, value)| value.strong_count() > 0);
            left += bucket.len();
            !bucket.is_empty()
        });
        self.len = left;
        self.sweep_at = (2 * left).max(SWEEP_FROM);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hasher of numbers that are hashes already.
#[derive(Default)]
struct Already(u64);

impl Hasher for Already {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

/// Every memo of the generators. One per process.
#[derive(Default)]
pub struct Memos {
    /// Of [`crate::clusters`].
    pub clusters: crate::clusters::ClusterMemos,
    /// Of [`crate::endpoints`].
    pub endpoints: crate::endpoints::EndpointMemos,
    /// Of [`crate::listeners`].
    pub listeners: crate::listeners::ListenerMemos,
    /// Of [`crate::routes`].
    pub routes: crate::routes::RouteMemos,
    /// Of [`crate::secrets`].
    pub secrets: crate::secrets::SecretMemos,
    pieces: Mutex<Pieces>,
    /// What is the same for everything that is made.
    pub options: Options,
}

/// What the operator decides for every proxy, once per process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// A standard that all TLS must keep to.
    pub compliance: crate::Compliance,
    /// Whether clusters whose rule names a credential that the proxy cannot have are closed; otherwise they are made without TLS, as Istio
    /// makes them. Default: no.
    pub refuse_unavailable_credentials: bool,
}

/// A memoised part of a resource.
pub type Piece = Arc<dyn std::any::Any + Send + Sync>;

#[derive(Default)]
struct Pieces {
    of: Vec<(Weak<Encoded>, Vec<Piece>)>,
    sweep_at: usize,
}

impl Memos {
    /// Empty ones, with settings of the operator.
    pub fn new(options: Options) -> Memos {
        Memos {
            options,
            ..Memos::default()
        }
    }

    /// Keeps memoised pieces alive as long as the resource assembled from them is in use.
    pub fn keep(&self, whole: &Arc<Encoded>, pieces: Vec<Piece>) {
        let mut kept = lock(&self.pieces);
        if kept.of.len() >= kept.sweep_at {
            kept.of.retain(|(whole, _)| whole.strong_count() > 0);
            kept.sweep_at = (2 * kept.of.len()).max(SWEEP_FROM);
        }
        kept.of.push((Arc::downgrade(whole), pieces));
    }

    /// As [`Memos::keep`], for a resource that shares all pieces of `like` but those `gone`, and has those that `come` besides.
    pub fn keep_like(
        &self,
        whole: &Arc<Encoded>,
        like: &Arc<Encoded>,
        gone: &[Piece],
        come: Vec<Piece>,
    ) {
        let same = |a: &Piece, b: &Piece| std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b));
        let mut pieces = come;
        let kept = lock(&self.pieces);
        let of_like = kept
            .of
            .iter()
            .find(|(w, _)| w.as_ptr() == Arc::as_ptr(like));
        let stay = of_like.into_iter().flat_map(|(_, pieces)| pieces);
        pieces.extend(
            stay.filter(|piece| !gone.iter().any(|g| same(piece, g)))
                .cloned(),
        );
        drop(kept);
        self.keep(whole, pieces);
    }

    /// How each memo did, with its name.
    pub fn stats(&self) -> Vec<(&'static str, Stats)> {
        let mut out = Vec::new();
        self.clusters.stats(&mut out);
        self.endpoints.stats(&mut out);
        self.listeners.stats(&mut out);
        self.routes.stats(&mut out);
        self.secrets.stats(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_inputs_share_one_value_while_it_is_used() {
        let memo: Memo<u32, String> = Memo::default();
        let a = memo.get_or(1, |n| n.to_string());
        let b = memo.get_or(1, |_| unreachable!());
        assert!(Arc::ptr_eq(&a, &b));
        drop((a, b));
        assert_eq!(*memo.get_or(1, |_| "again".into()), "again");
        let stats = memo.stats();
        assert_eq!((stats.hits, stats.misses, stats.entries), (1, 2, 1));
    }

    #[test]
    fn dead_entries_are_swept() {
        let memo: Memo<u32, u32> = Memo::default();
        for n in 0..100_000 {
            memo.get_or(n, |n| *n);
        }
        assert!(memo.stats().entries <= 2 * SHARDS * SWEEP_FROM);
    }

    #[test]
    fn pieces_live_as_long_as_the_whole() {
        let memos = Memos::default();
        let whole = Arc::new(Encoded::new("80", xds_core::TypeId::Rds, b""));
        let piece = Arc::new("vhost".to_owned());
        memos.keep(&whole, vec![piece.clone()]);
        assert_eq!(Arc::strong_count(&piece), 2);
        drop(whole);
        for _ in 0..=SWEEP_FROM {
            memos.keep(
                &Arc::new(Encoded::new("81", xds_core::TypeId::Rds, b"")),
                vec![],
            );
        }
        assert_eq!(Arc::strong_count(&piece), 1);
    }
}
