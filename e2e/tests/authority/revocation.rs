//! Somebody is thrown out, and nobody else.

use e2e::pods::{Pods, Workload};
use e2e::wait::eventually;
use e2e::{Citadel, Protocol};
use tokio::time::{Duration, Instant};

use super::{
    CONFIG, REFUSED, answered, id, renewed, renewing, said, says_again, sequence, traffic,
};

/// Longest time from the command to the first refused request: it takes less than a second, but not on a machine that is busy with others.
const BOUND: Duration = Duration::from_secs(30);

/// Only `a` renews while the test runs.
async fn pods() -> Pods {
    Pods::new(Protocol::Delta)
        .pod(renewing(Workload::new("a").node("node-a")))
        .pod(
            Workload::new("b")
                .http(80, 8080)
                .http(81, 8081)
                .node("node-b"),
        )
        .pod(Workload::new("c").http(80, 8080).node("node-c"))
        .pod(Workload::new("other").node("node-o"))
        .config(CONFIG)
        .nats()
        .start()
        .await
}

/// Asks until a request of `a` is answered with `status`; when.
async fn seen(pods: &Pods, url: &str, wanted: impl Fn(u16) -> bool) -> Instant {
    eventually(&format!("another answer of {url}"), async || {
        let answer = pods.get("a").request(url).await;
        let status = answer.map_err(|error| error.to_string())?.status.as_u16();
        if wanted(status) {
            Ok(Instant::now())
        } else {
            Err(status.to_string())
        }
    })
    .await
}

/// Revokes, and waits until `a` is refused at each of these; the number of the revocation.
async fn refused(pods: &Pods, what: &[&str], urls: &[&str]) -> u64 {
    let began = Instant::now();
    let args = [&["revoke", "--reason", "stolen"], what].concat();
    let all = futures::future::join_all(
        urls.iter()
            .map(|url| seen(pods, url, |status| status >= 400)),
    );
    let (revoked, seen) = tokio::join!(pods.plane().citadel.told(&args), all);
    for (url, at) in urls.iter().zip(seen) {
        let took = at - began;
        println!("{what:?}: {url} refuses after {took:?}");
        assert!(took < BOUND, "{url}: {took:?}");
    }
    revoked["id"].as_u64().expect("a number")
}

/// Lifts, and waits until `a` is served.
async fn lifted(pods: &Pods, revocation: u64, urls: &[&str]) {
    let began = Instant::now();
    let number = revocation.to_string();
    pods.plane()
        .citadel
        .told(&["lift", &number, "--reason", "found again"])
        .await;
    for url in urls {
        let at = seen(pods, url, |status| status == 200).await;
        println!("{url} serves {:?} after the lift", at - began);
    }
}

/// The newest certificate of `a`, right after it was issued: its entry's number, its serial number, when.
async fn fresh(citadel: &Citadel) -> (u64, String, i64) {
    let before = renewed(citadel, "a", 0).await;
    let entry = renewed(citadel, "a", sequence(&before)).await;
    let serial = entry["serial"]
        .as_str()
        .expect("a serial number")
        .to_owned();
    (
        sequence(&entry),
        serial,
        entry["at"].as_i64().expect("a time"),
    )
}

/// Whether every server's proxy denies `a`, whatever it shows and however long it has been connected.
async fn denied(pods: &Pods, wanted: bool) {
    for pod in ["b", "c"] {
        eventually(&format!("{pod} denies: {wanted}"), async || {
            let config = pods
                .get(pod)
                .admin("/config_dump?mask=dynamic_listeners")
                .await;
            let found = config.contains(&id("a"));
            if found == wanted { Ok(()) } else { Err(found) }
        })
        .await;
    }
}

#[tokio::test]
async fn whoever_is_revoked_is_out_and_nobody_else() {
    let mut pods = pods().await;
    let citadel = &pods.plane().citadel;
    let traffic = traffic(&pods, "other", 50);
    let (new, both) = (["http://b/"], ["http://b/", "http://c/"]);
    for url in both {
        seen(&pods, url, |status| status == 200).await;
    }

    // An identity: every proxy denies it, over connections that are there already too, and it is not renewed.
    let (last, ..) = fresh(citadel).await;
    let revocation = refused(&pods, &["--spiffe-id", &id("a")], &both).await;
    denied(&pods, true).await;
    says_again(&pods.get_mut("a").proxy().process, REFUSED).await;
    let citadel = &pods.plane().citadel;
    assert_eq!(sequence(&renewed(citadel, "a", 0).await), last);
    lifted(&pods, revocation, &both).await;
    denied(&pods, false).await;
    renewed(citadel, "a", last).await;

    // A certificate on hold: new connections are refused, until it is lifted.
    let (_, serial, _) = fresh(citadel).await;
    let revocation = refused(&pods, &["--serial", &serial, "--hold"], &new).await;
    lifted(&pods, revocation, &new).await;

    // A certificate for good: its holder comes back as somebody who was let in anew.
    let (_, serial, _) = fresh(citadel).await;
    let revocation = refused(&pods, &["--serial", &serial], &new).await;
    let lift = ["lift", &revocation.to_string(), "--reason", "wish"];
    assert_ne!(citadel.ca(&lift).await.code, 0);
    pods.plane().admit("a").await;
    seen(&pods, new[0], |status| status == 200).await;

    // A node.
    let revocation = refused(&pods, &["--node", "node-a"], &new).await;
    lifted(&pods, revocation, &new).await;

    // What was issued in a span of time.
    let (_, _, at) = fresh(citadel).await;
    let (from, to) = (at.to_string(), (at + 1).to_string());
    let span = ["--issued-from", &from, "--issued-to", &to];
    let revocation = refused(&pods, &span, &new).await;
    lifted(&pods, revocation, &new).await;

    said(citadel, "the journal tells", &["journal"], |entries| {
        let count = |event: &str| {
            let entries = entries.as_array().into_iter().flatten();
            entries.filter(|entry| entry["event"] == event).count()
        };
        count("revoked") == 5 && count("lifted") == 4
    })
    .await;
    answered(traffic);
}
