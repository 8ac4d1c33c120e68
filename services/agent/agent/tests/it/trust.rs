//! Whom the workload trusts, as Pilot tells.

use std::time::Duration;

use envoy_api::any::Any;
use mesh_api::citadel::TrustBundle;
use mesh_api::istio::mesh::ProxyConfig;
use prost::{Message as _, Name as _};

use super::authority::{Authority, Root};
use super::chain;
use super::pilot::Pilot;
use super::rig::Setup;
use super::secrets::{Asking, roots};

fn bundle(generation: u64, roots: &[String]) -> TrustBundle {
    TrustBundle {
        trust_domain: "cluster.local".into(),
        generation,
        digest: format!("digest-{generation}"),
        roots: roots.to_vec(),
        ..TrustBundle::default()
    }
}

fn tell(pilot: &Pilot, bundle: &TrustBundle) {
    let any = Any {
        type_url: TrustBundle::type_url(),
        value: bundle.encode_to_vec(),
    };
    pilot.set(&TrustBundle::type_url(), [("default".to_owned(), any)]);
}

/// The answer to what Pilot sent last: `Some(error)` or `Some("")` once there is one.
fn answer(pilot: &Pilot, type_url: &str, version: usize) -> Option<String> {
    let nonce = format!("{type_url}#{version}");
    let asked = pilot.asked(type_url);
    let found = asked.iter().find(|asked| asked.nonce == nonce)?;
    Some(found.error.clone().unwrap_or_default())
}

/// A bundle is acknowledged when whoever asked for `ROOTCA` has taken it, Envoy among them; a bad one is rejected, an older one changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_bundle_is_acknowledged_once_envoy_has_it() {
    let authority = Authority::start().await;
    let pilot = chain::pilot(&authority).await;
    let setup = Setup::new()
        .with_authority(&authority)
        .pilots(&[pilot.address.to_string()]);
    let agent = chain::with_listener(setup, &pilot).await;
    let url = TrustBundle::type_url();
    pilot
        .until("the bundle is asked for", |pilot| {
            !pilot.asked(&url).is_empty()
        })
        .await;
    assert_eq!(pilot.asked(&url)[0].names, ["default"]);
    let old = agent.serials().await.1;
    assert_eq!(old.len(), 1);
    // Somebody else who asked, and is slow.
    let mut slow = Asking::for_secret(&agent.secrets(), "ROOTCA").await;
    slow.take().await;
    let other = Root::new();
    tell(&pilot, &bundle(7, &[authority.roots(), other.pem()]));
    let response = slow.next().await.unwrap();
    agent
        .until("Envoy has both roots", async || {
            agent.serials().await.1.len() == 2
        })
        .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(answer(&pilot, &url, 1), None);
    slow.answer(&response, None).await;
    pilot
        .until("the acknowledgement", |pilot| {
            answer(pilot, &url, 1).is_some()
        })
        .await;
    assert_eq!(answer(&pilot, &url, 1).unwrap(), "");

    // A root that leaves the bundle is trusted no more, though the certificate came with it.
    drop(slow);
    tell(&pilot, &bundle(8, &[other.pem()]));
    pilot
        .until("the acknowledgement", |pilot| {
            answer(pilot, &url, 2).is_some()
        })
        .await;
    let now = agent.serials().await.1;
    assert!(now.len() == 1 && now != old);

    // What cannot be used is rejected with a reason, and what was there stays.
    tell(&pilot, &bundle(9, &["no certificate".into()]));
    pilot
        .until("the rejection", |pilot| answer(pilot, &url, 3).is_some())
        .await;
    assert_eq!(
        answer(&pilot, &url, 3).unwrap(),
        "the bundle holds no certificate"
    );
    let foreign = TrustBundle {
        trust_domain: "elsewhere".into(),
        ..bundle(10, &[authority.roots()])
    };
    tell(&pilot, &foreign);
    pilot
        .until("the rejection", |pilot| answer(pilot, &url, 4).is_some())
        .await;
    assert!(answer(&pilot, &url, 4).unwrap().contains("elsewhere"));
    assert_eq!(agent.serials().await.1, now);
}

/// Without anybody who asked for `ROOTCA` a bundle is acknowledged at once; it is there for whoever asks later.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_to_wait_for_is_no_reason_to_wait() {
    let authority = Authority::start().await;
    let pilot = chain::pilot(&authority).await;
    let (other, url) = (Root::new(), TrustBundle::type_url());
    tell(&pilot, &bundle(1, &[authority.roots(), other.pem()]));
    let agent = Setup::new()
        .with_authority(&authority)
        .pilots(&[pilot.address.to_string()])
        .start()
        .await;
    pilot
        .until("the acknowledgement", |pilot| {
            answer(pilot, &url, 1).is_some()
        })
        .await;
    assert_eq!(answer(&pilot, &url, 1).unwrap(), "");
    let mut stream = Asking::for_secret(&agent.secrets(), "ROOTCA").await;
    assert!(roots(stream.take().await).0.contains(&other.pem()));
}

/// Istio's way: what it tells is trusted besides the authority's root.
#[tokio::test(flavor = "multi_thread")]
async fn roots_in_istios_way_are_trusted_besides() {
    let authority = Authority::start().await;
    let pilot = chain::pilot(&authority).await;
    let (other, url) = (Root::new(), ProxyConfig::type_url());
    let config = ProxyConfig {
        ca_certificates_pem: vec![other.pem()],
    };
    let any = Any {
        type_url: url.clone(),
        value: config.encode_to_vec(),
    };
    pilot.set(&url, [("default".to_owned(), any)]);
    let agent = Setup::new()
        .with_authority(&authority)
        .pilots(&[pilot.address.to_string()])
        .var("ISTIO_DELTA_XDS", "false")
        .start()
        .await;
    // Pilot says nothing about the bundle of our own kind: after a while it is asked in the other way.
    pilot
        .until("the acknowledgement", |pilot| {
            answer(pilot, &url, 1).is_some()
        })
        .await;
    let mut stream = Asking::for_secret(&agent.secrets(), "ROOTCA").await;
    let (all, _) = roots(stream.take().await);
    assert!(all.contains(&other.pem()) && all.contains(&authority.roots()));
}

/// A mounted revocation list goes to Envoy, for leaves alone. What is none does not: Envoy would take no root any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_revocation_list_is_served() {
    let authority = Authority::start().await;
    let pilot = chain::pilot(&authority).await;
    let agent = Setup::new()
        .with_authority(&authority)
        .pilots(&[pilot.address.to_string()])
        .start()
        .await;
    let mut stream = Asking::for_secret(&agent.secrets(), "ROOTCA").await;
    assert_eq!(roots(stream.take().await).1, "");
    let file = agent.path("var/run/secrets/istio/crl/ca-crl.pem");
    for none in [
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
        "soon",
    ] {
        let told = agent
            .logs()
            .matches("no revocation list can be read")
            .count();
        super::rig::write(&file, none);
        agent
            .until("it is told", async || {
                agent
                    .logs()
                    .matches("no revocation list can be read")
                    .count()
                    > told
            })
            .await;
    }
    let list = authority.root().crl();
    super::rig::write(&file, &list);
    assert_eq!(roots(stream.take().await), (authority.roots(), list));
}
