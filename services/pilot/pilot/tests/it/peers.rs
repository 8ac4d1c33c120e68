//! Several Pilots on one bus: the same answer from any of them, and a plain word about those that do not answer.

use serde_json::{Value, json};
use testkit::nats::Nats;

use crate::ads::{Ads, CDS};
use crate::rig::{Folder, Pilot, entry, get, json};

/// What a proxy of the second Pilot should have.
const CONFIGS: [&str; 2] = [
    "/v1/proxies/q.default/config",
    "/debug/config_dump?proxyID=q.default",
];

async fn join(folder: &Folder, nats: &Nats, name: &str) -> Pilot {
    let dir = folder.path().to_str().unwrap();
    let pilot = Pilot::start(&["--config-dir", dir, "--bus", &nats.url(), "--name", name]).await;
    pilot.ready().await;
    pilot
}

/// Names of all proxies and of all silent Pilots, as a Pilot tells them.
async fn told(pilot: &Pilot) -> (Vec<String>, Value) {
    let all = json(pilot.http, "/v1/proxies").await;
    let pilots = all["pilots"].as_array().unwrap();
    let proxies = pilots
        .iter()
        .flat_map(|pilot| pilot["proxies"].as_array().unwrap());
    let mut names: Vec<String> = proxies
        .map(|p| p["proxy"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    (names, all["silent_pilots"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_pilot_answers_for_all() {
    let mut nats = Nats::start();
    let folder = Folder::of(&[("a", 80)]);
    let (one, mut two) = (
        join(&folder, &nats, "pilot-1").await,
        join(&folder, &nats, "pilot-2").await,
    );
    let mut on_one = Ads::delta(&one, "p.default").await;
    let mut on_two = Ads::sotw(&two, "q.default").await;
    on_one.settle().await;
    on_two.settle().await;
    let everybody = (
        vec!["p.default".to_owned(), "q.default".to_owned()],
        json!([]),
    );
    for pilot in [&one, &two] {
        pilot
            .until("it knows both proxies", async || {
                told(pilot).await == everybody
            })
            .await;
        let far = json(pilot.http, "/v1/revisions/1?wait=30s").await;
        assert_eq!(
            (&far["live"], &far["total"]),
            (&json!(2), &json!(2)),
            "{far}"
        );
        let syncz = json(pilot.http, "/debug/syncz").await;
        assert_eq!(syncz.as_array().unwrap().len(), 2);
    }
    for path in CONFIGS {
        let answers = (json(one.http, path).await, json(two.http, path).await);
        assert_eq!(answers.0, answers.1, "{path}");
    }
    let (status, body) = get(one.http, "/v1/proxies/nobody.default/config").await;
    assert_eq!(status, 404);
    assert!(body.contains("nobody.default is not connected"), "{body}");

    // A change is live when it is live on the proxies of both.
    one.after(|| folder.write("b", &entry("b", 80, "10.1.0.2")))
        .await;
    two.until("it has the change", async || two.revision().await == 2)
        .await;
    for ads in [&mut on_one, &mut on_two] {
        ads.take(CDS).await;
    }
    let far = json(one.http, "/v1/revisions/2").await;
    assert_eq!(far["total"], 2);
    assert_ne!(
        far["pending"],
        json!([]),
        "their routes are not accepted yet: {far}"
    );
    for ads in [&mut on_one, &mut on_two] {
        while ads.next_of(crate::ads::RDS).await.resources.is_empty() {}
    }
    for pilot in [&one, &two] {
        assert_eq!(
            json(pilot.http, "/v1/revisions/2?wait=30s").await["live"],
            2
        );
    }

    // Without the bus, proxies are served on, and what is unknown is said to be.
    nats.kill();
    one.until("the other Pilot is unknown", async || {
        told(&one).await == (vec!["p.default".to_owned()], json!(["pilot-2"]))
    })
    .await;
    let (status, body) = get(one.http, CONFIGS[0]).await;
    assert_eq!(status, 503);
    assert!(body.contains("pilot-2 did not answer"), "{body}");
    one.after(|| folder.write("a", &entry("a", 80, "10.1.0.3")))
        .await;
    on_one.next_of(crate::ads::EDS).await;
    assert_eq!(
        json(one.http, "/v1/revisions/3").await["silent_pilots"],
        json!(["pilot-2"])
    );

    // It comes back, and everybody knows everything again.
    nats.launch();
    for pilot in [&one, &two] {
        pilot
            .until("it knows both proxies again", async || {
                told(pilot).await == everybody
            })
            .await;
    }

    // A Pilot that leaves says so; nobody waits for it.
    two.terminate();
    assert!(two.ended().await.success());
    one.until("the other Pilot is forgotten", async || {
        told(&one).await == (vec!["p.default".to_owned()], json!([]))
    })
    .await;
}

/// A Pilot that dies without a word is named until its registration runs out.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_pilot_is_named() {
    let nats = Nats::start();
    let folder = Folder::of(&[("a", 80)]);
    let (one, two) = (
        join(&folder, &nats, "pilot-1").await,
        join(&folder, &nats, "pilot-2").await,
    );
    one.until("it knows the other", async || {
        json(one.http, "/v1/proxies").await["pilots"]
            .as_array()
            .unwrap()
            .len()
            == 2
    })
    .await;
    drop(two);
    one.until("the other is silent", async || {
        told(&one).await.1 == json!(["pilot-2"])
    })
    .await;
    let far = json(one.http, "/v1/revisions/1?wait=1ms").await;
    assert_eq!(far["silent_pilots"], json!(["pilot-2"]));
    one.until("the other is forgotten", async || {
        told(&one).await.1 == json!([])
    })
    .await;
}

/// One that does not fit into a message comes in pieces, all of one moment although it changes all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_configuration_is_told_whole() {
    let nats = Nats::start();
    let folder = Folder::of(&[]);
    let write = |fault: u32| {
        let services: String = (0..400)
            .map(|n| format!("{}---", entry(&format!("service-{n}"), 80, "10.1.0.1")))
            .collect();
        folder.write("services", &services);
        let long = "x".repeat(2_000);
        let rules: String = (0..400)
            .map(|n| {
                format!(
                    r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: v{n}, namespace: default}}
spec:
  hosts: [service-{n}.example.com]
  http: [{{match: [{{uri: {{exact: /{long}}}}}], directResponse: {{status: {fault}}}}}]
---"#
                )
            })
            .collect();
        folder.write("rules", &rules);
    };
    write(200);
    let (one, two) = (
        join(&folder, &nats, "pilot-1").await,
        join(&folder, &nats, "pilot-2").await,
    );
    let mut on_two = Ads::sotw(&two, "q.default").await;
    on_two.settle().await;
    one.until("it knows the proxy", async || {
        told(&one).await.0 == ["q.default"]
    })
    .await;
    let path = CONFIGS[0];
    let (_, whole) = get(two.http, path).await;
    assert!(whole.len() > 2 * bus::MAX_PAYLOAD, "{}", whole.len());
    assert_eq!(get(one.http, path).await, (200, whole));

    let statuses = |config: &Value| -> Vec<u64> {
        let hosts = config["routes"].as_array().unwrap().iter();
        let hosts = hosts.flat_map(|r| r["virtualHosts"].as_array().unwrap());
        let routes = hosts.flat_map(|host| host["routes"].as_array().unwrap());
        let statuses = routes.filter_map(|route| route["directResponse"]["status"].as_u64());
        statuses.collect()
    };
    for status in [201, 202, 203] {
        write(status);
        let found = statuses(&json(one.http, path).await);
        assert_eq!(found.len(), 400);
        assert!(found.iter().all(|s| *s == found[0]), "{found:?}");
    }
}

/// SIGTERM while the bus hangs: neither the registration nor anything else of it is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_hangs_delays_no_end() {
    let nats = Nats::start();
    let folder = Folder::of(&[("a", 80)]);
    let (one, mut two) = (
        join(&folder, &nats, "pilot-1").await,
        join(&folder, &nats, "pilot-2").await,
    );
    one.until("it knows the other", async || {
        json(one.http, "/v1/proxies").await["pilots"]
            .as_array()
            .unwrap()
            .len()
            == 2
    })
    .await;
    nats.pause();
    one.until("the other is silent", async || {
        told(&one).await.1 == json!(["pilot-2"])
    })
    .await;
    two.terminate();
    assert_eq!(two.ended().await.code(), Some(0), "{}", two.logs());
}

/// Two of one name would not see each other: that is said, as long as it is so.
#[tokio::test(flavor = "multi_thread")]
async fn two_of_one_name_are_told() {
    let nats = Nats::start();
    let folder = Folder::of(&[("a", 80)]);
    let one = join(&folder, &nats, "pilot").await;
    let two = join(&folder, &nats, "pilot").await;
    one.until("it is told", async || {
        (one.logs() + &two.logs()).contains("another Pilot has the same name")
    })
    .await;
}
