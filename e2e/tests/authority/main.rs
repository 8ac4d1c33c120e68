//! The authority while traffic flows: leaves and roots rotate, somebody is thrown out, parts of the plane are away, and nobody else notices.
//!
//! Every connection is mutual TLS between Envoys beside real agents; at one port of the server each request has a connection of its own, so
//! that what is presented and believed is tried hundreds of times a second.

mod failures;
mod order;
mod revocation;
mod rotation;

use std::net::SocketAddr;
use std::time::Duration;

use e2e::pods::{Pods, Workload, service_address};
use e2e::process::Process;
use e2e::wait::eventually;
use e2e::{Call, Citadel, Traffic};
use serde_json::Value;

/// Nothing but mutual TLS, and a connection for each request to port 80 of `b`.
const CONFIG: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: istio-system }
spec: { mtls: { mode: STRICT } }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: b, namespace: default }
spec:
  host: b.default.svc.cluster.local
  trafficPolicy:
    portLevelSettings:
    - port: { number: 80 }
      connectionPool: { http: { maxRequestsPerConnection: 1 } }
";

/// Commands take their time on a busy machine; between two of them.
const BETWEEN: Duration = Duration::from_millis(200);

/// What an agent says that got no certificate.
const REFUSED: &str = "no certificate, trying again";

fn id(account: &str) -> String {
    format!("spiffe://cluster.local/ns/default/sa/{account}")
}

/// A pod whose certificates live a minute and are renewed after six seconds, so that much may go wrong meanwhile.
fn renewing(workload: Workload) -> Workload {
    workload
        .variable("SECRET_TTL", "60s")
        .variable("SECRET_GRACE_PERIOD_RATIO", "0.9")
}

/// Requests from a pod to both ports of `b`, the second pod: over connections of their own to one, over shared ones to the other.
fn traffic(pods: &Pods, from: &str, per_second_and_port: u32) -> [Traffic; 2] {
    [80, 81].map(|port| {
        let to = SocketAddr::new(service_address(1), port);
        let call = Call::get(format!("b:{port}"), "/");
        Traffic::steady(pods.get(from).client(to), call, per_second_and_port)
    })
}

/// Stops it. Every request must have been answered by `b`.
fn answered(traffic: [Traffic; 2]) {
    for one in traffic {
        let tally = one.without_failure();
        let lines: Vec<&str> = tally.answers.keys().map(String::as_str).collect();
        assert_eq!(lines, ["200 b"], "{tally:?}");
        println!("{} requests, no failure", tally.total());
    }
}

/// What `flotilla ca ARGS` says, once it says what is wanted. Citadel may be away meanwhile.
async fn said(
    citadel: &Citadel,
    what: &str,
    args: &[&str],
    mut wanted: impl FnMut(&Value) -> bool,
) -> Value {
    let args = [args, &["-o", "json"]].concat();
    eventually(what, async || {
        let told = citadel.ca(&args).await;
        if told.code != 0 {
            return Err(told.error);
        }
        let found = told.json();
        if wanted(&found) {
            return Ok(found);
        }
        tokio::time::sleep(BETWEEN).await;
        Err(found.to_string())
    })
    .await
}

/// Waits until a process has said something once more.
async fn says_again(process: &Process, words: &str) {
    let count = || process.log().matches(words).count();
    let before = count();
    eventually(&format!("{words:?} once more"), async || {
        if count() > before {
            Ok(())
        } else {
            Err("not yet")
        }
    })
    .await;
}

/// The newest certificate of an identity, once there is one after entry `after` of the journal.
async fn renewed(citadel: &Citadel, account: &str, after: u64) -> Value {
    let (what, id) = (format!("{account} gets another certificate"), id(account));
    let args = ["journal", "--limit", "20", "--spiffe-id", &id];
    let newest = |entries: &Value| {
        let mut entries = entries.as_array().into_iter().flatten();
        entries.find(|entry| entry["event"] == "issued").cloned()
    };
    let found = said(citadel, &what, &args, |entries| {
        newest(entries).is_some_and(|entry| sequence(&entry) > after)
    });
    newest(&found.await).expect("an entry")
}

fn sequence(entry: &Value) -> u64 {
    entry["sequence"].as_u64().unwrap_or_default()
}
