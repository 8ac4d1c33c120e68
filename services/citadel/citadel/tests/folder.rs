//! A plugged-in authority: what a folder may hold, and what happens when it changes.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus::MemoryBus;
use citadel::ledger::{Ledger, Mode};
use citadel::roots::{Roots, RootsConfig, RootsError};
use citadel_core::revocation::Target;
use common::roots::{Running, clock, config, domain, fingerprints, issue, leaf, start, until};
use common::{NOW, at, open};
use pki::crl::Crl;
use pki::{Authority, Certificate, KeyType, PrivateKey, Serial};

/// An authority as others make it: a root, and an intermediate that signs.
struct Made {
    root: Authority,
    key: PrivateKey,
    intermediate: Certificate,
}

impl Made {
    fn under(root: &Authority, serial: u8) -> Self {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let intermediate = root
            .issue_intermediate(
                key.public_key(),
                "intermediate",
                time::Duration::days(365),
                Serial::from_random([serial; 16]),
                at(NOW),
            )
            .unwrap();
        Self {
            root: root.clone(),
            key,
            intermediate,
        }
    }

    fn root(key_type: KeyType) -> Authority {
        let key = PrivateKey::generate(key_type).unwrap();
        let serial = Serial::from_random([9; 16]);
        Authority::self_signed(key, &domain(), pki::ROOT_LIFE, serial, at(NOW)).unwrap()
    }

    fn new(key_type: KeyType) -> Self {
        Self::under(&Self::root(key_type), 1)
    }

    fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        put("ca-cert.pem", &self.intermediate.to_pem());
        put("ca-key.pem", &self.key.to_pkcs8_pem());
        put("root-cert.pem", &self.root.certificate().to_pem());
        put("cert-chain.pem", &self.intermediate.to_pem());
    }
}

fn plugged(folder: &Path) -> RootsConfig {
    RootsConfig {
        folder: Some(folder.to_path_buf()),
        ..config("a")
    }
}

async fn sqlite(dir: &tempfile::TempDir) -> Ledger {
    open(&format!(
        "sqlite://{}",
        dir.path().join("citadel.db").display()
    ))
    .await
}

#[tokio::test]
async fn an_intermediate_under_an_rsa_root_signs() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cacerts");
    let made = Made::new(KeyType::Rsa(2048));
    made.write(&folder);
    let roots = Roots::start(plugged(&folder), sqlite(&dir).await, clock(NOW).1)
        .await
        .unwrap();
    assert_eq!(roots.mode(), Mode::PluggedIn);
    let signing = roots.signings().borrow().clone().unwrap();
    assert_eq!(signing.authority.certificate(), &made.intermediate);
    assert_eq!(
        signing.authority.chain(),
        std::slice::from_ref(&made.intermediate)
    );
    assert_eq!(
        fingerprints(&roots),
        [made.root.certificate().fingerprint()]
    );
    let shown = roots.authorities();
    assert_eq!(shown.len(), 2);
    assert!(
        shown
            .iter()
            .any(|one| one.signing && !one.trusted && one.key == "EC P-256")
    );
    assert!(
        shown
            .iter()
            .any(|one| one.trusted && !one.signing && one.key == "RSA 2048")
    );
    // A list is signed by the intermediate.
    issue(&roots, 1).await;
    let serial = Serial::from_random([1; 16]).to_string();
    let target = Target::Serial {
        serial,
        hold: false,
    };
    roots
        .ledger()
        .revoke(target, "stolen", "socket", at(NOW))
        .await
        .unwrap();
    roots.refresh().await.unwrap();
    let bundle = roots.bundles().borrow().clone().unwrap();
    let lists = Crl::all_from_pem(&bundle.crls[0]).unwrap();
    assert!(lists[0].is_issued_by(&made.intermediate));
}

#[tokio::test]
async fn the_layout_of_kubernetes_secrets_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cacerts");
    let made = Made::new(KeyType::EcP384);
    // As a kubelet mounts it.
    let version = folder.join("..2026_01");
    std::fs::create_dir_all(&version).unwrap();
    std::os::unix::fs::symlink("..2026_01", folder.join("..data")).unwrap();
    for (name, text) in [
        ("tls.crt", made.intermediate.to_pem()),
        ("tls.key", made.key.to_pkcs8_pem().to_string()),
        ("ca.crt", made.root.certificate().to_pem()),
    ] {
        std::fs::write(version.join(name), text).unwrap();
        std::os::unix::fs::symlink(format!("..data/{name}"), folder.join(name)).unwrap();
    }
    let roots = Roots::start(plugged(&folder), sqlite(&dir).await, clock(NOW).1)
        .await
        .unwrap();
    let signing = roots.signings().borrow().clone().unwrap();
    assert_eq!(signing.authority.certificate(), &made.intermediate);
}

/// Case 14.
#[tokio::test]
async fn a_folder_with_some_of_the_files_is_refused_by_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cacerts");
    Made::new(KeyType::EcP256).write(&folder);
    std::fs::remove_file(folder.join("cert-chain.pem")).unwrap();
    let ledger = sqlite(&dir).await;
    let start = || Roots::start(plugged(&folder), ledger.clone(), clock(NOW).1);
    let refused = start().await.unwrap_err().to_string();
    assert!(refused.contains("cert-chain.pem is missing"), "{refused}");
    std::fs::remove_file(folder.join("ca-key.pem")).unwrap();
    let refused = start().await.unwrap_err().to_string();
    assert!(
        refused.contains("ca-key.pem, cert-chain.pem are missing"),
        "{refused}"
    );
    for name in ["ca-cert.pem", "root-cert.pem"] {
        std::fs::remove_file(folder.join(name)).unwrap();
    }
    let roots = start().await.unwrap();
    assert_eq!(roots.mode(), Mode::SelfSigned);
    let signing = roots.signings().borrow().clone().unwrap();
    let life = signing.authority.certificate().not_after() - at(NOW);
    assert_eq!(life, pki::ROOT_LIFE, "ten years");
}

#[tokio::test]
async fn bad_folders_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cacerts");
    let ledger = sqlite(&dir).await;
    let (made, other) = (Made::new(KeyType::EcP256), Made::new(KeyType::EcP256));
    let other_key = other.key.to_pkcs8_pem().to_string();
    let (other_root, leaf) = (
        other.root.certificate().to_pem(),
        leaf(&other.root, 5, at(NOW)).0.to_pem(),
    );
    for (name, text, want) in [
        ("ca-key.pem", other_key.as_str(), "does not belong"),
        ("ca-key.pem", "junk", "ca-key.pem"),
        ("root-cert.pem", other_root.as_str(), "does not chain"),
        ("ca-cert.pem", leaf.as_str(), "does not belong"),
        ("ca-cert.pem", "", "ca-cert.pem"),
        ("root-cert.pem", "", "no root certificate"),
    ] {
        made.write(&folder);
        std::fs::write(folder.join(name), text).unwrap();
        let refused = Roots::start(plugged(&folder), ledger.clone(), clock(NOW).1).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(want), "{name}: {refused}");
        assert!(!refused.contains("BEGIN"), "{refused}");
    }
    made.write(&folder);
    let late = clock(NOW + 366 * 86_400).1;
    let refused = Roots::start(plugged(&folder), ledger, late)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("has expired"), "{refused}");
}

/// Case 17.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_makes_no_sense_keeps_the_authority_before() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cacerts");
    let bus = Arc::new(MemoryBus::new());
    let made = Made::new(KeyType::EcP256);
    made.write(&folder);
    let roots = Roots::start(plugged(&folder), sqlite(&dir).await, clock(NOW).1)
        .await
        .unwrap();
    let running = Running::run(roots.clone(), &bus);
    let certificate = || {
        let signing = roots.signings().borrow().clone().unwrap();
        signing.authority.certificate().clone()
    };
    let refused = |more_than: u64| {
        let roots = roots.clone();
        async move {
            let wait = async {
                while roots.refused_reloads() <= more_than {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), wait)
                .await
                .unwrap();
            roots.refused_reloads()
        }
    };
    // A key that does not match.
    let other = Made::new(KeyType::EcP256);
    std::fs::write(folder.join("ca-key.pem"), &*other.key.to_pkcs8_pem()).unwrap();
    let count = refused(0).await;
    assert_eq!(certificate(), made.intermediate);
    // An unrelated root.
    other.write(&folder);
    let count = refused(count).await;
    assert_eq!(certificate(), made.intermediate);
    // Everything gone.
    std::fs::remove_dir_all(&folder).unwrap();
    refused(count).await;
    assert_eq!(certificate(), made.intermediate);
    // Another intermediate under the same root is taken over.
    let next = Made::under(&made.root, 2);
    let mut signings = roots.signings();
    signings.borrow_and_update();
    next.write(&folder);
    let taken = signings.wait_for(|signing| {
        let signing = signing.as_ref().unwrap();
        *signing.authority.certificate() == next.intermediate
    });
    tokio::time::timeout(Duration::from_secs(40), taken)
        .await
        .unwrap()
        .unwrap();
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_multi_root_roots_are_added_and_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cacerts");
    let bus = Arc::new(MemoryBus::new());
    let (old, new) = (Made::new(KeyType::EcP256), Made::new(KeyType::EcP256));
    old.write(&folder);
    let config = RootsConfig {
        multi_root: true,
        ..plugged(&folder)
    };
    let roots = Roots::start(config, sqlite(&dir).await, clock(NOW).1)
        .await
        .unwrap();
    let running = Running::run(roots.clone(), &bus);
    let mut leading = roots.leading();
    leading.wait_for(Option::is_some).await.unwrap();
    let both = old.root.certificate().to_pem() + &new.root.certificate().to_pem();
    std::fs::write(folder.join("root-cert.pem"), &both).unwrap();
    until(&roots, "both", |bundle| bundle.roots.len() == 2).await;
    new.write(&folder);
    std::fs::write(folder.join("root-cert.pem"), &both).unwrap();
    let signs = new.root.certificate().fingerprint();
    until(&roots, "the new one signs", |bundle| {
        bundle.signing == signs
    })
    .await;
    let mut signings = roots.signings();
    let taken = signings.wait_for(|signing| {
        let signing = signing.as_ref().unwrap();
        *signing.authority.certificate() == new.intermediate
    });
    tokio::time::timeout(Duration::from_secs(10), taken)
        .await
        .unwrap()
        .unwrap();
    new.write(&folder);
    until(&roots, "the new one alone", |bundle| {
        bundle.roots == [new.root.certificate().to_pem()]
    })
    .await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_root_made_here_to_one_plugged_in_both_are_trusted_until_the_last_certificate_ends()
{
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cacerts");
    let bus = Arc::new(MemoryBus::new());
    let ledger = sqlite(&dir).await;
    let before = start(&ledger, "a").await;
    issue(&before, 1).await;
    let old = fingerprints(&before)[0].clone();
    let made = Made::new(KeyType::EcP256);
    made.write(&folder);
    let (time, clock) = clock(NOW);
    let roots = Roots::start(plugged(&folder), ledger.clone(), clock.clone())
        .await
        .unwrap();
    let all = fingerprints(&roots);
    assert!(all.contains(&old) && all.contains(&made.root.certificate().fingerprint()));
    let running = Running::run(roots.clone(), &bus);
    time.store(NOW + 25 * 3600, Ordering::Relaxed);
    until(&roots, "the old one leaves", |bundle| {
        bundle.roots.len() == 1
    })
    .await;
    assert_eq!(
        fingerprints(&roots),
        [made.root.certificate().fingerprint()]
    );
    running.end().await;
    // A folder that is empty by accident makes no new authority.
    std::fs::remove_dir_all(&folder).unwrap();
    let refused = Roots::start(plugged(&folder), ledger, clock)
        .await
        .unwrap_err();
    assert!(matches!(refused, RootsError::Unplugged(_)), "{refused}");
}

#[tokio::test]
async fn lists_that_come_with_a_folder_are_announced_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cacerts");
    let made = Made::new(KeyType::EcP256);
    made.write(&folder);
    let signer = {
        let material = pki::Material {
            key: made.key.clone(),
            certificate: made.intermediate.clone(),
            chain: Vec::new(),
            roots: vec![made.root.certificate().clone()],
        };
        Authority::new(material, &domain(), at(NOW)).unwrap()
    };
    let list = |authority: &Authority, serial: u8| {
        let revoked = pki::crl::Revoked {
            serial: Serial::from_random([serial; 16]),
            at: at(NOW),
            reason: pki::crl::RevocationReason::Unspecified,
        };
        let next = at(NOW + 86_400);
        pki::crl::build(authority, &[revoked], 1, at(NOW), next)
            .unwrap()
            .to_pem()
    };
    // A list of the root alone does not cover the intermediate.
    std::fs::write(folder.join("ca-crl.pem"), list(&made.root, 50)).unwrap();
    let ledger = sqlite(&dir).await;
    let refused = Roots::start(plugged(&folder), ledger.clone(), clock(NOW).1).await;
    assert!(refused.unwrap_err().to_string().contains("ca-crl.pem"));
    let both = list(&made.root, 50) + &list(&signer, 51);
    std::fs::write(folder.join("ca-crl.pem"), both).unwrap();
    let roots = Roots::start(plugged(&folder), ledger, clock(NOW).1)
        .await
        .unwrap();
    let leaf = issue(&roots, 1).await;
    let serial = leaf.serial().to_string();
    let target = Target::Serial { serial, hold: true };
    roots
        .ledger()
        .revoke(target, "stolen", "socket", at(NOW))
        .await
        .unwrap();
    roots.refresh().await.unwrap();
    let bundle = roots.bundles().borrow().clone().unwrap();
    let lists = Crl::all_from_pem(&bundle.crls.concat()).unwrap();
    let ours: Vec<&Crl> = lists
        .iter()
        .filter(|one| one.is_issued_by(&made.intermediate))
        .collect();
    assert_eq!(ours.len(), 1, "one list of each issuer");
    assert!(ours[0].revokes(&leaf));
    assert!(
        ours[0]
            .serials()
            .any(|serial| *serial == Serial::from_random([51; 16]))
    );
    assert!(
        lists
            .iter()
            .any(|one| one.is_issued_by(made.root.certificate()))
    );
    // The same again changes nothing.
    roots.refresh().await.unwrap();
    assert_eq!(roots.bundles().borrow().clone().unwrap(), bundle);
}
