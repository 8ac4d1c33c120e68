//! Asking for one certificate.

use std::sync::Arc;
use std::time::Duration;

use identity::{Credential, Material, SignError, folder};
use pki::{KeyType, PrivateKey, csr};
use tonic::{Code, Status};

use crate::ca::{TestCa, Twist, leaf, root};
use crate::{client, id, within};

const HOUR: Duration = Duration::from_secs(3600);

fn request() -> (PrivateKey, String) {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let csr = csr::create(&key, &id("pilot")).unwrap();
    (key, csr)
}

#[tokio::test]
async fn a_token_is_read_for_each_call() {
    let ca = TestCa::start().await;
    let file = ca.file("token", "old\n");
    let credential = Credential::TokenFile(file.clone());
    let client = client(&ca).with_header("ClusterID", "Kubernetes").unwrap();
    let (_, csr) = request();
    let refused = client
        .sign(&csr, HOUR, &credential, None)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, SignError::Refused { code: Code::Unauthenticated, message } if message == "request authenticate failure")
    );
    std::fs::write(&file, "good\n").unwrap();
    let issued = client.sign(&csr, HOUR, &credential, None).await.unwrap();
    let certificates = pki::Certificate::all_from_pem(&issued.chain).unwrap();
    assert_eq!(certificates[0].spiffe_id().unwrap(), id("pilot"));
    assert_eq!(issued.roots, ca.state(|state| state.roots.clone()));
    ca.state(|state| {
        assert_eq!(state.headers["clusterid"], "Kubernetes");
        assert_eq!(state.headers["authorization"], "Bearer good");
    });
    // Without a file nothing is shown, and a huge one is not sent.
    std::fs::remove_file(&file).unwrap();
    assert!(client.sign(&csr, HOUR, &credential, None).await.is_err());
    assert_eq!(
        ca.calls(),
        [
            "token Unauthenticated",
            "token Ok",
            "nothing Unauthenticated"
        ]
    );
    std::fs::write(&file, "x".repeat(20_000)).unwrap();
    let refused = client
        .sign(&csr, HOUR, &credential, None)
        .await
        .unwrap_err();
    assert!(matches!(refused, SignError::Credential(_)));
    assert!(format!("{credential:?}").ends_with("/token"));
    assert_eq!(
        format!("{:?}", Credential::Token("good".to_owned().into())),
        "token"
    );
}

/// Case 29, first half; and the codes that are worth another try.
#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let ca = TestCa::start().await;
    let credential = Credential::Token("good".to_owned().into());
    let (_, csr) = request();
    ca.state(|state| {
        state.failures = [
            Status::unavailable("1"),
            Status::resource_exhausted("2"),
            Status::internal("3"),
            Status::aborted("4"),
            Status::deadline_exceeded("5"),
        ]
        .into();
    });
    let issued = within(client(&ca).sign(&csr, HOUR, &credential, None)).await;
    assert!(issued.is_ok());
    assert_eq!(ca.calls().len(), 6);

    ca.state(|state| state.twist = Some(Twist::Short));
    let error = within(client(&ca).sign(&csr, HOUR, &credential, None))
        .await
        .unwrap_err();
    assert!(matches!(error, SignError::Short(1)), "{error}");
    assert_eq!(ca.calls().len(), 12);
}

/// Case 29, second half.
#[tokio::test]
async fn a_refusal_is_final() {
    let ca = TestCa::start().await;
    let credential = Credential::Token("good".to_owned().into());
    for refusal in [
        Status::unauthenticated("no"),
        Status::permission_denied("no"),
        Status::invalid_argument("no"),
    ] {
        ca.state(|state| {
            state.calls.clear();
            state.failures = [refusal.clone()].into();
        });
        let error = client(&ca)
            .sign(&request().1, HOUR, &credential, None)
            .await
            .unwrap_err();
        assert!(matches!(error, SignError::Refused { code, .. } if code == refusal.code()));
        assert_eq!(ca.calls().len(), 1);
    }
}

#[tokio::test]
async fn another_root_is_not_believed_and_the_file_is_read_anew() {
    let ca = TestCa::start().await;
    let stranger = root().certificate().to_pem();
    std::fs::write(ca.root_file(), &stranger).unwrap();
    let credential = Credential::Token("good".to_owned().into());
    let (client, (_, csr)) = (client(&ca), request());
    let error = within(client.sign(&csr, HOUR, &credential, None))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    // The token was shown to nobody.
    assert!(ca.calls().is_empty());
    ca.write_root_file();
    assert!(client.sign(&csr, HOUR, &credential, None).await.is_ok());

    // What is known already may be outdated: then the file helps.
    let domain = id("x").trust_domain().clone();
    let known = Arc::new(service_kit::tls::read_trust(domain, &stranger, "").unwrap());
    let issued = within(client.sign(&csr, HOUR, &credential, Some(&known))).await;
    assert!(issued.is_ok());

    std::fs::remove_file(ca.root_file()).unwrap();
    let error = client
        .sign(&csr, HOUR, &credential, None)
        .await
        .unwrap_err();
    assert!(matches!(error, SignError::Roots(_)), "{error}");
}

#[tokio::test]
async fn an_authority_that_is_somebody_else_hears_no_token() {
    let ca = TestCa::start().await;
    let server = service_kit::tls::ServerId::spiffe(id("another-service"));
    let domain = id("x").trust_domain().clone();
    let client = identity::CaClient::new(&ca.address(), server, domain)
        .unwrap()
        .with_roots(ca.root_file());
    let credential = Credential::Token("good".to_owned().into());
    let error = within(client.sign(&request().1, HOUR, &credential, None))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("want spiffe://"), "{error}");
    assert!(ca.calls().is_empty());
}

#[tokio::test]
async fn a_certificate_shows_who_asks() {
    let ca = TestCa::start().await;
    let (key, csr) = request();
    let (chain, roots) = ca.state(|state| {
        let leaf = leaf(
            &state.authority,
            &id("pilot"),
            key.public_key(),
            time::Duration::hours(1),
        );
        (leaf.to_pem(), state.roots.clone())
    });
    let material = Material {
        key: key.to_pkcs8_pem(),
        chain,
        roots,
        crls: String::new(),
    };
    let current = Credential::Certificate(Arc::new(material.identity().unwrap()));
    assert!(client(&ca).sign(&csr, HOUR, &current, None).await.is_ok());

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("certificates");
    let provided = Credential::Folder(path.clone());
    let missing = client(&ca)
        .sign(&csr, HOUR, &provided, None)
        .await
        .unwrap_err();
    assert!(matches!(missing, SignError::Credential(_)), "{missing}");
    folder::write(&path, &material).unwrap();
    assert!(client(&ca).sign(&csr, HOUR, &provided, None).await.is_ok());
    assert_eq!(ca.calls(), ["certificate Ok", "certificate Ok"]);
}
