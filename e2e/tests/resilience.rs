//! Slow and failing servers, real and pretended.

use std::time::Duration;

use e2e::wait::eventually;
use e2e::{Call, Protocol, World};
use tokio::time::Instant;

e2e::both_protocols! {
    injects_delays_and_aborts,
    times_out,
    retries,
    breaks_the_circuit,
    ejects_outliers,
}

async fn injects_delays_and_aborts(protocol: Protocol) {
    let world = World::of("fault-injection", protocol).await;
    let (client, server) = (world.client(), world.site.server("ratings-v1"));
    let of = |user: &str| Call::get("ratings:9080", "/").header("end-user", user);

    let began = Instant::now();
    assert_eq!(client.must(&of("slow")).await.backend(), "ratings-v1");
    // Timers of two processes need not agree on the last millisecond.
    assert!(
        began.elapsed() >= Duration::from_millis(950),
        "{:?}",
        began.elapsed()
    );

    server.forget();
    assert_eq!(client.must(&of("broken")).await.status, 555);
    assert_eq!(server.count(), 0);

    let answers = client.burst(&of("unlucky"), 400, 8).await;
    let aborted = answers.iter().filter(|answer| answer.status == 503).count();
    assert!((140..=260).contains(&aborted), "{aborted} of 400");
    assert_eq!(server.count(), 400 - aborted);

    for answer in client.burst(&of("anybody"), 20, 1).await {
        assert_eq!(answer.status, 200);
    }
}

async fn times_out(protocol: Protocol) {
    let world = World::of("timeout", protocol).await;
    let (client, server) = (world.client(), world.site.server("ratings-v1"));
    server.dawdle(Duration::from_secs(1));
    assert_eq!(client.get("ratings:9080", "/").await.status, 200);
    server.dawdle(Duration::from_secs(600));
    let answer = client.get("ratings:9080", "/impatient").await;
    assert_eq!(
        (answer.status.as_u16(), &*answer.text()),
        (504, "upstream request timeout")
    );
    assert_eq!(server.count(), 2);
}

async fn retries(protocol: Protocol) {
    let world = World::of("retries", protocol).await;
    let (client, server) = (world.client(), world.site.server("ratings-v1"));
    let ask = async |path: &str| client.get("ratings:9080", path).await.status.as_u16();

    server.fail(2, 503);
    assert_eq!(ask("/thrice").await, 200);
    assert_eq!(server.count(), 3, "two retries were enough");

    server.forget();
    server.answer(503);
    assert_eq!(ask("/thrice").await, 503);
    assert_eq!(server.count(), 4, "three retries and no more");

    server.forget();
    server.answer(503);
    assert_eq!((ask("/never").await, server.count()), (503, 1));
    assert_eq!(
        (ask("/").await, server.count()),
        (503, 2),
        "503 is not retried by default"
    );

    server.forget();
    server.dawdle(Duration::from_secs(600));
    assert_eq!(ask("/patience").await, 504);
    assert_eq!(server.count(), 3, "each try has its own time");

    for answer in client
        .burst(&Call::get("half.shop.test:9080", "/"), 30, 1)
        .await
    {
        assert_eq!(
            answer.backend(),
            "reviews-v1",
            "a refused connection is tried elsewhere"
        );
    }
}

async fn breaks_the_circuit(protocol: Protocol) {
    let world = World::of("circuit-breaking", protocol).await;
    let (client, server) = (world.client(), world.site.server("ratings-v1"));
    let call = Call::get("ratings:9080", "/");
    for answer in client.burst(&call, 10, 1).await {
        assert_eq!(answer.status, 200);
    }
    server.dawdle(Duration::from_secs(1));
    let answers = client.burst(&call, 10, 10).await;
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    let refused = answers.iter().filter(|answer| answer.status == 503).count();
    assert_eq!(passed + refused, 10);
    // At any time one is served and one waits, for the other or for the connection to open; the rest is refused.
    assert!(
        passed >= 1 && refused >= 1,
        "{passed} passed, {refused} refused"
    );
    assert_eq!(server.count(), 10 + passed, "refused requests never left");
}

async fn ejects_outliers(protocol: Protocol) {
    let world = World::of("outlier-ejection", protocol).await;
    let (client, bad) = (world.client(), world.site.server("reviews-v2"));
    bad.answer(503);
    let call = Call::get("reviews:9080", "/");
    eventually("the bad server is left out", async || {
        let answers = client.burst(&call, 12, 1).await;
        let failed = answers.iter().filter(|answer| answer.status != 200).count();
        if failed == 0 {
            Ok(())
        } else {
            Err(format!("{failed} of 12"))
        }
    })
    .await;
    let before = bad.count();
    let answers = client.burst(&call, 60, 4).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(bad.count(), before);
    for good in ["reviews-v1", "reviews-v3"] {
        assert!(
            answers.iter().any(|answer| answer.backend() == good),
            "{good}"
        );
    }
}
