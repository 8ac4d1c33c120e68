//! "Is my change live on every proxy?" has a true answer, also when it is no.

use e2e::site::{HTTP, hosts};
use e2e::wait::eventually;
use e2e::{Call, Envoy, Identity, Pilot, Protocol, Traffic, World};

const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

e2e::both_protocols! {
    a_refused_listener_stops_nothing_else,
    a_paused_proxy_is_named,
    any_pilot_answers_for_all,
}

async fn a_refused_listener_stops_nothing_else(protocol: Protocol) {
    let mut world = World::split("refused-listener", protocol).await;
    world
        .add(Identity::sidecar("other", hosts::MORE_SIDECARS))
        .await;
    let traffic = Traffic::start(world.client(), Call::get("reviews:9080", "/"));
    traffic.more(5).await;
    let revision = put(&world, "unbindable/client.yaml").await;

    // Who, what, and why: in words and for machines.
    let told = wait(&world.pilot, revision, "30s").await;
    assert_eq!(
        told,
        (
            1,
            format!("revision {revision} is live on 1 of 2 proxies; rejected by client.default")
        )
    );
    rejected(&world, revision).await;

    // Other resources go on changing, and other listeners.
    let later = put(&world, "elsewhere/routes.yaml").await;
    let told = wait(&world.pilot, later, "30s").await;
    assert_eq!(
        told,
        (
            1,
            format!("revision {later} is live on 1 of 2 proxies; rejected by client.default")
        )
    );
    let answer = world.client().get("reviews:9080", "/").await;
    assert_eq!(answer.backend(), "reviews-v2");
    put(&world, "more/client.yaml").await;
    let right = world.sidecar.client(9082);
    eventually("the other listener is open", async || {
        right.send(&Call::get("doors.shop.test:9082", "/")).await
    })
    .await;
    rejected(&world, revision).await;

    // Mended.
    let mended = put(&world, "mended/client.yaml").await;
    assert_eq!(
        wait(&world.pilot, mended, "30s").await,
        (0, format!("revision {mended} is live on 2 of 2 proxies"))
    );
    let left = world.sidecar.client(9081);
    let answer = left.get("doors.shop.test:9081", "/").await;
    assert_eq!(answer.backend(), "ratings-v1");
    let status = world.pilot.tell(&["proxy-status"]).await;
    assert_eq!(
        status.row("client.default")[2..6],
        ["SYNCED", "SYNCED", "SYNCED", "SYNCED"],
        "{status:?}"
    );
    assert!(!status.out.contains("rejected"), "{status:?}");
    traffic.more(5).await;
    traffic.without_failure();
}

/// `proxy-status` says that the client's proxy refuses the listener since that revision, with Envoy's words.
async fn rejected(world: &World, revision: u64) {
    let status = world.pilot.tell(&["proxy-status"]).await;
    assert_eq!(
        status.row("client.default")[2..6],
        ["SYNCED", "ERROR", "SYNCED", "SYNCED"],
        "{status:?}"
    );
    assert_eq!(status.row("other.default")[3], "SYNCED", "{status:?}");
    let line = format!("client.default rejected revision {revision}: ");
    let line = status.out.lines().find(|told| told.starts_with(&line));
    let line = line.unwrap_or_else(|| panic!("{status:?}"));
    for part in ["203.0.113.1_9081", "cannot bind"] {
        assert!(line.contains(part), "{line}");
    }
    let told = world
        .pilot
        .tell(&["proxy-status", "client", "-o", "json"])
        .await
        .json();
    let proxy = &told["pilots"][0]["proxies"][0];
    let types = proxy["types"].as_array().into_iter().flatten();
    let rejections: Vec<_> = types.filter(|kind| !kind["rejection"].is_null()).collect();
    assert_eq!(rejections.len(), 1, "{told}");
    assert_eq!(rejections[0]["type_url"], LISTENER);
    let rejection = &rejections[0]["rejection"];
    assert_eq!(rejection["revision"], revision);
    assert_eq!(
        rejection["resources"],
        serde_json::json!(["203.0.113.1_9081"])
    );
    let message = rejection["message"].as_str().unwrap_or_default();
    assert!(message.contains("cannot bind"), "{message}");
}

async fn a_paused_proxy_is_named(protocol: Protocol) {
    let mut world = World::split("lifecycle", protocol).await;
    world
        .add(Identity::sidecar("other", hosts::MORE_SIDECARS))
        .await;
    world.sidecar.process.pause();
    let revision = put_of("lifecycle", &world, "v2/routes.yaml").await;
    assert_eq!(
        wait(&world.pilot, revision, "1s").await,
        (
            1,
            format!("revision {revision} is live on 1 of 2 proxies; not yet on client.default")
        )
    );
    let status = world.pilot.tell(&["proxy-status"]).await;
    let row = status.row("client.default");
    assert_eq!((row[5], row[6]), ("STALE", "1"), "{status:?}");
    assert_eq!(status.row("other.default")[6], "2", "{status:?}");

    world.sidecar.process.resume();
    assert_eq!(
        wait(&world.pilot, revision, "30s").await,
        (0, format!("revision {revision} is live on 2 of 2 proxies"))
    );
    let answer = world.client().get("reviews:9080", "/").await;
    assert_eq!(answer.backend(), "reviews-v2", "live means live");

    // A revision that is yet to come.
    let told = wait(&world.pilot, revision + 1, "100ms").await;
    assert_eq!(told.0, 1, "{told:?}");
}

async fn any_pilot_answers_for_all(protocol: Protocol) {
    let world = World::split("lifecycle", protocol).await;
    let mut second = world.another_pilot(1);
    second.start().await;
    let (site, pilots) = (&world.site, [second.grpc, world.pilot.grpc]);
    let other = Identity::sidecar("other", hosts::MORE_SIDECARS);
    let mut other = Envoy::new(other, &site.net, &pilots, protocol, site.dir());
    other.start().await;
    let traffic = [&world.sidecar, &other].map(|proxy| {
        let client = proxy.client(HTTP);
        Traffic::start(client, Call::get("reviews:9080", "/"))
    });

    // The same answers from both.
    same_status(&world.pilot, &second, ["pilot", "pilot-1"]).await;
    let revision = put_of("lifecycle", &world, "v2/routes.yaml").await;
    for pilot in [&world.pilot, &second] {
        assert_eq!(
            wait(pilot, revision, "30s").await,
            (0, format!("revision {revision} is live on 2 of 2 proxies"))
        );
    }
    for proxy in [&world.sidecar, &other] {
        let answer = proxy.client(HTTP).get("reviews:9080", "/").await;
        assert_eq!(answer.backend(), "reviews-v2", "live means live");
    }
    for kind in ["cluster", "endpoint", "listener", "route"] {
        let config = ["proxy-config", kind, "other.default", "-o", "json"];
        let (here, there) = (world.pilot.tell(&config).await, second.tell(&config).await);
        assert_eq!((here.code, &here.out), (0, &there.out), "{kind}");
    }

    // One that does not answer is named: nobody knows how its proxies are.
    second.process.pause();
    // At once: it is known for as long as its registration holds.
    let (told, status) = tokio::join!(
        wait(&world.pilot, revision, "1s"),
        world.pilot.tell(&["proxy-status"])
    );
    let said = format!("revision {revision} is live on 1 of 1 proxies; unknown at pilot-1");
    assert_eq!(told, (1, said));
    assert_eq!(status.code, 1);
    let said = "Pilot pilot-1 is registered and did not answer";
    assert!(status.out.contains(said), "{status:?}");
    second.process.resume();
    same_status(&world.pilot, &second, ["pilot", "pilot-1"]).await;

    // One that dies is survived: its proxies go to the other.
    second.process.kill();
    eventually("the proxy has changed its Pilot", async || {
        let status = world.pilot.tell(&["proxy-status"]).await;
        if status.out.contains("other.default") && status.row("other.default").contains(&"pilot") {
            Ok(())
        } else {
            Err(status.out)
        }
    })
    .await;
    let revision = put_of("lifecycle", &world, "v3/routes.yaml").await;
    world.pilot.live(revision, 2).await;
    for proxy in [&world.sidecar, &other] {
        let answer = proxy.client(HTTP).get("reviews:9080", "/").await;
        assert_eq!(answer.backend(), "reviews-v3", "live means live");
    }
    for traffic in traffic {
        traffic.without_failure();
    }
}

/// Waits until two Pilots tell the same, both proxies with everything and each at its own Pilot.
async fn same_status(one: &Pilot, two: &Pilot, pilots: [&str; 2]) {
    eventually("both Pilots tell the same", async || {
        let told = [
            one.tell(&["proxy-status"]).await,
            two.tell(&["proxy-status"]).await,
        ];
        let [first, second] = &told;
        let whole = first == second && first.code == 0 && first.out.lines().count() == 3;
        let at = |name: &str, pilot: &str| {
            let row = first.row(name);
            row[2..6] == ["SYNCED"; 4] && row[7] == pilot
        };
        if whole && at("client.default", pilots[0]) && at("other.default", pilots[1]) {
            Ok(())
        } else {
            Err(format!("{told:#?}"))
        }
    })
    .await;
}

/// Puts an edit of the suite about refused listeners in place; the revision when Pilot has it.
async fn put(world: &World, edit: &str) -> u64 {
    put_of("refused-listener", world, edit).await
}

async fn put_of(suite: &str, world: &World, edit: &str) -> u64 {
    let before = world.pilot.revision().await;
    let text = e2e::site::suite_file(suite, &format!("edits/{edit}"));
    let name = edit.rsplit('/').next().unwrap_or(edit);
    world.site.put(name, &text);
    world.pilot.newer_than(before).await
}

/// `flotilla wait`: its exit code and what it says.
async fn wait(pilot: &Pilot, revision: u64, timeout: &str) -> (i32, String) {
    let revision = revision.to_string();
    let flags = ["--revision", &revision, "--for=live", "--timeout", timeout];
    let told = pilot.tell(&[&["wait"], &flags[..]].concat()).await;
    (told.code, told.out.trim().to_owned())
}
