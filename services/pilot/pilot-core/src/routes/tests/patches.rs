//! When a RouteConfiguration is patched, and when it is made anew; either way it says what making it says.

use xds_core::Encoded;

use super::super::{patch, sidecar, sidecar_update};
use crate::Memos;
use crate::testing::{World, sidecar as proxy};

const SERVICES: &str = "
---
{apiVersion: v1, kind: Service, metadata: {name: a, namespace: default}, spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: b, namespace: default}, spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]}}
";

fn rule(name: &str, host: &str, http: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: {name}, namespace: default}}, \
         spec: {{hosts: ['{host}'], http: [{http}]}}}}\n"
    )
}

fn to_b(timeout: &str) -> String {
    format!("{{timeout: {timeout}, route: [{{destination: {{host: b}}}}]}}")
}

/// How many virtual hosts a patch exchanges after a change; `None` if there is no patch.
#[track_caller]
fn exchanged(before: &str, change: &str) -> Option<usize> {
    let mut world = World::new(&format!("{SERVICES}{before}"));
    let memo = Memos::default();
    let (old, key) = world.class(&proxy("default"));
    let known = sidecar(&old, &key, "80", &memo);
    world.apply(change);
    let (new, key) = world.class(&proxy("default"));
    let whole = sidecar(&new, &key, "80", &Memos::default());
    let updated = sidecar_update((&old, &known), &new, &key, &memo);
    let any = |encoded: &Encoded| encoded.any().to_vec();
    assert_eq!(any(&updated), any(&whole));
    patch::exchanges(&old, &new, &key, "80", &memo).map(|all| all.len())
}

#[test]
fn other_rules_for_the_same_hosts_are_exchanged() {
    let before = rule("v", "a", &to_b("1s"));
    assert_eq!(exchanged(&before, &rule("v", "a", &to_b("2s"))), Some(1));
    // A host that is no service, on port 80.
    let before = rule("v", "elsewhere.com", &to_b("1s"));
    assert_eq!(
        exchanged(&before, &rule("v", "elsewhere.com", &to_b("2s"))),
        Some(1)
    );
    // The same meaning.
    assert_eq!(
        exchanged(&before, &rule("v", "elsewhere.com", &to_b("1000ms"))),
        Some(0)
    );
}

#[test]
fn whatever_may_move_a_host_is_made_anew() {
    let one = rule("v", "a", &to_b("1s"));
    // Other hosts.
    assert_eq!(exchanged(&one, &rule("v", "b", &to_b("1s"))), None);
    // One more VirtualService, and one that speaks for the same host.
    assert_eq!(exchanged(&one, &rule("w", "b", &to_b("1s"))), None);
    let two = format!("{one}{}", rule("w", "a", &to_b("3s")));
    assert_eq!(exchanged(&two, &rule("w", "a", &to_b("4s"))), None);
    let wild = format!(
        "{one}{}",
        rule("w", "*.default.svc.cluster.local", &to_b("3s"))
    );
    assert_eq!(exchanged(&wild, &rule("v", "a", &to_b("4s"))), None);
    // No route is left on the port.
    let elsewhere = "{match: [{port: 81}], route: [{destination: {host: b}}]}";
    assert_eq!(exchanged(&one, &rule("v", "a", elsewhere)), None);
}
