//! The trust bundle as it is told.

use identity::Renewer;
use service_kit::{Ready, Stop};

use crate::ca::{TestCa, root};
use crate::{options, within};

#[tokio::test]
async fn bundles_that_cannot_be_used_change_nothing() {
    let ca = TestCa::start().await;
    let dir = tempfile::tempdir().unwrap();
    let proof = identity::Proof::TokenFile(ca.file("token", "good"));
    let renewer = Renewer::new(options(&ca, proof, &dir.path().join("i")));
    let (mut bundle, mut identities) = (renewer.bundle(), renewer.identities());
    let stop = Stop::new();
    let task = tokio::spawn(renewer.run(Ready::new(&stop), stop.clone()));
    within(identities.wait_for(Option::is_some)).await.unwrap();
    let first = within(bundle.wait_for(Option::is_some))
        .await
        .unwrap()
        .clone()
        .unwrap();
    let trust = identities.borrow().clone().unwrap().trust().clone();

    // Another trust domain, no roots, garbage for roots; and at last one that is good.
    ca.tell(|bundle| {
        bundle.trust_domain = "another.domain".into();
        bundle.generation += 1;
    })
    .await;
    ca.tell(|bundle| {
        bundle.trust_domain = "cluster.local".into();
        bundle.roots.clear();
    })
    .await;
    ca.tell(|bundle| bundle.roots = vec!["-----BEGIN CERTIFICATE-----".into()])
        .await;
    let other = root().certificate().to_pem();
    ca.tell(|bundle| {
        bundle.roots = vec![first.roots[0].clone(), other.clone()];
        bundle.generation = first.generation + 7;
        bundle.denied = vec!["spiffe://cluster.local/ns/x/sa/y".into()];
    })
    .await;
    let wanted = first.generation + 7;
    let newest = within(bundle.wait_for(|b| b.as_ref().unwrap().generation == wanted));
    assert_eq!(newest.await.unwrap().as_ref().unwrap().denied.len(), 1);
    within(identities.wait_for(|i| *i.as_ref().unwrap().trust() != trust))
        .await
        .unwrap();
    stop.trigger();
    within(task).await.unwrap();
}

#[tokio::test]
async fn an_older_bundle_of_a_replica_that_lags_does_not_count() {
    let ca = TestCa::start().await;
    let dir = tempfile::tempdir().unwrap();
    let proof = identity::Proof::TokenFile(ca.file("token", "good"));
    let renewer = Renewer::new(options(&ca, proof, &dir.path().join("i")));
    let mut bundle = renewer.bundle();
    let stop = Stop::new();
    let task = tokio::spawn(renewer.run(Ready::new(&stop), stop.clone()));
    within(bundle.wait_for(Option::is_some)).await.unwrap();
    ca.tell(|bundle| bundle.generation = 10).await;
    within(bundle.wait_for(|b| b.as_ref().is_some_and(|b| b.generation == 10)))
        .await
        .unwrap();
    ca.tell(|bundle| bundle.generation = 9).await;
    ca.tell(|bundle| bundle.generation = 11).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&11) {
        within(bundle.changed()).await.unwrap();
        seen.push(bundle.borrow_and_update().as_ref().unwrap().generation);
    }
    assert_eq!(seen, [11]);
    stop.trigger();
    within(task).await.unwrap();
}
