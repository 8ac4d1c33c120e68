//! A service's identity against a small authority of our own, over real TLS.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod ca;
mod folder;
mod follow;
mod reload;
mod renew;
mod sign;
mod watch;

use std::path::Path;
use std::time::Duration;

use identity::{CaClient, Proof, RenewOptions};
use mesh_types::SpiffeId;
use service_kit::tls::ServerId;

use self::ca::TestCa;

fn id(account: &str) -> SpiffeId {
    SpiffeId::parse(&format!(
        "spiffe://cluster.local/ns/istio-system/sa/{account}"
    ))
    .unwrap()
}

/// A client that knows the roots in the authority's file.
fn client(ca: &TestCa) -> CaClient {
    let server = ServerId::spiffe(id("istio-citadel-service-account"));
    let domain = id("x").trust_domain().clone();
    CaClient::new(&ca.address(), server, domain)
        .unwrap()
        .with_roots(ca.root_file())
}

/// Options that do not wait long.
fn options(ca: &TestCa, proof: Proof, folder: &Path) -> RenewOptions {
    let mut options = RenewOptions::new(id("pilot"), client(ca), proof, folder.to_owned());
    options.retry = (Duration::from_millis(20), Duration::from_millis(100));
    options.recheck = Duration::from_millis(20);
    options.spread = Duration::from_millis(50);
    options
}

/// Long enough for anything that happens, short enough for a test that fails.
async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .expect("within 20 s")
}
