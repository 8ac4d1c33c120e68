//! How long to wait before trying again.

use std::time::Duration;

use rand::RngExt as _;

/// Nobody waits longer than this between two attempts.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Exponential backoff with full jitter: each delay is a random share of a ceiling that doubles from `2 × min` up to `max`,
/// and never below `min`. Replicas that lost the same server together come back spread out.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// Delays between `min` and `max`. A `max` below `min` counts as `min`; both are cut at a day.
    pub fn new(min: Duration, max: Duration) -> Self {
        let (min, max) = (min.min(LONGEST), max.max(min).min(LONGEST));
        Self {
            min,
            max,
            ceiling: min,
        }
    }

    /// The next delay, longer than the last one on average.
    pub fn next_delay(&mut self) -> Duration {
        let share = rand::rng().random_range(0.0..=1.0);
        self.next_with(share)
    }

    /// The next delay with the random share given, 0.0..=1.0; values outside are taken as the nearest bound.
    pub fn next_with(&mut self, share: f64) -> Duration {
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        let share = if share.is_nan() {
            1.0
        } else {
            share.clamp(0.0, 1.0)
        };
        self.min + (self.ceiling - self.min).mul_f64(share)
    }

    /// It worked: start from the shortest delay next time.
    pub fn reset(&mut self) {
        self.ceiling = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_ceiling_doubles_up_to_max_and_starts_again() {
        let mut backoff = Backoff::new(ms(100), ms(500));
        let delays: Vec<_> = (0..4).map(|_| backoff.next_with(1.0)).collect();
        assert_eq!(delays, [ms(200), ms(400), ms(500), ms(500)]);
        assert_eq!(backoff.next_with(0.0), ms(100));
        backoff.reset();
        assert_eq!(backoff.next_with(0.5), ms(150));
    }

    #[test]
    fn stays_in_range_for_ever() {
        let mut backoff = Backoff::new(ms(10), Duration::MAX);
        for _ in 0..200 {
            assert!(backoff.next_delay() >= ms(10));
        }
        let mut swapped = Backoff::new(ms(10), ms(1));
        assert_eq!(swapped.next_delay(), ms(10));
    }
}
