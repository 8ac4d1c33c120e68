//! Whether the proxy is ready, by Envoy's statistics.

use std::collections::BTreeMap;

/// What is asked of Envoy's administration.
pub const FILTER: &str = "^(server\\.state|listener_manager\\.workers_started|cluster_manager\\.cds\\.update_(success|rejected)|listener_manager\\.lds\\.update_(success|rejected))$";

/// Statistics by name: lines `name: number` of `/stats`. Other lines are left out.
pub fn stats(text: &str) -> BTreeMap<&str, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name, value.trim().parse().ok()?))
        })
        .collect()
}

/// What was seen of Envoy. What was true once stays true: Envoy does not unlearn its configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness {
    configured: bool,
    live: bool,
}

/// Why it is not ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// SIGTERM came, or a drain was asked for.
    #[error("the agent is shutting down")]
    Stopping,
    /// Envoy's administration does not answer.
    #[error("Envoy does not answer: {0}")]
    Silent(String),
    /// Clusters or listeners have not come.
    #[error(
        "no configuration yet: clusters {clusters} accepted and {clusters_rejected} rejected, listeners {listeners} accepted and {listeners_rejected} rejected"
    )]
    Unconfigured {
        /// Updates of clusters that Envoy took.
        clusters: u64,
        /// Updates of clusters that it refused.
        clusters_rejected: u64,
        /// Updates of listeners that it took.
        listeners: u64,
        /// Updates of listeners that it refused.
        listeners_rejected: u64,
    },
    /// Envoy is starting or draining.
    #[error("Envoy is not live: server state {state}, workers started {workers}")]
    NotLive {
        /// `server.state`; 0 is live.
        state: u64,
        /// `listener_manager.workers_started`.
        workers: u64,
    },
    /// Names are answered, and there are none yet.
    #[error("the table of names has not come")]
    NoNames,
}

impl Readiness {
    /// Whether statistics need not be asked for any more.
    pub fn settled(&self) -> bool {
        self.configured && self.live
    }

    /// Takes what Envoy's administration said.
    ///
    /// # Errors
    /// What is missing.
    pub fn observe(&mut self, text: &str) -> Result<(), NotReady> {
        let stats = stats(text);
        let of = |name: &str| stats.get(name).copied();
        let (clusters, listeners) = (
            of("cluster_manager.cds.update_success").unwrap_or(0),
            of("listener_manager.lds.update_success").unwrap_or(0),
        );
        self.configured |= clusters > 0 && listeners > 0;
        if !self.configured {
            return Err(NotReady::Unconfigured {
                clusters,
                clusters_rejected: of("cluster_manager.cds.update_rejected").unwrap_or(0),
                listeners,
                listeners_rejected: of("listener_manager.lds.update_rejected").unwrap_or(0),
            });
        }
        // Without a state it is not live: zero would mean that it is.
        let state = of("server.state").unwrap_or(u64::MAX);
        let workers = of("listener_manager.workers_started").unwrap_or(0);
        self.live |= state == 0 && workers == 1;
        if !self.live {
            return Err(NotReady::NotLive { state, workers });
        }
        Ok(())
    }

    /// The verdict, `observed` being what [`Readiness::observe`] said last.
    ///
    /// # Errors
    /// Why it is not ready.
    pub fn verdict(
        observed: Result<(), NotReady>,
        stopping: bool,
        names_missing: bool,
    ) -> Result<(), NotReady> {
        if stopping {
            return Err(NotReady::Stopping);
        }
        observed?;
        if names_missing {
            return Err(NotReady::NoNames);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: &str = "cluster_manager.cds.update_success: 1\nlistener_manager.lds.update_success: 2\nserver.state: 0\nlistener_manager.workers_started: 1\n";

    /// Case 30: clusters and listeners, live workers, names, no end in sight.
    #[test]
    fn ready_needs_configuration_workers_and_names() {
        let mut seen = Readiness::default();
        assert!(matches!(
            seen.observe("server.state: 2\n"),
            Err(NotReady::Unconfigured { .. })
        ));
        assert!(matches!(
            seen.observe("cluster_manager.cds.update_success: 1\nserver.state: 0\n"),
            Err(NotReady::Unconfigured {
                clusters: 1,
                listeners: 0,
                ..
            })
        ));
        let starting = LIVE.replace("state: 0", "state: 2");
        assert_eq!(
            seen.observe(&starting),
            Err(NotReady::NotLive {
                state: 2,
                workers: 1
            })
        );
        assert_eq!(seen.observe(LIVE), Ok(()));
        assert!(seen.settled());
        // Once true, always true.
        assert_eq!(seen.observe(""), Ok(()));
        assert_eq!(Readiness::verdict(Ok(()), false, false), Ok(()));
        assert_eq!(
            Readiness::verdict(Ok(()), false, true),
            Err(NotReady::NoNames)
        );
        assert_eq!(
            Readiness::verdict(Ok(()), true, false),
            Err(NotReady::Stopping)
        );
    }

    #[test]
    fn a_server_without_a_state_is_not_live() {
        let text = LIVE.replace("server.state: 0\n", "");
        assert!(matches!(
            Readiness::default().observe(&text),
            Err(NotReady::NotLive { .. })
        ));
    }
}
