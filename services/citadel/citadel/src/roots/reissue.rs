//! Making a self-signed root anew before it ends, with the same key: what either certificate's holders signed or trust stays good.

use citadel_core::rotation::{Event, Phase, Settings, step};
use pki::{Certificate, Serial};
use time::{Duration, OffsetDateTime};

use super::{Change, Roots, RootsError, compose, destroyed, entries};
use crate::ledger::{Mode, Trust};

impl Roots {
    /// Makes the root anew if no more than the grace period of its life is left; whether it did. For the elected replica.
    ///
    /// # Errors
    /// See [`RootsError`].
    pub(super) async fn reissue_if_due(&self) -> Result<(), RootsError> {
        let random: [u8; 16] = rand::random();
        self.change(|before| match before {
            Some(before) => self.reissued(before, random),
            None => Ok(None),
        })
        .await
    }

    fn reissued(&self, before: &Trust, random: [u8; 16]) -> Result<Option<Change>, RootsError> {
        let now = self.now();
        if before.mode != Mode::SelfSigned {
            return Ok(None);
        }
        let lost = || RootsError::Lost(before.state.signing.clone());
        let row = before.roots.get(&before.state.signing).ok_or_else(lost)?;
        let certificate = Certificate::from_pem(&row.certificate).map_err(|_| lost())?;
        if !due(
            certificate.not_before(),
            certificate.not_after(),
            self.config.root_life,
            self.config.grace_percent,
            now,
        ) {
            return Ok(None);
        }
        if before.state.phase != Phase::Idle {
            tracing::warn!(
                root = row.fingerprint,
                not_after = %certificate.not_after(),
                "the root ends soon, and is not made anew while a rotation is under way"
            );
            return Ok(None);
        }
        let authority = compose::authority(&self.config, row, vec![certificate], now)?;
        let anew = authority
            .reissue(
                &self.config.trust_domain,
                self.config.root_life,
                Serial::from_random(random),
                now,
            )
            .map_err(|error| RootsError::Made(error.to_string()))?;
        let new = compose::row(anew.certificate(), Some(anew.private_key()), now);
        let event = Event::Reissued(row.fingerprint.clone(), new.fingerprint.clone());
        let Ok((state, actions)) = step(&before.state, &event, Settings::default(), now) else {
            return Ok(None);
        };
        tracing::info!(
            old = row.fingerprint,
            new = new.fingerprint,
            "the root is made anew"
        );
        let mut destroy = destroyed(&actions);
        // The key lives on with the new certificate.
        destroy.push(row.fingerprint.clone());
        Ok(Some(Change {
            mode: Mode::SelfSigned,
            state,
            roots: vec![new],
            destroy,
            entries: entries(&actions, &format!("replica {}", self.config.replica), now),
        }))
    }
}

/// Whether no more than `percent` of a life is left. A root that was made anew begins when the first one did: its life counts as `longest`
/// then.
fn due(
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    longest: Duration,
    percent: u8,
    now: OffsetDateTime,
) -> bool {
    let life = (not_after - not_before).min(longest);
    let grace = life * f64::from(percent.min(99)) / 100.0;
    not_after - now <= grace
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_due_when_a_fifth_of_its_life_is_left() {
        let start = OffsetDateTime::UNIX_EPOCH;
        let at = |days| start + Duration::days(days);
        let due = |days, now| due(start, at(days), Duration::days(100), 20, at(now));
        assert_eq!(
            [0, 79, 80, 85, 101].map(|now| due(100, now)),
            [false, false, true, true, true]
        );
        // The fifth time: the grace period does not grow with all the lives before.
        assert_eq!([479, 480].map(|now| due(500, now)), [false, true]);
    }
}
