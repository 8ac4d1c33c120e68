//! Taking certificates back.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use common::*;
use pki::crl::{self, Crl, CrlError, RevocationReason, Revoked};
use pki::{Authority, Certificate, Trust, Use, VerifyError};
use time::Duration;

fn list(authority: &Authority, revoked: &[&Certificate]) -> Crl {
    let revoked: Vec<Revoked> = revoked
        .iter()
        .map(|certificate| Revoked {
            serial: certificate.serial().clone(),
            at: NOW,
            reason: RevocationReason::KeyCompromise,
        })
        .collect();
    crl::build(authority, &revoked, 7, NOW, NOW + Duration::days(1)).unwrap()
}

fn trust_with(authority: &Authority, crls: &[Crl]) -> Trust {
    Trust::of(
        domain(),
        Arc::new(authority.roots().clone()),
        crls.to_vec().into(),
    )
}

#[test]
fn what_is_on_the_list_is_refused_and_nothing_else() {
    let root = root(ec());
    let (kept, taken) = (leaf(&root, &ec(), APP, 20), leaf(&root, &ec(), APP, 21));
    let crl = list(&root, &[&taken]);
    let trust = trust_with(&root, std::slice::from_ref(&crl));
    assert_eq!(
        trust.verify(taken.der(), &[], Use::Client, NOW),
        Err(VerifyError::Revoked(id(APP)))
    );
    assert_eq!(trust.verify(kept.der(), &[], Use::Client, NOW), Ok(id(APP)));
    // Overdue, and still in force.
    let late = NOW + Duration::hours(23);
    assert!(trust.verify(taken.der(), &[], Use::Client, late).is_err());
    // Lifted.
    let lifted = trust_with(&root, &[list(&root, &[])]);
    assert!(lifted.verify(taken.der(), &[], Use::Client, NOW).is_ok());

    assert_eq!(crl.number(), Some(7));
    assert_eq!(crl.this_update(), NOW);
    assert_eq!(crl.next_update(), Some(NOW + Duration::days(1)));
    assert_eq!(Vec::from_iter(crl.serials()), [taken.serial()]);
    let text = crl.to_pem() + &list(&root, &[]).to_pem();
    let read = Crl::all_from_pem(&text).unwrap();
    assert_eq!(read.len(), 2);
    assert_eq!(read[0], crl);
}

/// Two issuers may have one name: whose list counts is told by the signature.
#[test]
fn a_list_of_another_issuer_of_the_same_name_takes_nothing_back() {
    let (ours, theirs) = (root(ec()), root(ec()));
    let (below_ours, below_theirs) = (below(&ours, ec()), below(&theirs, ec()));
    let mine = leaf(&below_ours, &ec(), APP, 30);
    let same_serial = leaf(&below_theirs, &ec(), APP, 30);
    assert_eq!(mine.issuer_der(), same_serial.issuer_der());
    let foreign = list(&below_theirs, &[&same_serial]);
    let own = list(&below_ours, &[&mine]);
    let chain = [below_ours.certificate().der().clone()];
    let verify =
        |crls: &[Crl]| trust_with(&ours, crls).verify(mine.der(), &chain, Use::Client, NOW);
    assert_eq!(verify(std::slice::from_ref(&foreign)), Ok(id(APP)));
    assert!(verify(&[foreign, own]).is_err());
}

#[test]
fn every_authority_of_a_chain_needs_a_list_of_its_own() {
    let root = root(ec());
    let below = below(&root, ec());
    let chain = [below.certificate().clone(), root.certificate().clone()];
    let (of_below, of_root) = (list(&below, &[]), list(&root, &[]));
    assert_eq!(crl::check(&[], &chain), Ok(()));
    assert_eq!(
        crl::check(&[of_below.clone(), of_root.clone()], &chain),
        Ok(())
    );
    assert_eq!(
        crl::check(std::slice::from_ref(&of_below), &chain[..1]),
        Ok(())
    );
    assert_eq!(
        crl::check(&[of_root], &chain),
        Err(CrlError::Uncovered("CN=below".into()))
    );
    // One that names the right issuer, signed by somebody else.
    let other = common::root(ec());
    let other_below = common::below(&other, ec());
    assert!(crl::check(&[list(&other_below, &[])], &chain[..1]).is_err());
}

#[test]
fn broken_lists_are_refused() {
    let root = root(ec());
    let crl = list(&root, &[]);
    assert_eq!(Crl::from_der(b"x"), Err(CrlError::Malformed));
    assert_eq!(
        Crl::from_der(&[crl.der(), b"x"].concat()),
        Err(CrlError::Malformed)
    );
    assert_eq!(crl::build(&root, &[], 1, NOW, NOW), Err(CrlError::Times));
    assert!(Crl::all_from_pem("").unwrap().is_empty());
    // One that covers a part only cannot be told from one that covers all, by whoever does not look.
    let key = rcgen::KeyPair::from_pem(&root.private_key().to_pkcs8_pem()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(root.certificate().der(), key).unwrap();
    let partial = rcgen::CertificateRevocationListParams {
        this_update: NOW,
        next_update: NOW + Duration::days(1),
        crl_number: 1.into(),
        issuing_distribution_point: Some(rcgen::CrlIssuingDistributionPoint {
            distribution_point: rcgen::CrlDistributionPoint {
                uris: vec!["http://x/y".into()],
            },
            scope: Some(rcgen::CrlScope::CaCertsOnly),
        }),
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let partial = partial.signed_by(&issuer).unwrap();
    assert_eq!(Crl::from_der(partial.der()), Err(CrlError::Partial));
}
