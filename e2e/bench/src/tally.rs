//! What the clients of a fleet saw since the last look.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::response::Kind;

/// Messages of one type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Responses.
    pub messages: u64,
    /// Their bytes, without gRPC's and HTTP/2's framing.
    pub bytes: u64,
    /// Resources in them, and names of removed ones.
    pub resources: u64,
}

/// What the clients saw.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// By type, in the order of [`Kind::ALL`].
    pub by_kind: [Count; Kind::ALL.len()],
    /// When each client that got something acknowledged last.
    acks: BTreeMap<usize, Instant>,
    /// When each client had everything, since it began to connect.
    pub configured: BTreeMap<usize, Duration>,
    /// Attempts to connect that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Streams that ended after their client had everything, by reason.
    pub lost: BTreeMap<String, u64>,
}

impl Tally {
    /// Notes a response that was acknowledged now.
    pub fn note(
        &mut self,
        client: usize,
        kind: Kind,
        bytes: usize,
        resources: usize,
        now: Instant,
    ) {
        let count = &mut self.by_kind[kind.index()];
        count.messages += 1;
        count.bytes += bytes as u64;
        count.resources += resources as u64;
        self.acks.insert(client, now);
    }

    /// Notes the end of a stream, whose client had everything or not yet.
    pub fn end(&mut self, reason: String, configured: bool) {
        let reasons = if configured {
            &mut self.lost
        } else {
            &mut self.refused
        };
        *reasons.entry(reason).or_default() += 1;
    }

    /// Forgets all but what concerns whole connections.
    pub fn begin(&mut self) {
        self.by_kind = Default::default();
        self.acks.clear();
    }

    /// When anything was acknowledged last.
    pub fn last(&self) -> Option<Instant> {
        self.acks.values().max().copied()
    }

    /// Clients that got something.
    pub fn touched(&self) -> usize {
        self.acks.len()
    }

    /// Time from `start` to the last acknowledgement of each client that got something.
    pub fn delays(&self, start: Instant) -> Vec<Duration> {
        self.acks
            .values()
            .map(|ack| ack.duration_since(start))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_client_counts_once_with_its_last_acknowledgement() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        tally.note(7, Kind::Cds, 100, 2, at(5));
        tally.note(7, Kind::Eds, 10, 1, at(9));
        tally.note(3, Kind::Eds, 10, 1, at(6));
        assert_eq!(tally.touched(), 2);
        assert_eq!(
            tally.delays(start),
            [Duration::from_millis(6), Duration::from_millis(9)]
        );
        assert_eq!(tally.last(), Some(at(9)));
        let eds = Count {
            messages: 2,
            bytes: 20,
            resources: 2,
        };
        assert_eq!(tally.by_kind[Kind::Eds.index()], eds);
        tally.begin();
        assert_eq!((tally.touched(), tally.last()), (0, None));
        assert_eq!(tally.by_kind, Tally::default().by_kind);
    }
}
