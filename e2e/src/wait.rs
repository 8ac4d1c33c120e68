//! Waiting for a condition, never for a while.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// Longest time anything may take. Generous: two busy cores run many worlds at once.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const BETWEEN: Duration = Duration::from_millis(15);

/// Looks at a condition until it holds; returns what it gave.
///
/// # Panics
/// If it does not hold within [`PATIENCE`], with what it said last.
pub async fn eventually<T, E: Display>(what: &str, look: impl AsyncFnMut() -> Result<T, E>) -> T {
    match within(PATIENCE, look).await {
        Ok(value) => value,
        Err(error) => panic!("{what}: not within {PATIENCE:?}; last: {error}"),
    }
}

/// Looks at a condition until it holds or time is over; then what it said last.
///
/// # Errors
/// The condition's last error.
pub async fn within<T, E>(
    patience: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    let deadline = Instant::now() + patience;
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(BETWEEN).await,
        }
    }
}
