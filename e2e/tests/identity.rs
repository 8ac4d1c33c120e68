//! Pods with identities: a Citadel that certifies, agents that keep certificates, and mutual TLS between what they stand beside.

use e2e::Protocol;
use e2e::pods::{Pods, Workload};

#[tokio::test]
async fn passes_over_mutual_tls() {
    let pods = Pods::new(Protocol::Delta)
        .pod(Workload::new("a"))
        .pod(Workload::new("b").http(80, 8080))
        .identity()
        .start()
        .await;
    let answer = pods.get("a").get("http://b/x").await;
    assert_eq!(answer.backend(), "b");
    let seen = answer.seen();
    let shown = seen["headers"]["x-forwarded-client-cert"].as_str();
    let shown = shown.unwrap_or_default();
    for part in [
        "By=spiffe://cluster.local/ns/default/sa/b",
        "URI=spiffe://cluster.local/ns/default/sa/a",
    ] {
        assert!(shown.split(';').any(|found| found == part), "{shown}");
    }
}
