//! A certificate that somebody else keeps.

use std::fs;
use std::path::Path;
use std::time::Duration;

use identity::{FolderIdentity, Material, folder};
use service_kit::tls::Identities;
use service_kit::{Ready, Stop};

use crate::folder::material;
use crate::{id, within};

struct Running {
    identities: Identities,
    ready: Ready,
    stop: Stop,
    task: tokio::task::JoinHandle<()>,
}

fn start(path: &Path) -> Running {
    let follower = FolderIdentity::new(path.to_owned());
    let (stop, identities) = (Stop::new(), follower.identities());
    let ready = Ready::new(&stop);
    let task = tokio::spawn(follower.run(ready.clone(), stop.clone()));
    Running {
        identities,
        ready,
        stop,
        task,
    }
}

impl Running {
    async fn is(&mut self, account: &str) {
        let wanted = id(account);
        let found = self
            .identities
            .wait_for(|now| now.as_ref().is_some_and(|i| *i.id() == wanted));
        within(found).await.unwrap();
    }

    async fn notes(&self, words: &str) {
        let said = async {
            loop {
                let report = self.ready.report();
                let note = report.degraded.get("identity");
                if note
                    .or(report.waiting.get("identity"))
                    .is_some_and(|n| n.contains(words))
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(said).await;
    }

    async fn ends(self) {
        self.stop.trigger();
        within(self.task).await.unwrap();
    }
}

fn plain(path: &Path, material: &Material) {
    fs::write(path.join("root-cert.pem"), &material.roots).unwrap();
    fs::write(path.join("cert-chain.pem"), &material.chain).unwrap();
    fs::write(path.join("key.pem"), &*material.key).unwrap();
}

/// Case 27 for services: a swap is read once, and a pair that does not match is waited for.
#[tokio::test]
async fn what_changes_is_read_again_once_it_belongs_together() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("certificates");
    let mut running = start(&path);
    running.notes("certificates").await;
    fs::create_dir(&path).unwrap();
    let a = material("a");
    plain(&path, &a);
    running.is("a").await;
    within(running.ready.wait()).await;

    // Half of the next one.
    let b = material("b");
    fs::write(path.join("cert-chain.pem"), &b.chain).unwrap();
    running
        .notes("the private key does not belong to the certificate")
        .await;
    assert!(running.ready.is_ready());
    running.is("a").await;
    plain(&path, &b);
    running.is("b").await;

    // Swapped as a whole.
    folder::write(&path, &material("c")).unwrap();
    running.is("c").await;
    running.identities.mark_unchanged();
    let d = material("d");
    folder::write(&path, &d).unwrap();
    running.is("d").await;
    // The same once more changes nothing.
    running.identities.mark_unchanged();
    folder::write(&path, &d).unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(!running.identities.has_changed().unwrap());
    assert!(running.ready.report().degraded.is_empty());
    running.ends().await;
}

#[tokio::test]
async fn a_folder_that_goes_and_comes_back_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("certificates");
    folder::write(&path, &material("a")).unwrap();
    let mut running = start(&path);
    running.is("a").await;
    fs::remove_dir_all(&path).unwrap();
    running.notes("certificates").await;
    folder::write(&path, &material("b")).unwrap();
    running.is("b").await;
    folder::write(&path, &material("c")).unwrap();
    running.is("c").await;
    running.ends().await;
}
