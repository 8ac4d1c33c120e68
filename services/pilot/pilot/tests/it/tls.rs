//! xDS over TLS: who gets in, and as whom.

use std::net::SocketAddr;

use envoy_api::envoy::config::core::v3::Node;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use service_kit::tls::{ClientTls, ServerId, connect};
use tonic::{Code, Status};

use crate::ads::{Ads, Ask, CDS, Protocol};
use crate::citadel::{Ca, PILOT, id};
use crate::rig::{Folder, Pilot};

pub const APP: &str = "spiffe://cluster.local/ns/default/sa/app";

/// The node of a pod, which says that it runs as an account.
pub fn node(namespace: &str, account: &str) -> Node {
    let text = |text: &str| Value {
        kind: Some(Kind::StringValue(text.into())),
    };
    let fields = [
        ("NAMESPACE".to_owned(), text(namespace)),
        ("SERVICE_ACCOUNT".to_owned(), text(account)),
    ];
    Node {
        id: format!("sidecar~10.9.9.9~pod.{namespace}~{namespace}.svc.cluster.local"),
        metadata: Some(Struct {
            fields: fields.into(),
        }),
        ..Node::default()
    }
}

/// A stream over TLS to a Pilot.
pub async fn open(to: SocketAddr, tls: ClientTls, node: Node) -> Result<Ads, Status> {
    let channel = connect(&to.to_string(), tls, ServerId::spiffe(id(PILOT))).unwrap();
    Ads::over(channel, Protocol::Delta, Some(node)).await
}

/// The flags of a Pilot with an identity in a folder.
fn flags(folder: &Folder, identity: &tempfile::TempDir, more: &[&str]) -> Vec<String> {
    let mut all = vec![
        "--config-dir".to_owned(),
        folder.path().display().to_string(),
        "--identity-dir".to_owned(),
        identity.path().display().to_string(),
    ];
    all.extend(more.iter().map(|flag| (*flag).to_owned()));
    all
}

async fn start(flags: &[String]) -> Pilot {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let pilot = Pilot::start(&flags).await;
    pilot.ready().await;
    pilot
}

/// How a stream ends that asks for clusters.
async fn refusal(to: SocketAddr, tls: ClientTls, node: Node) -> Status {
    match open(to, tls, node).await {
        Err(status) => status,
        Ok(mut ads) => {
            ads.send(Ask {
                type_url: CDS.into(),
                ..Ask::default()
            })
            .await;
            ads.end().await
        }
    }
}

/// Case 21.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_who_its_certificate_shows_gets_nothing() {
    let (ca, folder) = (Ca::new(), Folder::of(&[("a", 80)]));
    let identity = ca.folder();
    let pilot = start(&flags(&folder, &identity, &[])).await;
    let to = pilot.grpc_tls.unwrap();

    let mut good = open(to, ca.client(APP), node("default", "app"))
        .await
        .unwrap();
    assert!(!good.settle().await.cds.names().is_empty());

    for (node, want) in [
        (
            node("prod", "app"),
            "the node says namespace \"prod\", and its certificate is of spiffe://cluster.local/ns/default/sa/app",
        ),
        (
            node("default", "admin"),
            "the node says SERVICE_ACCOUNT \"admin\", and its certificate is of spiffe://cluster.local/ns/default/sa/app",
        ),
    ] {
        let status = refusal(to, ca.client(APP), node).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert_eq!(status.message(), want);
    }
    let counted = pilot
        .metric("flotilla_pilot_identity_mismatches_total")
        .await;
    assert_eq!(counted, 2.0);
    assert_eq!(pilot.metric("pilot_xds").await, 1.0);
}

/// Case 19, as far as it is about Pilot: no certificate, and one of another authority.
#[tokio::test(flavor = "multi_thread")]
async fn who_shows_no_certificate_or_a_rogue_one_stays_out() {
    let (ca, rogue, folder) = (Ca::new(), Ca::new(), Folder::of(&[("a", 80)]));
    let identity = ca.folder();
    let pilot = start(&flags(&folder, &identity, &[])).await;
    let to = pilot.grpc_tls.unwrap();
    for tls in [ca.anonymous(), rogue.client_of(APP, &ca)] {
        let status = refusal(to, tls, node("default", "app")).await;
        assert_ne!(status.code(), Code::Ok);
        assert_ne!(status.code(), Code::PermissionDenied, "{status}");
    }
    assert_eq!(pilot.metric("pilot_xds").await, 0.0);

    // Unless that is wanted.
    let lenient = start(&flags(&folder, &identity, &["--xds-identity-check=false"])).await;
    let to = lenient.grpc_tls.unwrap();
    for tls in [ca.anonymous(), ca.client(APP)] {
        let mut ads = open(to, tls, node("prod", "x")).await.unwrap();
        ads.settle().await;
    }
    let status = refusal(to, rogue.client_of(APP, &ca), node("default", "app")).await;
    assert_ne!(status.code(), Code::Ok);
}

/// The HTTP API wants a role.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_for_those_who_have_a_role() {
    let (ca, folder) = (Ca::new(), Folder::of(&[("a", 80)]));
    let identity = ca.folder();
    let pilot = start(&flags(&folder, &identity, &[])).await;
    let viewer = "spiffe://cluster.local/ns/istio-system/sa/flotilla-viewer";
    for (whom, want) in [(viewer, 200), (APP, 403)] {
        assert_eq!(status(pilot.http, ca.client(whom)).await, want, "{whom}");
    }
}

async fn status(at: SocketAddr, tls: ClientTls) -> u16 {
    use http_body_util::Empty;
    use hyper_util::rt::TokioIo;

    let server = ServerId::spiffe(id(PILOT));
    let mut config = service_kit::tls::client_config(tls, server);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let tcp = tokio::net::TcpStream::connect(at).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let stream = connector.connect(name, tcp).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::get("/v1/revision")
        .header("host", "pilot")
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    sender
        .send_request(request)
        .await
        .unwrap()
        .status()
        .as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_is_for_this_machine_only() {
    let folder = Folder::of(&[]);
    let dir = folder.path().display().to_string();
    for (flag, want) in [
        ("--grpc-addr=0.0.0.0:0", "nothing is encrypted there"),
        ("--http-addr=0.0.0.0:0", "nothing is encrypted"),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_pilot"))
            .args(["--config-dir", &dir, flag])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(want), "{said}");
    }
}
