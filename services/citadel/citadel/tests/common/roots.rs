//! What tests of the roots share.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bus::MemoryBus;
use citadel::ledger::Ledger;
use citadel::roots::{Clock, Roots, RootsConfig};
use citadel_core::journal::{Entry, Event};
use mesh_types::{SpiffeId, TrustDomain};
use pki::{Authority, Certificate, KeyType, LeafRequest, PrivateKey, Serial, Trust};
use service_kit::Stop;
use time::OffsetDateTime;

use super::{APP, NOW, at};

pub fn domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

pub fn config(replica: &str) -> RootsConfig {
    RootsConfig {
        poll: Duration::from_millis(50),
        check_jitter: false,
        check_interval: Duration::from_millis(50),
        lease_ttl: Duration::from_millis(600),
        ..RootsConfig::new(domain(), replica)
    }
}

pub fn clock(now: i64) -> (Arc<AtomicI64>, Clock) {
    let time = Arc::new(AtomicI64::new(now));
    let read = time.clone();
    (time, Arc::new(move || at(read.load(Ordering::Relaxed))))
}

pub async fn start(ledger: &Ledger, replica: &str) -> Arc<Roots> {
    Roots::start(config(replica), ledger.clone(), clock(NOW).1)
        .await
        .unwrap()
}

/// A replica that runs.
pub struct Running {
    pub roots: Arc<Roots>,
    stop: Stop,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    pub fn run(roots: Arc<Roots>, bus: &Arc<MemoryBus>) -> Self {
        let stop = Stop::new();
        let task = tokio::spawn(roots.clone().run(bus.clone(), stop.clone()));
        Self { roots, stop, task }
    }

    pub async fn end(self) {
        self.stop.trigger();
        self.task.await.unwrap();
    }
}

/// Waits until the bundle is as wanted.
pub async fn until(
    roots: &Roots,
    what: &str,
    wanted: impl Fn(&mesh_api::citadel::TrustBundle) -> bool,
) {
    let mut bundles = roots.bundles();
    let found = bundles.wait_for(|bundle| bundle.as_deref().is_some_and(&wanted));
    let found = tokio::time::timeout(Duration::from_secs(10), found).await;
    assert!(found.is_ok(), "{what}: {:?}", roots.bundles().borrow());
}

pub fn fingerprints(roots: &Arc<Roots>) -> Vec<String> {
    let bundle = roots.bundles().borrow().clone().unwrap();
    let of = |pem: &String| Certificate::from_pem(pem).unwrap().fingerprint();
    bundle.roots.iter().map(of).collect()
}

pub fn leaf(authority: &Authority, serial: u8, now: OffsetDateTime) -> (Certificate, PrivateKey) {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let id: SpiffeId = APP.parse().unwrap();
    let request = LeafRequest {
        id: &id,
        public_key: key.public_key(),
        ttl: time::Duration::hours(24),
        names: &[],
        common_name: false,
    };
    let leaf = authority
        .issue(&request, Serial::from_random([serial; 16]), now)
        .unwrap();
    (leaf, key)
}

/// Issues a certificate and records it, as the service does.
pub async fn issue(roots: &Roots, serial: u8) -> Certificate {
    let signing = roots.signings().borrow().clone().unwrap();
    let (leaf, _) = leaf(&signing.authority, serial, at(NOW));
    let entry = Entry {
        serial: leaf.serial().to_string(),
        spiffe_id: APP.into(),
        not_after: leaf.not_after().unix_timestamp(),
        issuer: signing.issuer.clone(),
        ..Entry::new(NOW, Event::Issued)
    };
    roots.ledger().record_issued(entry, None).await.unwrap();
    leaf
}

pub fn trusts(root: &Certificate, leaf: &Certificate, now: OffsetDateTime) -> bool {
    let bundle = pki::Bundle::new([root.clone()]).unwrap();
    let trust = Trust::of(domain(), Arc::new(bundle), Arc::from([]));
    trust.verify(leaf.der(), &[], pki::Use::Server, now).is_ok()
}
