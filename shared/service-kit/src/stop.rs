//! The stop signal: one word, heard by every task of a process.

use tokio_util::sync::CancellationToken;

/// A stop signal that is cheap to clone. Once triggered it stays triggered.
#[derive(Clone, Debug, Default)]
pub struct Stop(CancellationToken);

impl Stop {
    /// A signal nobody has triggered.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns once the signal was triggered, at once if that was before. Safe to drop and call again.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// Tells everyone who holds a clone or a child to stop. Doing it twice is harmless.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Whether the signal was triggered.
    pub fn triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// A signal that follows this one, and can be triggered alone: stops a part, not the whole.
    pub fn child(&self) -> Stop {
        Stop(self.0.child_token())
    }
}

/// Triggers `stop` at the first SIGTERM or SIGINT, and ends the process with code 130 at the second, for an operator who
/// does not want to wait for the graceful end.
///
/// Must be called inside a tokio runtime.
///
/// # Errors
/// The operating system refused a signal handler.
pub fn signals(stop: &Stop) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = term.recv() => "SIGTERM",
                _ = int.recv() => "SIGINT",
            };
            if stop.triggered() {
                tracing::warn!(signal = name, "second signal while stopping: ending now");
                std::process::exit(130);
            }
            tracing::info!(signal = name, "stopping");
            stop.trigger();
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_follows_its_parent_but_not_the_other_way() {
        let parent = Stop::new();
        let child = parent.child();
        let other = parent.child();
        child.trigger();
        child.wait().await;
        assert!(child.triggered() && !parent.triggered() && !other.triggered());
        parent.trigger();
        other.wait().await;
    }
}
