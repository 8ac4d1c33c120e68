//! The wall clock, which certificates go by, and which may jump.

use std::fmt;
use std::sync::Arc;

use time::OffsetDateTime;

/// Tells the time of day.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> OffsetDateTime + Send + Sync>);

impl Clock {
    /// A clock that says what `now` says.
    pub fn new(now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now))
    }

    /// The system's.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place of this crate that asks the system for the time"
    )]
    pub fn system() -> Clock {
        Clock::new(|| std::time::SystemTime::now().into())
    }

    /// Now.
    pub fn now(&self) -> OffsetDateTime {
        self.0()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
