//! How the proxy ends.

use std::time::Duration;

use crate::options::{DrainOptions, Kind};
use crate::readiness::stats;

/// What is asked of Envoy's administration while waiting for connections to end.
pub const FILTER: &str = "downstream_cx_active$";
/// How often the number of connections is asked for.
pub const PERIOD: Duration = Duration::from_secs(1);
/// So many errors in a row end the wait.
const MOST_ERRORS: u32 = 5;

/// Listeners that are the agent's and Envoy's own, by what stands between `listener.` and `.downstream_cx_active`.
const OWN: &[&str] = &["admin", "main_internal", "connect_originate"];

/// Path to ask Envoy to drain with.
///
/// A sidecar stops taking new inbound connections only: its application may have to call others until its end. `stay` leaves listeners open
/// that Envoy would close at the end of the drain: a later SIGTERM ends everything.
pub fn path(kind: Kind, stay: bool) -> String {
    let mut path = "/drain_listeners?graceful".to_owned();
    if kind == Kind::Sidecar {
        path.push_str("&inboundonly");
    }
    if stay {
        path.push_str("&skip_exit");
    }
    path
}

/// How long to wait after the drain began, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Drained already: nothing is waited for.
    AtOnce,
    /// So long.
    Wait(Duration),
    /// So long, and then until no connection is left.
    UntilIdle(Duration),
}

/// What SIGTERM does.
pub fn plan(options: &DrainOptions, drained: bool) -> Plan {
    if drained {
        Plan::AtOnce
    } else if options.exit_on_zero {
        Plan::UntilIdle(options.minimum)
    } else {
        Plan::Wait(options.termination)
    }
}

/// Counts open connections until there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Idle {
    errors: u32,
}

/// What a look at the connections means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Look again after [`PERIOD`]; so many are open.
    Again(u64),
    /// No connection is left.
    Idle,
    /// Envoy did not answer five times in a row.
    GiveUp,
}

impl Idle {
    /// Takes what `/stats` said; `None` if it did not answer. `own` are the ports of static listeners, which are not waited for.
    pub fn look(&mut self, stats: Option<&str>, own: &[u16]) -> Next {
        let Some(text) = stats else {
            self.errors += 1;
            return if self.errors < MOST_ERRORS {
                Next::Again(0)
            } else {
                Next::GiveUp
            };
        };
        self.errors = 0;
        match connections(text, own) {
            0 => Next::Idle,
            open => Next::Again(open),
        }
    }
}

/// Connections of users, over all listeners.
fn connections(text: &str, own: &[u16]) -> u64 {
    let of_users = stats(text).into_iter().filter_map(|(name, value)| {
        let listener = name
            .strip_prefix("listener.")?
            .strip_suffix(".downstream_cx_active")?;
        // Counted per thread too.
        if listener.contains(".worker_") || listener.ends_with(".main_thread") {
            return None;
        }
        if OWN.contains(&listener) {
            return None;
        }
        let port = listener.rsplit(['_', '.']).next()?.parse::<u16>().ok();
        let is_own = port.is_some_and(|port| own.contains(&port));
        (!is_own).then_some(value)
    });
    of_users.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: DrainOptions = DrainOptions {
        termination: Duration::from_secs(5),
        minimum: Duration::from_secs(7),
        exit_on_zero: false,
    };

    #[test]
    fn the_plan_follows_the_options() {
        let idle = DrainOptions {
            exit_on_zero: true,
            ..OPTIONS
        };
        assert_eq!(plan(&OPTIONS, false), Plan::Wait(Duration::from_secs(5)));
        assert_eq!(plan(&idle, false), Plan::UntilIdle(Duration::from_secs(7)));
        assert_eq!(plan(&idle, true), Plan::AtOnce);
        assert_eq!(plan(&OPTIONS, true), Plan::AtOnce);
    }

    #[test]
    fn gateways_drain_everything_and_a_hook_stays() {
        assert_eq!(
            path(Kind::Sidecar, false),
            "/drain_listeners?graceful&inboundonly"
        );
        assert_eq!(path(Kind::Router, false), "/drain_listeners?graceful");
        assert_eq!(
            path(Kind::Sidecar, true),
            "/drain_listeners?graceful&inboundonly&skip_exit"
        );
    }

    /// Case 36: connections of users count, each once; those of probes and scrapes do not.
    #[test]
    fn only_users_connections_are_waited_for() {
        let text = "listener.0.0.0.0_15006.downstream_cx_active: 3\n\
                    listener.0.0.0.0_15006.worker_0.downstream_cx_active: 3\n\
                    listener.0.0.0.0_15021.downstream_cx_active: 1\n\
                    listener.0.0.0.0_15090.downstream_cx_active: 1\n\
                    listener.[__1]_15021.downstream_cx_active: 1\n\
                    listener.admin.main_thread.downstream_cx_active: 1\n\
                    listener.admin.downstream_cx_active: 1\n";
        let mut idle = Idle::default();
        assert_eq!(idle.look(Some(text), &[15021, 15090]), Next::Again(3));
        assert_eq!(
            idle.look(Some(&text.replace(": 3", ": 0")), &[15021, 15090]),
            Next::Idle
        );
    }

    #[test]
    fn five_errors_in_a_row_end_the_wait() {
        let mut idle = Idle::default();
        for _ in 0..4 {
            assert_eq!(idle.look(None, &[]), Next::Again(0));
        }
        let busy = "listener.0.0.0.0_80.downstream_cx_active: 2\n";
        assert_eq!(idle.look(Some(busy), &[]), Next::Again(2));
        for _ in 0..4 {
            assert_eq!(idle.look(None, &[]), Next::Again(0));
        }
        assert_eq!(idle.look(None, &[]), Next::GiveUp);
    }
}
