//! What must not work, and must not disturb others.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use time::Duration;
use tonic::Code;

use crate::api_server::{ApiServer, review};
use crate::authority;
use crate::client::{Ask, app_csr, leaf, socket};
use crate::harness::{Start, ready, wait};
use crate::issuer::Issuer;
use mesh_api::citadel::CreateTokenRequest;

/// Case 6.
#[tokio::test]
async fn requests_that_are_none_are_refused() {
    let (_dir, issuer, citadel) = ready().await;
    let anybody = citadel.anybody().await;
    let certificate = std::fs::read_to_string(citadel.root_file()).unwrap();
    let good = app_csr();
    // One letter of the signature.
    let at = good.len() - 60;
    let letter = if good.as_bytes()[at] == b'A' {
        'B'
    } else {
        'A'
    };
    let broken = format!("{}{letter}{}", &good[..at], &good[at + 1..]);
    for (csr, code) in [
        ("garbage".to_owned(), Code::InvalidArgument),
        (String::new(), Code::InvalidArgument),
        (certificate, Code::InvalidArgument),
        (broken, Code::InvalidArgument),
        (
            include_str!("rsa1024.csr.pem").to_owned(),
            Code::InvalidArgument,
        ),
        (format!("{good}{good}"), Code::InvalidArgument),
        ("x".repeat(70 << 10), Code::InvalidArgument),
        ("x".repeat(200 << 10), Code::InvalidArgument),
        ("x".repeat(8 << 20), Code::InvalidArgument),
    ] {
        let ask = Ask {
            csr,
            ..Ask::token(issuer.token("default", "app"))
        };
        let refused = anybody.sign(&ask).await.unwrap_err();
        assert_eq!(refused.code(), code, "{:.60}: {refused}", ask.csr);
        assert!(refused.message().len() < 300, "{refused}");
    }
    let signer = Ask {
        hints: vec![("CertSigner", "vault".into())],
        ..Ask::token(issuer.token("default", "app"))
    };
    let refused = anybody.sign(&signer).await.unwrap_err();
    assert_eq!(refused.code(), Code::Internal);
    let ask = Ask::token(issuer.token("default", "app"));
    assert!(anybody.sign(&ask).await.is_ok(), "others do not notice");
}

/// Case 8: there is no plaintext.
#[tokio::test]
async fn plaintext_is_not_answered() {
    let (_dir, issuer, citadel) = ready().await;
    let mut stream = TcpStream::connect(citadel.grpc()).unwrap();
    let token = issuer.token("default", "app");
    write!(
        stream,
        "POST /istio.v1.auth.IstioCertificateService/CreateCertificate HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(!text.contains("200 OK"), "{text}");
    assert_eq!(citadel.metric("citadel_server_csr_count"), 0.0);
    assert!(!citadel.log().contains(&token));
}

/// Case 19: certificates with two identities, of an unknown trust domain, and of a root of another domain end in the handshake.
#[tokio::test]
async fn certificates_that_show_nobody_do_not_get_in() {
    let dir = tempfile::tempdir().unwrap();
    let cacerts = dir.path().join("cacerts");
    let own = authority::root("cluster.local", Duration::days(30));
    authority::write(&cacerts, &own);
    let start = Start::new(dir.path(), "citadel");
    let start = start.arg(format!("--root-ca-dir={}", cacerts.display()));
    let citadel = start.start().await;
    let anybody = citadel.anybody().await;
    let app = "spiffe://cluster.local/ns/default/sa/app";
    let other = "spiffe://cluster.local/ns/kube-system/sa/admin";
    let foreign = "spiffe://td.evil/ns/default/sa/app";

    let (chain, key) = authority::forge(&own, &[app]);
    let renewed = anybody.with(&chain, &key).renew().await.unwrap();
    assert_eq!(leaf(&renewed).spiffe_id().unwrap().to_string(), app);

    let evil = authority::root("td.evil", Duration::days(30));
    for (what, signer, names) in [
        ("of another trust domain", &evil, &[foreign][..]),
        ("of another domain's root", &evil, &[app]),
        ("of our root, for another domain", &own, &[foreign]),
    ] {
        let (chain, key) = authority::forge(signer, names);
        let refused = anybody.with(&chain, &key).renew().await.unwrap_err();
        // Ended by the handshake: what the client makes of that is no answer of Citadel's.
        let code = refused.code();
        assert!(
            matches!(code, Code::Unavailable | Code::Cancelled | Code::Unknown),
            "{what}: {refused}"
        );
    }
    // No client of ours shows a certificate of two: the handshake is made by hand.
    let (chain, key) = authority::forge(&own, &[app, other]);
    assert!(!handshake(&citadel, &chain, &key).await);
    let (chain, key) = authority::forge(&own, &[app]);
    assert!(handshake(&citadel, &chain, &key).await);
    let issued = "citadel_server_success_cert_issuance_count";
    assert_eq!(citadel.metric(issued), 1.0, "none but the good one");
}

/// Whether a server that is shown this certificate goes on talking.
async fn handshake(citadel: &crate::harness::Citadel, chain: &str, key: &pki::PrivateKey) -> bool {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(citadel.root_file()).unwrap();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).map(Result::unwrap));
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.map(Result::unwrap).collect(), key.to_pki_types())
        .unwrap();
    let tcp = tokio::net::TcpStream::connect(citadel.grpc())
        .await
        .unwrap();
    let name = ServerName::try_from("istio-citadel.istio-system.svc").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let Ok(mut tls) = connector.connect(name, tcp).await else {
        return false;
    };
    // With TLS 1.3 the server's refusal comes after the handshake seems to be over.
    let asked = b"GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut answer = Vec::new();
    tls.write_all(asked).await.is_ok()
        && tls.read_to_end(&mut answer).await.is_ok()
        && answer.starts_with(b"HTTP/1.1")
}

/// Case 22.
#[tokio::test]
async fn a_flood_of_one_identity_does_not_disturb_another() {
    let (_dir, issuer, citadel) = ready().await;
    let anybody = citadel.anybody().await;
    let flood = Arc::new(Ask::token(issuer.token("default", "flood")));
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let (anybody, flood) = (anybody.clone(), flood.clone());
        asked.spawn(async move { anybody.sign(&flood).await.map(drop) });
    }
    // Meanwhile.
    let app = Ask::token(issuer.token("default", "app"));
    for _ in 0..20 {
        anybody.sign(&app).await.unwrap();
    }
    let (mut given, mut refused) = (0, 0);
    while let Some(outcome) = asked.join_next().await {
        match outcome.unwrap() {
            Ok(()) => given += 1,
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                refused += 1;
            }
        }
    }
    assert!(given >= 50, "{given} of the flood got through");
    assert!(refused > 500, "{given} of the flood got through");
    let counted = r#"flotilla_citadel_limited_requests_total{limit="identity"}"#;
    assert_eq!(citadel.metric(counted), f64::from(refused));
}

/// Of many who show a join token at once, one gets a certificate; after that nobody.
#[tokio::test]
async fn a_join_token_works_once() {
    let dir = tempfile::tempdir().unwrap();
    let citadel = Start::new(dir.path(), "citadel").start().await;
    let mut operator = socket(citadel.socket()).await;
    let request = CreateTokenRequest {
        spiffe_id: "spiffe://cluster.local/ns/shop/sa/cart".into(),
        node: "n7".into(),
        ttl_seconds: 60,
    };
    let token = operator.create_token(request).await.unwrap().into_inner();
    assert_eq!(
        token.bundle,
        std::fs::read_to_string(citadel.root_file()).unwrap()
    );
    let anybody = citadel.anybody().await;
    // A bad request costs no token.
    let bad = Ask {
        csr: "x".into(),
        ..Ask::token(&token.token)
    };
    let refused = anybody.sign(&bad).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);

    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (anybody, ask) = (anybody.clone(), Ask::token(&token.token));
        asked.spawn(async move { anybody.sign(&ask).await });
    }
    let outcomes = asked.join_all().await;
    let (given, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(given.len(), 1);
    let chain = given.into_iter().next().unwrap().unwrap();
    assert_eq!(
        leaf(&chain).spiffe_id().unwrap().to_string(),
        "spiffe://cluster.local/ns/shop/sa/cart"
    );
    for status in refused {
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(status.message(), "request authenticate failure");
    }
    let replayed = anybody.sign(&Ask::token(&token.token)).await.unwrap_err();
    assert_eq!(replayed.code(), Code::Unauthenticated);
}

/// At the most talkative level the log holds no token, no key, and nothing that is as good.
#[tokio::test]
async fn the_log_holds_no_secrets() {
    let (dir, issuer, citadel) = ready().await;
    let anybody = citadel.anybody().await;
    let good = issuer.token("default", "app");
    let bad = issuer.with(|claims| claims["aud"] = serde_json::json!("x"));
    let client = citadel.client(&good).await;
    client.renew().await.unwrap();
    assert!(anybody.sign(&Ask::token(&bad)).await.is_err());
    let mut operator = socket(citadel.socket()).await;
    let request = CreateTokenRequest {
        spiffe_id: "spiffe://cluster.local/ns/shop/sa/cart".into(),
        ..CreateTokenRequest::default()
    };
    let join = operator.create_token(request).await.unwrap().into_inner();
    anybody.sign(&Ask::token(&join.token)).await.unwrap();
    assert!(anybody.sign(&Ask::token(&join.token)).await.is_err());
    wait("the log", async || {
        citadel.log().contains("audience").then_some(())
    })
    .await;
    let log = citadel.log();
    let secret = join.token.rsplit('.').next().unwrap();
    for (what, text) in [("jwt", &*good), ("bad jwt", &bad), ("join token", secret)] {
        // Neither whole nor the part that counts.
        let part = text.rsplit('.').next().unwrap();
        assert!(
            !log.contains(text) && !log.contains(part),
            "{what} in the log"
        );
    }
    assert!(!log.contains("PRIVATE KEY") && !log.contains("Bearer "));
    // The database keeps the hash of a join token alone.
    let database = std::fs::read(dir.path().join("citadel/citadel.db")).unwrap();
    let mut wal = std::fs::read(dir.path().join("citadel/citadel.db-wal")).unwrap_or_default();
    wal.extend(database);
    let found = wal
        .windows(secret.len())
        .any(|window| window == secret.as_bytes());
    assert!(!found, "the join token's secret is in the database");
}

/// Keys are found by discovery. A redirect is not followed, a document that leads into a cloud's metadata service or is of another
/// issuer is not believed, and what is endless is not read to its end: the last known keys stay.
#[tokio::test]
async fn keys_are_fetched_with_care() {
    let dir = tempfile::tempdir().unwrap();
    let server = ApiServer::start(dir.path()).await;
    let issuer = Issuer::named(&server.url());
    let start = Start::new(dir.path(), "citadel")
        .arg(format!("--jwt-rule={}", issuer.rule()))
        .arg(format!(
            "--jwks-ca={}",
            dir.path().join("kube-ca.pem").display()
        ))
        .arg("--jwks-refresh=50ms");
    let discovery =
        |keys: &str| serde_json::json!({"issuer": server.url(), "jwks_uri": keys}).to_string();
    let document = "/.well-known/openid-configuration";
    let keys = format!("{}/keys", server.url());
    server.page("/keys", 200, issuer.jwks());
    server.page("/moved", 302, &keys);
    server.page("/endless", 200, " ".repeat(3 << 20));
    let citadel = start.start().await;
    let anybody = citadel.anybody().await;
    let ask = || Ask::token(issuer.token("default", "app"));
    for (text, why) in [
        (
            discovery(&format!("{}/moved", server.url())),
            "has status 302",
        ),
        (
            discovery(&format!("{}/endless", server.url())),
            "length limit exceeded",
        ),
        (discovery("https://169.254.169.254/latest"), "never asked"),
        (
            discovery("http://192.0.2.1/keys"),
            "is no URL that is asked",
        ),
        (
            discovery(&keys).replace(&server.url(), "https://other.test"),
            "another issuer",
        ),
        ("<html>".to_owned(), "cannot be read"),
    ] {
        server.page(document, 200, text);
        wait(why, async || citadel.log().contains(why).then_some(())).await;
        let refused = anybody.sign(&ask()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{why}: {refused}");
    }
    server.page(document, 200, discovery(&keys));
    wait("the keys", async || anybody.sign(&ask()).await.ok()).await;
    drop(server);
    assert!(
        anybody.sign(&ask()).await.is_ok(),
        "the last known keys stay"
    );
}

/// Whoever makes up tokens is not asked about for ever; who is known already does not notice.
#[tokio::test]
async fn made_up_tokens_do_not_wear_out_the_api_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = ApiServer::start(dir.path()).await;
    server.knows("good", review("default", "app", "app-1", "u-1"));
    let mut start = Start::new(dir.path(), "citadel");
    for flag in server.flags(dir.path()) {
        start = start.arg(flag);
    }
    let citadel = start.start().await;
    let anybody = citadel.anybody().await;
    anybody.sign(&Ask::token("good")).await.unwrap();
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..900 {
        let anybody = anybody.clone();
        let ask = Ask {
            csr: "x".into(),
            ..Ask::token(format!("made-up-{n}"))
        };
        asked.spawn(async move { anybody.sign(&ask).await.unwrap_err().code() });
    }
    for _ in 0..10 {
        anybody.sign(&Ask::token("good")).await.unwrap();
    }
    let codes = asked.join_all().await;
    assert!(
        codes.contains(&Code::Unavailable),
        "some were not looked at"
    );
    assert!(server.asked() < 880, "{} reviews", server.asked());
    let counted = r#"flotilla_citadel_limited_requests_total{limit="address"}"#;
    assert!(citadel.metric(counted) > 0.0);
}

/// Whoever makes up join tokens does not keep the database busy; a good one works again soon after.
#[tokio::test]
async fn made_up_join_tokens_do_not_wear_out_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let citadel = Start::new(dir.path(), "citadel").start().await;
    let mut operator = socket(citadel.socket()).await;
    let request = CreateTokenRequest {
        spiffe_id: "spiffe://cluster.local/ns/shop/sa/cart".into(),
        ..CreateTokenRequest::default()
    };
    let token = operator.create_token(request).await.unwrap().into_inner();
    let anybody = citadel.anybody().await;
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..900 {
        let anybody = anybody.clone();
        let ask = Ask::token(format!("flotilla-join.{n:016x}.{}", "A".repeat(43)));
        asked.spawn(async move { anybody.sign(&ask).await.unwrap_err().code() });
    }
    let codes = asked.join_all().await;
    let looked_up = codes.iter().filter(|code| **code == Code::Unauthenticated);
    assert!((500..880).contains(&looked_up.count()));
    assert!(codes.contains(&Code::Unavailable));
    let counted = r#"flotilla_citadel_limited_requests_total{limit="address"}"#;
    assert!(citadel.metric(counted) > 0.0);
    let ask = Ask::token(&token.token);
    crate::harness::wait("room for a good one", async || {
        anybody.sign(&ask).await.ok()
    })
    .await;
}

/// What is no key set takes no token, and does not stop Citadel; a good one that comes later does.
#[tokio::test]
async fn a_broken_key_set_refuses_and_a_good_one_takes_over() {
    let (dir, issuer) = (tempfile::tempdir().unwrap(), Issuer::new());
    let start = Start::new(dir.path(), "citadel").with_issuer(dir.path(), &issuer);
    let file = dir.path().join("jwks.json");
    std::fs::write(&file, r#"{"keys": 3}"#).unwrap();
    let citadel = start.arg("--jwks-refresh=100ms").start().await;
    let anybody = citadel.anybody().await;
    let ask = Ask::token(issuer.token("default", "app"));
    let refused = anybody.sign(&ask).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(citadel.ready().1["degraded"]["jwks"].is_string());
    std::fs::write(&file, issuer.jwks()).unwrap();
    wait("the keys", async || anybody.sign(&ask).await.ok()).await;
    // Broken again: the last known ones stay.
    std::fs::write(&file, "<html>").unwrap();
    wait("the note", async || {
        citadel.ready().1["degraded"]["jwks"]
            .as_str()
            .map(str::to_owned)
    })
    .await;
    assert!(anybody.sign(&ask).await.is_ok());
}
