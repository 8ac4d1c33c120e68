//! How many requests an identity may make, and all of them together.
//!
//! One number per identity is kept (the time at which its bucket will be full again), so that memory is bounded by how many identities
//! are busy at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::Duration;

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second that it fills up with.
    pub per_second: NonZeroU32,
    /// Requests that a full bucket holds.
    pub burst: NonZeroU32,
}

impl Rate {
    /// Nanoseconds until one more request fits.
    fn interval(self) -> u64 {
        1_000_000_000 / u64::from(self.per_second.get())
    }

    /// How far ahead of now a bucket may be filled.
    fn depth(self) -> u64 {
        self.interval() * u64::from(self.burst.get() - 1)
    }
}

/// A bucket: the time, in nanoseconds, at which it will be full again.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket(u64);

impl Bucket {
    fn take(&mut self, rate: Rate, now: u64) -> bool {
        let from = self.0.max(now);
        if from - now > rate.depth() {
            return false;
        }
        self.0 = from.saturating_add(rate.interval());
        true
    }

    fn give_back(&mut self, rate: Rate) {
        self.0 = self.0.saturating_sub(rate.interval());
    }
}

/// What a caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allowed,
    /// This identity has asked too often.
    Identity,
    /// All identities together have asked too often.
    Total,
}

/// The buckets of all identities, and the one of all together.
#[derive(Debug)]
pub struct Limits<K> {
    each: Rate,
    total: Option<Rate>,
    most: usize,
    buckets: HashMap<K, Bucket>,
    all: Bucket,
    /// For identities that find no room: they share one.
    crowd: Bucket,
    swept: u64,
}

impl<K: Hash + Eq> Limits<K> {
    /// Buckets for at most `most` busy identities; more than that share one bucket.
    pub fn new(each: Rate, total: Option<Rate>, most: usize) -> Limits<K> {
        Limits {
            each,
            total,
            most,
            buckets: HashMap::new(),
            all: Bucket::default(),
            crowd: Bucket::default(),
            swept: 0,
        }
    }

    /// One request of `who`. `now` is the time since any fixed moment, and never goes back.
    pub fn take(&mut self, who: K, now: Duration) -> Verdict {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        if self.buckets.len() >= self.most && !self.buckets.contains_key(&who) {
            self.sweep(now);
        }
        let room = self.buckets.len() < self.most || self.buckets.contains_key(&who);
        let bucket = if room {
            self.buckets.entry(who).or_default()
        } else {
            &mut self.crowd
        };
        if !bucket.take(self.each, now) {
            return Verdict::Identity;
        }
        if let Some(total) = self.total
            && !self.all.take(total, now)
        {
            bucket.give_back(self.each);
            return Verdict::Total;
        }
        Verdict::Allowed
    }

    /// Whether `who` could make a request, without making it.
    pub fn would_take(&self, who: &K, now: Duration) -> bool {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let bucket = match self.buckets.get(who) {
            Some(bucket) => bucket,
            None if self.buckets.len() < self.most => return true,
            None => &self.crowd,
        };
        bucket.0.max(now) - now <= self.each.depth()
    }

    /// Identities that are kept.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Forgets full buckets, at most ten times a second: it looks at all of them.
    fn sweep(&mut self, now: u64) {
        if now.saturating_sub(self.swept) >= 100_000_000 || self.swept == 0 {
            self.swept = now.max(1);
            self.buckets.retain(|_, bucket| bucket.0 > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Case 22, the decision: 1000 requests within a second from one identity; others do not notice.
    #[test]
    fn a_flood_of_one_identity_is_cut_and_others_pass() {
        let mut limits = Limits::new(rate(10, 50), Some(rate(1000, 1000)), 100);
        let allowed = (0..1000)
            .filter(|&n| {
                if n % 100 == 0 {
                    assert_eq!(limits.take("b", millis(n)), Verdict::Allowed);
                }
                limits.take("a", millis(n)) == Verdict::Allowed
            })
            .count();
        // The burst, and what a second less one millisecond fills up.
        assert_eq!(allowed, 59);
    }

    #[test]
    fn a_bucket_fills_up_again() {
        let mut limits = Limits::new(rate(10, 2), None, 10);
        let mut take = |at| limits.take("a", millis(at));
        assert_eq!(take(0), Verdict::Allowed);
        assert_eq!(take(0), Verdict::Allowed);
        assert_eq!(take(0), Verdict::Identity);
        assert_eq!(take(99), Verdict::Identity);
        assert_eq!(take(100), Verdict::Allowed);
        assert_eq!(take(10_000), Verdict::Allowed);
        assert_eq!(take(10_000), Verdict::Allowed);
        assert_eq!(take(10_000), Verdict::Identity);
    }

    #[test]
    fn what_all_may_not_take_is_given_back_to_the_one() {
        let mut limits = Limits::new(rate(1, 2), Some(rate(10, 1)), 10);
        assert_eq!(limits.take("b", millis(0)), Verdict::Allowed);
        assert_eq!(limits.take("a", millis(0)), Verdict::Total);
        assert_eq!(limits.take("a", millis(0)), Verdict::Total);
        assert_eq!(limits.take("a", millis(100)), Verdict::Allowed);
        assert_eq!(limits.take("a", millis(200)), Verdict::Allowed);
        assert_eq!(limits.take("a", millis(300)), Verdict::Identity);
    }

    #[test]
    fn memory_is_bounded_and_a_crowd_shares() {
        let mut limits = Limits::new(rate(1, 1), None, 3);
        for who in 0..3 {
            assert_eq!(limits.take(who, millis(1)), Verdict::Allowed);
        }
        assert_eq!(limits.take(3, millis(2)), Verdict::Allowed);
        assert!(!limits.would_take(&4, millis(3)));
        assert_eq!(limits.take(4, millis(3)), Verdict::Identity);
        assert_eq!(limits.len(), 3);
        // A second later the first three are full, and forgotten.
        assert_eq!(limits.take(5, millis(1500)), Verdict::Allowed);
        assert_eq!(limits.len(), 1);
        assert!(limits.would_take(&4, millis(1500)));
    }
}
