use mesh_types::TrustDomain;
use pki::{Certificate, KeyType, PrivateKey};

use super::*;
use crate::policy::Attestation;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

fn root(life: Duration) -> Authority {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let serial = Serial::from_random([7; 16]);
    Authority::self_signed(key, &TrustDomain::default(), life, serial, now()).unwrap()
}

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

fn app() -> Caller {
    let identity = id("spiffe://cluster.local/ns/default/sa/app");
    Caller {
        requester: identity.to_string(),
        identity,
        attestation: Attestation::Kubernetes,
        node: Some("n1".into()),
        pod: None,
        serial: None,
        token: None,
    }
}

const POLICY: Policy = Policy {
    default_life: Duration::hours(24),
    longest_life: Duration::hours(2160),
};

fn ask(authority: &Authority, csr: &str, seconds: i64) -> Result<(Issued, Certificate), Refused> {
    ask_at(authority, csr, seconds, now())
}

fn ask_at(
    authority: &Authority,
    csr: &str,
    seconds: i64,
    at: OffsetDateTime,
) -> Result<(Issued, Certificate), Refused> {
    let caller = app();
    let request = Request {
        csr,
        seconds,
        signer: "",
        caller: &caller,
        identity: &caller.identity,
        hosts: &[],
    };
    let bundle = authority.roots().to_pem();
    let issued = issue(authority, &bundle, request, POLICY, [9; 16], at)?;
    let leaf = Certificate::from_pem(&issued.chain[0]).unwrap();
    Ok((issued, leaf))
}

fn csr_for(identity: &str) -> String {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    csr::create(&key, &id(identity)).unwrap()
}

fn csr() -> String {
    csr_for("spiffe://cluster.local/ns/default/sa/app")
}

/// Case 1, the certificate; and what the journal keeps of it.
#[test]
fn a_certificate_says_who_the_caller_is() {
    let authority = root(Duration::days(3650));
    let (issued, leaf) = ask(&authority, &csr(), 0).unwrap();
    assert_eq!(leaf.spiffe_id(), Ok(app().identity));
    assert_eq!(leaf.uris().count(), 1);
    assert_eq!(leaf.dns_names().count(), 0);
    assert!(!leaf.is_ca());
    assert_eq!(leaf.not_after() - now(), Duration::hours(24));
    assert_eq!(now() - leaf.not_before(), Duration::minutes(2));
    assert_eq!(issued.chain.len(), 2);
    assert_eq!(issued.chain[1], authority.roots().to_pem());
    let entry = issued.entry;
    assert_eq!(entry.serial, leaf.serial().to_string());
    assert_eq!(entry.spiffe_id, "spiffe://cluster.local/ns/default/sa/app");
    assert_eq!((&*entry.attestation, &*entry.node), ("kubernetes", "n1"));
    assert_eq!(entry.not_after, leaf.not_after().unix_timestamp());
    assert_eq!(entry.issuer, issuer(&authority));
    assert_eq!(entry.replaces, "");
}

/// Case 2: whatever the request says it is.
#[test]
fn a_request_for_somebody_else_is_answered_with_who_the_caller_is() {
    let csr = csr_for("spiffe://cluster.local/ns/kube-system/sa/admin");
    let (_, leaf) = ask(&root(Duration::days(3650)), &csr, 0).unwrap();
    assert_eq!(leaf.spiffe_id(), Ok(app().identity));
    assert_eq!(leaf.uris().count(), 1);
}

/// Case 5: the default, the longest, and numbers that would wrap.
#[test]
fn life_is_granted_or_refused_never_wrapped() {
    let authority = root(Duration::days(3650));
    let life = |seconds| {
        ask(&authority, &csr(), seconds).map(|(_, leaf)| (leaf.not_after() - now()).whole_seconds())
    };
    let day = 24 * 3600;
    assert_eq!(life(0), Ok(day));
    assert_eq!(life(-5), Ok(day));
    assert_eq!(life(i64::MIN), Ok(day));
    assert_eq!(life(60), Ok(60));
    assert_eq!(life(2160 * 3600), Ok(2160 * 3600));
    for long in [
        2160 * 3600 + 1,
        1 << 62,
        i64::MAX,
        i64::MAX / 1_000_000_000 + 1,
    ] {
        let refused = life(long).unwrap_err();
        assert_eq!(refused.kind(), "TTL_ERROR");
        assert_eq!(refused.status(), Status::InvalidArgument);
    }
}

/// Case 6: what is no request of a good key.
#[test]
fn bad_requests_are_refused_with_what_is_wrong() {
    let authority = root(Duration::days(3650));
    let refused = |csr: &str| {
        let refused = ask(&authority, csr, 0).map(drop).unwrap_err();
        assert_eq!(refused.status(), Status::InvalidArgument, "{csr:.80}");
        assert_eq!(refused.kind(), "CSR_ERROR");
        assert!(refused.words().starts_with("CSR signing error ("));
        refused
    };
    assert!(refused("garbage").is_parsing());
    assert!(refused(&authority.certificate().to_pem()).is_parsing());
    assert!(refused(&"x".repeat(70 << 10)).is_parsing());
    assert!(refused(&format!("{}{}", csr(), csr())).is_parsing());
    // The signature's last byte.
    let good = csr();
    let broken = {
        let mut lines: Vec<String> = good.lines().map(str::to_owned).collect();
        let n = lines.len() - 2;
        let last = lines[n - 1].clone();
        lines[n - 1] = last
            .chars()
            .map(|c| if c == 'A' { 'B' } else { 'A' })
            .collect();
        lines.join("\n")
    };
    assert!(matches!(refused(&broken), Refused::Csr(_)));
}

/// Case 13: never longer than the signer; a signer that has expired signs nothing.
#[test]
fn nothing_outlives_its_signer() {
    let authority = root(Duration::hours(1));
    for seconds in [0, 24 * 3600, 7200] {
        let (_, leaf) = ask(&authority, &csr(), seconds).unwrap();
        assert_eq!(leaf.not_after(), authority.certificate().not_after());
    }
    let late = now() + Duration::hours(2);
    let refused = ask_at(&authority, &csr(), 0, late).map(drop).unwrap_err();
    assert_eq!(refused.kind(), "CERT_GEN_ERROR");
    assert_eq!(refused.status(), Status::Internal);
    assert_eq!(refused.words(), "CSR signing error (signing failed)");
}

#[test]
fn hosts_and_other_signers() {
    let authority = root(Duration::days(3650));
    let caller = app();
    let csr = csr();
    let hosts = ["istiod.istio-system.svc".to_owned(), "127.0.0.1".to_owned()];
    let request = Request {
        csr: &csr,
        seconds: 0,
        signer: "",
        caller: &caller,
        identity: &caller.identity,
        hosts: &hosts,
    };
    let sign = |request| issue(&authority, "bundle", request, POLICY, [9; 16], now());
    let leaf = Certificate::from_pem(&sign(request).unwrap().chain[0]).unwrap();
    assert_eq!(
        leaf.dns_names().collect::<Vec<_>>(),
        ["istiod.istio-system.svc"]
    );
    let other = Request {
        signer: "vault",
        ..request
    };
    let refused = sign(other).unwrap_err();
    assert_eq!(refused, Refused::Signer);
    assert_eq!(refused.status(), Status::Internal);
}

#[test]
fn a_revocation_is_found_by_identity_node_and_certificate() {
    use crate::revocation::{InForce, Revocation, Target};
    let revocation = |target| Revocation {
        id: 3,
        target,
        reason: "stolen".into(),
        requester: "socket".into(),
        at: 0,
        lifted_at: 0,
        certificates: Vec::new(),
    };
    let check = |target, caller: &Caller, identity: &SpiffeId| {
        revoked(&InForce::new([&revocation(target)]), caller, identity)
    };
    let caller = app();
    let other = id("spiffe://cluster.local/ns/default/sa/other");
    let target = Target::SpiffeId(caller.identity.to_string());
    assert_eq!(check(target.clone(), &caller, &caller.identity), Some(3));
    assert_eq!(check(target, &caller, &other), Some(3), "asks for another");
    let target = Target::SpiffeId(other.to_string());
    assert_eq!(check(target, &caller, &other), Some(3));
    assert_eq!(
        check(Target::Node("n1".into()), &caller, &caller.identity),
        Some(3)
    );
    let mut renewal = app();
    renewal.serial = Some("0a".into());
    let target = Target::Serial {
        serial: "0a".into(),
        hold: false,
    };
    assert_eq!(check(target.clone(), &renewal, &renewal.identity), Some(3));
    assert_eq!(check(target, &caller, &caller.identity), None);
}
