//! A rotation driven through Pilots that answer on the bus, replicas that die, and certificates that are renewed.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bus::{Bus as _, MemoryBus};
use citadel::ledger::{Ledger, Query, RecordError, Trust};
use citadel::roots::{Roots, RootsConfig};
use citadel::rotate::{QUESTION, Rotor, RotorError};
use citadel_core::journal::{Entry, Event, Position};
use citadel_core::revocation::Target;
use citadel_core::rotation::Settings;
use common::{APP, NOW, at, on_both, open};
use mesh_api::citadel::rotate_request::Step;
use mesh_api::citadel::rotation::Phase;
use mesh_api::citadel::{Rotation, TrustAnswer, TrustQuestion};
use parking_lot::Mutex;
use pki::crl::Crl;
use prost::Message as _;
use service_kit::Stop;

on_both!(
    goes_through_its_phases_as_proxies_acknowledge,
    goes_on_when_the_elected_replica_dies,
    is_paused_forced_and_aborted,
    evidence_does_not_outlive_whoever_saw_it,
);

/// A replica of Citadel that runs.
struct Replica {
    roots: Arc<Roots>,
    rotor: Rotor,
    stop: Stop,
    tasks: tokio::task::JoinSet<()>,
}

impl Replica {
    async fn start(url: &str, name: &str, bus: &Arc<MemoryBus>) -> Self {
        Self::settling(url, name, bus, 0, Arc::new(AtomicI64::new(NOW))).await
    }

    /// Evidence must hold for so many seconds by this clock.
    async fn settling(
        url: &str,
        name: &str,
        bus: &Arc<MemoryBus>,
        settle: i64,
        clock: Arc<AtomicI64>,
    ) -> Self {
        let ledger: Ledger = open(url).await;
        let config = RootsConfig {
            poll: Duration::from_millis(50),
            lease_ttl: Duration::from_millis(600),
            rotation: Settings {
                settle: time::Duration::seconds(settle),
            },
            ..RootsConfig::new("cluster.local".parse().unwrap(), name)
        };
        let clock = Arc::new(move || at(clock.load(Ordering::Relaxed)));
        let roots = Roots::start(config, ledger, clock).await.unwrap();
        let rotor = Rotor::new(roots.clone(), bus.clone());
        let stop = Stop::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(roots.clone().run(bus.clone(), stop.clone()));
        tasks.spawn(rotor.clone().run(stop.clone()));
        Self {
            roots,
            rotor,
            stop,
            tasks,
        }
    }

    /// As a process that is killed: nothing is given back.
    async fn kill(mut self) {
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        self.roots.ledger().close().await;
    }

    async fn end(mut self) {
        self.stop.trigger();
        while let Some(done) = self.tasks.join_next().await {
            done.unwrap();
        }
    }

    /// Waits until the rotation stands as wanted.
    #[track_caller]
    fn until(&self, wanted: impl Fn(&Rotation) -> bool) -> impl Future<Output = Rotation> {
        let rotor = self.rotor.clone();
        let caller = std::panic::Location::caller();
        async move {
            for _ in 0..1000 {
                let now = rotor.rotation();
                if wanted(&now) {
                    return now;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("{caller}: {:?}", rotor.rotation());
        }
    }

    fn signs(&self) -> String {
        let signing = self.roots.signings().borrow().clone().unwrap();
        signing.authority.certificate().fingerprint()
    }

    fn trusted(&self) -> usize {
        self.roots.bundles().borrow().as_ref().unwrap().roots.len()
    }

    /// What the service does for a caller that shows the certificate `replaces`.
    async fn issue(&self, serial: &str, replaces: &str) -> Result<(), RecordError> {
        let signing = self.roots.signings().borrow().clone().unwrap();
        let entry = Entry {
            serial: serial.into(),
            spiffe_id: APP.into(),
            not_after: NOW + 3600,
            issuer: signing.issuer.clone(),
            replaces: replaces.into(),
            node: "n1".into(),
            ..Entry::new(NOW, Event::Issued)
        };
        self.roots.ledger().record_issued(entry, None).await
    }
}

impl Replica {
    /// Takes a certificate back for good.
    async fn revoke(&self, serial: &str) {
        let target = Target::Serial {
            serial: serial.into(),
            hold: false,
        };
        let ledger = self.roots.ledger();
        let revoked = ledger.revoke(target, "stolen", "alice", at(NOW)).await;
        assert_eq!(revoked.unwrap().certificates.len(), 1);
    }
}

/// A line of the signing key's PEM.
fn key_text(replica: &Replica) -> String {
    let signing = replica.roots.signings().borrow().clone().unwrap();
    let pem = signing.authority.private_key().to_pkcs8_pem();
    pem.lines().nth(2).unwrap().to_owned()
}

/// Pilots whose proxies acknowledge what they are told to.
#[derive(Clone, Default)]
struct Pilots(Arc<Mutex<BTreeMap<String, Proxies>>>);

/// By proxy, whether it acknowledges whatever is asked about.
type Proxies = BTreeMap<String, bool>;

impl Pilots {
    async fn start(bus: &Arc<MemoryBus>, names: &[&str]) -> Self {
        let pilots = Self::default();
        let registered = bus.kv("pilots", Duration::from_secs(15)).await.unwrap();
        for name in names {
            pilots.0.lock().insert((*name).to_owned(), Proxies::new());
            registered.put(name, "instance".into()).await.unwrap();
        }
        let mut questions = bus.subscribe(QUESTION).await.unwrap();
        let answering = pilots.clone();
        tokio::spawn(async move {
            while let Some(message) = questions.next().await {
                let question = TrustQuestion::decode(message.payload.clone()).unwrap();
                let answers: Vec<TrustAnswer> = answering
                    .0
                    .lock()
                    .iter()
                    .map(|(pilot, proxies)| TrustAnswer {
                        pilot: pilot.clone(),
                        digest: question.digest.clone(),
                        acknowledged: proxies.values().filter(|done| **done).count() as u64,
                        total: proxies.len() as u64,
                        pending: proxies
                            .iter()
                            .filter(|(_, done)| !**done)
                            .map(|(name, _)| name.clone())
                            .collect(),
                    })
                    .collect();
                for answer in answers {
                    let _ = message.respond(answer.encode_to_vec()).await;
                }
            }
        });
        pilots
    }

    fn proxy(&self, pilot: &str, proxy: &str, acknowledges: bool) {
        let mut all = self.0.lock();
        let proxies = all.get_mut(pilot).unwrap();
        proxies.insert(proxy.to_owned(), acknowledges);
    }

    /// It answers no more.
    fn silence(&self, pilot: &str) {
        self.0.lock().remove(pilot);
    }
}

fn phase(rotation: &Rotation, phase: Phase) -> bool {
    rotation.phase() == phase
}

mod check {
    use super::*;

    pub async fn goes_through_its_phases_as_proxies_acknowledge(url: &str) {
        let bus = Arc::new(MemoryBus::new());
        let pilots = Pilots::start(&bus, &["pilot-a", "pilot-b"]).await;
        pilots.proxy("pilot-a", "web.shop", true);
        pilots.proxy("pilot-b", "db.shop", false);
        let (a, b) = (
            Replica::start(url, "a", &bus).await,
            Replica::start(url, "b", &bus).await,
        );
        let old = a.signs();
        let old_key = key_text(&a);
        a.issue("a1", "").await.unwrap();
        a.issue("a2", "").await.unwrap();
        a.revoke("a2").await;
        // Without a rotation, what of the bundle has arrived.
        let idle = a.until(|now| now.total == 2).await;
        assert_eq!((idle.acknowledged, idle.blocked.as_str()), (1, ""));

        a.rotor.step(Step::Start, "yearly", "alice").await.unwrap();
        let stalled = b
            .until(|now| phase(now, Phase::Distribute) && now.pending == ["db.shop"])
            .await;
        assert_eq!(
            stalled.blocked,
            "1 of 2 proxies have not acknowledged the bundle"
        );
        assert_eq!(
            (a.trusted(), a.signs(), b.signs()),
            (2, old.clone(), old.clone())
        );
        let again = b.rotor.step(Step::Start, "", "bob").await.unwrap_err();
        assert!(matches!(again, RotorError::Refused(_)), "{again:?}");

        pilots.proxy("pilot-b", "db.shop", true);
        let draining = a
            .until(|now| phase(now, Phase::Drain) && now.old_leaves == 1)
            .await;
        assert_eq!(draining.pending, [format!("{APP} on n1")]);
        b.until(|now| phase(now, Phase::Drain)).await;
        assert_eq!(
            (a.signs(), b.signs()),
            (draining.new_root.clone(), draining.new_root)
        );
        assert_eq!(b.trusted(), 2);

        b.issue("b2", "").await.unwrap();
        b.revoke("b2").await;
        b.issue("b1", "a1").await.unwrap();
        // The bundle follows what is told of the rotation a moment later.
        let done = a
            .until(|now| phase(now, Phase::Idle) && a.trusted() == 1)
            .await;
        assert_eq!((done.old_root, done.started_at), (String::new(), 0));
        b.until(|now| phase(now, Phase::Idle) && b.trusted() == 1)
            .await;
        assert_ne!(a.signs(), old);
        // The old root has no list any more, and what the new one took back stays so.
        let bundle = a.roots.bundles().borrow().clone().unwrap();
        let lists = Crl::all_from_pem(&bundle.crls.concat()).unwrap();
        let [list] = &lists[..] else {
            panic!("{lists:?}, {:?}", a.roots.lists_withheld())
        };
        let signing = a.roots.signings().borrow().clone().unwrap();
        let signer = signing.authority.certificate();
        assert!(list.is_issued_by(signer) && list.this_update() <= signer.not_before());
        let serials: Vec<String> = list.serials().map(ToString::to_string).collect();
        assert_eq!(serials, ["b2"]);

        // The old root's key is gone from the store; its certificate stays known.
        let signing_key = key_text(&a);
        let trust = a.roots.ledger().trust().await.unwrap().unwrap();
        assert!(trust.roots[&old].private_key.is_none());
        let journal = a.roots.ledger().journal_after(0, 100).await.unwrap();
        let steps: Vec<&Entry> = journal
            .iter()
            .map(|one| &one.entry)
            .filter(|entry| entry.event == Event::Rotation)
            .collect();
        assert_eq!(steps.len(), 5, "{steps:?}");
        assert_eq!(steps[1].requester, "alice");
        assert!(steps[1].detail.ends_with(": yearly"), "{}", steps[1].detail);
        a.roots.ledger().verify(Position::START).await.unwrap();
        let (one, two) = (a.roots.ledger().clone(), b.roots.ledger().clone());
        a.end().await;
        b.end().await;
        // Nor is it among what the file no longer uses.
        one.close().await;
        two.close().await;
        if let Some(file) = url.strip_prefix("sqlite://") {
            common::merge_log(url).await;
            let bytes = std::fs::read(file).unwrap();
            let holds = |text: &str| {
                bytes
                    .windows(text.len())
                    .any(|part| part == text.as_bytes())
            };
            assert!(holds(&signing_key));
            assert!(!holds(&old_key));
        }
    }

    pub async fn goes_on_when_the_elected_replica_dies(url: &str) {
        let bus = Arc::new(MemoryBus::new());
        let pilots = Pilots::start(&bus, &["pilot-a"]).await;
        pilots.proxy("pilot-a", "web.shop", false);
        let a = Replica::start(url, "a", &bus).await;
        a.roots.leading().wait_for(Option::is_some).await.unwrap();
        let b = Replica::start(url, "b", &bus).await;
        b.rotor.step(Step::Start, "", "alice").await.unwrap();
        a.until(|now| phase(now, Phase::Distribute) && now.pending == ["web.shop"])
            .await;
        a.kill().await;
        pilots.proxy("pilot-a", "web.shop", true);
        b.until(|now| phase(now, Phase::Idle) && b.trusted() == 1)
            .await;
        // And one that starts later finds it as it is.
        let c = Replica::start(url, "c", &bus).await;
        assert_eq!(c.signs(), b.signs());
        b.kill().await;
        pilots.silence("pilot-a");
        c.rotor.step(Step::Start, "", "alice").await.unwrap();
        let stalled = c.until(|now| !now.silent_pilots.is_empty()).await;
        assert_eq!(stalled.silent_pilots, ["pilot-a"]);
        assert_eq!(stalled.blocked, "1 Pilots do not answer: pilot-a");
        c.kill().await;
        let d = Replica::start(url, "d", &bus).await;
        assert!(
            phase(&d.rotor.rotation(), Phase::Distribute),
            "it is remembered"
        );
        d.end().await;
    }

    pub async fn evidence_does_not_outlive_whoever_saw_it(url: &str) {
        let bus = Arc::new(MemoryBus::new());
        let pilots = Pilots::start(&bus, &["pilot-a"]).await;
        pilots.proxy("pilot-a", "web.shop", true);
        let clock = Arc::new(AtomicI64::new(NOW));
        let a = Replica::settling(url, "a", &bus, 30, clock.clone()).await;
        a.rotor.step(Step::Start, "", "alice").await.unwrap();
        a.until(|now| now.acknowledged == 1).await;
        a.kill().await;
        // An hour in which nobody looked counts for nothing.
        clock.store(NOW + 3600, Ordering::Relaxed);
        let b = Replica::settling(url, "b", &bus, 30, clock.clone()).await;
        let mut shared = b.roots.shared();
        let open_since = |since: i64| {
            move |trust: &Option<Arc<Trust>>| {
                let state = trust.as_ref().map(|trust| &trust.state);
                state.is_some_and(|state| state.open_since == since || state.signing == state.new)
            }
        };
        shared.wait_for(open_since(NOW + 3600)).await.unwrap();
        assert!(phase(&b.rotor.rotation(), Phase::Distribute));
        clock.store(NOW + 3600 + 30, Ordering::Relaxed);
        b.until(|now| !phase(now, Phase::Distribute)).await;
        b.end().await;
    }

    pub async fn is_paused_forced_and_aborted(url: &str) {
        let bus = Arc::new(MemoryBus::new());
        let pilots = Pilots::start(&bus, &["pilot-a"]).await;
        pilots.proxy("pilot-a", "web.shop", false);
        let a = Replica::start(url, "a", &bus).await;
        let first = a.signs();
        let step = |step, reason: &'static str| {
            let rotor = a.rotor.clone();
            async move { rotor.step(step, reason, "alice").await }
        };
        step(Step::Start, "").await.unwrap();
        step(Step::Pause, "lunch").await.unwrap();
        pilots.proxy("pilot-a", "web.shop", true);
        let paused = a.until(|now| now.acknowledged == 1).await;
        assert!(paused.paused && phase(&paused, Phase::Distribute));
        step(Step::Abort, "").await.unwrap();
        assert_eq!((a.trusted(), a.signs()), (1, first.clone()));

        pilots.proxy("pilot-a", "web.shop", false);
        a.issue("a1", "").await.unwrap();
        step(Step::Start, "").await.unwrap();
        let refused = step(Step::Force, " ").await.unwrap_err();
        assert!(refused.to_string().contains("reason"), "{refused}");
        let forced = step(Step::Force, "rack 7 is gone").await.unwrap();
        assert!(phase(&forced, Phase::Drain));
        assert_eq!(a.signs(), forced.new_root);
        let words = Query {
            limit: 20,
            ..Query::default()
        };
        let journal = a.roots.ledger().journal(&words).await.unwrap();
        let found = journal
            .iter()
            .find(|one| one.entry.event == Event::Forced)
            .unwrap();
        assert_eq!(found.entry.detail, "forced past distribute: rack 7 is gone");
        assert_eq!(found.entry.requester, "alice");

        // The other way: the first root signs again, and what the second signed runs out.
        a.issue("b1", "").await.unwrap();
        step(Step::Abort, "").await.unwrap();
        assert_eq!((a.trusted(), a.signs()), (2, first.clone()));
        a.until(|now| now.old_leaves == 1).await;
        a.issue("c1", "b1").await.unwrap();
        a.until(|now| phase(now, Phase::Retire)).await;
        pilots.proxy("pilot-a", "web.shop", true);
        a.until(|now| phase(now, Phase::Idle)).await;
        assert_eq!((a.trusted(), a.signs()), (1, first));
        a.end().await;
    }
}
