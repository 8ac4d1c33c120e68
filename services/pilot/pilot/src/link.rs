//! How this Pilot stands with Galley: connected, or since when it is not.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The state of the stream from Galley, shared.
#[derive(Debug, Clone, Default)]
pub struct Link(Arc<Mutex<State>>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Configuration comes from folders.
    #[default]
    Unused,
    /// Nothing was heard from Galley since then; before that, for so long already.
    Away { since: Instant, before: Duration },
    /// The stream is up.
    Up,
}

impl Link {
    /// There is no stream; `before` is how old what is served was already, as far as is known.
    pub fn away(&self, before: Duration) {
        let mut state = self.0.lock();
        if !matches!(*state, State::Away { .. }) {
            let since = Instant::now();
            *state = State::Away { since, before };
        }
    }

    /// Galley was heard.
    pub fn up(&self) {
        *self.0.lock() = State::Up;
    }

    /// Whether Galley is connected, and for how long it was not heard: nothing while it is connected or not used.
    pub fn report(&self) -> (bool, Duration) {
        match *self.0.lock() {
            State::Unused => (false, Duration::ZERO),
            State::Up => (true, Duration::ZERO),
            State::Away { since, before } => (false, since.elapsed() + before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn counts_from_the_first_loss() {
        let link = Link::default();
        assert_eq!(link.report(), (false, Duration::ZERO));
        link.away(Duration::from_secs(60));
        tokio::time::advance(Duration::from_secs(5)).await;
        link.away(Duration::ZERO);
        assert_eq!(link.report(), (false, Duration::from_secs(65)));
        link.up();
        assert_eq!(link.report(), (true, Duration::ZERO));
        link.away(Duration::ZERO);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(link.report(), (false, Duration::from_secs(2)));
    }
}
