//! Delta: subscriptions by name, versions per resource, removals. C-134 and C-135, and what the other cases look like here.

use std::collections::BTreeMap;

use crate::ads::{Ads, Ask, CDS, EDS, LDS, RDS, Reply, names};
use crate::rig::{Folder, Pilot, entry};

const A: &str = "outbound|80||a.example.com";
const B: &str = "outbound|80||b.example.com";

/// C-130, C-135: the start in delta, and the push of one new service: only what is new, in order, its endpoints without being asked.
#[tokio::test(flavor = "multi_thread")]
async fn only_differences_are_sent() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::delta(&pilot, "p.default").await;
    let all = ads.settle().await;
    assert!(all.cds.has(A) && all.lds.has("0.0.0.0_80"));
    assert_eq!((all.eds.names(), all.rds.names()), (vec![A], vec!["80"]));
    ads.nothing().await;

    let revision = pilot
        .after(|| folder.write("b", &entry("b", 80, "10.1.0.2")))
        .await;
    let cds = ads.take(CDS).await;
    assert_eq!(cds.names(), [B]);
    assert_eq!(cds.revision(), revision);
    assert_eq!(ads.take(RDS).await.names(), ["80"]);
    ads.subscribe(EDS, &[B]).await;
    assert_eq!(ads.take(EDS).await.names(), [B]);

    pilot.after(|| folder.remove("b")).await;
    let cds = ads.take(CDS).await;
    assert_eq!(cds.what(), (vec![], vec![B]));
    // Endpoints of a name that is still subscribed are emptied, not removed: Envoy would wait for them.
    assert_eq!(ads.take(EDS).await.names(), [B]);
    assert_eq!(ads.take(RDS).await.names(), ["80"]);
    ads.nothing().await;
}

/// C-136: an endpoint that changes costs one message with the one cluster it is of.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_change_is_only_that_endpoint() {
    let folder = Folder::of(&[("a", 80), ("b", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::delta(&pilot, "p.default").await;
    ads.settle().await;
    pilot
        .after(|| folder.write("b", &entry("b", 80, "10.1.0.99")))
        .await;
    assert_eq!(ads.take(EDS).await.names(), [B]);
    ads.nothing().await;
}

/// A reconnect that lists what the proxy has transfers nothing, whichever Pilot it comes to.
#[tokio::test(flavor = "multi_thread")]
async fn a_reconnect_with_current_versions_transfers_nothing() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let all = Ads::delta(&pilot, "p.default").await.settle().await;
    let other = Pilot::of(&folder).await;
    for pilot in [&pilot, &other] {
        let mut again = Ads::delta(pilot, "p.default").await;
        for (type_url, reply) in [
            (CDS, &all.cds),
            (EDS, &all.eds),
            (LDS, &all.lds),
            (RDS, &all.rds),
        ] {
            again.send(resume(type_url, &reply.versions)).await;
            // The first answer of a type is owed; it holds nothing.
            let answer = again.take(type_url).await;
            assert_eq!(answer.what(), (vec![], vec![]), "{type_url}");
        }
        again.nothing().await;
    }
}

/// C-134: what was removed while the proxy was away is listed as removed, and what changed is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_reconnect_hears_what_it_missed() {
    let folder = Folder::of(&[("a", 80), ("b", 80), ("c", 80)]);
    let pilot = Pilot::of(&folder).await;
    let all = Ads::delta(&pilot, "p.default").await.settle().await;
    pilot.after(|| folder.remove("a")).await;
    pilot
        .after(|| folder.write("b", &entry("b", 81, "10.1.0.1")))
        .await;
    let mut again = Ads::delta(&pilot, "p.default").await;
    again.send(resume(CDS, &all.cds.versions)).await;
    let cds = again.take(CDS).await;
    assert_eq!(cds.names(), ["outbound|81||b.example.com"]);
    assert_eq!(cds.removed, names(&[A, B]));
}

/// A name that is given up is not pushed any more; subscribed again, it is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn names_are_given_up_and_taken_again() {
    let folder = Folder::of(&[("a", 80), ("b", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::delta(&pilot, "p.default").await;
    ads.settle().await;
    ads.send(Ask {
        type_url: EDS.into(),
        unsubscribe: names(&[A]),
        ..Ask::default()
    })
    .await;
    ads.nothing().await;
    pilot
        .after(|| {
            folder.write(
                "a",
                &(entry("a", 80, "10.1.0.50") + "---" + &entry("c", 80, "10.1.0.3")),
            )
        })
        .await;
    assert_eq!(ads.take(CDS).await.names(), ["outbound|80||c.example.com"]);
    assert_eq!(ads.take(RDS).await.names(), ["80"]);
    ads.nothing().await;
    ads.subscribe(EDS, &[A]).await;
    assert_eq!(ads.take(EDS).await.names(), [A]);
}

/// An answer to an old response counts as stale, but names it carries count: a delta client sends each of them once.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_nonce_still_subscribes() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::delta(&pilot, "p.default").await;
    ads.settle().await;
    ads.send(Ask {
        type_url: RDS.into(),
        names: names(&["4711"]),
        nonce: "1-999".into(),
        ..Ask::default()
    })
    .await;
    assert_eq!(ads.take(RDS).await.names(), ["4711"]);
    assert_eq!(
        pilot.metric(r#"pilot_xds_expired_nonce{type="rds"}"#).await,
        1.0
    );
}

/// C-140: unknown names of clusters are told to be absent, of endpoints and routes answered empty.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_are_answered() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::delta(&pilot, "p.default").await;
    ads.subscribe(CDS, &["nobody"]).await;
    let cds = ads.take(CDS).await;
    assert_eq!(cds.what(), (vec![], vec!["nobody"]));
    ads.subscribe(EDS, &["outbound|1||nobody.example.com"])
        .await;
    assert_eq!(
        ads.take(EDS).await.names(),
        ["outbound|1||nobody.example.com"]
    );
    ads.subscribe(RDS, &["4711"]).await;
    assert_eq!(ads.take(RDS).await.names(), ["4711"]);
}

fn resume(type_url: &str, versions: &BTreeMap<String, String>) -> Ask {
    // Types without wildcard name what they want; the others want everything by saying nothing.
    let by_name = type_url == EDS || type_url == RDS;
    Ask {
        type_url: type_url.into(),
        names: if by_name {
            versions.keys().cloned().collect()
        } else {
            Vec::new()
        },
        initial: versions.clone(),
        ..Ask::default()
    }
}

/// Deterministic versions: what two Pilots make of one folder is equal to the byte.
#[tokio::test(flavor = "multi_thread")]
async fn two_pilots_make_the_same() {
    let folder = Folder::of(&[("a", 80), ("b", 8001), ("c", 81)]);
    let (one, two) = (Pilot::of(&folder).await, Pilot::of(&folder).await);
    let (one, two) = (
        Ads::delta(&one, "p.default").await.settle().await,
        Ads::delta(&two, "p.default").await.settle().await,
    );
    let content = |reply: &Reply| (reply.resources.clone(), reply.versions.clone());
    for (a, b) in [
        (&one.cds, &two.cds),
        (&one.eds, &two.eds),
        (&one.lds, &two.lds),
        (&one.rds, &two.rds),
    ] {
        assert_eq!(content(a), content(b));
    }
}
