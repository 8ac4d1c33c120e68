use super::super::Pod;
use super::*;

fn caller() -> Caller {
    Caller {
        identity: SpiffeId::parse("spiffe://cluster.local/ns/istio-system/sa/ztunnel").unwrap(),
        attestation: Attestation::Kubernetes,
        requester: String::new(),
        node: None,
        pod: Some(Pod {
            name: "ztunnel-1".into(),
            uid: "u-1".into(),
        }),
        serial: None,
        token: None,
    }
}

fn trusted() -> TrustedAccounts {
    "istio-system/ztunnel, other/agent".parse().unwrap()
}

fn domains() -> [TrustDomain; 2] {
    [
        TrustDomain::default(),
        TrustDomain::new("old.local").unwrap(),
    ]
}

fn pod(namespace: &str, name: &str, account: &str, node: &str, phase: &str) -> PodFact {
    PodFact {
        namespace: namespace.into(),
        name: name.into(),
        uid: "u-1".into(),
        service_account: account.into(),
        node: node.into(),
        phase: phase.into(),
    }
}

fn ask(caller: &Caller, requested: &str) -> Result<String, ImpersonationRefusal> {
    let wanted = target(caller, requested, Some("c1"), &trusted(), &domains())?;
    let own = pod("istio-system", "ztunnel-1", "ztunnel", "n1", "Running");
    let node = node(caller, Some(&own))?;
    let pods = [
        pod("default", "app-1", "app", "n1", "Running"),
        pod("default", "job-1", "job", "n1", "Succeeded"),
        pod("default", "bad-1", "bad", "n1", "Failed"),
        pod("default", "far-1", "far", "n2", "Running"),
    ];
    authorize(&wanted, node, &pods).map(|id| id.to_string())
}

/// Case 11: nothing configured; then a trusted caller, for a pod of its node and for one that is elsewhere.
#[test]
fn a_trusted_node_asks_for_the_pods_of_its_node() {
    let app = "spiffe://cluster.local/ns/default/sa/app";
    let nobody = TrustedAccounts::default();
    assert_eq!(
        target(&caller(), app, Some("c1"), &nobody, &domains()),
        Err(ImpersonationRefusal::NotConfigured)
    );
    assert_eq!(ask(&caller(), app).unwrap(), app);
    for elsewhere in ["far", "job", "bad", "unknown"] {
        let id = format!("spiffe://cluster.local/ns/default/sa/{elsewhere}");
        assert_eq!(
            ask(&caller(), &id),
            Err(ImpersonationRefusal::NotOnNode),
            "{elsewhere}"
        );
    }
}

/// Case 12: a foreign trust domain, and a pod that was made again.
#[test]
fn foreign_domains_and_pods_made_again_are_refused() {
    assert!(matches!(
        ask(&caller(), "spiffe://other.td/ns/default/sa/app"),
        Err(ImpersonationRefusal::ForeignDomain(_))
    ));
    let mut again = caller();
    again.pod = Some(Pod {
        name: "ztunnel-1".into(),
        uid: "u-0".into(),
    });
    let app = "spiffe://cluster.local/ns/default/sa/app";
    assert_eq!(ask(&again, app), Err(ImpersonationRefusal::OtherPod));
    // An alias is ours, too.
    let alias = "spiffe://old.local/ns/default/sa/app";
    assert_eq!(ask(&caller(), alias).unwrap(), alias);
}

#[test]
fn who_is_not_trusted_learns_nothing() {
    let app = "spiffe://cluster.local/ns/default/sa/app";
    let refused = |caller: &Caller, id: &str, cluster| {
        target(caller, id, cluster, &trusted(), &domains()).unwrap_err()
    };
    assert_eq!(refused(&caller(), app, None), ImpersonationRefusal::Cluster);
    for text in [
        "x",
        "spiffe://cluster.local/ns/default",
        "spiffe://cluster.local/ns/a/sa/b/c",
    ] {
        assert_eq!(
            refused(&caller(), text, Some("c1")),
            ImpersonationRefusal::NoWorkload
        );
    }
    let mut other = caller();
    other.identity = SpiffeId::parse(app).unwrap();
    assert!(matches!(
        refused(&other, app, Some("c1")),
        ImpersonationRefusal::NotTrusted(_)
    ));
    let mut renewal = caller();
    renewal.attestation = Attestation::ClientCertificate;
    assert_eq!(
        refused(&renewal, app, Some("c1")),
        ImpersonationRefusal::NotAPod
    );
    let mut unbound = caller();
    unbound.pod = None;
    assert_eq!(
        refused(&unbound, app, Some("c1")),
        ImpersonationRefusal::NotAPod
    );
    assert_eq!(
        node(&caller(), None),
        Err(ImpersonationRefusal::NoCallerPod)
    );
    let other = pod("istio-system", "ztunnel-1", "other", "n1", "Running");
    assert_eq!(
        node(&caller(), Some(&other)),
        Err(ImpersonationRefusal::OtherPod)
    );
    let unplaced = pod("istio-system", "ztunnel-1", "ztunnel", "", "Pending");
    assert_eq!(
        node(&caller(), Some(&unplaced)),
        Err(ImpersonationRefusal::NotOnNode)
    );
}

#[test]
fn a_list_of_accounts_is_read_or_refused() {
    assert_eq!("".parse(), Ok(TrustedAccounts::default()));
    for bad in ["x", "a/", "/b", "a/b/c", "A/b", "a/b,c"] {
        assert!(bad.parse::<TrustedAccounts>().is_err(), "{bad}");
    }
}
