//! What the agent decides: Envoy's bootstrap, rules that capture traffic, when to renew, what a probe or a DNS question is answered with.
//!
//! The crate must never know a socket, a process, a file or the environment.

pub mod capture;
