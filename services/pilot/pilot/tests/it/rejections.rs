//! A proxy that refuses what it is sent: known to everybody, sent nothing twice, and not cut off from what is good.

use serde_json::Value;

use crate::ads::{Ads, CDS, LDS, Protocol, node};
use crate::rig::{Folder, Pilot, entry, json};

const BAD: &str = "0.0.0.0_8001";
const WORDS: &str = "Error adding/updating listener(s) 0.0.0.0_8001: cannot bind\n";

/// C-131, both protocols.
#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_listener_stops_nothing_else_sotw() {
    rejected(Protocol::Sotw).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_listener_stops_nothing_else_delta() {
    rejected(Protocol::Delta).await;
}

async fn rejected(protocol: Protocol) {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::open(pilot.grpc, protocol, Some(node("p.default"))).await;
    ads.settle().await;
    let mut good = Ads::open(pilot.grpc, protocol, Some(node("q.default"))).await;
    good.settle().await;

    // A listener comes, and one proxy refuses it.
    let revision = pilot
        .after(|| folder.write("bad", &entry("bad", 8001, "10.1.0.8")))
        .await;
    ads.take(CDS).await;
    let lds = ads.next().await;
    assert_eq!(lds.type_url, LDS);
    assert!(lds.has(BAD), "{:?}", lds.names());
    ads.nack(&lds, WORDS).await;
    good.take(CDS).await;
    good.take(LDS).await;

    // It is not sent again, and everybody can know.
    ads.nothing().await;
    let rejection = rejection(&pilot).await;
    assert_eq!(rejection["resources"], serde_json::json!([BAD]));
    assert_eq!(rejection["revision"], revision);
    assert_eq!(rejection["message"], WORDS);
    assert!(rejection["at_us"].as_i64().unwrap() > 0);
    let far = json(pilot.http, &format!("/v1/revisions/{revision}?wait=30s")).await;
    assert_eq!(far["rejected"], serde_json::json!(["p.default"]));
    assert_eq!((&far["live"], &far["total"]), (&1.into(), &2.into()));
    assert_eq!(pilot.metric("pilot_xds_lds_reject").await, 1.0);
    assert_eq!(
        pilot.metric(r#"pilot_total_xds_rejects{type="lds"}"#).await,
        1.0
    );

    // Later changes go out, of other types and of this one, without the listener that was refused.
    pilot
        .after(|| folder.write("other", &entry("other", 8002, "10.1.0.9")))
        .await;
    assert!(ads.take(CDS).await.has("outbound|8002||other.example.com"));
    let lds = ads.take(LDS).await;
    assert!(
        lds.has("0.0.0.0_8002") && !lds.has(BAD),
        "{:?}",
        lds.names()
    );
    ads.nothing().await;
    assert_eq!(
        self::rejection(&pilot).await["resources"],
        serde_json::json!([BAD])
    );

    // Once it goes, nothing is wrong any more.
    let revision = pilot.after(|| folder.remove("bad")).await;
    ads.take(CDS).await;
    // Though it never took the listener, the proxy confirms that all is well: with the list as it was, or with a removal.
    let lds = ads.take(LDS).await;
    match protocol {
        Protocol::Sotw => assert!(!lds.has(BAD) && lds.has("0.0.0.0_8002")),
        Protocol::Delta => assert_eq!(lds.what(), (vec![], vec![BAD])),
    }
    for _ in ["other", "bad"] {
        good.take(CDS).await;
        good.take(LDS).await;
    }
    pilot
        .until("the revision is live everywhere", async || {
            json(pilot.http, &format!("/v1/revisions/{revision}")).await["live"] == 2
        })
        .await;
}

/// The rejection in force of `p.default`.
async fn rejection(pilot: &Pilot) -> Value {
    let mut found = Value::Null;
    pilot
        .until("the rejection is listed", async || {
            let proxies = pilot.proxies().await;
            let proxy = proxies
                .iter()
                .find(|proxy| proxy["proxy"] == "p.default")
                .unwrap();
            let types = proxy["types"].as_array().unwrap();
            let lds = types
                .iter()
                .find(|status| status["type_url"] == LDS)
                .unwrap();
            found = lds["rejection"].clone();
            !found.is_null()
        })
        .await;
    found
}

/// A refused resource that is corrected is sent as soon as it is, and the proxy is well again.
#[tokio::test(flavor = "multi_thread")]
async fn a_corrected_resource_is_sent() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::delta(&pilot, "p.default").await;
    ads.settle().await;
    pilot
        .after(|| folder.write("bad", &entry("bad", 8001, "10.1.0.8")))
        .await;
    ads.take(CDS).await;
    let lds = ads.next().await;
    ads.nack(&lds, WORDS).await;
    ads.nothing().await;
    // The same port, another service behind it: the listener differs.
    let text = entry("bad", 8001, "10.1.0.8").replace("bad.example", "better.example");
    let revision = pilot.after(|| folder.write("bad", &text)).await;
    ads.take(CDS).await;
    assert!(ads.take(LDS).await.has(BAD));
    pilot
        .until("the revision is live", async || {
            json(pilot.http, &format!("/v1/revisions/{revision}")).await["live"] == 1
        })
        .await;
    assert!(
        pilot.proxies().await[0]["types"]
            .as_array()
            .unwrap()
            .iter()
            .all(|t| t["rejection"].is_null())
    );
}
