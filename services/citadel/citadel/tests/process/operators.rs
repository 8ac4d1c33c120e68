//! What operators may, and what follows from it.

use mesh_api::citadel::revoke_request::What;
use mesh_api::citadel::{
    CreateTokenRequest, JournalEntry, JournalRequest, LiftRequest, RevocationsRequest,
    RevokeRequest, RotateRequest, StatusRequest, WatchRequest, rotate_request::Step,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::client::{Ask, leaf, socket};
use crate::harness::{Citadel, ready, wait};
use mesh_api::citadel::operator_client::OperatorClient;

const APP: &str = "spiffe://cluster.local/ns/default/sa/app";

fn revoke(what: What) -> RevokeRequest {
    RevokeRequest {
        what: Some(what),
        reason: "stolen".into(),
        hold: true,
    }
}

async fn journal(
    operator: &mut OperatorClient<Channel>,
    request: JournalRequest,
) -> Vec<JournalEntry> {
    let mut stream = operator.journal(request).await.unwrap().into_inner();
    let mut entries = Vec::new();
    while let Some(entry) = stream.message().await.unwrap() {
        entries.push(entry);
    }
    entries
}

/// Over TLS a role decides; over the socket whoever may open it.
#[tokio::test]
async fn roles_decide() {
    let (_dir, issuer, citadel) = ready().await;
    let client = async |account: &str| citadel.client(&issuer.token("istio-system", account)).await;
    let viewer = client("flotilla-viewer").await;
    let operator = client("flotilla-operator").await;
    let nobody = client("somebody").await;
    let anonymous = citadel.anybody().await;

    let status = |mut client: OperatorClient<_>| async move {
        client
            .status(StatusRequest {})
            .await
            .map(drop)
            .map_err(|status| status.code())
    };
    assert_eq!(status(viewer.operator()).await, Ok(()));
    assert_eq!(status(operator.operator()).await, Ok(()));
    assert_eq!(status(nobody.operator()).await, Err(Code::PermissionDenied));
    assert_eq!(
        status(anonymous.operator()).await,
        Err(Code::Unauthenticated)
    );

    let token = |mut client: OperatorClient<_>| async move {
        let request = CreateTokenRequest {
            spiffe_id: APP.into(),
            ..CreateTokenRequest::default()
        };
        client
            .create_token(request)
            .await
            .map(drop)
            .map_err(|status| status.code())
    };
    assert_eq!(token(viewer.operator()).await, Err(Code::PermissionDenied));
    assert_eq!(token(operator.operator()).await, Ok(()));
    assert_eq!(
        token(anonymous.operator()).await,
        Err(Code::Unauthenticated)
    );
    let rotate = |mut client: OperatorClient<_>, step: Step| async move {
        let request = RotateRequest {
            step: step.into(),
            reason: String::new(),
        };
        client
            .rotate(request)
            .await
            .map(drop)
            .map_err(|status| status.code())
    };
    assert_eq!(rotate(viewer.operator(), Step::Status).await, Ok(()));
    assert_eq!(
        rotate(viewer.operator(), Step::Start).await,
        Err(Code::PermissionDenied)
    );
    // Nothing to pause.
    assert_eq!(
        rotate(operator.operator(), Step::Pause).await,
        Err(Code::FailedPrecondition)
    );

    let mut local = socket(citadel.socket()).await;
    assert!(local.status(StatusRequest {}).await.is_ok());
    let foreign = CreateTokenRequest {
        spiffe_id: "spiffe://other/ns/a/sa/b".into(),
        ..CreateTokenRequest::default()
    };
    let refused = local.create_token(foreign).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let entries = journal(&mut local, JournalRequest::default()).await;
    let made = entries.iter().find(|entry| entry.event == "token").unwrap();
    assert_eq!(
        made.requester,
        "spiffe://cluster.local/ns/istio-system/sa/flotilla-operator"
    );
}

/// What was issued is in the journal, linked, and found by identity, serial number and node.
#[tokio::test]
async fn the_journal_tells_who_got_what() {
    let (_dir, issuer, citadel) = ready().await;
    let anybody = citadel.anybody().await;
    let token = issuer.with(|claims| {
        claims["kubernetes.io"] = serde_json::json!({"node": {"name": "n9"}});
    });
    let client = citadel.client(&token).await;
    let renewed = client.renew().await.unwrap();
    anybody
        .sign(&Ask::token(issuer.token("shop", "cart")))
        .await
        .unwrap();

    let mut operator = socket(citadel.socket()).await;
    let of_app = JournalRequest {
        spiffe_id: APP.into(),
        ..JournalRequest::default()
    };
    let entries = journal(&mut operator, of_app).await;
    assert_eq!(entries.len(), 2);
    let [second, first] = &entries[..] else {
        panic!()
    };
    assert_eq!((&*first.attestation, &*first.node), ("jwt", "n9"));
    assert_eq!(first.serial, client.serial);
    assert_eq!(second.attestation, "client-certificate");
    assert_eq!(second.node, "n9", "a renewal is of the same node");
    assert_eq!(second.replaces, client.serial);
    assert_eq!(second.serial, leaf(&renewed).serial().to_string());
    let by_serial = JournalRequest {
        serial: client.serial.to_uppercase(),
        ..JournalRequest::default()
    };
    assert_eq!(
        journal(&mut operator, by_serial).await,
        std::slice::from_ref(first)
    );
    let by_node = JournalRequest {
        node: "n9".into(),
        limit: 1,
        ..JournalRequest::default()
    };
    assert_eq!(
        journal(&mut operator, by_node).await,
        std::slice::from_ref(second)
    );

    let status = operator
        .status(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(status.journal_intact);
    assert!(status.journal_entries >= 4);
    // Ours, and three.
    assert_eq!(status.live_certificates, 4);
}

async fn until_refused(client: &crate::client::Client) {
    wait("the refusal", async || {
        let refused = client.renew().await.err()?;
        let code = refused.code();
        assert!(
            matches!(code, Code::Unauthenticated | Code::Unavailable),
            "{refused}"
        );
        Some(())
    })
    .await;
}

async fn bundle(citadel: &Citadel) -> mesh_api::citadel::TrustBundle {
    let mut trust = citadel.anybody().await.trust();
    let watch = trust.watch(WatchRequest::default()).await.unwrap();
    watch.into_inner().message().await.unwrap().unwrap()
}

/// An identity that is revoked renews nothing, gets nothing by another proof, and is denied in the bundle, until it is lifted.
#[tokio::test]
async fn a_revoked_identity_gets_nothing() {
    let (_dir, issuer, citadel) = ready().await;
    let app = citadel.client(&issuer.token("default", "app")).await;
    let other = citadel.client(&issuer.token("default", "other")).await;
    app.renew().await.unwrap();
    let mut operator = socket(citadel.socket()).await;
    let mut missing = revoke(What::SpiffeId(APP.into()));
    missing.reason = " ".into();
    let refused = operator.revoke(missing).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);

    let done = operator.revoke(revoke(What::SpiffeId(APP.into()))).await;
    let done = done.unwrap().into_inner();
    assert_eq!((done.certificates, &*done.requester), (2, "socket"));
    until_refused(&app).await;
    let anybody = citadel.anybody().await;
    let ask = Ask::token(issuer.token("default", "app"));
    let refused = anybody.sign(&ask).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unauthenticated, "request authenticate failure")
    );
    other.renew().await.unwrap();
    let denied = wait("the bundle", async || {
        Some(bundle(&citadel).await).filter(|bundle| !bundle.denied.is_empty())
    })
    .await;
    assert_eq!(denied.denied, [APP]);
    assert_eq!(denied.crls.len(), 1);
    let entries = journal(&mut operator, JournalRequest::default()).await;
    let events: Vec<&str> = entries.iter().map(|entry| &*entry.event).collect();
    assert!(
        events.contains(&"revoked") && events.contains(&"refused"),
        "{events:?}"
    );

    let lift = LiftRequest {
        id: done.id,
        reason: "found again".into(),
    };
    operator.lift(lift.clone()).await.unwrap();
    assert_eq!(
        operator.lift(lift).await.unwrap_err().code(),
        Code::NotFound
    );
    anybody.sign(&ask).await.unwrap();
    wait("the bundle", async || {
        bundle(&citadel).await.denied.is_empty().then_some(())
    })
    .await;
    let list = operator.revocations(RevocationsRequest {}).await.unwrap();
    let list = list.into_inner().revocations;
    assert_eq!(list.len(), 1);
    assert!(list[0].lifted_at > 0);
}

/// One certificate that is revoked does not renew; its owner gets another by a token.
#[tokio::test]
async fn a_revoked_certificate_does_not_renew() {
    let (_dir, issuer, citadel) = ready().await;
    let stolen = citadel.client(&issuer.token("default", "app")).await;
    let fresh = citadel.client(&issuer.token("default", "app")).await;
    let mut operator = socket(citadel.socket()).await;
    let done = operator
        .revoke(revoke(What::Serial(stolen.serial.clone())))
        .await;
    assert_eq!(done.unwrap().into_inner().certificates, 1);
    until_refused(&stolen).await;
    fresh.renew().await.unwrap();
    let crls = wait("the list", async || {
        Some(bundle(&citadel).await.crls).filter(|crls| !crls.is_empty())
    })
    .await;
    let lists = pki::crl::Crl::all_from_pem(&crls.concat()).unwrap();
    let serials: Vec<String> = lists[0].serials().map(ToString::to_string).collect();
    assert_eq!(serials, std::slice::from_ref(&stolen.serial));
}
