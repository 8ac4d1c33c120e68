//! Where the root comes from.

use time::{Duration, OffsetDateTime};
use tonic::Code;

use crate::authority;
use crate::client::{Ask, leaf, socket};
use crate::harness::{Start, ready, wait};
use crate::issuer::Issuer;
use mesh_api::citadel::{StatusRequest, WatchRequest};

/// Case 13.
#[tokio::test]
async fn nothing_outlives_a_plugged_in_signer() {
    let (dir, issuer) = (tempfile::tempdir().unwrap(), Issuer::new());
    let cacerts = dir.path().join("cacerts");
    let signer = authority::root("cluster.local", Duration::hours(1));
    authority::write(&cacerts, &signer);
    let flag = format!("--root-ca-dir={}", cacerts.display());
    let start = Start::new(dir.path(), "citadel")
        .with_issuer(dir.path(), &issuer)
        .arg(&flag);
    let citadel = start.start().await;
    let ask = Ask {
        seconds: 24 * 3600,
        ..Ask::token(issuer.token("default", "app"))
    };
    let chain = citadel.anybody().await.sign(&ask).await.unwrap();
    assert_eq!(leaf(&chain).not_after(), signer.certificate().not_after());
    citadel.stop().await;

    // The same, made long ago.
    let expired = dir.path().join("expired");
    let then = OffsetDateTime::now_utc() - Duration::hours(2);
    let signer = authority::root_at("cluster.local", Duration::hours(1), then);
    authority::write(&expired, &signer);
    let start = Start::new(dir.path(), "late");
    let said = start
        .arg(format!("--root-ca-dir={}", expired.display()))
        .fails()
        .await;
    assert!(said.contains("has expired"), "{said}");
}

/// Case 13, while it runs: the signer expires, and nothing is issued any more.
#[tokio::test]
async fn an_expired_signer_signs_nothing() {
    let (dir, issuer) = (tempfile::tempdir().unwrap(), Issuer::new());
    let cacerts = dir.path().join("cacerts");
    authority::write(
        &cacerts,
        &authority::root("cluster.local", Duration::seconds(8)),
    );
    let start = Start::new(dir.path(), "citadel")
        .with_issuer(dir.path(), &issuer)
        .arg("--identity-burst=100000")
        .arg(format!("--root-ca-dir={}", cacerts.display()));
    let citadel = start.start().await;
    let anybody = citadel.anybody().await;
    // The first connection is made while the certificates are good; it lives on.
    let ask = Ask::token(issuer.token("default", "app"));
    anybody.sign(&ask).await.unwrap();
    let refused = wait("the end of the signer", async || {
        anybody.sign(&ask).await.err()
    })
    .await;
    assert_eq!(refused.code(), Code::Internal, "{refused}");
    assert_eq!(refused.message(), "CSR signing error (signing failed)");
}

/// Case 14.
#[tokio::test]
async fn half_a_plugged_in_folder_is_refused_and_an_empty_one_makes_a_root() {
    let dir = tempfile::tempdir().unwrap();
    let cacerts = dir.path().join("cacerts");
    authority::write(
        &cacerts,
        &authority::root("cluster.local", Duration::days(30)),
    );
    std::fs::remove_file(cacerts.join("cert-chain.pem")).unwrap();
    let flag = format!("--root-ca-dir={}", cacerts.display());
    let said = Start::new(dir.path(), "half").arg(&flag).fails().await;
    assert!(said.contains("cert-chain.pem is missing"), "{said}");

    std::fs::remove_dir_all(&cacerts).unwrap();
    std::fs::create_dir(&cacerts).unwrap();
    let citadel = Start::new(dir.path(), "empty").arg(&flag).start().await;
    let status = socket(citadel.socket())
        .await
        .status(StatusRequest {})
        .await;
    let status = status.unwrap().into_inner();
    assert_eq!(status.mode, "self-signed");
    assert_eq!(status.authorities.len(), 1);
    let root = &status.authorities[0];
    assert!(root.signing && root.trusted);
    assert_eq!(root.key, "EC P-256");
    let years = (root.not_after - root.not_before) / 86_400;
    assert_eq!(years, 3650);
}

/// Case 15.
#[tokio::test]
async fn replicas_that_start_together_share_one_root() {
    let (dir, issuer) = (tempfile::tempdir().unwrap(), Issuer::new());
    let store = format!(
        "--store=sqlite://{}",
        dir.path().join("shared.db").display()
    );
    let start = |name: &str| {
        Start::new(dir.path(), name)
            .with_issuer(dir.path(), &issuer)
            .arg(&store)
    };
    let (a, b, c) = (start("a"), start("b"), start("c"));
    let (a, b, c) = tokio::join!(a.start(), b.start(), c.start());
    let mut roots = Vec::new();
    for citadel in [&a, &b, &c] {
        let ask = Ask::token(issuer.token("default", "app"));
        let chain = citadel.anybody().await.sign(&ask).await.unwrap();
        roots.push(chain.last().unwrap().clone());
    }
    roots.dedup();
    assert_eq!(roots.len(), 1);
    assert_eq!(roots[0].matches("BEGIN CERTIFICATE").count(), 1);
    // A certificate of one is good at another, and the leader is one.
    let client = a.client(&issuer.token("default", "app")).await;
    let at_b = b.anybody().await;
    drop(client);
    assert!(at_b.sign(&Ask::token(issuer.token("x", "y"))).await.is_ok());
    let leader = wait("a leader", async || {
        let status = socket(a.socket()).await.status(StatusRequest {}).await;
        Some(status.unwrap().into_inner().leader).filter(|leader| !leader.is_empty())
    });
    assert!(["a", "b", "c"].contains(&leader.await.as_str()));
}

/// A root of RSA, as Istio's default: the chain is answered in the same form.
#[tokio::test]
async fn an_rsa_root_signs_on_request() {
    let (dir, issuer) = (tempfile::tempdir().unwrap(), Issuer::new());
    let start = Start::new(dir.path(), "citadel")
        .with_issuer(dir.path(), &issuer)
        .arg("--root-key=rsa");
    let citadel = start.start().await;
    let ask = Ask::token(issuer.token("default", "app"));
    let chain = citadel.anybody().await.sign(&ask).await.unwrap();
    let root = pki::Certificate::from_pem(&chain[1]).unwrap();
    assert_eq!(root.key_type().unwrap().to_string(), "RSA 2048");
    assert!(root.signed(&leaf(&chain)));
}

/// The bundle is told at once, and not again to who has it; and a restart tells the same.
#[tokio::test]
async fn the_bundle_is_watched() {
    let (dir, issuer, citadel) = ready().await;
    let mut trust = citadel.anybody().await.trust();
    let mut watch = async |digest: &str| {
        let request = WatchRequest {
            digest: digest.to_owned(),
        };
        trust.watch(request).await.unwrap().into_inner()
    };
    let first = watch("").await.message().await.unwrap().unwrap();
    assert_eq!(first.roots.len(), 1);
    assert_eq!(first.trust_domain, "cluster.local");
    let mut known = watch(&first.digest).await;
    let soon = std::time::Duration::from_millis(300);
    assert!(tokio::time::timeout(soon, known.message()).await.is_err());
    // At the end of Citadel the stream says so.
    let ended = tokio::spawn(async move { known.message().await });
    citadel.stop().await;
    assert_eq!(ended.await.unwrap().unwrap_err().code(), Code::Unavailable);
    let start = Start::new(dir.path(), "citadel").with_issuer(dir.path(), &issuer);
    let citadel = start.start().await;
    let mut trust = citadel.anybody().await.trust();
    let watch = trust.watch(WatchRequest::default()).await.unwrap();
    let again = watch.into_inner().message().await.unwrap().unwrap();
    assert_eq!(again, first);
}
