//! With an identity: Pilots over mutual TLS, the API by roles, certificates that are replaced while it runs.

use std::path::Path;
use std::sync::Arc;

use envoy_api::envoy::config::core::v3::Node;
use envoy_api::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_api::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use identity::{Material, folder};
use mesh_api::galley::Revision;
use mesh_types::SpiffeId;
use pki::{Authority, KeyType, LeafRequest, PrivateKey, Serial};
use prost::Name as _;
use service_kit::tls::{self, Channel, ClientTls, ServerId};
use time::{Duration, OffsetDateTime};
use tokio::sync::watch;
use tonic::codegen::Service as _;
use tonic::{Code, Status};

use crate::harness::{PATIENCE, Start, save, service};

fn id(account: &str) -> SpiffeId {
    SpiffeId::parse(&format!(
        "spiffe://cluster.local/ns/istio-system/sa/{account}"
    ))
    .unwrap()
}

const PILOT: &str = "istio-pilot-service-account";
const GALLEY: &str = "istio-galley-service-account";

#[expect(
    clippy::disallowed_methods,
    reason = "handshakes look at the real clock"
)]
fn now() -> OffsetDateTime {
    std::time::SystemTime::now().into()
}

fn root() -> Authority {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let serial = Serial::from_random([7; 16]);
    let domain = id("x").trust_domain().clone();
    Authority::self_signed(key, &domain, Duration::days(1), serial, now()).unwrap()
}

fn material(by: &Authority, account: &str, serial: u8) -> Material {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let request = LeafRequest {
        id: &id(account),
        public_key: key.public_key(),
        ttl: Duration::hours(1),
        names: &[],
        common_name: false,
    };
    let leaf = by
        .issue(&request, Serial::from_random([serial; 16]), now())
        .unwrap();
    Material {
        key: key.to_pkcs8_pem(),
        chain: leaf.to_pem(),
        roots: by.certificate().to_pem(),
        crls: String::new(),
    }
}

fn client(by: &Authority, account: &str) -> ClientTls {
    let identity = material(by, account, 1).identity().unwrap();
    watch::channel(Some(Arc::new(identity))).1.into()
}

fn anonymous(by: &Authority) -> ClientTls {
    material(by, "x", 1)
        .identity()
        .unwrap()
        .trust()
        .clone()
        .into()
}

fn connect(addr: std::net::SocketAddr, tls: ClientTls) -> Channel {
    tls::connect(&addr.to_string(), tls, ServerId::spiffe(id(GALLEY))).unwrap()
}

/// Subscribes as a Pilot does; the first thing that comes.
async fn subscribe(channel: Channel) -> Result<String, Status> {
    let request = DeltaDiscoveryRequest {
        node: Some(Node {
            id: "test".into(),
            ..Node::default()
        }),
        type_url: Revision::type_url(),
        resource_names_subscribe: vec!["*".into()],
        ..DeltaDiscoveryRequest::default()
    };
    let requests = futures::stream::unfold(Some(request), |request| async {
        match request {
            Some(request) => Some((request, None)),
            None => std::future::pending().await,
        }
    });
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let mut answers = client
        .delta_aggregated_resources(requests)
        .await?
        .into_inner();
    let answer = answers.message().await?;
    Ok(answer.unwrap().type_url)
}

/// Gets a path of the API; its status.
async fn get(channel: &Channel, path: &str) -> Result<u16, String> {
    let mut channel = channel.clone();
    std::future::poll_fn(|cx| channel.poll_ready(cx))
        .await
        .map_err(|error| format!("{error:?}"))?;
    let request = tonic::codegen::http::Request::get(path)
        .body(tonic::body::Body::empty())
        .unwrap();
    let answer = channel
        .call(request)
        .await
        .map_err(|error| format!("{error:?}"))?;
    Ok(answer.status().as_u16())
}

fn start(dir: &Path, identity: &Path) -> Start {
    let store = format!("sqlite://{}", dir.join("galley.db").display());
    let source = dir.join("config");
    std::fs::create_dir(&source).unwrap();
    save(&source.join("one.yaml"), &service("one", 1));
    Start::new(dir, "galley", &store, &[&source])
        .arg(format!("--identity-dir={}", identity.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_identity_everybody_must_say_who_they_are() {
    let (root, stranger) = (root(), root());
    let dir = tempfile::tempdir().unwrap();
    let identity = dir.path().join("identity");
    folder::write(&identity, &material(&root, GALLEY, 2)).unwrap();
    let galley = start(dir.path(), &identity).start().await;
    let (grpc, http) = (galley.addr("grpc"), galley.addr("http"));

    let got = subscribe(connect(grpc, client(&root, PILOT)))
        .await
        .unwrap();
    assert_eq!(got, Revision::type_url());
    // Who may look at the mesh may follow it too.
    let viewer = subscribe(connect(grpc, client(&root, "flotilla-viewer"))).await;
    assert_eq!(viewer.unwrap(), Revision::type_url());
    let refused = subscribe(connect(grpc, client(&root, "default")))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(subscribe(connect(grpc, anonymous(&root))).await.is_err());
    let forged = material(&stranger, PILOT, 3).identity().unwrap();
    let forged = forged.with_trust(material(&root, "x", 1).identity().unwrap().trust().clone());
    let forged = watch::channel(Some(Arc::new(forged))).1.into();
    assert!(subscribe(connect(grpc, forged)).await.is_err());

    for (who, want) in [
        (client(&root, "flotilla-viewer"), 200),
        (client(&root, "flotilla-operator"), 200),
        (client(&root, PILOT), 403),
        (anonymous(&root), 401),
    ] {
        let status = get(&connect(http, who), "/v1/revision").await.unwrap();
        assert_eq!(status, want);
    }
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_without_a_restart() {
    let (old, new) = (root(), root());
    let dir = tempfile::tempdir().unwrap();
    let identity = dir.path().join("identity");
    folder::write(&identity, &material(&old, GALLEY, 2)).unwrap();
    let galley = start(dir.path(), &identity).start().await;
    let http = galley.addr("http");
    let before = connect(http, client(&old, "flotilla-viewer"));
    assert_eq!(get(&before, "/v1/revision").await, Ok(200));
    folder::write(&identity, &material(&new, GALLEY, 4)).unwrap();
    let taken_in = async {
        while get(
            &connect(http, client(&new, "flotilla-viewer")),
            "/v1/revision",
        )
        .await
            != Ok(200)
        {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken_in).await.unwrap();
    assert!(
        get(
            &connect(http, client(&old, "flotilla-viewer")),
            "/v1/revision"
        )
        .await
        .is_err()
    );
    galley.stop().await;
}

#[test]
fn without_an_identity_other_machines_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_galley"))
        .arg(format!("--data-dir={}", dir.path().display()))
        .args([
            "--grpc-addr=:0",
            "--http-addr=127.0.0.1:0",
            "--monitoring-addr=127.0.0.1:0",
        ])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("--grpc-addr :0: other machines can reach this address"),
        "{said}"
    );
}
