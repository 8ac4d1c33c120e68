//! Keeping an identity.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use identity::{Clock, Material, Proof, RenewOptions, Renewer, folder};
use pki::{KeyType, PrivateKey};
use service_kit::tls::{Identities, TlsIdentity};
use service_kit::{Ready, Stop};
use time::Duration as Span;

use crate::ca::{TestCa, Twist, leaf, now, root};
use crate::{id, options, within};

struct Running {
    identities: Identities,
    ready: Ready,
    stop: Stop,
    task: tokio::task::JoinHandle<()>,
}

fn start(options: RenewOptions) -> Running {
    let renewer = Renewer::new(options);
    let (stop, identities) = (Stop::new(), renewer.identities());
    let ready = Ready::new(&stop);
    let task = tokio::spawn(renewer.run(ready.clone(), stop.clone()));
    Running {
        identities,
        ready,
        stop,
        task,
    }
}

impl Running {
    async fn has(&mut self, wanted: impl Fn(&TlsIdentity) -> bool) -> Arc<TlsIdentity> {
        let found = self
            .identities
            .wait_for(|now| now.as_ref().is_some_and(|i| wanted(i)));
        within(found).await.unwrap().clone().unwrap()
    }

    async fn first(&mut self) -> Arc<TlsIdentity> {
        self.has(|_| true).await
    }

    async fn another(&mut self, than: &Arc<TlsIdentity>) -> Arc<TlsIdentity> {
        let serial = than.certificate().serial().clone();
        self.has(|i| *i.certificate().serial() != serial).await
    }

    async fn ends(self) {
        self.stop.trigger();
        within(self.task).await.unwrap();
    }

    async fn waits_for(&self, words: &str) {
        let said = async {
            loop {
                let report = self.ready.report();
                if report
                    .waiting
                    .get("identity")
                    .is_some_and(|said| said.contains(words))
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), said)
            .await
            .is_err()
        {
            panic!("{words:?} is not in {:?}", self.ready.report());
        }
    }
}

fn token(ca: &TestCa) -> Proof {
    Proof::TokenFile(ca.file("token", "good"))
}

#[tokio::test]
async fn the_authority_may_come_last() {
    let ca = TestCa::start().await;
    let dir = tempfile::tempdir().unwrap();
    ca.kill().await;
    std::fs::remove_file(ca.root_file()).unwrap();
    let mut running = start(options(&ca, token(&ca), &dir.path().join("identity")));
    running.waits_for("root-cert.pem: entity not found").await;
    ca.write_root_file();
    running.waits_for("Connection refused").await;
    assert!(!running.ready.is_ready());
    ca.listen().await;
    let identity = running.first().await;
    assert_eq!(*identity.id(), id("pilot"));
    within(running.ready.wait()).await;
    running.ends().await;
}

#[tokio::test]
async fn a_join_token_is_used_once_and_a_restart_needs_none() {
    let ca = TestCa::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity");
    let file = ca.file("join", "flotilla-join.1.secret\n");
    let start_again = || start(options(&ca, Proof::JoinTokenFile(file.clone()), &path));

    let mut running = start_again();
    let first = running.first().await;
    within(running.ready.wait()).await;
    running.ends().await;
    assert_eq!(ca.calls(), ["join Ok"]);

    // While the authority is away there is an identity all the same.
    ca.kill().await;
    let mut running = start_again();
    let kept = running.first().await;
    assert_eq!(kept.certificate().serial(), first.certificate().serial());
    within(running.ready.wait()).await;
    running.ends().await;

    // When it is time the certificate itself renews.
    ca.listen().await;
    let mut late = options(&ca, Proof::JoinTokenFile(file.clone()), &path);
    late.clock = Clock::new(|| now() + Span::hours(13));
    let mut running = start(late);
    running.another(&kept).await;
    running.ends().await;
    assert_eq!(ca.calls(), ["join Ok", "certificate Ok"]);
}

#[tokio::test]
async fn a_join_token_that_is_used_up_is_not_shown_again_and_a_new_one_is() {
    let ca = TestCa::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = ca.file("join", "flotilla-join.0.stolen");
    let mut running = start(options(
        &ca,
        Proof::JoinTokenFile(file.clone()),
        &dir.path().join("i"),
    ));
    running
        .waits_for("make one with `flotilla ca token create`")
        .await;
    assert_eq!(ca.calls(), ["join Unauthenticated"]);
    std::fs::write(&file, "flotilla-join.1.secret").unwrap();
    running.first().await;
    running.ends().await;
    assert_eq!(ca.calls(), ["join Unauthenticated", "join Ok"]);
}

/// Case 24 for services: renewal at half of the life; while the authority is away the old certificate stays, and when it is back there is a
/// new one.
#[tokio::test]
async fn renewal_outlasts_the_authority() {
    let ca = TestCa::start().await;
    let dir = tempfile::tempdir().unwrap();
    let shift = Arc::new(AtomicI64::new(0));
    let mut options = options(&ca, token(&ca), &dir.path().join("i"));
    options.clock = Clock::new({
        let shift = shift.clone();
        move || now() + Span::seconds(shift.load(Ordering::Relaxed))
    });
    let mut running = start(options);
    let first = running.first().await;
    within(running.ready.wait()).await;
    // An hour before its time nothing happens, however often the clock is looked at.
    shift.store(10 * 3600, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(ca.calls().len(), 1);

    // The clock jumps forward.
    ca.kill().await;
    shift.store(13 * 3600, Ordering::Relaxed);
    let note = async {
        while !running.ready.report().degraded.contains_key("identity") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(note).await;
    assert!(running.ready.is_ready());
    assert_eq!(
        running.first().await.certificate().serial(),
        first.certificate().serial()
    );
    ca.listen().await;
    let second = running.another(&first).await;

    // And back: what was issued is in the future by our clock, and is asked for again.
    shift.store(-5 * 3600, Ordering::Relaxed);
    let third = running.another(&second).await;
    shift.store(0, Ordering::Relaxed);
    let _ = third;
    // By the right clock all is well again, without a restart.
    within(running.ready.wait()).await;
    running.ends().await;
}

#[tokio::test]
async fn an_expired_certificate_is_said_so_and_replaced() {
    let ca = TestCa::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i");
    ca.state(|state| state.ttl = Span::seconds(2));
    let mut running = start(options(&ca, token(&ca), &path));
    let first = running.first().await;
    running.ends().await;
    ca.kill().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut running = start(options(&ca, token(&ca), &path));
    running.waits_for("the certificate expired at").await;
    ca.state(|state| state.ttl = Span::hours(1));
    ca.listen().await;
    running.another(&first).await;
    within(running.ready.wait()).await;
    running.ends().await;
}

#[tokio::test]
async fn answers_that_cannot_be_ours_are_not_taken() {
    let ca = TestCa::start().await;
    let dir = tempfile::tempdir().unwrap();
    ca.state(|state| state.twist = Some(Twist::SomebodyElse));
    let mut running = start(options(&ca, token(&ca), &dir.path().join("i")));
    running
        .waits_for("Citadel takes us for spiffe://cluster.local/ns/istio-system/sa/somebody-else")
        .await;
    for (twist, words) in [
        (
            Twist::OtherKey,
            "the private key does not belong to the certificate",
        ),
        (Twist::ForeignRoots, "does not hold"),
        (Twist::Garbage, "Citadel's answer"),
    ] {
        ca.state(|state| state.twist = Some(twist));
        running.waits_for(words).await;
    }
    assert!(!dir.path().join("i").exists());
    ca.state(|state| state.twist = None);
    running.first().await;
    running.ends().await;
}

#[tokio::test]
async fn a_kept_certificate_of_somebody_else_is_left_alone() {
    let ca = TestCa::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i");
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let (chain, roots) = ca.state(|state| {
        let leaf = leaf(
            &state.authority,
            &id("galley"),
            key.public_key(),
            Span::hours(1),
        );
        (leaf.to_pem(), state.roots.clone())
    });
    let material = Material {
        key: key.to_pkcs8_pem(),
        chain,
        roots,
        crls: String::new(),
    };
    folder::write(&path, &material).unwrap();
    let mut running = start(options(&ca, token(&ca), &path));
    assert_eq!(*running.first().await.id(), id("pilot"));
    running.ends().await;
}

#[tokio::test]
async fn without_any_proof_it_is_said_what_is_missing() {
    let ca = TestCa::start().await;
    let dir = tempfile::tempdir().unwrap();
    let running = start(options(&ca, Proof::Certificate, &dir.path().join("i")));
    running.waits_for("`flotilla ca enroll`").await;
    running.ends().await;
}

/// A rotation of the root as a service sees it: the new root is believed before it signs, the certificate is renewed soon after, and the old
/// root is forgotten.
#[tokio::test]
async fn a_rotation_is_followed() {
    let ca = TestCa::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i");
    let mut running = start(options(&ca, token(&ca), &path));
    let first = running.first().await;
    let domain = id("x").trust_domain().clone();
    let roots = |i: &TlsIdentity| i.trust().bundle(&domain).unwrap().roots().len();

    let (old, new) = (
        ca.state(|state| state.authority.certificate().to_pem()),
        root(),
    );
    let new_pem = new.certificate().to_pem();
    // Distribute: the old one signs.
    ca.state(|state| state.roots = old.clone() + &new_pem);
    ca.announce();
    let both = running.has(|i| roots(i) == 2).await;
    assert_eq!(both.certificate().serial(), first.certificate().serial());
    // Drain: the new one signs, and everybody renews.
    ca.rotate(new, old.clone() + &new_pem);
    let second = running.another(&first).await;
    assert_eq!(roots(&second), 2);
    // Retire.
    ca.state(|state| state.roots = new_pem.clone());
    ca.announce();
    let last = running.has(|i| roots(i) == 1).await;
    assert_eq!(last.certificate().serial(), second.certificate().serial());
    assert_eq!(ca.calls(), ["token Ok", "token Ok"]);
    running.ends().await;
    // What is kept is of the same moment, also if the file of the first contact is not.
    assert_eq!(folder::read(&path).unwrap().roots.trim(), new_pem.trim());
    let mut again = start(options(&ca, token(&ca), &path));
    again.first().await;
    again.ends().await;
}

/// A replica that lags signs: what was heard of roots and revocations is not forgotten for what its answer says.
#[tokio::test]
async fn a_renewal_does_not_forget_the_bundle() {
    let ca = TestCa::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i");
    let shift = Arc::new(AtomicI64::new(0));
    let mut options = options(&ca, token(&ca), &path);
    options.clock = Clock::new({
        let shift = shift.clone();
        move || now() + Span::seconds(shift.load(Ordering::Relaxed))
    });
    let mut running = start(options);
    let first = running.first().await;
    let domain = id("x").trust_domain().clone();
    let roots = |i: &TlsIdentity| i.trust().bundle(&domain).unwrap().roots().len();
    let list = ca.state(|state| {
        let until = now() + Span::days(9);
        pki::crl::build(&state.authority, &[], 1, now(), until).unwrap()
    });
    ca.tell(|bundle| {
        bundle.generation += 1;
        bundle.digest = "newer".into();
        bundle.roots.push(root().certificate().to_pem());
        bundle.crls = vec![list.to_pem()];
    })
    .await;
    running.has(|i| roots(i) == 2).await;
    // The answers' roots are one still.
    shift.store(13 * 3600, Ordering::Relaxed);
    let second = running.another(&first).await;
    assert_eq!(roots(&second), 2);
    running.ends().await;
    assert_eq!(folder::read(&path).unwrap().crls, list.to_pem());
}

/// A restart with roots that were retired meanwhile: the file of roots helps.
#[tokio::test]
async fn a_service_that_missed_a_rotation_comes_back() {
    let ca = TestCa::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i");
    let mut running = start(options(&ca, token(&ca), &path));
    let first = running.first().await;
    running.ends().await;
    let new = root();
    let roots = new.certificate().to_pem();
    ca.rotate(new, roots);
    ca.write_root_file();
    let mut running = start(options(&ca, token(&ca), &path));
    let second = running.another(&first).await;
    assert_eq!(*second.id(), id("pilot"));
    within(running.ready.wait()).await;
    running.ends().await;
}

#[tokio::test]
async fn a_folder_that_others_may_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let ca = TestCa::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path: &Path = &dir.path().join("i");
    std::fs::create_dir(path).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut running = start(options(&ca, token(&ca), path));
    running.first().await;
    let note = async {
        while !running
            .ready
            .report()
            .degraded
            .contains_key("identity-folder")
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(note).await;
    running.ends().await;
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
}
