//! Which server a request reaches.

use e2e::{Call, Protocol, Traffic, World};

e2e::both_protocols! {
    routes_by_header_and_user,
    edits_fail_no_request,
}

async fn routes_by_header_and_user(protocol: Protocol) {
    let world = World::of("request-routing", protocol).await;
    world.expect(&world.client(), "requests.txt").await;
    let answer = world.client().http2().get("reviews:9080", "/exact").await;
    assert_eq!(answer.backend(), "reviews-v3");
}

async fn edits_fail_no_request(protocol: Protocol) {
    let world = World::of("request-routing", protocol).await;
    let traffic = Traffic::start(world.client(), Call::get("reviews:9080", "/"));
    traffic.more(20).await;
    world.edit("routes.yaml").await;
    let before = traffic.so_far();
    assert_eq!(
        world.client().get("reviews:9080", "/").await.backend(),
        "reviews-v3",
        "live means live"
    );
    traffic.more(20).await;
    let after = traffic.without_failure();
    let of = |tally: &e2e::traffic::Tally, backend: &str| {
        tally.answers.get(backend).copied().unwrap_or_default()
    };
    // The request that was under way may still have gone to the old server.
    assert!(of(&after, "200 reviews-v1") <= of(&before, "200 reviews-v1") + 1);
    assert!(of(&after, "200 reviews-v3") >= 18);
}
