//! State of the world: nonces, versions, subscriptions, order. C-130..C-143 of the conformance list, as a scripted client sees them.

use envoy_api::envoy::config::cluster::v3::Cluster;
use envoy_api::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_api::envoy::config::route::v3::RouteConfiguration;

use crate::ads::{Ads, Ask, CDS, EDS, LDS, RDS, names};
use crate::rig::{Folder, Pilot, entry, json};

const A: &str = "outbound|80||a.example.com";
const B: &str = "outbound|80||b.example.com";

/// C-130: each step of Envoy's start is answered, and the proxy then counts as up to date.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_gets_clusters_endpoints_listeners_and_routes() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::sotw(&pilot, "p.default").await;
    let all = ads.settle().await;
    assert!(all.cds.has(A), "{:?}", all.cds.names());
    assert_eq!(all.eds.names(), [A]);
    assert!(all.lds.has("0.0.0.0_80"), "{:?}", all.lds.names());
    let route: RouteConfiguration = all.rds.read("80");
    assert!(
        route
            .virtual_hosts
            .iter()
            .any(|host| host.name == "a.example.com:80")
    );
    pilot
        .until("the proxy is live", async || {
            pilot.proxies().await[0]["live_revision"] == 1
        })
        .await;
    let proxy = &pilot.proxies().await[0];
    assert_eq!(proxy["proxy"], "p.default");
    assert_eq!(proxy["protocol"], "sotw");
    let types = proxy["types"].as_array().unwrap();
    assert_eq!(types.len(), 4);
    for status in types {
        assert_eq!(status["sent_version"], status["acked_version"], "{status}");
        assert_eq!(
            (&status["synced"], &status["acked_revision"]),
            (&true.into(), &1.into())
        );
    }
    ads.nothing().await;
}

/// C-130: a change that touches every type is pushed clusters first, then endpoints, listeners, routes.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_keeps_the_order_of_types() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::sotw(&pilot, "p.default").await;
    ads.settle().await;
    ads.subscribe(EDS, &[B]).await;
    ads.take(EDS).await;
    let revision = pilot
        .after(|| {
            folder.write(
                "b",
                &(entry("b", 80, "10.1.0.2") + "---" + &entry("c", 8001, "10.1.0.3")),
            )
        })
        .await;
    for type_url in [CDS, EDS, LDS, RDS] {
        let reply = ads.take(type_url).await;
        assert_eq!(reply.revision(), revision);
    }
    ads.nothing().await;
}

/// A proxy that comes back with what is current is sent nothing; whoever waits for it hears of it all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_needs_nothing_is_live_at_once() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::sotw(&pilot, "p.default").await;
    let first = ads.settle().await;
    drop(ads);
    pilot
        .until("it is gone", async || pilot.proxies().await.is_empty())
        .await;
    let ask = |type_url: &str, version: &str| Ask {
        type_url: type_url.into(),
        version: version.into(),
        ..Ask::default()
    };
    let mut again = Ads::sotw(&pilot, "p.default").await;
    again.send(ask(CDS, &first.cds.version)).await;
    pilot
        .until("it is back", async || pilot.proxies().await.len() == 1)
        .await;
    let waiting = json(pilot.http, "/v1/revisions/1?wait=50s");
    let coming = async {
        pilot.revision().await;
        again.send(ask(LDS, &first.lds.version)).await;
    };
    let (far, ()) = tokio::join!(waiting, coming);
    assert_eq!(
        (&far["live"], &far["total"]),
        (&1.into(), &1.into()),
        "{far}"
    );
    again.nothing().await;
}

/// C-132: an answer to an old response is ignored, and says so in a metric.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_nonce_is_ignored() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::sotw(&pilot, "p.default").await;
    let first = ads.settle().await;
    ads.subscribe(RDS, &["80", "81"]).await;
    let second = ads.take(RDS).await;
    assert_ne!(first.rds.nonce, second.nonce);
    // The old nonce, with a name that would otherwise be answered.
    ads.send(Ask {
        type_url: RDS.into(),
        names: names(&["80", "81", "82"]),
        nonce: first.rds.nonce,
        ..Ask::default()
    })
    .await;
    pilot
        .until("the nonce is counted", async || {
            pilot.metric(r#"pilot_xds_expired_nonce{type="rds"}"#).await == 1.0
        })
        .await;
    ads.nothing().await;
}

/// C-132: only the added name is answered, a removed one is not, and no names end the subscription.
#[tokio::test(flavor = "multi_thread")]
async fn names_come_and_go() {
    let folder = Folder::of(&[("a", 80), ("b", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::sotw(&pilot, "p.default").await;
    ads.subscribe(CDS, &[]).await;
    ads.take(CDS).await;
    ads.subscribe(EDS, &[A]).await;
    let one = ads.take(EDS).await;
    assert_eq!(one.names(), [A]);
    let ask = |list: &[&str], nonce: &str| Ask {
        type_url: EDS.into(),
        names: names(list),
        nonce: nonce.into(),
        ..Ask::default()
    };
    ads.send(ask(&[A, B], &one.nonce)).await;
    let two = ads.next().await;
    assert_eq!(two.names(), [B]);
    ads.send(ask(&[B], &two.nonce)).await;
    ads.nothing().await;
    ads.send(ask(&[], &two.nonce)).await;
    ads.nothing().await;
    pilot
        .until("endpoints are not subscribed any more", async || {
            let proxy = pilot.proxies().await.remove(0);
            let types = proxy["types"].as_array().unwrap().clone();
            types.iter().all(|status| status["type_url"] != EDS)
        })
        .await;
    pilot
        .after(|| folder.write("b", &entry("b", 80, "10.1.0.77")))
        .await;
    ads.nothing().await;
}

/// A reconnect with the version the proxy has transfers nothing of clusters and listeners. Endpoints are sent in full: the protocol
/// cannot say which of them a proxy has.
#[tokio::test(flavor = "multi_thread")]
async fn a_reconnect_with_current_versions_transfers_nothing() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let before = Ads::sotw(&pilot, "p.default").await.settle().await;
    let mut again = Ads::sotw(&pilot, "p.default").await;
    for (type_url, reply) in [(CDS, &before.cds), (LDS, &before.lds)] {
        again
            .send(Ask {
                type_url: type_url.into(),
                version: reply.version.clone(),
                // Of the stream before; means nothing here.
                nonce: reply.nonce.clone(),
                ..Ask::default()
            })
            .await;
    }
    again.nothing().await;

    let mut old = Ads::sotw(&pilot, "p.default").await;
    old.send(Ask {
        type_url: CDS.into(),
        version: "0000000000000001".into(),
        nonce: "7-1".into(),
        ..Ask::default()
    })
    .await;
    assert!(old.take(CDS).await.has(A));
}

/// C-133: endpoints asked for before clusters are answered again once clusters were, for Envoy warms those anew.
#[tokio::test(flavor = "multi_thread")]
async fn endpoints_before_clusters_are_answered_twice() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::sotw(&pilot, "p.default").await;
    ads.subscribe(EDS, &[A]).await;
    assert_eq!(ads.take(EDS).await.names(), [A]);
    ads.subscribe(CDS, &[]).await;
    ads.take(CDS).await;
    assert_eq!(ads.take(EDS).await.names(), [A]);
    ads.nothing().await;
}

/// C-136: an endpoint that changes costs one message with the one cluster it is of.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_change_is_only_that_endpoint() {
    let folder = Folder::of(&[("a", 80), ("b", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::sotw(&pilot, "p.default").await;
    ads.settle().await;
    pilot
        .after(|| folder.write("b", &entry("b", 80, "10.1.0.99")))
        .await;
    let eds = ads.take(EDS).await;
    assert_eq!(eds.names(), [B]);
    assert!(eds.text(B).contains("10.1.0.99"));
    ads.nothing().await;
}

/// C-138: what is outside of a Sidecar's scope causes no message, what is inside does.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_out_of_scope_is_no_message() {
    let folder = Folder::of(&[("a", 80), ("b", 80)]);
    folder.write(
        "sidecar",
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default, namespace: default}\nspec: {egress: [{hosts: [./a.example.com]}]}\n",
    );
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::sotw(&pilot, "p.default").await;
    let all = ads.settle().await;
    assert!(all.cds.has(A) && !all.cds.has(B), "{:?}", all.cds.names());
    let rule = |host: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {host}, namespace: default}}\nspec: {{host: {host}.example.com, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 7}}}}}}}}\n"
        )
    };
    let revision = pilot.after(|| folder.write("rule-b", &rule("b"))).await;
    ads.nothing().await;
    // Nothing to send, and live at once.
    pilot
        .until("the revision is live", async || {
            pilot.proxies().await[0]["live_revision"] == revision
        })
        .await;
    pilot.after(|| folder.write("rule-a", &rule("a"))).await;
    let cluster = ads.take(CDS).await.text(A);
    assert!(
        cluster.contains(r#""maxConnections":7"#) || cluster.contains(r#""max_connections":7"#),
        "{cluster}"
    );
    // The cluster warms, so its endpoints come again.
    assert_eq!(ads.take(EDS).await.names(), [A]);
    ads.nothing().await;
}

/// C-139: a service that goes takes its cluster along, and its route keeps answering.
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_service_leaves_an_answered_route() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::sotw(&pilot, "p.default").await;
    ads.settle().await;
    pilot.after(|| folder.remove("a")).await;
    assert!(!ads.take(CDS).await.has(A));
    let mut seen = Vec::new();
    // Its endpoints, the listener of its port, and its route: each is emptied or gone.
    while !seen.contains(&RDS.to_owned()) {
        let reply = ads.next().await;
        ads.ack(&reply).await;
        seen.push(reply.type_url.clone());
        if reply.type_url == RDS {
            let route: RouteConfiguration = reply.read("80");
            assert!(
                route
                    .virtual_hosts
                    .iter()
                    .all(|host| !host.name.starts_with("a.example.com"))
            );
        }
    }
    assert!(
        seen.is_sorted_by_key(|url| [EDS, LDS, RDS].iter().position(|t| t == url)),
        "{seen:?}"
    );
    ads.nothing().await;
}

/// C-140: a name that nobody has is answered, so that Envoy never waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_are_answered_empty() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::sotw(&pilot, "p.default").await;
    ads.subscribe(EDS, &["outbound|1||nobody.example.com"])
        .await;
    let eds = ads.take(EDS).await;
    let none: ClusterLoadAssignment = eds.read("outbound|1||nobody.example.com");
    assert_eq!(none.endpoints.len(), 0);
    ads.subscribe(RDS, &["4711"]).await;
    let none: RouteConfiguration = ads.take(RDS).await.read("4711");
    assert_eq!(none.virtual_hosts.len(), 0);
}

/// C-143: settings of the mesh reach every proxy they concern.
#[tokio::test(flavor = "multi_thread")]
async fn mesh_settings_are_pushed() {
    let folder = Folder::of(&[("a", 80)]);
    let settings = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(settings.path(), "connectTimeout: 3s\n").unwrap();
    let pilot = Pilot::start(&[
        "--config-dir",
        folder.path().to_str().unwrap(),
        "--mesh-config",
        settings.path().to_str().unwrap(),
    ])
    .await;
    pilot.ready().await;
    let mut proxies = [
        Ads::sotw(&pilot, "p.default").await,
        Ads::sotw(&pilot, "q.other").await,
    ];
    for ads in &mut proxies {
        let cluster: Cluster = ads.settle().await.cds.read(A);
        assert_eq!(cluster.connect_timeout.unwrap().seconds, 3);
    }
    pilot
        .after(|| std::fs::write(settings.path(), "connectTimeout: 4s\n").unwrap())
        .await;
    for ads in &mut proxies {
        let cluster: Cluster = ads.take(CDS).await.read(A);
        assert_eq!(cluster.connect_timeout.unwrap().seconds, 4);
    }
}

/// Two streams of one node are two proxies: each is served, and both are listed.
#[tokio::test(flavor = "multi_thread")]
async fn two_streams_of_one_node_are_both_served() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut first = Ads::sotw(&pilot, "p.default").await;
    let mut second = Ads::delta(&pilot, "p.default").await;
    assert!(first.settle().await.cds.has(A));
    assert!(second.settle().await.cds.has(A));
    assert_eq!(pilot.proxies().await.len(), 2);
    pilot
        .after(|| folder.write("b", &entry("b", 80, "10.1.0.2")))
        .await;
    assert!(first.take(CDS).await.has(B));
    assert!(second.take(CDS).await.has(B));
    drop(first);
    pilot
        .until("one is left", async || pilot.proxies().await.len() == 1)
        .await;
    assert_eq!(pilot.metric("pilot_xds").await, 1.0);
}
