//! Rotation of leaves and roots.

use e2e::pods::{Pods, Workload};
use e2e::{Citadel, Protocol};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{CONFIG, answered, id, renewed, renewing, said, sequence, traffic};

/// Phases of [`rotation`].
const IDLE: u64 = 0;
const DISTRIBUTE: u64 = 1;
const DRAIN: u64 = 2;
/// What is in the way while one proxy has not acknowledged.
const WAITS_FOR_ONE: &str = "1 of 3 proxies have not acknowledged the bundle";

async fn pods() -> Pods {
    Pods::new(Protocol::Delta)
        .pod(renewing(Workload::new("a")))
        .pod(renewing(Workload::new("b").http(80, 8080).http(81, 8081)))
        .pod(renewing(Workload::new("c")))
        .config(CONFIG)
        .nats()
        .citadel_flags(&["--rotation-evidence-time", "1s"])
        .pilot_flags(&["--cert-ttl", "20s"])
        // Nobody renews it: the old root is waited for until it has expired.
        .operator_life("30s")
        .start()
        .await
}

/// `flotilla ca rotate status`, once it says what is wanted.
async fn rotation(citadel: &Citadel, what: &str, wanted: impl FnMut(&Value) -> bool) -> Value {
    said(citadel, what, &["rotate", "status"], wanted).await
}

fn phase(rotation: &Value) -> u64 {
    rotation["phase"].as_u64().expect("a phase")
}

/// Fingerprints of the roots that are trusted.
async fn trusted(citadel: &Citadel) -> Vec<String> {
    let status = citadel.told(&["status"]).await;
    let all = status["authorities"].as_array().expect("authorities");
    let trusted = all.iter().filter(|one| one["trusted"] == true);
    trusted
        .map(|one| one["fingerprint"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// What the journal says about rotations, oldest first: event and words.
async fn steps(citadel: &Citadel) -> Vec<(String, String)> {
    let entries = citadel.told(&["journal", "--limit", "1000"]).await;
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let all = entries.as_array().expect("entries").iter().rev();
    all.map(|entry| (text(entry, "event"), text(entry, "detail")))
        .filter(|(event, _)| event == "rotation" || event == "forced")
        .collect()
}

/// Whether the words of steps begin so, one after the other.
fn begin(steps: &[(String, String)], wanted: &[&str]) {
    let words: Vec<&str> = steps.iter().map(|(_, words)| words.as_str()).collect();
    assert_eq!(words.len(), wanted.len(), "{words:#?}");
    for (words, wanted) in words.iter().zip(wanted) {
        assert!(words.starts_with(wanted), "{words:?}, not {wanted:?}");
    }
}

#[tokio::test]
async fn leaves_and_roots_rotate_under_load() {
    let mut pods = pods().await;
    let traffic = traffic(&pods, "a", 100);
    let first = renewed(&pods.plane().citadel, "a", 0).await;
    let old = trusted(&pods.plane().citadel).await;

    // Whoever does not acknowledge keeps the gate shut, and is named.
    pods.get_mut("c").proxy().process.pause();
    let citadel = &pods.plane().citadel;
    let began = Instant::now();
    citadel
        .told(&["rotate", "start", "--reason", "once a year"])
        .await;
    let waiting = rotation(citadel, "c alone is waited for", |now| {
        phase(now) == DISTRIBUTE && now["blocked"] == WAITS_FOR_ONE
    });
    let waiting = waiting.await;
    assert_eq!(
        (&waiting["acknowledged"], &waiting["total"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(waiting["pending"], json!(["c.default"]));
    let shown = citadel.ca(&["rotate", "status"]).await;
    assert_eq!(
        shown.row("waiting for"),
        ["waiting for", "c.default"],
        "{}",
        shown.out
    );

    // Paused it stays, though everybody has acknowledged, and though Pilot was killed.
    citadel.told(&["rotate", "pause"]).await;
    pods.get_mut("c").proxy().process.resume();
    pods.pilot.process.kill();
    pods.pilot.process.start();
    let citadel = &pods.plane().citadel;
    let paused = rotation(citadel, "everybody has acknowledged", |now| {
        now["acknowledged"] == 3 && now["total"] == 3
    });
    let paused = paused.await;
    assert_eq!(
        (phase(&paused), &paused["paused"]),
        (DISTRIBUTE, &json!(true))
    );
    assert_eq!(trusted(citadel).await.len(), 2);

    // Resumed, it goes on to its end, though Citadel is killed.
    citadel.told(&["rotate", "resume"]).await;
    rotation(citadel, "the new root signs", |now| phase(now) == DRAIN).await;
    let plane = pods.plane_mut();
    plane.citadel.process.kill();
    plane.citadel.start().await;
    let citadel = &pods.plane().citadel;
    rotation(citadel, "the rotation is over", |now| phase(now) == IDLE).await;
    println!(
        "a rotation took {:?}, of which up to 30 s for an operator's certificate",
        began.elapsed()
    );
    let new = trusted(citadel).await;
    assert_eq!(new.len(), 1);
    assert_ne!(new, old);
    let last = renewed(citadel, "a", sequence(&first)).await;
    assert_ne!(first["issuer"], last["issuer"]);
    begin(
        &steps(citadel).await,
        &[
            &format!("root {} is made, and signs", old[0]),
            "rotation started: root ",
            "rotation paused in distribute",
            "rotation resumed in distribute",
            &format!("root {} signs; ", new[0]),
            &format!("root {} is trusted no longer", old[0]),
            &format!("rotation finished: root {} is retired", old[0]),
        ],
    );

    undo(&mut pods, &new).await;

    // All the while certificates were renewed.
    for account in ["a", "b", "c"] {
        let id = id(account);
        let entries = pods
            .plane()
            .citadel
            .told(&["journal", "--spiffe-id", &id])
            .await;
        let entries = entries.as_array().expect("entries");
        let renewed = entries.iter().filter(|entry| entry["replaces"] != "");
        assert!(renewed.count() >= 3, "{account}: {entries:#?}");
    }
    answered(traffic);
}

/// A rotation that is aborted at once, and one that is forced past a gate, then aborted.
async fn undo(pods: &mut Pods, root: &[String]) {
    let citadel = &pods.plane().citadel;
    let before = steps(citadel).await.len();
    citadel.told(&["rotate", "start"]).await;
    let aborted = citadel.told(&["rotate", "abort"]).await;
    assert_eq!(phase(&aborted), IDLE);
    assert_eq!(trusted(citadel).await, root);

    pods.get_mut("c").proxy().process.pause();
    let citadel = &pods.plane().citadel;
    citadel.told(&["rotate", "start"]).await;
    rotation(citadel, "c alone is waited for", |now| {
        now["blocked"] == WAITS_FOR_ONE
    })
    .await;
    let unsaid = citadel.ca(&["rotate", "force"]).await;
    assert_ne!(unsaid.code, 0, "without a reason");
    let reason = "c is being taken down";
    let forced = citadel.told(&["rotate", "force", "--reason", reason]).await;
    assert_eq!(phase(&forced), DRAIN);
    renewed(citadel, "a", sequence(&renewed(citadel, "a", 0).await)).await;
    let back = citadel.told(&["rotate", "abort"]).await;
    assert_eq!((phase(&back), &back["new_root"]), (DRAIN, &json!(root[0])));
    pods.get_mut("c").proxy().process.resume();
    let citadel = &pods.plane().citadel;
    rotation(citadel, "the rotation is undone", |now| phase(now) == IDLE).await;
    assert_eq!(trusted(citadel).await, root);
    let all = steps(citadel).await;
    assert!(
        all.contains(&("forced".into(), format!("forced past distribute: {reason}"))),
        "{all:#?}"
    );
    begin(
        &all[before..],
        &[
            "rotation started: root ",
            "rotation aborted: root ",
            "rotation started: root ",
            "forced past distribute: ",
            "root ",
            &format!("rotation aborted: root {} signs again", root[0]),
            "root ",
            "rotation finished: root ",
        ],
    );
}
