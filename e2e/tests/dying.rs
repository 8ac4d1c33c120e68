//! Galley, NATS and Pilot are killed and come back, while requests go on.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use e2e::site::{HTTP, hosts};
use e2e::wait::eventually;
use e2e::{Call, Identity, Pilot, Protocol, Traffic, World};
use serde_json::Value;

e2e::both_protocols! {
    each_dies_and_comes_back_without_a_failed_request,
    all_die_at_once_without_a_failed_request,
    pilot_serves_its_snapshot_while_galley_is_away,
    a_restarted_galley_sends_nothing_twice,
}

async fn each_dies_and_comes_back_without_a_failed_request(protocol: Protocol) {
    let mut world = World::split("lifecycle", protocol).await;
    let traffic = Traffic::start(world.client(), Call::get("reviews:9080", "/"));
    traffic.more(20).await;

    // Galley: an edit of meanwhile is live once it is back.
    let before = world.pilot.revision().await;
    world.galley().process.kill();
    away(&world.pilot).await;
    traffic.more(20).await;
    edit_while_away(&mut world, "v2/routes.yaml", before, |world| {
        world.galley().process.start();
    })
    .await;
    served_by(&world, "reviews-v2").await;
    world.edit("v3/routes.yaml").await;
    served_by(&world, "reviews-v3").await;

    // NATS: edits go live without it, and after it.
    world.nats().kill();
    traffic.more(20).await;
    world.edit("v2/routes.yaml").await;
    served_by(&world, "reviews-v2").await;
    world.nats().launch();
    world.edit("v3/routes.yaml").await;
    served_by(&world, "reviews-v3").await;

    // Pilot.
    let before = world.pilot.revision().await;
    world.pilot.process.kill();
    let cut_short = "cluster.xds-grpc.upstream_cx_destroy_remote_with_active_rq";
    eventually("the proxy has seen it die", async || {
        match world.sidecar.stat(cut_short).await {
            1 => Ok(()),
            count => Err(format!("{count} streams were cut short")),
        }
    })
    .await;
    traffic.more(20).await;
    edit_while_away(&mut world, "v2/routes.yaml", before, |world| {
        world.pilot.process.start();
    })
    .await;
    served_by(&world, "reviews-v2").await;
    world.edit("v3/routes.yaml").await;
    served_by(&world, "reviews-v3").await;

    traffic.more(20).await;
    let tally = traffic.without_failure();
    assert_eq!(
        tally.answers.keys().collect::<Vec<_>>(),
        ["200 reviews-v1", "200 reviews-v2", "200 reviews-v3"]
    );
}

async fn all_die_at_once_without_a_failed_request(protocol: Protocol) {
    let mut world = World::split("lifecycle", protocol).await;
    let traffic = Traffic::start(world.client(), Call::get("reviews:9080", "/"));
    traffic.more(10).await;
    world.pilot.process.kill();
    world.galley().process.kill();
    world.nats().kill();
    traffic.more(20).await;
    edit_while_away(&mut world, "v2/routes.yaml", 1, |world| {
        world.pilot.process.start();
        world.galley().process.start();
        world.nats().launch();
    })
    .await;
    served_by(&world, "reviews-v2").await;
    traffic.more(10).await;
    traffic.without_failure();
}

async fn pilot_serves_its_snapshot_while_galley_is_away(protocol: Protocol) {
    let mut world = World::split("lifecycle", protocol).await;
    let kept = world.site.dir().join("pilot-data/revision.pb");
    eventually("the revision is on disk", async || {
        std::fs::metadata(&kept).map(|_| ())
    })
    .await;
    world.galley().process.kill();
    world.pilot.process.kill();
    // As if both had been away for an hour.
    let hour = Duration::from_secs(3600);
    let file = std::fs::File::options().append(true).open(&kept);
    let now = std::fs::metadata(world.site.mesh_config()).and_then(|meta| meta.modified());
    let then = now.map(|now: SystemTime| now - hour);
    let dated = file.and_then(|file| file.set_modified(then?));
    dated.expect("the file's time is set");

    world.pilot.start().await;
    world.sidecar.process.kill();
    world.sidecar.start().await;
    world.live().await;
    world.expect(&world.client(), "requests.txt").await;
    let fresh = Identity::sidecar("other", hosts::MORE_SIDECARS);
    let fresh = world.add(fresh).await.client(HTTP);
    world.expect(&fresh, "requests.txt").await;

    // It says how old that is, to machines and to people.
    let ready = ready(&world.pilot).await;
    let note = ready["degraded"]["galley"].as_str().unwrap_or_default();
    assert!(
        note.starts_with("Galley is away; serving revision 1 as it was 1h"),
        "{ready}"
    );
    let all = world.pilot.ask("/v1/proxies").await;
    let pilot = &all["pilots"][0];
    assert_eq!(pilot["galley_connected"], false, "{pilot}");
    let stale = pilot["stale_seconds"].as_u64().unwrap_or_default();
    assert!((3600..4000).contains(&stale), "{pilot}");
    let told = world.pilot.tell(&["proxy-status"]).await;
    assert!(
        told.out
            .contains("Pilot pilot has no stream from Galley and serves revision 1 as it was 1h"),
        "{told:?}"
    );

    // Galley is back: what was right is not sent again.
    let before = updates(&world).await;
    world.galley().start().await;
    connected(&world.pilot).await;
    assert_eq!(self::ready(&world.pilot).await["degraded"], Value::Null);
    only_routes_after_an_edit(&world, before).await;
}

async fn a_restarted_galley_sends_nothing_twice(protocol: Protocol) {
    let mut world = World::split("lifecycle", protocol).await;
    let (before, received) = (updates(&world).await, received(&world.pilot).await);
    world.galley().process.kill();
    away(&world.pilot).await;
    world.galley().start().await;
    connected(&world.pilot).await;
    assert_eq!(world.pilot.revision().await, 1);
    assert_eq!(self::received(&world.pilot).await, received);
    only_routes_after_an_edit(&world, before).await;
}

/// Counters of updates by what they are of.
type Updates = BTreeMap<String, u64>;

/// An edit of routes goes live, and nothing else has been sent since `before`, or comes with it.
async fn only_routes_after_an_edit(world: &World, before: Updates) {
    assert_eq!(updates(world).await, before);
    let revision = world.edit("v2/routes.yaml").await;
    assert_eq!(revision, 2);
    served_by(world, "reviews-v2").await;
    let after = updates(world).await.into_iter();
    let news: Vec<_> = after
        .filter(|(name, count)| before.get(name) != Some(count))
        .collect();
    let [(name, count)] = &news[..] else {
        panic!("more than routes: {news:?}");
    };
    assert!(name.contains(".rds."), "{name}");
    assert_eq!(*count, before[name] + 1, "{name}");
}

/// Every update that the client's proxy has taken.
async fn updates(world: &World) -> Updates {
    let page = world.sidecar.admin("/stats?filter=update_success").await;
    let page = page.expect("it answers");
    let counts = page.lines().filter_map(|line| line.rsplit_once(": "));
    let counts = counts.filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
    let counts: Updates = counts.filter(|(_, count)| *count > 0).collect();
    for kind in [
        "cluster_manager.cds.",
        "listener_manager.lds.",
        ".rds.",
        "cluster.outbound",
    ] {
        let known = counts.keys().any(|name| name.contains(kind));
        assert!(known, "nothing of {kind}: {counts:?}");
    }
    counts
}

/// What a Pilot counts of what it was sent by Galley.
async fn received(pilot: &Pilot) -> Vec<String> {
    let client = e2e::Client::to(pilot.monitoring);
    let metrics = client.get("localhost", "/metrics").await.text();
    let lines = metrics.lines();
    let lines: Vec<String> = lines
        .filter(|line| line.starts_with("pilot_inbound_updates{"))
        .map(str::to_owned)
        .collect();
    assert!(!lines.is_empty(), "{metrics}");
    lines
}

/// Edits a file while something is away, lets it come back, and waits until the edit is live.
async fn edit_while_away(
    world: &mut World,
    edit: &str,
    before: u64,
    back: impl FnOnce(&mut World),
) {
    let text = e2e::site::suite_file("lifecycle", &format!("edits/{edit}"));
    world.site.put("routes.yaml", &text);
    back(world);
    world.galley().ready().await;
    world.pilot.ready().await;
    let revision = world.pilot.newer_than(before).await;
    world.pilot.live(revision, 1).await;
}

/// Requests are answered by this server.
async fn served_by(world: &World, backend: &str) {
    let answer = world.client().get("reviews:9080", "/").await;
    assert_eq!(answer.backend(), backend, "live means live");
}

/// Waits until a Pilot has noticed that Galley is gone.
async fn away(pilot: &Pilot) {
    link(pilot, false).await;
}

/// Waits until a Pilot has heard Galley again.
async fn connected(pilot: &Pilot) {
    link(pilot, true).await;
}

async fn link(pilot: &Pilot, up: bool) {
    eventually("Pilot and Galley", async || {
        let all = pilot.api("/v1/proxies").await?;
        if all["pilots"][0]["galley_connected"] == up {
            Ok(())
        } else {
            Err(all.to_string())
        }
    })
    .await;
}

/// What `/ready` says of a Pilot that is.
async fn ready(pilot: &Pilot) -> Value {
    let client = e2e::Client::to(pilot.monitoring);
    let answer = client.get("localhost", "/ready").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.seen()
}
