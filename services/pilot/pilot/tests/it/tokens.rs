//! Keys of token issuers on their way into listeners.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::ads::{Ads, LDS};
use crate::rig::{Folder, Pilot};

const KEYS: &str = r#"{"keys":[{"kty":"RSA","kid":"fetched-key","n":"x","e":"AQAB"}]}"#;

/// A server of keys on loopback, and how often it was asked.
async fn issuer() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::<AtomicUsize>::default();
    let count = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, SeqCst);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{KEYS}",
                KEYS.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, asked)
}

fn policy(folder: &Folder, uri: &str) {
    folder.write(
        "tokens",
        &format!(
            "{{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {{name: t, namespace: default}}, \
             spec: {{jwtRules: [{{issuer: 'https://iss.example', jwksUri: '{uri}'}}]}}}}\n"
        ),
    );
    folder.write(
        "workload",
        "{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: s, namespace: default}, \
         spec: {ingress: [{port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: '127.0.0.1:8080'}]}}\n",
    );
}

/// The listeners of a sidecar as text, as soon as they satisfy.
async fn listeners(pilot: &Pilot, want: impl Fn(&str) -> bool) -> String {
    let mut ads = Ads::delta(pilot, "pod.default").await;
    ads.subscribe(LDS, &[]).await;
    loop {
        let reply = ads.next_of(LDS).await;
        let texts: Vec<String> = reply.names().iter().map(|name| reply.text(name)).collect();
        let all = texts.concat();
        if want(&all) {
            return all;
        }
    }
}

/// Case 46, as far as it is about what proxies are told: no connection, and a key that nobody has.
#[tokio::test(flavor = "multi_thread")]
async fn keys_at_a_forbidden_address_are_not_fetched_and_tokens_are_refused() {
    let (address, asked) = issuer().await;
    let folder = Folder::of(&[]);
    policy(&folder, &format!("http://{address}/keys"));
    let pilot = Pilot::of(&folder).await;
    pilot
        .until("it tried", async || {
            let failed = "flotilla_pilot_jwks_fetches_total{result=\"failed\"}";
            pilot.metric(failed).await >= 1.0
        })
        .await;
    let text = listeners(&pilot, |text| text.contains("jwt_authn")).await;
    assert!(!text.contains("fetched-key"), "{text}");
    assert!(text.contains("https://iss.example"), "{text}");
    assert_eq!(asked.load(SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_may_be_fetched_are_in_the_listeners() {
    let (address, asked) = issuer().await;
    let folder = Folder::of(&[]);
    policy(&folder, &format!("http://{address}/keys"));
    let dir = folder.path().display().to_string();
    let pilot = Pilot::start(&[
        "--config-dir",
        &dir,
        "--allowed-cidrs-in-jwks-uris=127.0.0.0/8",
    ])
    .await;
    pilot.ready().await;
    listeners(&pilot, |text| text.contains("fetched-key")).await;
    assert_eq!(asked.load(SeqCst), 1);
}
