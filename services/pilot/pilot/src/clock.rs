//! The wall clock, read in this one place.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place where the shell reads the wall clock"
)]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Microseconds since 1970.
pub fn now_us() -> i64 {
    let since = now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}
