//! Connections that are captured for real: two pods, each with an application, rules and a proxy of its own.

use std::time::Duration;

use e2e::pods::{NODE, Pods, Workload, address, service_address};
use e2e::{Call, Protocol};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

e2e::both_protocols! {
    passes_both_proxies,
    passes_unknown_ports_through,
    keeps_the_clients_address_with_tproxy,
}

fn two(protocol: Protocol) -> e2e::pods::Builder {
    Pods::new(protocol)
        .pod(Workload::new("a").http(80, 8080))
        .pod(
            Workload::new("b")
                .http(80, 8080)
                .tcp(9000, 9000)
                .unknown_http(7777),
        )
}

async fn passes_both_proxies(protocol: Protocol) {
    let pods = two(protocol).start().await;
    let (a, b) = (pods.get("a"), pods.get("b"));

    // By the service's address: out by a's proxy, in by b's.
    let answer = a.get("http://b/by-service").await;
    assert_eq!(
        (answer.status.as_u16(), answer.backend()),
        (200, "b".into())
    );
    assert_eq!(answer.seen()["path"], "/by-service");
    let outbound = "cluster.outbound|80||b.default.svc.cluster.local;.upstream_rq_total";
    assert_eq!(a.stat(outbound).await, 1);
    assert_eq!(b.stat("cluster.inbound|8080||;.upstream_rq_total").await, 1);
    // The application sees a connection from its own proxy, which says so by this address.
    assert_eq!(answer.seen()["peer"], "127.0.0.6");
    assert_eq!(
        a.stat("http.outbound_0.0.0.0_80;.downstream_cx_total")
            .await,
        1
    );
    assert_eq!(
        b.stat("listener.0.0.0.0_15006.downstream_cx_total").await,
        1
    );

    // By the pod's address, which is no service's: to where it was going.
    let answer = a.get(&format!("http://{}:8080/by-address", b.ip())).await;
    assert_eq!(
        (answer.backend(), &answer.seen()["peer"]),
        ("b".into(), &json!("127.0.0.6"))
    );
    assert_eq!(
        a.stat("listener.0.0.0.0_15001.downstream_cx_total").await,
        1
    );
    assert_eq!(
        a.stat("cluster.PassthroughCluster;.upstream_cx_total")
            .await,
        1
    );
    assert_eq!(b.stat("cluster.inbound|8080||;.upstream_rq_total").await, 2);

    // TCP by the service's address.
    let to = (service_address(1), 9000).into();
    let mut stream = BufReader::new(a.client(to).connect().await.expect("a connection"));
    stream.write_all(b"hello\n").await.expect("it is open");
    let mut text = String::new();
    while text.lines().count() < 2 {
        assert_ne!(stream.read_line(&mut text).await.expect("it is open"), 0);
    }
    assert_eq!(text, "b\nb: hello\n");
    let outbound = "cluster.outbound|9000||b.default.svc.cluster.local;.upstream_cx_total";
    assert_eq!(a.stat(outbound).await, 1);
    assert_eq!(b.stat("cluster.inbound|9000||;.upstream_cx_total").await, 1);

    // From beside the pods: in by b's proxy alone.
    let url = format!("http://{}:8080/", address(1));
    let answer = pods.outside().request(&url).await.expect("an answer");
    assert_eq!(answer.backend(), "b");
    assert_eq!(b.stat("cluster.inbound|8080||;.upstream_rq_total").await, 3);

    // A process of its own, under the application's user, sees the same.
    let curl = a
        .exec(&[
            "curl",
            "--silent",
            "--fail",
            &format!("http://{}/curl", service_address(1)),
        ])
        .await;
    assert!(curl.status.success(), "{curl:?}");
    let seen: Value = serde_json::from_slice(&curl.stdout).expect("what b saw");
    assert_eq!(
        (&seen["backend"], &seen["path"]),
        (&json!("b"), &json!("/curl"))
    );
    let id = a.exec(&["id", "-u"]).await;
    assert_eq!(String::from_utf8_lossy(&id.stdout), "1000\n");

    // The application reaches itself by its service, through its own proxy both ways, and by loopback without it.
    let before = a.stat("cluster.inbound|8080||;.upstream_rq_total").await;
    assert_eq!(a.get("http://a/itself").await.backend(), "a");
    assert_eq!(
        a.stat("cluster.inbound|8080||;.upstream_rq_total").await,
        before + 1
    );
    assert_eq!(a.get("http://127.0.0.1:8080/").await.backend(), "a");
    assert_eq!(
        a.stat("cluster.inbound|8080||;.upstream_rq_total").await,
        before + 1
    );
}

async fn passes_unknown_ports_through(protocol: Protocol) {
    let mut pods = two(protocol).start().await;
    // Something outside the mesh that nobody configured.
    let far = e2e::Backend::http("far", pods.site.net.at(99, 8099)).await;
    pods.offer(8099, far.address());
    let (a, b) = (pods.get("a"), pods.get("b"));
    let answer = a.get(&format!("http://{NODE}:8099/x")).await;
    assert_eq!(answer.backend(), "far");
    assert!(
        a.stat("cluster.PassthroughCluster;.upstream_cx_total")
            .await
            >= 1
    );
    // A port of a pod that no service has: out by one proxy, in by the other, and through.
    let answer = a.get(&format!("http://{}:7777/y", b.ip())).await;
    assert_eq!(answer.backend(), "b");
    assert!(
        b.stat("http.InboundPassthroughCluster;.downstream_cx_total")
            .await
            >= 1
    );
}

async fn keeps_the_clients_address_with_tproxy(protocol: Protocol) {
    let pods = Pods::new(protocol)
        .pod(Workload::new("a"))
        .pod(Workload::new("b").http(80, 8080).tproxy())
        .start()
        .await;
    let (a, b) = (pods.get("a"), pods.get("b"));
    let answer = a.get("http://b/").await;
    assert_eq!(answer.backend(), "b");
    assert_eq!(answer.seen()["peer"], a.ip().to_string());
    assert_eq!(b.stat("cluster.inbound|8080||;.upstream_rq_total").await, 1);
}

/// Without its proxy a pod is cut off, both ways, rather than open.
#[tokio::test]
async fn without_a_proxy_nothing_passes() {
    let mut pods = two(Protocol::Delta).start().await;
    assert_eq!(pods.get("a").get("http://b/").await.backend(), "b");
    pods.get_mut("b").proxy().process.kill();
    // Inbound: refused by the pod itself.
    let url = format!("http://{}:8080/", address(1));
    let refused = pods.outside().request(&url).await.expect_err("an answer");
    assert!(refused.to_string().contains("refused"), "{refused}");
    // By a's proxy, that is an answer of its own.
    assert_eq!(pods.get("a").get("http://b/").await.status, 503);
    // Outbound.
    let refused = pods
        .get("b")
        .request("http://a/")
        .await
        .expect_err("an answer");
    assert!(refused.to_string().contains("refused"), "{refused}");
    // Both work again with the proxy.
    pods.get_mut("b").start_proxy().await;
    pods.live().await;
    e2e::wait::eventually("b is reached again", async || {
        let answer = pods.get("a").get("http://b/").await;
        (answer.status == 200).then_some(()).ok_or(answer.status)
    })
    .await;
    assert_eq!(pods.get("b").get("http://a/").await.backend(), "a");
    // Without rules, connections are nobody's but the application's.
    pods.get("b").capture("--cleanup-only").await;
    let call = Call::get("x", "/");
    let direct = pods.outside().client((address(1), 8080).into());
    let answer = tokio::time::timeout(Duration::from_secs(20), direct.send(&call)).await;
    let answer = answer.expect("in time").expect("an answer");
    assert_ne!(answer.seen()["peer"], "127.0.0.6");
}
