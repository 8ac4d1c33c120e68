//! Requests that cannot be served: each is told why, and nobody else notices.

use bytes::Bytes;
use tonic::Code;

use crate::ads::{Ads, Ask, CDS, EDS, Protocol, names, node};
use crate::rig::{Folder, Pilot, entry};

/// C-141: who does not introduce itself is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_required_and_must_be_well_formed() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        let mut nobody = Ads::open(pilot.grpc, protocol, None).await;
        nobody.subscribe(CDS, &[]).await;
        let end = nobody.end().await;
        assert_eq!(end.code(), Code::InvalidArgument, "{end}");
        assert!(end.message().contains("node"), "{end}");

        for id in [
            "",
            "p",
            "sidecar~p.default",
            "toaster~1.1.1.1~p.default~d",
            "sidecar~nowhere~p.default~d",
        ] {
            let mut node = node("p.default");
            node.id = id.into();
            let mut ads = Ads::open(pilot.grpc, protocol, Some(node)).await;
            ads.subscribe(CDS, &[]).await;
            let end = ads.end().await;
            assert_eq!(end.code(), Code::InvalidArgument, "{id}: {end}");
            assert!(!end.message().is_empty());
        }
    }
    assert_eq!(
        pilot.metric("flotilla_pilot_refused_streams_total").await,
        12.0
    );
    assert_eq!(pilot.proxies().await.len(), 0);
}

/// C-141: what agents say about their workload before the first request is no request.
#[tokio::test(flavor = "multi_thread")]
async fn health_information_is_not_a_subscription() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::sotw(&pilot, "p.default").await;
    let kept = ads.node.take();
    let health = || Ask {
        type_url: "type.googleapis.com/istio.v1.HealthInformation".into(),
        ..Ask::default()
    };
    ads.send(health()).await;
    ads.node = kept;
    ads.settle().await;
    ads.send(health()).await;
    ads.nothing().await;
    assert_eq!(
        pilot
            .metric("flotilla_pilot_unknown_type_requests_total")
            .await,
        0.0
    );
}

/// A type that is not served is answered with nothing, and the stream goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_type_is_no_reason_to_end() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        let mut ads = Ads::open(pilot.grpc, protocol, Some(node("p.default"))).await;
        for type_url in ["type.googleapis.com/envoy.Nothing", ""] {
            ads.send(Ask {
                type_url: type_url.into(),
                names: names(&["x"]),
                ..Ask::default()
            })
            .await;
        }
        ads.settle().await;
        ads.nothing().await;
    }
    assert_eq!(
        pilot
            .metric("flotilla_pilot_unknown_type_requests_total")
            .await,
        4.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_own_stream_only() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut good = Ads::sotw(&pilot, "good.default").await;
    good.settle().await;
    let both: [&'static [u8]; 3] = [b"\xff\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", b"<html>"];
    // A type URL that is no text, in each protocol's numbers.
    let own: [(Protocol, &'static [u8]); 2] = [
        (Protocol::Sotw, b"\x22\x01\xff"),
        (Protocol::Delta, b"\x12\x01\xff"),
    ];
    for (protocol, own) in own {
        for bytes in both.into_iter().chain([own]) {
            let mut first = Ads::open(pilot.grpc, protocol, Some(node("p.default"))).await;
            first.raw(Bytes::from_static(bytes)).await;
            let end = first.end().await;
            assert_eq!(end.code(), Code::InvalidArgument, "{bytes:?}: {end}");

            let mut later = Ads::open(pilot.grpc, protocol, Some(node("p.default"))).await;
            later.settle().await;
            later.raw(Bytes::from_static(bytes)).await;
            let end = later.end().await;
            assert_eq!(end.code(), Code::InvalidArgument, "{bytes:?}: {end}");
        }
    }
    pilot
        .until("only the good one is listed", async || {
            pilot.proxies().await.len() == 1
        })
        .await;
    pilot
        .after(|| folder.write("b", &entry("b", 80, "10.1.0.2")))
        .await;
    assert!(good.take(CDS).await.has("outbound|80||b.example.com"));
}

/// A request of 100 MB is refused by its length, before it is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_huge_request_is_refused_without_memory() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut good = Ads::sotw(&pilot, "good.default").await;
    good.settle().await;
    let before = pilot.memory();
    for _ in 0..3 {
        let mut ads = Ads::sotw(&pilot, "p.default").await;
        ads.raw(vec![0; 100_000_000]).await;
        let end = ads.end().await;
        assert_eq!(end.code(), Code::ResourceExhausted, "{end}");
        assert!(end.message().contains("100000000 bytes"), "{end}");
    }
    let grown = pilot.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    good.nothing().await;
}

/// Ten thousand names are a request like any other; two hundred thousand are too many.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_names_are_answered() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let many = |count: usize| {
        (0..count)
            .map(|n| format!("outbound|{n}||nobody.example.com"))
            .collect()
    };
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        let mut ads = Ads::open(pilot.grpc, protocol, Some(node("p.default"))).await;
        let ask = |names: Vec<String>| Ask {
            type_url: EDS.into(),
            names,
            ..Ask::default()
        };
        ads.send(ask(many(10_000))).await;
        let eds = ads.next().await;
        assert_eq!(eds.resources.len(), 10_000);
        assert!(eds.has("outbound|9999||nobody.example.com"));
        ads.nothing().await;

        let mut ads = Ads::open(pilot.grpc, protocol, Some(node("q.default"))).await;
        ads.send(ask(many(200_000))).await;
        let end = ads.end().await;
        assert_eq!(end.code(), Code::ResourceExhausted, "{end}");
        assert!(end.message().contains("100000"), "{end}");
    }
}
