//! Real Envoy takes what we make of policies.

use crate::listeners::accepted_by_envoy;
use crate::testing::{router, sidecar};

/// Everything that policies may say.
const MESH: &str = include_str!("accepted.yaml");

#[test]
fn at_a_sidecar() {
    accepted_by_envoy(MESH, &sidecar("default"));
}

#[test]
fn at_a_gateway() {
    accepted_by_envoy(MESH, &router("default"));
}
