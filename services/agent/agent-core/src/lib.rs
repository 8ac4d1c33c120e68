//! What the agent decides: its options, Envoy's bootstrap, rules that capture traffic, what a secret's name means, when the proxy is ready, how it
//! ends, what a probe, a scrape or a DNS question is answered with.
//!
//! The crate must never know a socket, a process, a file or the environment.
//!
//! Start at [`options::read`] (what the agent is told), then [`bootstrap::json`] (what Envoy is told), then [`secrets`] and [`trust`].

pub mod bootstrap;
pub mod capture;
pub mod dns;
pub mod drain;
pub mod metrics;
pub mod options;
pub mod paths;
pub mod probes;
pub mod readiness;
pub mod secrets;
pub mod trust;
pub mod wire;
