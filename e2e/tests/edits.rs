//! Configuration that changes under traffic, for better and for worse.

use e2e::traffic::Tally;
use e2e::wait::eventually;
use e2e::{Call, Client, Protocol, Traffic, World};

e2e::both_protocols! {
    edits_fail_no_request,
    edits_travel_through_galley,
    listener_edits_fail_no_request,
    edited_clusters_are_in_use_once_live,
    endpoints_move_without_failure,
    a_removed_subset_hurts_only_its_route,
    bad_yaml_beside_good,
    bad_yaml_beside_good_in_galley,
}

async fn edits_fail_no_request(protocol: Protocol) {
    let world = World::of("request-routing", protocol).await;
    let traffic = Traffic::start(world.client(), Call::get("reviews:9080", "/"));
    traffic.more(20).await;
    world.edit("routes.yaml").await;
    let before = traffic.so_far();
    let answer = world.client().get("reviews:9080", "/").await;
    assert_eq!(answer.backend(), "reviews-v3", "live means live");
    traffic.more(20).await;
    let after = traffic.without_failure();
    let of = |tally: &Tally, line: &str| tally.answers.get(line).copied().unwrap_or_default();
    // The request that was under way may still have gone to the old server.
    assert!(of(&after, "200 reviews-v1") <= of(&before, "200 reviews-v1") + 1);
    assert!(of(&after, "200 reviews-v3") >= 18, "{after:?}");
}

async fn listener_edits_fail_no_request(protocol: Protocol) {
    let world = World::of("request-routing", protocol).await;
    let traffic = Traffic::start(world.client(), Call::get("reviews:9080", "/"));
    traffic.more(10).await;
    let changes = async || {
        let modified = world.sidecar.stat("listener_manager.listener_modified");
        modified.await
            + world
                .sidecar
                .stat("listener_manager.listener_in_place_updated")
                .await
    };
    let before = changes().await;
    world
        .change(|site| site.set_mesh_config("accessLogFile: /dev/stdout\n"))
        .await;
    assert!(changes().await > before, "no listener was replaced");
    traffic.more(20).await;
    eventually("requests are logged", async || {
        let log = world.sidecar.process.log();
        if log.contains("GET / HTTP/1.1") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    traffic.without_failure();
}

/// Envoy warms a cluster that is edited, and waits for its endpoints again although they are the same: without them for ever.
async fn edited_clusters_are_in_use_once_live(protocol: Protocol) {
    let world = World::of("request-routing", protocol).await;
    let traffic = Traffic::start(world.client(), Call::get("reviews:9080", "/"));
    traffic.more(10).await;
    let in_use = async |timeout: &str| {
        let warming = world.sidecar.stat("cluster_manager.warming_clusters").await;
        let dump = world
            .sidecar
            .admin("/config_dump?resource=dynamic_active_clusters");
        let dump: serde_json::Value =
            serde_json::from_str(&dump.await.expect("Envoy answers")).expect("JSON");
        let clusters = dump["configs"].as_array().into_iter().flatten();
        let edited = clusters
            .filter(|one| one["cluster"]["connect_timeout"] == timeout)
            .filter(|one| one["cluster"]["type"] == "EDS")
            .count();
        (warming, edited)
    };
    // One, then all.
    let rule = "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: slow, namespace: default}, \
                spec: {host: ratings, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 6s}}}}}";
    world.change(|site| site.put("slow.yaml", rule)).await;
    let (warming, edited) = in_use("6s").await;
    assert_eq!(warming, 0);
    assert!(edited >= 1, "{edited}");
    world
        .change(|site| site.set_mesh_config("connectTimeout: 7s\n"))
        .await;
    let (warming, edited) = in_use("7s").await;
    assert_eq!(warming, 0);
    assert!(edited >= 3, "{edited}");
    traffic.more(10).await;
    traffic.without_failure();
}

async fn endpoints_move_without_failure(protocol: Protocol) {
    let world = World::of("endpoint-changes", protocol).await;
    let client = world.client();
    let traffic = Traffic::start(client.clone(), Call::get("stock:9080", "/"));
    traffic.more(10).await;
    world.edit("moved/endpoints.yaml").await;
    assert_eq!(
        client.get("stock:9080", "/").await.backend(),
        "reviews-v2",
        "live means live"
    );
    traffic.more(10).await;
    let tally = traffic.without_failure();
    assert_eq!(tally.answers.len(), 2, "{tally:?}");

    // None that is ready, then one again.
    world.edit("none/endpoints.yaml").await;
    let answer = client.get("stock:9080", "/").await;
    assert_eq!(
        (answer.status.as_u16(), &*answer.text()),
        (503, "no healthy upstream")
    );
    world.edit("moved/endpoints.yaml").await;
    assert_eq!(client.get("stock:9080", "/").await.backend(), "reviews-v2");
}

async fn edits_travel_through_galley(protocol: Protocol) {
    let world = World::split("request-routing", protocol).await;
    world.expect(&world.client(), "requests.txt").await;
    let revision = world.edit("routes.yaml").await;
    let answer = world.client().get("reviews:9080", "/").await;
    assert_eq!(answer.backend(), "reviews-v3");
    assert_eq!(revision, 2, "Galley's number, as a change set each");
}

async fn a_removed_subset_hurts_only_its_route(protocol: Protocol) {
    let world = World::of("subset-removed", protocol).await;
    let client = world.client();
    assert_eq!(
        client.get("reviews:9080", "/two").await.backend(),
        "reviews-v2"
    );
    let others = Traffic::start(client.clone(), Call::get("reviews:9080", "/"));
    others.more(10).await;
    world.edit("subsets.yaml").await;
    assert_eq!(client.get("reviews:9080", "/two").await.status, 503);
    others.more(10).await;
    let whole = std::fs::read_to_string(e2e::process::workspace().join("e2e/mesh/subsets.yaml"));
    let whole = whole.expect("the common mesh");
    world.change(|site| site.put("subsets.yaml", &whole)).await;
    assert_eq!(
        client.get("reviews:9080", "/two").await.backend(),
        "reviews-v2"
    );
    others.more(10).await;
    let tally = others.without_failure();
    assert_eq!(tally.answers.keys().collect::<Vec<_>>(), ["200 reviews-v1"]);
}

async fn bad_yaml_beside_good(protocol: Protocol) {
    let world = World::of("bad-yaml", protocol).await;
    good_is_applied_and_bad_is_not(&world).await;
    eventually("the refusal is told", async || {
        let log = world.pilot.process.log();
        if log.contains("spec.http[0].timeout") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
}

async fn bad_yaml_beside_good_in_galley(protocol: Protocol) {
    let mut world = World::split("bad-yaml", protocol).await;
    let findings = Client::to(world.galley().http);
    assert!(
        !findings
            .get("localhost", "/v1/findings")
            .await
            .text()
            .contains("routes.yaml")
    );
    good_is_applied_and_bad_is_not(&world).await;
    let told = findings.get("localhost", "/v1/findings").await.text();
    assert!(told.contains("routes.yaml"), "{told}");
    world.edit("healed/routes.yaml").await;
    let answer = world.client().get("reviews:9080", "/").await;
    assert_eq!(answer.backend(), "reviews-v2", "the file is whole again");
    eventually("nothing is left to tell", async || {
        let told = findings.get("localhost", "/v1/findings").await.text();
        if told.contains("routes.yaml") {
            Err(told)
        } else {
            Ok(())
        }
    })
    .await;
    assert_eq!(world.client().get("ratings:9080", "/").await.status, 200);
}

async fn good_is_applied_and_bad_is_not(world: &World) {
    let client = world.client();
    let reviews = async || client.get("reviews:9080", "/").await.backend();
    assert_eq!(reviews().await, "reviews-v2");

    // One document of the file is wrong, the other is good.
    world.edit("routes.yaml").await;
    assert_eq!(client.get("ratings:9080", "/").await.status, 418);
    assert_eq!(reviews().await, "reviews-v2", "the last good version");

    // Not YAML at all; what comes after it shows that it has been read.
    let broken = "apiVersion: networking.istio.io/v1\nkind: [VirtualService\n";
    world.site.put("routes.yaml", broken);
    world.edit("subsets.yaml").await;
    assert_eq!(reviews().await, "reviews-v2", "the last good version");
    assert_eq!(client.get("ratings:9080", "/").await.status, 418);
}
