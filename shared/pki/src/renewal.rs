//! When a certificate is renewed.

use std::time::Duration;

use time::OffsetDateTime;

/// How long before its end a certificate is renewed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Renewal {
    /// Part of the life that shall remain. Range: 0..=1. Default: 0.5. Source: `SECRET_GRACE_PERIOD_RATIO`.
    pub ratio: f64,
    /// Most that the ratio is off, either way. Range: 0..=1. Default: 0.01. Source: `SECRET_GRACE_PERIOD_RATIO_JITTER`.
    pub jitter: f64,
}

impl Default for Renewal {
    fn default() -> Renewal {
        Renewal {
            ratio: 0.5,
            jitter: 0.01,
        }
    }
}

impl Renewal {
    /// How long to wait from now on; zero if it is time.
    ///
    /// `created` is when the certificate was received, `random` what decides the jitter (range: -1..=1; beyond it counts as the end of the
    /// range, and what is no number as 0). With the defaults a certificate of 24 h is renewed after 11 h 45 min to 12 h 15 min.
    pub fn delay(
        &self,
        created: OffsetDateTime,
        not_after: OffsetDateTime,
        random: f64,
        now: OffsetDateTime,
    ) -> Duration {
        let number = |value: f64| if value.is_nan() { 0.0 } else { value };
        let random = number(random).clamp(-1.0, 1.0);
        let part = number(self.ratio + random * self.jitter).clamp(0.0, 1.0);
        let life = (not_after - created).max(time::Duration::ZERO);
        let wait = (not_after - now) - life * part;
        Duration::try_from(wait).unwrap_or(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const START: OffsetDateTime = datetime!(2026-01-01 0:00 UTC);

    fn delay(ratio: f64, jitter: f64, random: f64, passed: i64) -> f64 {
        let end = START + time::Duration::hours(24);
        let now = START + time::Duration::hours(passed);
        let renewal = Renewal { ratio, jitter };
        renewal.delay(START, end, random, now).as_secs_f64() / 3600.0
    }

    /// Case 24.
    #[test]
    fn a_day_is_renewed_at_noon() {
        assert_eq!(delay(0.5, 0.0, 0.7, 0), 12.0);
        assert_eq!(delay(0.5, 0.0, 0.7, 11), 1.0);
        assert_eq!(delay(0.5, 0.0, 0.7, 13), 0.0);
    }

    #[test]
    fn jitter_spreads_both_ways_and_stays_within_the_life() {
        assert_eq!(delay(0.5, 0.01, 1.0, 0), 24.0 * 0.49);
        assert_eq!(delay(0.5, 0.01, -1.0, 0), 24.0 * 0.51);
        assert_eq!(delay(0.5, 0.01, 9.0, 0), 24.0 * 0.49);
        assert_eq!(delay(1.0, 0.5, 1.0, 0), 0.0);
        assert_eq!(delay(0.0, 0.5, -1.0, 0), 24.0);
        assert_eq!(delay(0.5, 0.01, f64::NAN, 0), 12.0);
    }

    #[test]
    fn an_expired_certificate_is_renewed_at_once() {
        assert_eq!(delay(0.0, 0.0, 0.0, 48), 0.0);
        let before = START - time::Duration::hours(1);
        assert_eq!(
            Renewal::default().delay(START, before, 0.0, START),
            Duration::ZERO
        );
    }
}
