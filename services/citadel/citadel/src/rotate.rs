//! Driving a rotation of the root: the elected replica asks Pilots and the journal for evidence, and keeps each step before it acts on it.
//!
//! What a step is, is decided in [`citadel_core::rotation`]. Operators' steps are taken by whichever replica is asked: the state is one,
//! and who computed from an older one computes again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Gather};
use citadel_core::rotation::{
    Acknowledgements, Event, MAX_NAMES, Phase, Refused, Seen, State, step,
};
use mesh_api::citadel::rotate_request::Step;
use mesh_api::citadel::{Rotation, TrustAnswer, TrustQuestion, rotation};
use parking_lot::Mutex;
use prost::Message as _;
use service_kit::Stop;
use store::StoreError;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use crate::ledger::{Mode, TrustError};
use crate::roots::{Change, Roots, RootsError, destroyed, entries, row};

/// Subject on which Pilots are asked who has acknowledged a bundle.
pub const QUESTION: &str = "flotilla.pilot.trust";
/// Where Pilots register, and for how long.
const PILOTS: (&str, Duration) = ("pilots", Duration::from_secs(15));
/// How long Pilots have for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often evidence is gathered during a rotation.
const PERIOD: Duration = Duration::from_secs(1);
/// Evidence that was seen longer ago than this, or by another process, may have been broken meanwhile.
const BREAK: Duration = Duration::from_secs(10);
/// How often Pilots are asked without one, so that operators see what of a bundle has arrived.
const IDLE: Duration = Duration::from_secs(10);

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RotorError {
    /// The database did not do it: try again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be done now: why, for the operator.
    #[error("{0}")]
    Refused(String),
}

impl From<RootsError> for RotorError {
    fn from(error: RootsError) -> Self {
        match error {
            RootsError::Trust(TrustError::Store(error)) => Self::Store(error),
            RootsError::Trust(TrustError::Conflict) => Self::Store(StoreError::Busy(
                "another replica changes what is trusted".into(),
            )),
            other => Self::Refused(other.to_string()),
        }
    }
}

impl From<Refused> for RotorError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused.to_string())
    }
}

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Rotor(Arc<Inner>);

struct Inner {
    roots: Arc<Roots>,
    bus: Arc<dyn Bus>,
    /// Pilots that were registered, and when they were seen last: a bus that came back empty must not make them forgotten at once.
    pilots: Mutex<BTreeMap<String, Instant>>,
    /// What Pilots said without a rotation, and about which digest.
    idle: Mutex<(String, Seen)>,
    nudge: Notify,
}

impl Rotor {
    /// Drives the rotation of these roots.
    pub fn new(roots: Arc<Roots>, bus: Arc<dyn Bus>) -> Self {
        Self(Arc::new(Inner {
            roots,
            bus,
            pilots: Mutex::default(),
            idle: Mutex::default(),
            nudge: Notify::new(),
        }))
    }

    /// How the rotation stands, as this replica knows; without one, what of the bundle has arrived.
    pub fn rotation(&self) -> Rotation {
        let Some(trust) = self.0.roots.shared().borrow().clone() else {
            return Rotation::default();
        };
        let digest = trust.bundle.digest.clone();
        let state = &trust.state;
        let seen = if state.phase == Phase::Idle {
            let (of, seen) = self.0.idle.lock().clone();
            if of == digest { seen } else { Seen::default() }
        } else {
            state.seen.clone()
        };
        Rotation {
            phase: match state.phase {
                Phase::Idle => rotation::Phase::Idle,
                Phase::Distribute => rotation::Phase::Distribute,
                Phase::Drain => rotation::Phase::Drain,
                Phase::Retire => rotation::Phase::Retire,
            }
            .into(),
            paused: state.paused,
            old_root: state.old.clone(),
            new_root: state.new.clone(),
            waiting_for_digest: if state.phase == Phase::Drain {
                String::new()
            } else {
                digest
            },
            acknowledged: seen.acknowledged,
            total: seen.total,
            pending: seen.pending,
            silent_pilots: seen.silent,
            old_leaves: seen.old_leaves,
            started_at: state.started_at,
            phase_since: state.phase_since,
            blocked: state.blocked(),
        }
    }

    /// Takes an operator's step, and says how the rotation stands then.
    ///
    /// # Errors
    /// See [`RotorError`].
    pub async fn step(
        &self,
        wanted: Step,
        reason: &str,
        requester: &str,
    ) -> Result<Rotation, RotorError> {
        let roots = &self.0.roots;
        let event = match wanted {
            Step::Status => return Ok(self.rotation()),
            Step::Start => return self.start(reason, requester).await,
            Step::Pause => Event::Pause,
            Step::Resume => Event::Resume,
            Step::Abort => Event::Abort,
            Step::Force => Event::Force(reason.to_owned()),
        };
        let why = match wanted {
            Step::Force => "",
            _ => reason.trim(),
        };
        self.apply(&event, Vec::new(), requester, why).await?;
        roots.nudge();
        self.0.nudge.notify_one();
        Ok(self.rotation())
    }

    async fn start(&self, reason: &str, requester: &str) -> Result<Rotation, RotorError> {
        let roots = self.0.roots.clone();
        if roots.mode() == Mode::PluggedIn {
            return Err(RotorError::Refused(
                "the authority is plugged in, so its folder decides: add the new root to root-cert.pem, wait until \
                 `flotilla ca rotate status` shows that every proxy has acknowledged the bundle, put key and certificate of the new \
                 authority there, and take the old root out when its certificates have expired"
                    .into(),
            ));
        }
        // Before a key is made for nothing.
        let idle = roots
            .shared()
            .borrow()
            .as_ref()
            .is_some_and(|trust| trust.state.phase == Phase::Idle);
        if !idle {
            return Err(Refused::UnderWay.into());
        }
        let now = roots.now();
        let made = {
            let roots = roots.clone();
            tokio::task::spawn_blocking(move || roots.make_root(now)).await
        };
        let made = made.map_err(|error| RotorError::Refused(error.to_string()))??;
        let new = row(made.certificate(), Some(made.private_key()), now);
        let event = Event::Start(new.fingerprint.clone());
        self.apply(&event, vec![new], requester, reason.trim())
            .await?;
        roots.nudge();
        self.0.nudge.notify_one();
        Ok(self.rotation())
    }

    /// One step of the state all replicas share. `why`: an operator's words, if any.
    async fn apply(
        &self,
        event: &Event,
        new: Vec<crate::ledger::RootRow>,
        requester: &str,
        why: &str,
    ) -> Result<(), RotorError> {
        let roots = &self.0.roots;
        roots
            .change(|before| {
                let Some(before) = before else {
                    return Ok(None);
                };
                let now = roots.now();
                // The digest is put in here: it must be that of the state the step is taken from.
                let event = match event {
                    Event::Acknowledged { answers, .. } => &Event::Acknowledged {
                        wanted: before.bundle.digest.clone(),
                        answers: answers.clone(),
                    },
                    other => other,
                };
                let (state, actions) = step(&before.state, event, roots.rotation_settings(), now)?;
                if state == before.state {
                    return Ok(None);
                }
                tell(&before.state, &state);
                let mut entries = entries(&actions, requester, now);
                if !why.is_empty() {
                    for entry in &mut entries {
                        entry.detail = format!("{}: {why}", entry.detail);
                    }
                }
                Ok::<_, RotorError>(Some(Change {
                    mode: before.mode,
                    state,
                    roots: new.clone(),
                    destroy: destroyed(&actions),
                    entries,
                }))
            })
            .await
    }

    /// Gathers evidence while this replica is elected, until `stop`.
    pub async fn run(self, stop: Stop) {
        let mut shared = self.0.roots.shared();
        let mut timer = tokio::time::interval(PERIOD);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle_due = Instant::now();
        let mut trouble = String::new();
        let mut last: Option<Instant> = None;
        loop {
            tokio::select! {
                () = stop.wait() => return,
                () = self.0.nudge.notified() => {}
                Ok(()) = shared.changed() => {}
                _ = timer.tick() => {}
            }
            let Some(trust) = shared.borrow_and_update().clone() else {
                continue;
            };
            let work = async {
                if trust.state.phase == Phase::Idle {
                    let arrived = self.0.idle.lock().0 == trust.bundle.digest;
                    if arrived && Instant::now() < idle_due {
                        return Ok(());
                    }
                    idle_due = Instant::now() + IDLE;
                    self.look(&trust.bundle.digest).await;
                    return Ok(());
                }
                if self.0.roots.leading().borrow().is_none() {
                    return Ok(());
                }
                if trust.state.open_since != 0 && last.is_none_or(|at| at.elapsed() > BREAK) {
                    let anew = Event::Unknown("what lets it go on is looked for anew".into());
                    self.apply(&anew, Vec::new(), "", "").await?;
                }
                let event = self.evidence(&trust.state, &trust).await?;
                self.apply(&event, Vec::new(), "", "").await?;
                last = Some(Instant::now());
                Ok(())
            };
            let outcome: Result<(), RotorError> = tokio::select! {
                () = stop.wait() => return,
                outcome = work => outcome,
            };
            match outcome {
                Ok(()) => trouble.clear(),
                Err(error) => {
                    let text = error.to_string();
                    if text != trouble {
                        tracing::warn!(%error, "the rotation cannot go on now");
                        trouble = text;
                    }
                }
            }
        }
    }

    async fn evidence(
        &self,
        state: &State,
        trust: &crate::ledger::Trust,
    ) -> Result<Event, RotorError> {
        if state.phase == Phase::Drain {
            let row = trust.roots.get(&state.old);
            let issuer = row.map(|row| row.issuer.clone()).unwrap_or_default();
            let roots = &self.0.roots;
            let leaves = roots.ledger().old_leaves(&issuer, roots.now()).await?;
            return Ok(Event::Leaves {
                root: state.old.clone(),
                count: leaves.count,
                holders: leaves.holders,
            });
        }
        Ok(match self.ask(&trust.bundle.digest).await {
            Ok(answers) => Event::Acknowledged {
                wanted: trust.bundle.digest.clone(),
                answers,
            },
            Err(why) => Event::Unknown(why),
        })
    }

    async fn look(&self, digest: &str) {
        let seen = match self.ask(digest).await {
            Ok(answers) => Seen {
                acknowledged: answers.acknowledged,
                total: answers.total,
                pending: answers.pending,
                silent: answers.silent,
                ..Seen::default()
            },
            Err(unknown) => Seen {
                unknown,
                ..Seen::default()
            },
        };
        *self.0.idle.lock() = (digest.to_owned(), seen);
    }

    /// Asks every Pilot who has acknowledged a bundle; `Err`: nobody can be asked, and why.
    async fn ask(&self, digest: &str) -> Result<Acknowledgements, String> {
        let inner = &self.0;
        let away = |error: bus::BusError| format!("Pilots cannot be asked: {error}");
        let (bucket, ttl) = PILOTS;
        let registered = inner.bus.kv(bucket, ttl).await.map_err(away)?;
        let listed = registered.list().await.map_err(away)?;
        let mut silent: Vec<String> = {
            let now = Instant::now();
            let mut known = inner.pilots.lock();
            known.extend(listed.into_iter().map(|(name, _)| (name, now)));
            known.retain(|_, seen| now.duration_since(*seen) < ttl);
            known.keys().cloned().collect()
        };
        let question = TrustQuestion {
            digest: digest.to_owned(),
        };
        let gather = Gather {
            timeout: PATIENCE,
            expect: Some(silent.len().max(1)),
        };
        let replies = inner
            .bus
            .request_many(QUESTION, question.encode_to_vec().into(), gather)
            .await
            .map_err(away)?;
        let mut all = Acknowledgements {
            digest: digest.to_owned(),
            ..Acknowledgements::default()
        };
        let mut answered = Vec::new();
        for reply in replies {
            let Ok(answer) = TrustAnswer::decode(reply) else {
                continue;
            };
            // One answer of each counts, and only about what was asked.
            if answer.digest != digest || answered.contains(&answer.pilot) {
                continue;
            }
            silent.retain(|pilot| *pilot != answer.pilot);
            all.pilots += 1;
            all.acknowledged += answer.acknowledged.min(answer.total);
            all.total += answer.total;
            let room = MAX_NAMES.saturating_sub(all.pending.len());
            all.pending.extend(answer.pending.into_iter().take(room));
            answered.push(answer.pilot);
        }
        all.pending.sort();
        silent.truncate(MAX_NAMES);
        all.silent = silent;
        Ok(all)
    }
}

fn tell(before: &State, after: &State) {
    if before.phase != after.phase {
        tracing::info!(
            from = before.phase.as_str(),
            to = after.phase.as_str(),
            old = after.old,
            new = after.new,
            "the rotation of the root takes a step"
        );
    }
}
