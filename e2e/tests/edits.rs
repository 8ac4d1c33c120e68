//! Configuration that changes under traffic, for better and for worse.

use e2e::traffic::Tally;
use e2e::wait::eventually;
use e2e::{Call, Protocol, Traffic, World};

e2e::both_protocols! {
    edits_fail_no_request,
    edits_travel_through_galley,
    a_removed_subset_hurts_only_its_route,
    bad_yaml_beside_good,
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
    let client = world.client();
    let reviews = async || client.get("reviews:9080", "/").await.backend();
    assert_eq!(reviews().await, "reviews-v2");

    // One document of the file is wrong, the other is good.
    world.edit("routes.yaml").await;
    assert_eq!(client.get("ratings:9080", "/").await.status, 418);
    assert_eq!(reviews().await, "reviews-v2", "the last good version");
    eventually("the refusal is told", async || {
        let log = world.pilot.process.log();
        if log.contains("spec.http[0].timeout") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;

    // Not YAML at all; what comes after it shows that it has been read.
    world.site.put(
        "routes.yaml",
        "apiVersion: networking.istio.io/v1\nkind: [VirtualService\n",
    );
    world.edit("subsets.yaml").await;
    assert_eq!(reviews().await, "reviews-v2", "the last good version");
    assert_eq!(client.get("ratings:9080", "/").await.status, 418);
}
