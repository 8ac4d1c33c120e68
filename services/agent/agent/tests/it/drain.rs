//! How an agent ends.

use std::time::Duration;

use envoy_api::type_url::LISTENER;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::pilot::Pilot;
use super::rig::{Agent, Setup, get, request};

/// A listener that carries bytes to a server, inbound.
fn tcp_listener(agent: std::net::SocketAddr) -> Value {
    json!({
        "name": "inbound",
        "trafficDirection": "INBOUND",
        "address": {"socketAddress": {"address": agent.ip().to_string(), "portValue": agent.port()}},
        "filterChains": [{"filters": [{
            "name": "envoy.filters.network.tcp_proxy",
            "typedConfig": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "statPrefix": "echo", "cluster": "echo",
            },
        }]}],
    })
}

/// An agent with a listener at port 7000 that echoes.
async fn echoing(setup: Setup) -> (Agent, Pilot) {
    let pilot = Pilot::plain().await;
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = echo.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = echo.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    pilot.set_json(
        envoy_api::type_url::CLUSTER,
        &[json!({
            "name": "echo", "type": "STATIC", "connectTimeout": "1s",
            "loadAssignment": {"clusterName": "echo", "endpoints": [{"lbEndpoints": [{"endpoint":
                {"address": {"socketAddress": {"address": "127.0.0.1", "portValue": port}}}}]}]},
        })],
    );
    pilot.set_json(LISTENER, &[tcp_listener((setup.ip, 7000).into())]);
    let agent = setup
        .pilots(&[format!("http://{}", pilot.address)])
        .start()
        .await;
    agent.ready().await;
    (agent, pilot)
}

async fn connected(agent: &Agent) -> TcpStream {
    let mut stream = TcpStream::connect((agent.ip, 7000)).await.unwrap();
    say(&mut stream).await;
    stream
}

async fn say(stream: &mut TcpStream) {
    stream.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ping");
}

/// Case 36: not before the minimum, and not before the last connection has ended.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_connection_ends_the_drain() {
    let setup = Setup::new().var("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true");
    let (mut agent, _pilot) = echoing(setup).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(connected(&agent).await);
    }
    let began = Instant::now();
    agent.signal("TERM");
    // Case 30: not ready after SIGTERM.
    agent
        .until("not ready", async || {
            get(agent.status, "/healthz/ready").await.unwrap().0 == 503
        })
        .await;
    streams.pop();
    agent
        .until("the minimum is over and it waits", async || {
            agent.logs().contains("waiting for connections to end")
        })
        .await;
    assert!(began.elapsed() >= Duration::from_secs(5));
    for stream in &mut streams {
        say(stream).await;
    }
    assert!(!agent.has_ended());
    drop(streams);
    assert_eq!(agent.ended().await.code(), Some(0));
    assert!(agent.logs().contains("no connection is left"));
}

/// Nothing is open: the minimum all the same.
#[tokio::test(flavor = "multi_thread")]
async fn without_connections_the_minimum_is_kept() {
    let setup = Setup::new()
        .var("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true")
        .var("MINIMUM_DRAIN_DURATION", "1500ms");
    let (mut agent, _pilot) = echoing(setup).await;
    let began = Instant::now();
    agent.signal("TERM");
    assert_eq!(agent.ended().await.code(), Some(0));
    assert!(began.elapsed() >= Duration::from_millis(1500));
}

/// By default a drain takes its time, whatever is open.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_takes_as_long_as_was_said() {
    let setup = Setup::new().var("TERMINATION_DRAIN_DURATION_SECONDS", "2");
    let (mut agent, _pilot) = echoing(setup).await;
    let mut stream = connected(&agent).await;
    let began = Instant::now();
    agent.signal("TERM");
    agent
        .until("it drains", async || {
            agent.logs().contains("draining time=2s")
        })
        .await;
    say(&mut stream).await;
    assert_eq!(agent.ended().await.code(), Some(0));
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert!(!agent.path("etc/istio/proxy/XDS").exists());
    assert!(!agent.secrets().exists());
}

/// A drain that was asked for before makes the end quick.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_before_the_end_is_remembered() {
    let (mut agent, _pilot) = echoing(Setup::new()).await;
    let mut stream = connected(&agent).await;
    let head = "POST /drain HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close";
    assert_eq!(request(agent.status, head).await.unwrap().0, 200);
    assert_eq!(get(agent.status, "/healthz/ready").await.unwrap().0, 503);
    say(&mut stream).await;
    let began = Instant::now();
    agent.signal("TERM");
    assert_eq!(agent.ended().await.code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_millis(4500),
        "{:?}",
        began.elapsed()
    );
}
