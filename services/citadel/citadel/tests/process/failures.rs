//! What Citadel needs is away, and comes back.

use mesh_api::citadel::revoke_request::What;
use prost::Message as _;
use testkit::nats::Nats;
use testkit::postgres::Postgres;
use tonic::Code;

use crate::client::Ask;
use crate::harness::{Start, wait};
use crate::issuer::Issuer;

/// With the database killed nothing is issued, whoever asks is told to try again, and the bundle is still told; when it is back,
/// issuance resumes by itself.
#[tokio::test]
async fn the_database_is_killed_and_comes_back() {
    let (dir, issuer) = (tempfile::tempdir().unwrap(), Issuer::new());
    let mut postgres = Postgres::start();
    let url = postgres.database("citadel");
    let start = Start::new(dir.path(), "citadel")
        .with_issuer(dir.path(), &issuer)
        .arg(format!("--store={url}"));
    let citadel = start.start().await;
    let anybody = citadel.anybody().await;
    let ask = Ask::token(issuer.token("default", "app"));
    anybody.sign(&ask).await.unwrap();
    let client = citadel.client(&issuer.token("default", "app")).await;

    postgres.kill();
    let refused = wait("the refusal", async || anybody.sign(&ask).await.err()).await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(!refused.message().contains("postgres"), "{refused}");
    let mut trust = anybody.trust();
    let watch = trust
        .watch(mesh_api::citadel::WatchRequest::default())
        .await;
    assert!(
        watch
            .unwrap()
            .into_inner()
            .message()
            .await
            .unwrap()
            .is_some()
    );

    postgres.restart();
    wait("issuance", async || anybody.sign(&ask).await.ok()).await;
    wait("renewal", async || client.renew().await.ok()).await;
    citadel.stop().await;
}

/// The database is not there yet: Citadel says so, waits, and starts when it comes.
#[tokio::test]
async fn the_database_comes_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start();
    let url = postgres.database("citadel");
    postgres.kill();
    let start = Start::new(dir.path(), "citadel").arg(format!("--store={url}"));
    let mut citadel = start.launch().await;
    let (status, said) = wait("the condition", async || {
        Some(citadel.ready()).filter(|(_, said)| said["waiting"]["ledger"].is_string())
    })
    .await;
    assert_eq!(status, 503, "{said}");
    assert!(!citadel.log().contains("password"));
    postgres.restart();
    citadel.until_ready().await;
}

/// Without NATS, and with NATS killed, certificates are issued all the same.
#[tokio::test]
async fn nats_is_away_and_nobody_notices() {
    let (dir, issuer) = (tempfile::tempdir().unwrap(), Issuer::new());
    let mut nats = Nats::prepare();
    let start = Start::new(dir.path(), "citadel")
        .with_issuer(dir.path(), &issuer)
        .arg(format!("--bus={}", nats.url()));
    let citadel = start.start().await;
    let anybody = citadel.anybody().await;
    let ask = Ask::token(issuer.token("default", "app"));
    anybody.sign(&ask).await.unwrap();
    nats.launch();
    let options = bus::BusOptions::default();
    let bus = bus::connect(&nats.url(), &options).await.unwrap();
    let mut news = bus.subscribe(citadel::TRUST_SUBJECT).await.unwrap();
    // Each revocation makes another bundle, of which the bus hears once Citadel and we are both connected to it.
    let mut operator = crate::client::socket(citadel.socket()).await;
    let mut n = 0;
    let message = wait("news of the bundle", async || {
        n += 1;
        let revoked = operator.revoke(mesh_api::citadel::RevokeRequest {
            what: Some(What::SpiffeId(format!(
                "spiffe://cluster.local/ns/x/sa/a{n}"
            ))),
            reason: "test".into(),
            hold: false,
        });
        revoked.await.unwrap();
        let soon = std::time::Duration::from_secs(2);
        tokio::time::timeout(soon, news.next()).await.ok().flatten()
    })
    .await;
    let told = mesh_api::citadel::TrustBundle::decode(message.payload).unwrap();
    assert!(told.generation > 0 && told.roots.is_empty());
    nats.kill();
    anybody.sign(&ask).await.unwrap();
    citadel.stop().await;
}

/// Killed in the middle of it: whoever comes back with a certificate that was handed out is known, and its journal is whole.
#[tokio::test]
async fn a_kill_loses_nothing_that_was_handed_out() {
    let (dir, issuer) = (tempfile::tempdir().unwrap(), Issuer::new());
    let start = Start::new(dir.path(), "citadel").with_issuer(dir.path(), &issuer);
    let citadel = start.start().await;
    let client = citadel.client(&issuer.token("default", "app")).await;
    citadel.kill();
    let citadel = start.start().await;
    let mut operator = crate::client::socket(citadel.socket()).await;
    let request = mesh_api::citadel::JournalRequest {
        serial: client.serial.clone(),
        ..Default::default()
    };
    let mut found = operator.journal(request).await.unwrap().into_inner();
    let entry = found.message().await.unwrap().unwrap();
    assert_eq!(entry.spiffe_id, "spiffe://cluster.local/ns/default/sa/app");
    let status = operator.status(mesh_api::citadel::StatusRequest {}).await;
    assert!(status.unwrap().into_inner().journal_intact);
}
