//! The agent: runs beside Envoy. Starts and drains it, keeps its keys and certificates, carries its xDS to Pilot, answers probes and DNS, and
//! captures the traffic of a pod.
//!
//! This crate listens, runs and asks; what is decided is decided in `agent-core`.

pub mod capture;
