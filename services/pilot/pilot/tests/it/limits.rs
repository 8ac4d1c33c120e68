//! Clients that do not keep up, and clients in numbers.

use crate::ads::{Ads, CDS, EDS, LDS, RDS};
use crate::rig::{Folder, Pilot, entry};

/// A client that asks and never reads holds one snapshot, whatever happens; others get theirs, and memory does not grow.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_costs_a_snapshot() {
    let folder = Folder::of(&[]);
    // A megabyte of clusters: more than any window on the way takes.
    let many = |address: &str| -> String {
        let one = |n| entry(&format!("svc-{n}"), 80, address);
        (0..800).map(one).collect::<Vec<_>>().join("---")
    };
    folder.write("many", &many("10.1.0.1"));
    let pilot = Pilot::of(&folder).await;
    let mut deaf = Vec::new();
    for n in 0..4 {
        let mut ads = match n % 2 {
            0 => Ads::sotw(&pilot, &format!("deaf-{n}.default")).await,
            _ => Ads::delta(&pilot, &format!("deaf-{n}.default")).await,
        };
        for type_url in [CDS, EDS, LDS] {
            ads.subscribe(type_url, &[]).await;
        }
        ads.subscribe(RDS, &["80"]).await;
        deaf.push(ads);
    }
    let mut good = Ads::delta(&pilot, "good.default").await;
    good.settle().await;
    let mut memory = Vec::new();
    for round in 0..24 {
        // Every cluster differs each time.
        let rule = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: all, namespace: default}}\nspec: {{host: \"*.example.com\", trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {}}}}}}}}}\n",
            round + 10
        );
        pilot.after(|| folder.write("rule", &rule)).await;
        assert!(good.take(CDS).await.resources.len() >= 800);
        assert_eq!(good.take(EDS).await.resources.len(), 800);
        memory.push(pilot.memory());
    }
    good.nothing().await;
    let (early, late) = (memory[5], memory[23]);
    assert!(late < early + (24 << 20), "{memory:?}");
    let status = pilot.proxies().await;
    assert_eq!(status.len(), 5);
    drop(deaf);
    pilot
        .until("those who left are gone", async || {
            pilot.proxies().await.len() == 1
        })
        .await;
}

/// A crowd that connects at once is served, each member with the same bytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_is_served() {
    let folder = Folder::of(&[("a", 80), ("b", 80)]);
    let pilot = Pilot::of(&folder).await;
    let address = pilot.grpc;
    let clients = (0..100).map(|n| {
        tokio::spawn(async move {
            let node = crate::ads::node(&format!("p-{n}.default"));
            let protocol = [crate::ads::Protocol::Sotw, crate::ads::Protocol::Delta][n % 2];
            let mut ads = Ads::open(address, protocol, Some(node)).await;
            let all = ads.settle().await;
            (ads, all)
        })
    });
    let mut streams = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        streams.push(client.await.unwrap());
    }
    let first = streams[0].1.cds.resources.clone();
    assert!(streams.iter().all(|(_, all)| all.cds.resources == first));
    assert_eq!(pilot.metric("pilot_xds").await, 100.0);
    pilot
        .until("all are live", async || {
            crate::rig::json(pilot.http, "/v1/revisions/1").await["live"] == 100
        })
        .await;
}
