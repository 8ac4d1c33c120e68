use super::*;

const GOOD: &str = r#"{
  "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": {"token": "x"},
  "status": {
    "authenticated": true, "audiences": ["istio-ca"],
    "user": {
      "username": "system:serviceaccount:default:app", "uid": "7",
      "groups": ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"],
      "extra": {
        "authentication.kubernetes.io/pod-name": ["app-1"], "authentication.kubernetes.io/pod-uid": ["u-1"],
        "authentication.kubernetes.io/node-name": ["n1"]
      }
    }
  }
}"#;

fn audiences() -> Vec<String> {
    vec!["istio-ca".into()]
}

fn ask(review: &Review) -> Result<Caller, Refusal> {
    authenticate(review, &audiences(), &TrustDomain::default())
}

#[test]
fn a_good_review_is_an_identity() {
    let caller = ask(&Review::parse(GOOD.as_bytes()).unwrap()).unwrap();
    assert_eq!(
        caller.identity.to_string(),
        "spiffe://cluster.local/ns/default/sa/app"
    );
    assert_eq!(caller.node.as_deref(), Some("n1"));
    assert_eq!(
        caller.pod,
        Some(Pod {
            name: "app-1".into(),
            uid: "u-1".into()
        })
    );
}

/// Case 9, and everything else that a review may lack.
#[test]
fn what_a_review_lacks_is_refused() {
    let good = Review::parse(GOOD.as_bytes()).unwrap();
    let with = |change: fn(&mut Review)| {
        let mut review = good.clone();
        change(&mut review);
        ask(&review).unwrap_err()
    };
    assert_eq!(with(|r| r.user.groups.remove(0).clear()), Refusal::Group);
    assert_eq!(with(|r| r.authenticated = false), Refusal::NotAuthenticated);
    assert_eq!(
        with(|r| r.error = "token expired".into()),
        Refusal::NotAuthenticated
    );
    assert_eq!(with(|r| r.audiences.clear()), Refusal::Audience);
    assert_eq!(
        with(|r| r.audiences = vec!["kubernetes".into()]),
        Refusal::Audience
    );
    for name in [
        "alice",
        "system:serviceaccount:default",
        "system:serviceaccount:default:app:x",
    ] {
        let mut review = good.clone();
        review.user.username = name.into();
        assert_eq!(ask(&review), Err(Refusal::NoServiceAccount));
    }
}

#[test]
fn a_pod_needs_both_names_and_each_once() {
    let mut review = Review::parse(GOOD.as_bytes()).unwrap();
    let name = "authentication.kubernetes.io/pod-uid".to_owned();
    review
        .user
        .extra
        .insert(name.clone(), vec!["a".into(), "b".into()]);
    assert_eq!(ask(&review).unwrap().pod, None);
    review.user.extra.remove(&name);
    assert_eq!(ask(&review).unwrap().pod, None);
}

#[test]
fn other_answers_are_no_reviews() {
    for bad in [
        "",
        "[]",
        r#"{"kind": "Status", "status": "Failure", "code": 403}"#,
        r#"{"kind": "Status", "status": {}}"#,
        r#"{"kind": "TokenReview"}"#,
        r#"{"kind": "TokenReview", "status": {"authenticated": "yes"}}"#,
    ] {
        assert_eq!(
            Review::parse(bad.as_bytes()),
            Err(Refusal::NoReview),
            "{bad}"
        );
    }
    // A real "no" has an empty status but for the words.
    let no = br#"{"kind": "TokenReview", "status": {"user": {}, "error": "invalid bearer token"}}"#;
    assert_eq!(
        ask(&Review::parse(no).unwrap()),
        Err(Refusal::NotAuthenticated)
    );
}

#[test]
fn the_question_names_the_audiences() {
    let body = question(&Token::new("a\"b"), &audiences());
    assert_eq!(
        String::from_utf8(body).unwrap(),
        r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"a\"b","audiences":["istio-ca"]}}"#
    );
}

#[test]
fn the_cluster_is_ours_or_unknown() {
    let clusters = Clusters {
        local: "Kubernetes".into(),
        aliases: vec!["c1".into()],
    };
    assert_eq!(clusters.choose(&[]), Ok(None));
    assert_eq!(clusters.choose(&[""]), Ok(None));
    assert_eq!(clusters.choose(&["Kubernetes"]), Ok(Some("Kubernetes")));
    assert_eq!(clusters.choose(&["c1"]), Ok(Some("c1")));
    assert_eq!(clusters.choose(&["c2"]), Err(Refusal::Cluster));
    assert_eq!(
        clusters.choose(&["Kubernetes", "c1"]),
        Err(Refusal::Clusters)
    );
}
