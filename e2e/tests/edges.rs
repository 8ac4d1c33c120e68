//! In and out of the mesh: gateways, hosts outside, and bytes that are not HTTP.

use std::collections::BTreeMap;

use e2e::hello::client_hello;
use e2e::site::{HTTP, TCP, hosts};
use e2e::{Backend, Client, Identity, Protocol, World, capture};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

e2e::both_protocols! {
    splits_tcp_by_weight,
    reaches_external_hosts,
    passes_two_sidecars,
    enters_by_the_ingress_gateway,
    leaves_by_the_egress_gateway,
    passes_tls_on_by_name,
}

/// Asks for a server name; the greeting of the server that is reached, or nothing.
async fn greet(client: &Client, name: &str) -> String {
    let Ok(mut stream) = client.connect().await else {
        return String::new();
    };
    let _ = stream.write_all(&client_hello(name)).await;
    let mut line = String::new();
    let _ = BufReader::new(stream).read_line(&mut line).await;
    line.trim_end().to_owned()
}

/// One line is sent over a connection of its own; the lines that come back until there are two or the connection ends.
async fn talk(client: &Client, line: &str) -> Vec<String> {
    let Ok(stream) = client.connect().await else {
        return Vec::new();
    };
    let mut stream = BufReader::new(stream);
    let _ = stream.write_all(format!("{line}\n").as_bytes()).await;
    let mut lines = stream.lines();
    let mut out = Vec::new();
    while out.len() < 2
        && let Ok(Some(line)) = lines.next_line().await
    {
        out.push(line);
    }
    out
}

async fn splits_tcp_by_weight(protocol: Protocol) {
    let world = World::of("tcp-routing", protocol).await;
    let client = world.sidecar.client(TCP);
    let mut count = BTreeMap::<String, usize>::new();
    for _ in 0..500 {
        let lines = talk(&client, "hello").await;
        let name = lines.first().cloned().unwrap_or_default();
        assert_eq!(lines, [name.clone(), format!("{name}: hello")]);
        *count.entry(name).or_default() += 1;
    }
    let v1 = count["echo-v1"];
    assert!(
        (350..=450).contains(&v1) && v1 + count["echo-v2"] == 500,
        "{count:?}"
    );

    // An open connection stays where it is when the route changes.
    let mut open = loop {
        let mut stream = BufReader::new(client.connect().await.expect("a connection"));
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("a greeting");
        if line == "echo-v1\n" {
            break stream;
        }
    };
    world.edit("echo-routes.yaml").await;
    for _ in 0..20 {
        assert_eq!(talk(&client, "hi").await, ["echo-v2", "echo-v2: hi"]);
    }
    open.write_all(b"still\n").await.expect("it is open");
    let mut line = String::new();
    open.read_line(&mut line).await.expect("it is open");
    assert_eq!(line, "echo-v1: still\n");
}

async fn reaches_external_hosts(protocol: Protocol) {
    let ports = capture::mesh_config();
    let world = World::captured("external-services", protocol, &ports).await;
    let net = &world.site.net;
    let http = world.sidecar.captured(net.at(41, HTTP));
    let tcp = world.sidecar.captured(net.at(42, HTTP));
    let elsewhere = world.sidecar.captured(net.at(99, HTTP));

    // By name, wherever the connection was going.
    assert_eq!(
        elsewhere.get("api.external.test:9080", "/").await.backend(),
        "external"
    );
    assert_eq!(
        elsewhere.get("ratings:9080", "/").await.backend(),
        "ratings-v1"
    );
    // By address.
    let echo = world.sidecar.captured(net.at(203, TCP));
    let lines = talk(&echo, "hi").await;
    assert!(
        lines.len() == 2 && lines[0].starts_with("echo-v"),
        "{lines:?}"
    );
    let chosen = world.sidecar.captured(net.at(13, HTTP));
    assert_eq!(
        chosen.get("headless:9080", "/").await.backend(),
        "reviews-v3"
    );
    // Unknown ones to where they were going.
    assert_eq!(
        http.get("other.external.test:9080", "/").await.backend(),
        "external"
    );
    assert_eq!(talk(&tcp, "hi").await, ["external-tcp", "external-tcp: hi"]);

    let closed = format!("{ports}outboundTrafficPolicy: {{ mode: REGISTRY_ONLY }}\n");
    world.change(|site| site.set_mesh_config(&closed)).await;
    assert_eq!(
        elsewhere.get("api.external.test:9080", "/").await.backend(),
        "external"
    );
    let refused = http.get("other.external.test:9080", "/").await;
    assert_eq!((refused.status.as_u16(), &*refused.text()), (502, ""));
    assert_eq!(talk(&tcp, "hi").await, Vec::<String>::new());

    world.change(|site| site.set_mesh_config(&ports)).await;
    assert_eq!(
        http.get("other.external.test:9080", "/").await.backend(),
        "external"
    );
    assert_eq!(talk(&tcp, "hi").await, ["external-tcp", "external-tcp: hi"]);
}

async fn passes_two_sidecars(protocol: Protocol) {
    let mut world = World::of("inbound", protocol).await;
    let application = Backend::http("stock", world.site.net.at(hosts::MORE_SIDECARS, 9079)).await;
    world
        .add(Identity::sidecar("stock", hosts::MORE_SIDECARS))
        .await;
    world.expect(&world.client(), "requests.txt").await;
    application.answer(503);
    assert_eq!(world.client().get("stock:9080", "/").await.status, 503);
}

async fn enters_by_the_ingress_gateway(protocol: Protocol) {
    let mut world = World::of("ingress-gateway", protocol).await;
    let gateway = world
        .add(Identity::gateway("ingress", hosts::INGRESS))
        .await;
    let (http, tcp) = (gateway.client(8080), gateway.client(TCP));
    world.expect(&http, "requests.txt").await;
    let lines = talk(&tcp, "hi").await;
    assert!(
        lines.len() == 2 && lines[0].starts_with("echo-v"),
        "{lines:?}"
    );

    // A VirtualService of a gateway means nothing inside the mesh.
    let inside = world.client().get("shop.test", "/reviews").await;
    assert_ne!(inside.backend(), "reviews-v1");

    world.edit("more.yaml").await;
    assert_eq!(http.get("eu.shop.test", "/").await.backend(), "reviews-v3");
    assert_eq!(http.get("us.shop.test", "/").await.status, 404);
    world.change(|site| site.remove("more.yaml")).await;
    assert_eq!(http.get("eu.shop.test", "/").await.status, 404);
}

async fn leaves_by_the_egress_gateway(protocol: Protocol) {
    let mut world = World::of("egress-gateway", protocol).await;
    world.add(Identity::gateway("egress", hosts::EGRESS)).await;
    world.expect(&world.client(), "requests.txt").await;
}

async fn passes_tls_on_by_name(protocol: Protocol) {
    let mut world = World::captured("tls-by-name", protocol, &capture::mesh_config()).await;
    let inside = world.sidecar.captured(world.site.net.at(99, 9443));
    assert_eq!(greet(&inside, "one.secure.test").await, "echo-v1");
    assert_eq!(greet(&inside, "two.secure.test").await, "echo-v2");
    assert_eq!(greet(&inside, "moved.secure.test").await, "echo-v1");

    let gateway = world
        .add(Identity::gateway("ingress", hosts::INGRESS))
        .await;
    let (outside, plain) = (gateway.client(9443), gateway.client(8080));
    assert_eq!(greet(&outside, "a.front.test").await, "echo-v1");
    assert_eq!(greet(&outside, "b.front.test").await, "echo-v2");
    assert_eq!(greet(&outside, "c.front.test").await, "");

    let answer = plain.get("a.front.test:8080", "/x").await;
    assert_eq!(answer.status, 301);
    assert_eq!(answer.header("location"), "https://a.front.test:8080/x");
}
