//! The citadel program as a process of its own: real TLS, real stores, scripted callers, an API server that says what a test wants.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod api_server;
mod authority;
mod callers;
mod client;
mod failures;
mod harness;
mod hostile;
mod issuer;
mod operators;
mod roots;
