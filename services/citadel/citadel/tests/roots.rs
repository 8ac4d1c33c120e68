//! The roots that Citadel makes itself: once, shared by all replicas, made anew; and the bundle that follows.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus::MemoryBus;
use citadel::ledger::{KeyEncryption, Ledger, Mode, Query};
use citadel::roots::Roots;
use citadel_core::revocation::Target;
use common::roots::{Running, clock, config, fingerprints, issue, leaf, start, trusts, until};
use common::{APP, NOW, at, on_both, open};
use pki::crl::Crl;

on_both!(
    replicas_that_start_with_nothing_use_one_root,
    a_root_outlives_its_process,
    a_revocation_reaches_the_bundle_of_every_replica,
    a_root_is_made_anew_with_the_same_key,
    an_expired_signer_does_not_start,
);

mod check {
    use super::*;

    /// Case 15.
    pub async fn replicas_that_start_with_nothing_use_one_root(url: &str) {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..4 {
            let url = url.to_owned();
            tasks.spawn(async move {
                let ledger = open(&url).await;
                start(&ledger, &format!("r{n}")).await
            });
        }
        let all = tasks.join_all().await;
        let signing = |roots: &Arc<Roots>| {
            let signing = roots.signings().borrow().clone().unwrap();
            signing.authority.certificate().fingerprint()
        };
        let first = signing(&all[0]);
        for roots in &all {
            assert_eq!(signing(roots), first);
            assert_eq!(fingerprints(roots), std::slice::from_ref(&first));
            assert_eq!(roots.mode(), Mode::SelfSigned);
            assert_eq!(roots.authorities().len(), 1);
        }
        let made = all[0].ledger().journal(&Query::default()).await.unwrap();
        assert_eq!(made.len(), 1, "one was made: {made:?}");
        let leaf = issue(&all[1], 1).await;
        let root = all[2].signings().borrow().clone().unwrap();
        assert!(trusts(root.authority.certificate(), &leaf, at(NOW)));
    }

    pub async fn a_root_outlives_its_process(url: &str) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kek");
        std::fs::write(&file, "07".repeat(32)).unwrap();
        let ledger = open(url).await;
        let first = fingerprints(&start(&ledger, "a").await);
        ledger.close().await;
        // Sealed from now on, the key that lay open too.
        let sealing = || Some(KeyEncryption::from_file(&file).unwrap());
        let ledger = Ledger::open(url, sealing()).await.unwrap();
        assert_eq!(fingerprints(&start(&ledger, "a").await), first);
        ledger.close().await;
        let ledger = open(url).await;
        let refused = Roots::start(config("a"), ledger, clock(NOW).1)
            .await
            .unwrap_err();
        assert!(
            refused.to_string().contains("--key-encryption-key-file"),
            "{refused}"
        );
        assert!(!refused.is_transient());
        let ledger = Ledger::open(url, sealing()).await.unwrap();
        assert_eq!(fingerprints(&start(&ledger, "a").await), first);
    }

    pub async fn a_revocation_reaches_the_bundle_of_every_replica(url: &str) {
        let bus = Arc::new(MemoryBus::new());
        let (a, b) = (open(url).await, open(url).await);
        let a = Running::run(start(&a, "a").await, &bus);
        let b = Running::run(start(&b, "b").await, &bus);
        let leaf = issue(&a.roots, 1).await;
        assert!(a.roots.bundles().borrow().as_ref().unwrap().crls.is_empty());
        let target = Target::SpiffeId(APP.into());
        let ledger = b.roots.ledger();
        let revoked = ledger
            .revoke(target, "stolen", "socket", at(NOW))
            .await
            .unwrap();
        for roots in [&a.roots, &b.roots] {
            until(roots, "revoked", |bundle| {
                bundle.denied == [APP] && bundle.crls.len() == 1
            })
            .await;
            let bundle = roots.bundles().borrow().clone().unwrap();
            let lists = Crl::all_from_pem(&bundle.crls[0]).unwrap();
            let signing = roots.signings().borrow().clone().unwrap();
            assert!(lists[0].is_issued_by(signing.authority.certificate()));
            assert!(lists[0].revokes(&leaf));
            assert!(lists[0].this_update() <= at(NOW) && lists[0].next_update() > Some(at(NOW)));
            assert_eq!(bundle.digest, citadel_core::bundle::digest(&bundle));
        }
        let (of_a, of_b) = (
            a.roots.bundles().borrow().clone(),
            b.roots.bundles().borrow().clone(),
        );
        assert_eq!(of_a, of_b, "equal on every replica");
        let generation = of_a.unwrap().generation;
        ledger
            .lift(revoked.id, "found", "socket", at(NOW))
            .await
            .unwrap();
        for roots in [&a.roots, &b.roots] {
            until(roots, "lifted", |bundle| {
                bundle.denied.is_empty() && bundle.crls.is_empty() && bundle.generation > generation
            })
            .await;
        }
        a.end().await;
        b.end().await;
    }

    /// Case 16.
    pub async fn a_root_is_made_anew_with_the_same_key(url: &str) {
        let bus = Arc::new(MemoryBus::new());
        let (time, clock) = clock(NOW);
        let ledger = open(url).await;
        let roots = Roots::start(config("a"), ledger, clock).await.unwrap();
        let running = Running::run(roots.clone(), &bus);
        let before = roots.signings().borrow().clone().unwrap();
        let (old_leaf, _) = leaf(&before.authority, 1, at(NOW));
        // At 79 percent nothing happens; at 85 it does.
        let ten_years = pki::ROOT_LIFE.whole_seconds();
        time.store(NOW + ten_years / 100 * 79, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(
            fingerprints(&roots),
            [before.authority.certificate().fingerprint()]
        );
        let late = NOW + ten_years / 100 * 85;
        time.store(late, Ordering::Relaxed);
        let mut signings = roots.signings();
        signings.borrow_and_update();
        tokio::time::timeout(Duration::from_secs(10), signings.changed())
            .await
            .unwrap()
            .unwrap();
        let after = signings.borrow().clone().unwrap();
        let (old, new) = (
            before.authority.certificate(),
            after.authority.certificate(),
        );
        assert_ne!(old, new);
        assert_eq!(before.issuer, after.issuer, "the same key");
        assert!(new.not_after() > at(late + ten_years - 10));
        assert_eq!(fingerprints(&roots), [new.fingerprint()]);
        let (new_leaf, _) = leaf(&after.authority, 2, at(late));
        assert!(trusts(old, &old_leaf, at(NOW + 60)));
        assert!(trusts(old, &new_leaf, at(late)), "new leaf, old root");
        let (old_late, _) = leaf(&before.authority, 3, at(late));
        assert!(trusts(new, &old_late, at(late)), "old leaf, new root");
        running.end().await;
    }

    /// Case 13, at start-up.
    pub async fn an_expired_signer_does_not_start(url: &str) {
        let ledger = open(url).await;
        start(&ledger, "a").await;
        let (_, late) = clock(NOW + pki::ROOT_LIFE.whole_seconds() + 1);
        let refused = Roots::start(config("a"), ledger, late).await.unwrap_err();
        assert!(refused.to_string().contains("has expired"), "{refused}");
        assert!(!refused.is_transient());
    }
}
