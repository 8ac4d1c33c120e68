//! The plane comes up in any order.

use std::net::SocketAddr;

use e2e::pods::{Pods, Workload};
use e2e::{Call, Client, Protocol};

use super::CONFIG;

/// What a service says it waits for.
async fn waits_for(monitoring: SocketAddr) -> String {
    e2e::wait::eventually("it says that it is not ready", async || {
        let answer = Client::to(monitoring)
            .send(&Call::get("localhost", "/ready"))
            .await;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.status.as_u16() {
            503 => Ok(answer.text()),
            other => Err(format!("{other}: {}", answer.text())),
        }
    })
    .await
}

/// Those who depend on others first.
fn start_services(pods: &mut Pods) {
    for pod in ["a", "b"] {
        pods.get_mut(pod).proxy().process.start();
    }
    pods.pilot.process.start();
    let galley = pods.plane_mut().galley.as_mut().expect("a Galley");
    galley.process.start();
}

/// Everything is ready, and a request passes.
async fn up(pods: &mut Pods) {
    let galley = pods.plane_mut().galley.as_mut().expect("a Galley");
    galley.ready().await;
    pods.pilot.ready().await;
    for pod in ["a", "b"] {
        pods.get_mut(pod).start_proxy().await;
    }
    pods.live().await;
    assert_eq!(pods.get("a").get("http://b/").await.backend(), "b");
}

#[tokio::test]
async fn the_plane_comes_up_in_reverse_order() {
    let mut pods = Pods::new(Protocol::Delta)
        .pod(Workload::new("a"))
        .pod(Workload::new("b").http(80, 8080))
        .config(CONFIG)
        .galley()
        .prepare()
        .await;

    // For the first time: agents and services wait for Citadel, and for who lets them in.
    start_services(&mut pods);
    let galley = pods.plane().galley.as_ref().expect("a Galley");
    for monitoring in [pods.pilot.monitoring, galley.monitoring] {
        let said = waits_for(monitoring).await;
        assert!(said.contains("a certificate from Citadel"), "{said}");
    }
    pods.start_authority().await;
    up(&mut pods).await;

    // After everything has died, with what each has kept; NATS comes last.
    for pod in ["a", "b"] {
        pods.get_mut(pod).proxy().process.kill();
    }
    pods.pilot.process.kill();
    let plane = pods.plane_mut();
    plane.galley.as_mut().expect("a Galley").process.kill();
    plane.citadel.process.kill();
    plane.nats.as_mut().expect("a NATS").kill();
    start_services(&mut pods);
    let plane = pods.plane_mut();
    plane.citadel.process.start();
    plane.nats.as_mut().expect("a NATS").launch();
    plane.citadel.ready().await;
    up(&mut pods).await;
}
