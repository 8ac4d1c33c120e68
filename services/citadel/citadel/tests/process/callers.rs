//! Who gets a certificate, and what it says.

use serde_json::json;
use time::{Duration, OffsetDateTime};
use tonic::Code;

use crate::api_server::{ApiServer, pod, review};
use crate::client::{Ask, app_csr, id, leaf, request};
use crate::harness::{Start, ready};
use crate::issuer::now;

const APP: &str = "spiffe://cluster.local/ns/default/sa/app";

/// What a caller hears who is not known, whatever is wrong.
const UNKNOWN: &str = "request authenticate failure";

/// Case 1.
#[tokio::test]
async fn a_token_of_a_service_account_gets_its_certificate() {
    let (_dir, issuer, citadel) = ready().await;
    let anybody = citadel.anybody().await;
    let ask = Ask::token(issuer.token("default", "app"));
    let chain = anybody.sign(&ask).await.unwrap();
    assert_eq!(chain.len(), 2);
    let leaf = leaf(&chain);
    assert_eq!(leaf.spiffe_id().unwrap(), id(APP));
    assert_eq!((leaf.uris().count(), leaf.dns_names().count()), (1, 0));
    assert!(!leaf.is_ca());
    let life = leaf.not_after() - OffsetDateTime::now_utc();
    assert!(
        (life - Duration::hours(24)).abs() < Duration::minutes(1),
        "{life}"
    );
    pki::lint_leaf(leaf.der()).unwrap();
    let roots = std::fs::read_to_string(citadel.root_file()).unwrap();
    assert_eq!(chain[1], roots, "the roots come last");

    assert_eq!(citadel.metric("citadel_server_csr_count"), 1.0);
    let issued = "citadel_server_success_cert_issuance_count";
    assert_eq!(citadel.metric(issued), 1.0);
    assert!(citadel.metric("citadel_server_root_cert_expiry_seconds") > 3000.0 * 86_400.0);
    citadel.stop().await;
}

/// Case 2.
#[tokio::test]
async fn a_request_for_somebody_else_gets_what_the_caller_is() {
    let (_dir, issuer, citadel) = ready().await;
    let ask = Ask {
        csr: request("spiffe://cluster.local/ns/kube-system/sa/admin").1,
        ..Ask::token(issuer.token("default", "app"))
    };
    let chain = citadel.anybody().await.sign(&ask).await.unwrap();
    let leaf = leaf(&chain);
    assert_eq!(leaf.spiffe_id().unwrap(), id(APP));
    assert_eq!(leaf.uris().count(), 1);
}

/// Case 5.
#[tokio::test]
async fn a_life_is_granted_or_refused() {
    let (_dir, issuer, citadel) = ready().await;
    let anybody = citadel.anybody().await;
    let hours = async |seconds| {
        let ask = Ask {
            seconds,
            ..Ask::token(issuer.token("default", "app"))
        };
        let chain = anybody.sign(&ask).await?;
        let life = leaf(&chain).not_after() - OffsetDateTime::now_utc();
        Ok::<_, tonic::Status>((life.as_seconds_f64() / 3600.0).round())
    };
    assert_eq!(hours(0).await.unwrap(), 24.0);
    assert_eq!(hours(-5).await.unwrap(), 24.0);
    assert_eq!(hours(2160 * 3600).await.unwrap(), 2160.0);
    for long in [2160 * 3600 + 1, 1 << 62, i64::MAX] {
        let refused = hours(long).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{long}");
    }
    let counted = r#"citadel_server_csr_sign_err_count{error="TTL_ERROR"}"#;
    assert_eq!(citadel.metric(counted), 3.0);
}

/// Case 7.
#[tokio::test]
async fn whoever_is_not_known_hears_one_sentence() {
    let (_dir, issuer, citadel) = ready().await;
    let anybody = citadel.anybody().await;
    let none = Ask {
        csr: app_csr(),
        ..Ask::default()
    };
    let twice = Ask {
        headers: vec![("authorization", "Bearer x.y.z".into())],
        ..Ask::token(issuer.token("default", "app"))
    };
    let other = crate::issuer::Issuer::new().token("default", "app");
    for ask in [
        none,
        twice,
        Ask::token(issuer.with(|claims| claims["aud"] = json!(["kubernetes"]))),
        Ask::token(issuer.with(|claims| claims["exp"] = json!(now() - 1))),
        Ask::token(issuer.with(|claims| claims["iss"] = json!("https://other.test"))),
        Ask::token(other),
        Ask::token("no-jwt"),
        Ask::token("flotilla-join.0011223344556677.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    ] {
        let refused = anybody.sign(&ask).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::Unauthenticated, UNKNOWN)
        );
    }
    let counted = "citadel_server_authentication_failure_count";
    assert_eq!(citadel.metric(counted), 8.0);
    let log = citadel.log();
    for reason in ["for another audience", "has expired", "of another issuer"] {
        assert!(log.contains(reason), "the log says {reason:?}");
    }
}

/// Case 10.
#[tokio::test]
async fn subjects_of_other_lengths_are_refused_and_citadel_lives() {
    let (_dir, issuer, citadel) = ready().await;
    let anybody = citadel.anybody().await;
    for sub in [
        "system:serviceaccount",
        "system:serviceaccount:a:b:c",
        "system:serviceaccount:a",
        "",
    ] {
        let ask = Ask::token(issuer.with(|claims| claims["sub"] = json!(sub)));
        let refused = anybody.sign(&ask).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{sub}");
    }
    let good = Ask::token(issuer.token("default", "app"));
    assert!(anybody.sign(&good).await.is_ok());
}

/// Case 9; and what a good review gives, asked for once.
#[tokio::test]
async fn tokens_that_the_api_server_knows_get_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let api = ApiServer::start(dir.path()).await;
    let mut start = Start::new(dir.path(), "citadel");
    for flag in api.flags(dir.path()) {
        start = start.arg(flag);
    }
    let citadel = start.start().await;
    let anybody = citadel.anybody().await;
    api.knows("good", review("default", "app", "app-1", "u-1"));
    let mut group = review("default", "app", "app-1", "u-1");
    group["user"]["groups"] = json!(["system:authenticated"]);
    api.knows("no-group", group);
    let mut audience = review("default", "app", "app-1", "u-1");
    audience["audiences"] = json!([]);
    api.knows("no-audience", audience);

    for _ in 0..3 {
        let chain = anybody.sign(&Ask::token("good")).await.unwrap();
        assert_eq!(leaf(&chain).spiffe_id().unwrap(), id(APP));
    }
    assert_eq!(api.asked(), 1, "the answer is remembered");
    for bad in ["no-group", "no-audience", "unknown"] {
        let refused = anybody.sign(&Ask::token(bad)).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::Unauthenticated, UNKNOWN),
            "{bad}"
        );
    }
    let elsewhere = Ask {
        headers: vec![("clusterid", "elsewhere".into())],
        ..Ask::token("good")
    };
    let refused = anybody.sign(&elsewhere).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    // Join tokens are nobody else's business.
    let join = "flotilla-join.0011223344556677.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let asked = api.asked();
    assert!(anybody.sign(&Ask::token(join)).await.is_err());
    assert_eq!(api.asked(), asked);
    // With the API server away a caller may try again, and the server is asked again when it is back.
    drop(api);
    let refused = anybody.sign(&Ask::token("new")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(anybody.sign(&Ask::token("good")).await.is_ok());
}

/// Cases 11 and 12.
#[tokio::test]
async fn a_node_agent_asks_for_the_pods_of_its_node() {
    let dir = tempfile::tempdir().unwrap();
    let api = ApiServer::start(dir.path()).await;
    let mut start = Start::new(dir.path(), "citadel");
    for flag in api.flags(dir.path()) {
        start = start.arg(flag);
    }
    api.knows("agent", review("istio-system", "ztunnel", "zt-1", "u-1"));
    api.knows(
        "agent-again",
        review("istio-system", "ztunnel", "zt-1", "u-0"),
    );
    api.knows("app", review("default", "app", "app-1", "u-2"));
    api.runs(pod(
        "istio-system",
        "zt-1",
        "u-1",
        "ztunnel",
        "n1",
        "Running",
    ));
    api.runs(pod("default", "app-1", "u-2", "app", "n1", "Running"));
    api.runs(pod("default", "far-1", "u-3", "far", "n2", "Running"));
    api.runs(pod("default", "done-1", "u-4", "done", "n1", "Succeeded"));
    let ask = |token: &str, wanted: &str| Ask {
        hints: vec![("ImpersonatedIdentity", wanted.to_owned())],
        headers: vec![("clusterid", "Kubernetes".into())],
        ..Ask::token(token)
    };
    let far = "spiffe://cluster.local/ns/default/sa/far";
    let done = "spiffe://cluster.local/ns/default/sa/done";
    let foreign = "spiffe://other.td/ns/default/sa/app";

    let citadel = start.start().await;
    let refused = citadel.anybody().await.sign(&ask("agent", APP)).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    citadel.stop().await;

    let start = start.arg("--trusted-node-accounts=istio-system/ztunnel");
    let citadel = start.start().await;
    let anybody = citadel.anybody().await;
    let chain = anybody.sign(&ask("agent", APP)).await.unwrap();
    assert_eq!(leaf(&chain).spiffe_id().unwrap(), id(APP));
    for (token, wanted) in [
        ("agent", far),
        ("agent", done),
        ("agent", foreign),
        ("agent", "x"),
        ("agent-again", APP),
        ("app", far),
    ] {
        let refused = anybody.sign(&ask(token, wanted)).await.unwrap_err();
        assert_eq!(
            refused.code(),
            Code::Unauthenticated,
            "{token} for {wanted}"
        );
        assert_eq!(
            refused.message(),
            "request impersonation authentication failure"
        );
    }
    // Without the cluster's name nobody looks.
    let nowhere = Ask {
        headers: Vec::new(),
        ..ask("agent", APP)
    };
    assert!(anybody.sign(&nowhere).await.is_err());

    // A cluster that does not tell on which node a token's pod runs: the pod does, and what is taken back with its node is.
    let mut old = review("istio-system", "ztunnel", "zt-1", "u-1");
    let extra = old["user"]["extra"].as_object_mut().unwrap();
    extra.remove("authentication.kubernetes.io/node-name");
    api.knows("agent-old", old);
    anybody.sign(&ask("agent-old", APP)).await.unwrap();
    let mut operator = crate::client::socket(citadel.socket()).await;
    let request = mesh_api::citadel::RevokeRequest {
        what: Some(mesh_api::citadel::revoke_request::What::Node("n1".into())),
        reason: "stolen".into(),
        hold: false,
    };
    let revoked = operator.revoke(request).await.unwrap().into_inner();
    assert_eq!(revoked.certificates, 2);
    let refused = anybody.sign(&ask("agent-old", APP)).await.unwrap_err();
    assert_eq!(refused.message(), "request authenticate failure");
}

#[tokio::test]
async fn a_certificate_renews_itself_and_pilot_gets_its_host_names() {
    let (_dir, issuer, citadel) = ready().await;
    let app = citadel.client(&issuer.token("default", "app")).await;
    let chain = app.renew().await.unwrap();
    assert_eq!(leaf(&chain).spiffe_id().unwrap(), id(APP));
    assert_ne!(leaf(&chain).serial().to_string(), app.serial);

    let token = issuer.token("istio-system", "istio-pilot-service-account");
    let chain = citadel.anybody().await.sign(&Ask::token(token)).await;
    let chain = chain.unwrap();
    let names: Vec<String> = leaf(&chain).dns_names().map(str::to_owned).collect();
    assert!(
        names.contains(&"istiod.istio-system.svc".to_owned()),
        "{names:?}"
    );
    // The same account elsewhere is somebody else.
    let token = issuer.token("default", "istio-pilot-service-account");
    let chain = citadel.anybody().await.sign(&Ask::token(token)).await;
    assert_eq!(leaf(&chain.unwrap()).dns_names().count(), 0);
}
