//! Parts of the plane are away, then back.

use e2e::Protocol;
use e2e::pods::{Pods, Workload};
use testkit::postgres::Postgres;

use super::{
    CONFIG, REFUSED, answered, id, renewed, renewing, said, says_again, sequence, traffic,
};

#[tokio::test]
async fn certificates_outlive_what_is_away_and_are_renewed_when_it_is_back() {
    let mut postgres = tokio::task::spawn_blocking(Postgres::start)
        .await
        .expect("PostgreSQL");
    let url = postgres.database("citadel");
    let mut pods = Pods::new(Protocol::StateOfTheWorld)
        .pod(renewing(Workload::new("a")))
        .pod(renewing(Workload::new("b").http(80, 8080).http(81, 8081)))
        .config(CONFIG)
        .nats()
        .citadel_flags(&["--store", &url])
        .start()
        .await;
    let traffic = traffic(&pods, "a", 100);
    let newest = renewed(&pods.plane().citadel, "a", 0).await;

    // Citadel.
    pods.plane_mut().citadel.process.kill();
    says_again(&pods.get_mut("a").proxy().process, REFUSED).await;
    pods.plane_mut().citadel.start().await;
    let newest = renewed(&pods.plane().citadel, "a", sequence(&newest)).await;

    // Its database.
    postgres.kill();
    let citadel = &mut pods.plane_mut().citadel.process;
    says_again(citadel, "the journal cannot be read").await;
    citadel.check_running();
    let restart = tokio::task::spawn_blocking(move || {
        postgres.restart();
        postgres
    });
    let _postgres = restart.await.expect("PostgreSQL");
    let newest = renewed(&pods.plane().citadel, "a", sequence(&newest)).await;

    // NATS: nothing is missed but news from Pilot about whom proxies trust.
    let nats = pods.plane_mut().nats.as_mut().expect("a NATS");
    nats.kill();
    let plane = pods.plane();
    let newest = renewed(&plane.citadel, "a", sequence(&newest)).await;
    renewed(&plane.citadel, "a", sequence(&newest)).await;
    let nobody = id("nobody");
    let revoke = [
        "revoke",
        "--spiffe-id",
        &nobody,
        "--reason",
        "another bundle",
    ];
    plane.citadel.told(&revoke).await;
    let arrived = |rotation: &serde_json::Value| {
        (
            rotation["acknowledged"].as_u64(),
            rotation["total"].as_u64(),
        )
    };
    let unknown = plane.citadel.told(&["rotate", "status"]).await;
    assert_eq!(arrived(&unknown), (Some(0), Some(0)));
    let nats = pods.plane_mut().nats.as_mut().expect("a NATS");
    nats.launch();
    let what = "both proxies have the newest bundle";
    said(&pods.plane().citadel, what, &["rotate", "status"], |now| {
        arrived(now) == (Some(2), Some(2))
    })
    .await;
    answered(traffic);
}
