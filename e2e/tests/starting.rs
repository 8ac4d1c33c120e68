//! Galley, Pilot, NATS and proxies start in any order, and end when told to.

use std::time::Duration;

use e2e::site::hosts;
use e2e::wait::eventually;
use e2e::{Call, Client, Identity, Pilot, Protocol, Setup, Source, Traffic, World};
use serde_json::Value;

/// Within what services say they end, and a little for two busy cores.
const BOUND: Duration = Duration::from_secs(15);

/// What is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Nats,
    Galley,
    Pilot,
    Envoy,
}

use Part::{Envoy, Galley, Nats};
use Protocol::{Delta, StateOfTheWorld};

macro_rules! orders {
    ($($name:ident: $protocol:expr, $order:expr;)+) => {
        /// Galley, Pilot and NATS in every order; the proxy at every place.
        mod in_any_order {
            use super::*;
            $(
                #[tokio::test]
                async fn $name() {
                    starts_in_order($protocol, &$order).await;
                }
            )+
        }
    };
}

orders! {
    galley_nats_pilot: StateOfTheWorld, [Envoy, Galley, Nats, Part::Pilot];
    galley_pilot_nats: Delta, [Galley, Part::Pilot, Envoy, Nats];
    nats_galley_pilot: StateOfTheWorld, [Nats, Galley, Part::Pilot, Envoy];
    nats_pilot_galley: Delta, [Nats, Part::Pilot, Envoy, Galley];
    pilot_galley_nats: Delta, [Envoy, Part::Pilot, Galley, Nats];
    pilot_nats_galley: StateOfTheWorld, [Part::Pilot, Envoy, Nats, Galley];
}

async fn starts_in_order(protocol: Protocol, order: &[Part]) {
    let mut world = World::prepare(Setup {
        plane: e2e::Plane::Split,
        ..Setup::of("lifecycle", protocol)
    })
    .await;
    let mut started = Vec::new();
    for part in order {
        match part {
            Part::Nats => world.nats().launch(),
            Part::Galley => {
                world.galley().process.start();
                // It needs nobody.
                world.galley().ready().await;
            }
            Part::Pilot => world.pilot.process.start(),
            Part::Envoy => world.sidecar.process.start(),
        }
        started.push(*part);
        let has = |part| started.contains(&part);
        if has(Part::Pilot) && !has(Part::Galley) {
            waits_for_configuration(&world.pilot).await;
        }
        if has(Part::Galley) && has(Part::Pilot) && has(Part::Envoy) {
            // Whether or not there is news.
            world.up().await;
            world.expect(&world.client(), "requests.txt").await;
        }
    }
    assert_eq!(world.pilot.revision().await, 1);
    let revision = world.edit("v2/routes.yaml").await;
    assert_eq!(revision, 2);
    let answer = world.client().get("reviews:9080", "/").await;
    assert_eq!(answer.backend(), "reviews-v2");

    // A Pilot that comes now learns of the proxy by NATS.
    let mut late = world.another_pilot(1);
    late.start().await;
    eventually("the late Pilot knows the proxy", async || {
        let proxies = late.proxies().await?;
        if proxies.iter().any(|p| p["proxy"] == "client.default") {
            Ok(())
        } else {
            Err(format!("{proxies:?}"))
        }
    })
    .await;
}

/// It is alive, not ready, and says what it waits for.
async fn waits_for_configuration(pilot: &Pilot) {
    let client = Client::to(pilot.monitoring);
    let call = Call::get("localhost", "/ready");
    let answer = eventually("Pilot answers", async || client.send(&call).await).await;
    let report: Value = answer.seen();
    assert_eq!(answer.status, 503, "{report}");
    assert_eq!(
        report["waiting"]["configuration"], "the first revision",
        "{report}"
    );
}

e2e::both_protocols! { ends_when_told_to }

async fn ends_when_told_to(protocol: Protocol) {
    let mut world = World::split("lifecycle", protocol).await;
    let traffic = Traffic::start(world.client(), Call::get("reviews:9080", "/"));
    traffic.more(10).await;

    // Its streams end with a status, before the connection does.
    let ended = world.pilot.process.terminate(BOUND).await;
    assert_eq!(ended.code(), Some(0));
    let cut_short = "cluster.xds-grpc.upstream_cx_destroy_remote_with_active_rq";
    eventually("the proxy has seen it go", async || {
        match world.sidecar.stat("control_plane.connected_state").await {
            0 => Ok(()),
            _ => Err("it is connected"),
        }
    })
    .await;
    assert_eq!(world.sidecar.stat(cut_short).await, 0);

    let ended = world.galley().process.terminate(BOUND).await;
    assert_eq!(ended.code(), Some(0));
    traffic.more(10).await;
    traffic.without_failure();

    // The same before anything else is there: nobody to answer, nothing to serve.
    world.nats().kill();
    world.pilot.process.start();
    waits_or_serves(&world.pilot).await;
    let ended = world.pilot.process.terminate(BOUND).await;
    assert_eq!(ended.code(), Some(0));
    world.galley().start().await;
    let ended = world.galley().process.terminate(BOUND).await;
    assert_eq!(ended.code(), Some(0));
}

async fn waits_or_serves(pilot: &Pilot) {
    let client = Client::to(pilot.monitoring);
    let call = Call::get("localhost", "/healthz");
    eventually("Pilot answers", async || client.send(&call).await).await;
}

/// A port that somebody else has is an error that names the flag and the port, at once.
#[tokio::test]
async fn a_taken_port_is_told() {
    let mut world = World::split("lifecycle", Delta).await;
    let site = &world.site;
    let folder = site.dir().join("envoy");
    std::fs::create_dir(&folder).expect("a folder");
    let source = Source::Galley(site.net.at(hosts::GALLEY, 9901));
    let mut pilot = Pilot::new("second-pilot", &site.net, hosts::PILOT, &source, site.dir());
    let source = Source::Envoy(folder);
    let mut folder = Pilot::new("serve-xds", &site.net, hosts::PILOT, &source, site.dir());
    let mut galley = e2e::Galley::new(site);
    for (process, port) in [
        (&mut pilot.process, 15_010),
        (&mut folder.process, 15_010),
        (&mut galley.process, 9901),
    ] {
        process.start();
        let ended = process.ended(BOUND).await;
        let log = process.log();
        assert_eq!(ended.code(), Some(1), "{log}");
        let last = log.lines().last().unwrap_or_default();
        assert!(last.starts_with("flotilla: --grpc-addr 127."), "{last}");
        assert!(
            last.contains(&format!(":{port}: the port is taken by another process")),
            "{last}"
        );
    }
    // Those who have it did not notice.
    world.pilot.process.check_running();
    world
        .add(Identity::sidecar("other", hosts::MORE_SIDECARS))
        .await;
}
