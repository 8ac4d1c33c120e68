//! NATS over TLS with the configuration that ships: who gets in, what each service may, and certificates and roots that change.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]
#![allow(unused_crate_dependencies, reason = "one of several test programs")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusOptions, BusTls, Gather, connect};
use mesh_types::SpiffeId;
use pki::{Authority, KeyType, LeafRequest, PrivateKey, Serial};
use service_kit::tls::{Identities, ServerId, TlsIdentity, read_trust};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::timeout;

#[path = "../../testkit/src/nats.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod nats;

use nats::Nats;

const LONG: Duration = Duration::from_secs(20);
/// How long a message has that should not come.
const NEVER: Duration = Duration::from_millis(300);
const TTL: Duration = Duration::from_secs(60);

const GALLEY: &str = "istio-galley-service-account";
const PILOT: &str = "istio-pilot-service-account";
const CITADEL: &str = "istio-citadel-service-account";
const INJECTOR: &str = "istio-sidecar-injector-service-account";
const OPERATOR: &str = "flotilla-operator";

fn id(account: &str) -> SpiffeId {
    SpiffeId::parse(&format!(
        "spiffe://cluster.local/ns/istio-system/sa/{account}"
    ))
    .unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "handshakes look at the real clock"
)]
fn now() -> OffsetDateTime {
    std::time::SystemTime::now().into()
}

fn root() -> Authority {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let serial = Serial::from_random(rand::random());
    let domain = id("x").trust_domain().clone();
    Authority::self_signed(key, &domain, time::Duration::days(1), serial, now()).unwrap()
}

/// Certificate and key in PEM.
fn leaf(by: &Authority, account: &str) -> (String, String) {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let request = LeafRequest {
        id: &id(account),
        public_key: key.public_key(),
        ttl: time::Duration::hours(1),
        names: &[],
        common_name: false,
    };
    let serial = Serial::from_random(rand::random());
    let leaf = by.issue(&request, serial, now()).unwrap();
    (leaf.to_pem(), key.to_pkcs8_pem().to_string())
}

fn pem(roots: &[&Authority]) -> String {
    roots
        .iter()
        .map(|root| root.certificate().to_pem())
        .collect()
}

fn identity(by: &Authority, roots: &[&Authority], account: &str) -> Arc<TlsIdentity> {
    let (chain, key) = leaf(by, account);
    let trust = read_trust(id("x").trust_domain().clone(), &pem(roots), "").unwrap();
    Arc::new(TlsIdentity::new(&chain, &key, Arc::new(trust)).unwrap())
}

/// The server's own certificate, where the configuration looks for it.
fn enroll(nats: &Nats, by: &Authority, roots: &[&Authority]) {
    let folder = nats.dir().join("identity");
    let _ = std::fs::create_dir(&folder);
    let (chain, key) = leaf(by, "nats");
    std::fs::write(folder.join("cert-chain.pem"), chain).unwrap();
    std::fs::write(folder.join("key.pem"), key).unwrap();
    std::fs::write(folder.join("root-cert.pem"), pem(roots)).unwrap();
}

fn shipped() -> Nats {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/nats/nats.conf");
    Nats::prepare_with(&config.canonicalize().unwrap())
}

fn start(by: &Authority) -> Nats {
    let mut nats = shipped();
    enroll(&nats, by, &[by]);
    nats.launch();
    nats
}

fn url(nats: &Nats) -> String {
    nats.url().replace("nats://", "tls://")
}

async fn open(nats: &Nats, name: &str, identities: Identities) -> Arc<dyn Bus> {
    let options = BusOptions {
        name: name.into(),
        tls: Some(BusTls {
            identities,
            server: ServerId::spiffe(id("nats")),
        }),
        ..BusOptions::default()
    };
    connect(&url(nats), &options).await.unwrap()
}

async fn connected(bus: &Arc<dyn Bus>) {
    let mut state = bus.state();
    let there = state.wait_for(|state| state.connected);
    timeout(LONG, there).await.expect("connected").unwrap();
}

/// A service with its own certificate, connected.
async fn service(nats: &Nats, by: &Authority, name: &str, account: &str) -> Arc<dyn Bus> {
    let (_, identities) = watch::channel(Some(identity(by, &[by], account)));
    let bus = open(nats, name, identities).await;
    connected(&bus).await;
    bus
}

/// Whether a message of `from` on `subject` reaches `to`.
async fn reaches(from: &Arc<dyn Bus>, to: &Arc<dyn Bus>, subject: &str) -> bool {
    let mut heard = to.subscribe(subject).await.unwrap();
    // The server has taken the subscription when something sent after it has come back, or was refused; publishing repeatedly does for both.
    let until = tokio::time::Instant::now() + NEVER;
    while tokio::time::Instant::now() < until {
        from.publish(subject, "news".into()).await.unwrap();
        if timeout(Duration::from_millis(50), heard.next())
            .await
            .is_ok_and(|m| m.is_some())
        {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn each_service_may_do_its_own_and_nothing_of_others() {
    let root = root();
    let nats = start(&root);
    let galley = service(&nats, &root, "galley", GALLEY).await;
    let pilot = service(&nats, &root, "pilot", PILOT).await;
    let citadel = service(&nats, &root, "citadel", CITADEL).await;
    let injector = service(&nats, &root, "injector", INJECTOR).await;
    let operator = service(&nats, &root, "flotilla", OPERATOR).await;

    let revision = "flotilla.galley.revision";
    let trust = "flotilla.citadel.trust";
    for (from, to, subject, want) in [
        (&galley, &pilot, revision, true),
        (&galley, &galley, revision, true),
        (&galley, &injector, revision, true),
        (&citadel, &pilot, trust, true),
        (&citadel, &citadel, trust, true),
        (&citadel, &injector, trust, true),
        (&citadel, &pilot, "flotilla.pilot.trust", true),
        (&pilot, &pilot, "flotilla.pilot.status", true),
        (&operator, &pilot, "flotilla.pilot.status", true),
        // Nobody speaks for somebody else.
        (&pilot, &galley, revision, false),
        (&injector, &pilot, revision, false),
        (&operator, &pilot, revision, false),
        (&galley, &pilot, trust, false),
        (&pilot, &citadel, trust, false),
        (&operator, &pilot, "flotilla.pilot.trust", false),
        (&galley, &pilot, "flotilla.pilot.status", false),
        (&injector, &injector, "flotilla.injector.x", false),
        // Nor listens to what is none of its business, nor where answers to others arrive.
        (&citadel, &operator, trust, false),
        (&pilot, &galley, "flotilla.pilot.status", false),
        (&citadel, &galley, "flotilla.pilot.trust", false),
        (&pilot, &galley, "_INBOX.pilot.x", false),
        (&pilot, &citadel, "_INBOX.pilot.x", false),
    ] {
        assert_eq!(
            reaches(from, to, subject).await,
            want,
            "{subject}\n{}",
            nats.log()
        );
    }
}

#[tokio::test]
async fn pilots_answer_those_who_may_ask() {
    let root = root();
    let nats = start(&root);
    let pilots = [
        service(&nats, &root, "pilot", PILOT).await,
        service(&nats, &root, "pilot", PILOT).await,
    ];
    for pilot in &pilots {
        for subject in ["flotilla.pilot.status", "flotilla.pilot.trust"] {
            let mut questions = pilot.subscribe(subject).await.unwrap();
            tokio::spawn(async move {
                while let Some(question) = questions.next().await {
                    question.respond("answer").await.unwrap();
                }
            });
        }
    }
    let ask = async |bus: &Arc<dyn Bus>, subject: &str| {
        let gather = Gather {
            timeout: Duration::from_secs(1),
            expect: Some(2),
        };
        bus.request_many(subject, "?".into(), gather)
            .await
            .unwrap()
            .len()
    };
    let citadel = service(&nats, &root, "citadel", CITADEL).await;
    let operator = service(&nats, &root, "flotilla", OPERATOR).await;
    let galley = service(&nats, &root, "galley", GALLEY).await;
    let until_both = async |bus: &Arc<dyn Bus>, subject: &str| {
        while ask(bus, subject).await < 2 {}
    };
    timeout(LONG, until_both(&citadel, "flotilla.pilot.trust"))
        .await
        .unwrap_or_else(|_| panic!("{}", nats.log()));
    timeout(LONG, until_both(&operator, "flotilla.pilot.status"))
        .await
        .unwrap_or_else(|_| panic!("{}", nats.log()));
    timeout(LONG, until_both(&pilots[0], "flotilla.pilot.status"))
        .await
        .unwrap_or_else(|_| panic!("{}", nats.log()));
    assert_eq!(ask(&galley, "flotilla.pilot.status").await, 0);
    assert_eq!(ask(&operator, "flotilla.pilot.trust").await, 0);
}

#[tokio::test]
async fn pilots_register_and_citadel_reads_who_there_is() {
    let root = root();
    let nats = start(&root);
    let pilot = service(&nats, &root, "pilot", PILOT).await;
    let citadel = service(&nats, &root, "citadel", CITADEL).await;
    let galley = service(&nats, &root, "galley", GALLEY).await;

    let ours = pilot.kv("pilots", TTL).await.unwrap();
    let put = async { while ours.put("pilot-1", "here".into()).await.is_err() {} };
    timeout(LONG, put)
        .await
        .unwrap_or_else(|_| panic!("{}", nats.log()));
    assert_eq!(
        ours.get("pilot-1").await.unwrap().as_deref(),
        Some(&b"here"[..])
    );
    let mut watch = ours.watch();
    assert!(
        timeout(LONG, watch.next())
            .await
            .unwrap_or_else(|_| panic!("{}", nats.log()))
            .is_some()
    );

    let theirs = citadel.kv("pilots", TTL).await.unwrap();
    let list = async {
        loop {
            match theirs.list().await {
                Ok(list) if !list.is_empty() => return list,
                _ => {}
            }
        }
    };
    let list = timeout(LONG, list)
        .await
        .unwrap_or_else(|_| panic!("{}", nats.log()));
    assert_eq!(list[0].0, "pilot-1");
    // But they put nothing there, nor take anything away.
    assert!(theirs.put("pilot-2", "forged".into()).await.is_err());
    assert!(theirs.delete("pilot-1").await.is_err());
    assert_eq!(ours.list().await.unwrap().len(), 1);
    assert!(
        galley
            .kv("pilots", TTL)
            .await
            .unwrap()
            .list()
            .await
            .is_err()
    );
    assert!(
        pilot
            .kv("others", TTL)
            .await
            .unwrap()
            .put("x", "y".into())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn nobody_else_gets_in() {
    let (ours, stranger) = (root(), root());
    let nats = start(&ours);
    let refused = async |identity: Arc<TlsIdentity>, server: SpiffeId| {
        let (_, identities) = watch::channel(Some(identity));
        let options = BusOptions {
            name: "x".into(),
            tls: Some(BusTls {
                identities,
                server: ServerId::spiffe(server),
            }),
            ..BusOptions::default()
        };
        let bus = connect(&url(&nats), &options).await.unwrap();
        let mut state = bus.state();
        let there = state.wait_for(|state| state.connected);
        timeout(Duration::from_secs(1), there).await.is_err()
    };
    // An identity without permissions, one of another root, a server that is somebody else, and at last one that is right.
    assert!(refused(identity(&ours, &[&ours], "default"), id("nats")).await);
    assert!(refused(identity(&stranger, &[&ours], PILOT), id("nats")).await);
    assert!(refused(identity(&ours, &[&ours], PILOT), id("galley")).await);
    assert!(refused(identity(&ours, &[&stranger], PILOT), id("nats")).await);
    assert!(!refused(identity(&ours, &[&ours], PILOT), id("nats")).await);

    let plain = BusOptions {
        name: "plain".into(),
        ..BusOptions::default()
    };
    let bus = connect(&nats.url(), &plain).await.unwrap();
    let mut state = bus.state();
    let there = state.wait_for(|state| state.connected);
    assert!(timeout(Duration::from_secs(1), there).await.is_err());
}

/// A rotation of the root, on the road of the bus: both ends take it in while they run, and news flow in every phase.
#[tokio::test]
async fn certificates_and_roots_change_without_a_restart() {
    let (old, new) = (root(), root());
    let nats = start(&old);
    let (galley_is, galley_identities) = watch::channel(Some(identity(&old, &[&old], GALLEY)));
    let (pilot_is, pilot_identities) = watch::channel(Some(identity(&old, &[&old], PILOT)));
    let galley = open(&nats, "galley", galley_identities).await;
    let pilot = open(&nats, "pilot", pilot_identities).await;
    connected(&galley).await;
    connected(&pilot).await;
    let mut heard = pilot.subscribe("flotilla.galley.revision").await.unwrap();
    let mut flows = async || {
        let news = async {
            loop {
                let _ = galley.publish("flotilla.galley.revision", "1".into()).await;
                if timeout(Duration::from_millis(50), heard.next())
                    .await
                    .is_ok()
                {
                    return;
                }
            }
        };
        timeout(LONG, news).await.expect("news flow");
    };
    flows().await;
    let anew = async |bus: &Arc<dyn Bus>, than: u64| {
        let mut state = bus.state();
        let again = state.wait_for(|state| state.connects > than && state.connected);
        timeout(LONG, again)
            .await
            .expect("connects anew")
            .unwrap()
            .connects
    };
    let services = |by: &Authority, roots: &[&Authority]| {
        galley_is.send_replace(Some(identity(by, roots, GALLEY)));
        pilot_is.send_replace(Some(identity(by, roots, PILOT)));
    };
    let connects = (
        galley.state().borrow().connects,
        pilot.state().borrow().connects,
    );
    // The new root joins: the server first, then the services, which connect anew.
    enroll(&nats, &old, &[&old, &new]);
    nats.reload();
    services(&old, &[&old, &new]);
    let connects = (
        anew(&galley, connects.0).await,
        anew(&pilot, connects.1).await,
    );
    flows().await;
    // The new root signs, and the old one leaves.
    services(&new, &[&old, &new]);
    enroll(&nats, &new, &[&old, &new]);
    nats.reload();
    flows().await;
    enroll(&nats, &new, &[&new]);
    nats.reload();
    services(&new, &[&new]);
    anew(&galley, connects.0).await;
    anew(&pilot, connects.1).await;
    flows().await;
    // Who missed all of it stays out.
    let (_, late) = watch::channel(Some(identity(&old, &[&old, &new], PILOT)));
    let late = open(&nats, "pilot", late).await;
    let mut state = late.state();
    let there = state.wait_for(|state| state.connected);
    assert!(timeout(Duration::from_secs(1), there).await.is_err());
}

#[tokio::test]
async fn with_an_identity_plaintext_is_for_this_machine_alone() {
    let root = root();
    let options = || BusOptions {
        name: "pilot".into(),
        tls: Some(BusTls {
            identities: watch::channel(Some(identity(&root, &[&root], PILOT))).1,
            server: ServerId::spiffe(id("nats")),
        }),
        ..BusOptions::default()
    };
    let refused = connect("nats://192.0.2.1:4222", &options())
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "nats://192.0.2.1:4222: no bus: 192.0.2.1 is another machine, and nothing is encrypted on the way; write tls://192.0.2.1:4222"
    );
    assert!(connect("tls://192.0.2.1:4222", &options()).await.is_ok());
    let nats = Nats::start();
    let here = connect(&nats.url(), &options()).await.unwrap();
    connected(&here).await;
}
