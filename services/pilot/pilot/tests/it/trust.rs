//! The trust bundle on its way from Citadel to the agents, and back as the answer to "who has it?".

use std::time::Duration;

use bus::{Bus, Gather};
use mesh_api::citadel::{TrustAnswer, TrustBundle, TrustQuestion};
use mesh_api::istio::mesh::ProxyConfig;
use prost::Message as _;
use testkit::nats::Nats;

use crate::ads::{Ads, CDS, LDS};
use crate::citadel::Citadel;
use crate::rig::{Folder, Pilot};
use crate::tls::{APP, node, open};

const TRUST: &str = "type.googleapis.com/flotilla.citadel.v1.TrustBundle";
const PCDS: &str = "type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig";

async fn start(citadel: &Citadel, folder: &Folder, data: &std::path::Path, bus: &str) -> Pilot {
    let mut flags = citadel.flags(data);
    flags.push(format!("--config-dir={}", folder.path().display()));
    flags.push(format!("--bus={bus}"));
    flags.push("--name=one".into());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let pilot = Pilot::start(&flags).await;
    pilot.ready().await;
    pilot
}

/// What the one Pilot of a bus says about a bundle.
async fn ask(bus: &dyn Bus, digest: &str) -> TrustAnswer {
    let question = TrustQuestion {
        digest: digest.into(),
    };
    let gather = Gather {
        timeout: Duration::from_secs(10),
        expect: Some(1),
    };
    let answers = bus
        .request_many(
            "flotilla.pilot.trust",
            question.encode_to_vec().into(),
            gather,
        )
        .await
        .unwrap();
    TrustAnswer::decode(answers[0].clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_get_the_bundle_and_citadel_hears_who_has_it() {
    let nats = Nats::start();
    let bus = bus::connect(&nats.url(), &Default::default())
        .await
        .unwrap();
    let (citadel, folder) = (Citadel::start().await, Folder::of(&[("a", 80)]));
    let data = tempfile::tempdir().unwrap();
    let pilot = start(&citadel, &folder, data.path(), &nats.url()).await;
    let to = pilot.grpc_tls.unwrap();
    let join = async |name: &str| {
        let mut node = node("default", "app");
        node.id = format!("sidecar~10.9.9.9~{name}.default~default.svc.cluster.local");
        let mut ads = open(to, citadel.ca.client(APP), node).await.unwrap();
        ads.subscribe(CDS, &[]).await;
        ads.take(CDS).await;
        ads
    };
    let first = citadel.bundles.borrow().clone();
    let (mut ours, mut istios, _silent) =
        (join("ours").await, join("istio").await, join("none").await);
    ours.subscribe(TRUST, &[]).await;
    let got = ours.take(TRUST).await;
    assert_eq!(got.read::<TrustBundle>("default"), first);
    istios.subscribe(PCDS, &[]).await;
    let held_back = istios.next().await;
    let config: ProxyConfig = held_back.read("default");
    assert_eq!(config.ca_certificates_pem, first.roots);

    let far = async |digest: &str| {
        let answer = ask(&*bus, digest).await;
        (
            answer.pilot,
            answer.acknowledged,
            answer.total,
            answer.pending,
        )
    };
    let pending = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let silent = "none.default (does not report)";
    pilot
        .until("one has the bundle", async || {
            far(&first.digest).await == ("one".into(), 1, 3, pending(&["istio.default", silent]))
        })
        .await;
    istios.ack(&held_back).await;
    pilot
        .until("two have it", async || {
            far(&first.digest).await == ("one".into(), 2, 3, pending(&[silent]))
        })
        .await;
    // One that nobody was given.
    assert_eq!(far("another").await.1, 0);

    // The next one: only its digest counts from now on.
    let second = citadel.announce(2, &["spiffe://cluster.local/ns/evil/sa/x"]);
    let offered = ours.next().await;
    assert_eq!(offered.read::<TrustBundle>("default"), second);
    let answer = far(&second.digest).await;
    assert!(
        answer.1 <= 1 && answer.3.contains(&"ours.default".to_owned()),
        "{answer:?}"
    );
    ours.ack(&offered).await;
    pilot
        .until("ours has the next", async || {
            // The roots are the same, so there was nothing to send to Istio's.
            far(&second.digest).await.1 == 2
        })
        .await;
    assert_eq!(far(&first.digest).await.1, 0);
    assert_eq!(pilot.metric("flotilla_pilot_trust_generation").await, 2.0);
}

/// Citadel away, and this Pilot started anew: the last bundle is served, and identities stay denied.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_bundle_outlives_citadel_and_pilot() {
    let (citadel, folder) = (Citadel::start().await, Folder::of(&[("a", 80)]));
    let data = tempfile::tempdir().unwrap();
    let denied = citadel.announce(5, &["spiffe://cluster.local/ns/evil/sa/x"]);
    let read = async |pilot: &Pilot| {
        let to = pilot.grpc_tls.unwrap();
        let mut ads: Ads = open(to, citadel.ca.client(APP), node("default", "app"))
            .await
            .unwrap();
        ads.subscribe(TRUST, &[]).await;
        ads.next_of(TRUST).await.read::<TrustBundle>("default")
    };
    let mut pilot = start(&citadel, &folder, data.path(), "memory:").await;
    assert_eq!(read(&pilot).await, denied);
    citadel.end();
    pilot.terminate();
    assert!(pilot.ended().await.success());
    let again = start(&citadel, &folder, data.path(), "memory:").await;
    assert_eq!(read(&again).await, denied);
}

/// Takes listeners until some of them names an identity, or none does.
async fn until_named(ads: &mut Ads, identity: &str, want: bool) {
    loop {
        let reply = ads.next_of(LDS).await;
        let mut names = reply.names().into_iter();
        if names.any(|name| reply.text(name).contains(identity)) == want {
            return;
        }
    }
}

/// Who is denied is denied by every proxy, and no longer when that is lifted.
#[tokio::test(flavor = "multi_thread")]
async fn a_denied_identity_is_in_the_listeners_until_it_is_lifted() {
    let (citadel, folder) = (Citadel::start().await, Folder::of(&[]));
    folder.write(
        "workload",
        "{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: s, namespace: default}, \
         spec: {ingress: [{port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: '127.0.0.1:8080'}]}}\n",
    );
    let data = tempfile::tempdir().unwrap();
    let pilot = start(&citadel, &folder, data.path(), "memory:").await;
    let to = pilot.grpc_tls.unwrap();
    let mut ads = open(to, citadel.ca.client(APP), node("default", "app"))
        .await
        .unwrap();
    ads.subscribe(LDS, &[]).await;
    until_named(&mut ads, "ns/evil/sa/x", false).await;
    citadel.announce(2, &["spiffe://cluster.local/ns/evil/sa/x"]);
    until_named(&mut ads, "ns/evil/sa/x", true).await;
    citadel.announce(3, &[]);
    until_named(&mut ads, "ns/evil/sa/x", false).await;
}
