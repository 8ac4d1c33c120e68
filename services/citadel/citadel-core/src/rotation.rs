//! The rotation of the root: which roots are trusted, which one signs, and when that may change.
//!
//! One function, [`step`], takes a state and an event to the next state and what is to be done about it. A rotation has three gates, and
//! each is passed only on the evidence of an [`Event::Acknowledged`] or [`Event::Leaves`] that has held for [`Settings::settle`]:
//!
//! | phase | trusted | signs | gate to the next phase |
//! |---|---|---|---|
//! | idle | A | A | an operator starts |
//! | distribute | A, B | A | every live proxy has acknowledged {A, B} |
//! | drain | A, B | B | no live certificate under A without a successor |
//! | retire | B | B | every live proxy has acknowledged {B} |
//!
//! Trust of neighbouring phases always differs by one root added or one taken away. An abort undoes as much as can be undone at that point:
//!
//! - while distributing, B has signed nothing: it leaves, all is as before;
//! - while draining, A is still trusted everywhere, so it signs again at once and the rotation runs the other way: drain B, retire B;
//! - while retiring, the root that left is trusted again, and the rotation is paused where it drained, for somebody to look.
//!   From there it only goes forward, as it is not known any more that everybody trusts the root that had left.

mod state;

use time::{Duration, OffsetDateTime};

use crate::revocation::check_reason;

pub use state::{Fingerprint, MAX_NAMES, Phase, Seen, State};

/// How the gates are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long what opens a gate must have been seen without a break: proxies that change from one Pilot to another are with neither
    /// for a moment, and a certificate that was handed out is not in use yet.
    pub settle: Duration,
}

impl Default for Settings {
    /// 30 seconds.
    fn default() -> Self {
        Self {
            settle: Duration::seconds(30),
        }
    }
}

/// What the Pilots said about the bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledgements {
    /// The digest they were asked about: an answer about another bundle is no evidence.
    pub digest: String,
    /// Pilots that answered.
    pub pilots: u64,
    /// Proxies that have acknowledged, and all.
    pub acknowledged: u64,
    /// See `acknowledged`.
    pub total: u64,
    /// Those that have not; some of them, if they are many.
    pub pending: Vec<String>,
    /// Pilots that are known and did not answer.
    pub silent: Vec<String>,
}

/// What happens to a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An operator wants a new root, which was made: its fingerprint.
    Start(Fingerprint),
    /// An operator keeps the gates shut.
    Pause,
    /// An operator lets it go on.
    Resume,
    /// An operator wants to go back.
    Abort,
    /// An operator goes past the gate that is waited at, for a reason.
    Force(String),
    /// What the Pilots said; `wanted` is the digest of the bundle of this state.
    Acknowledged {
        /// Digest that is announced.
        wanted: String,
        /// The answers.
        answers: Acknowledgements,
    },
    /// What the journal says about certificates of the old root.
    Leaves {
        /// The root that was asked about.
        root: Fingerprint,
        /// Live certificates of it without a successor.
        count: u64,
        /// Whose they are; some of them, if they are many.
        holders: Vec<String>,
    },
    /// Nobody could be asked: why.
    Unknown(String),
    /// The signing certificate was made anew with the same key: old and new fingerprint.
    Reissued(Fingerprint, Fingerprint),
}

/// What is to be done after a step, besides keeping the new state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// What is trusted, or which root signs, has changed: make the bundle and announce it.
    Announce,
    /// From now on this root signs.
    Sign(Fingerprint),
    /// Nothing will be signed by this root again: destroy its key.
    Destroy(Fingerprint),
    /// An entry for the journal.
    Journal {
        /// Whether it was by force.
        forced: bool,
        /// In words.
        detail: String,
    },
}

/// What an operator asked for cannot be done now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A rotation is under way.
    #[error("a rotation is under way: see `flotilla ca rotate status`")]
    UnderWay,
    /// There is no rotation.
    #[error("no rotation is under way: `flotilla ca rotate start` begins one")]
    NoRotation,
    /// Force without a reason.
    #[error("a reason is required, at most 1024 bytes: it is kept in the journal")]
    NoReason,
    /// Paused already, or not paused.
    #[error("the rotation is {0}")]
    Already(&'static str),
    /// Force while paused.
    #[error("the rotation is paused: resume it first")]
    Paused,
    /// Abort when nothing can be undone any more.
    #[error("{0}")]
    TooLate(&'static str),
    /// The new root is one that is trusted already.
    #[error("the new root is trusted already")]
    SameRoot,
}

/// The next state after `event`, and what is to be done, in order.
///
/// Evidence that is not about the phase at hand changes nothing. The same event may come twice: the second time it finds itself done, or
/// is refused.
///
/// # Errors
/// [`Refused`] for what an operator asked; evidence is never refused.
pub fn step(
    state: &State,
    event: &Event,
    settings: Settings,
    now: OffsetDateTime,
) -> Result<(State, Vec<Action>), Refused> {
    let mut next = state.clone();
    let at = now.unix_timestamp();
    let actions = match event {
        Event::Start(root) => {
            if state.phase != Phase::Idle {
                return Err(Refused::UnderWay);
            }
            if state.trusted.contains(root) {
                return Err(Refused::SameRoot);
            }
            next.trusted.insert(root.clone());
            next.old = state.signing.clone();
            next.new = root.clone();
            next.started_at = at;
            enter(&mut next, Phase::Distribute, at);
            vec![
                Action::Announce,
                note(format!(
                    "rotation started: root {root} is distributed, {} signs",
                    state.signing
                )),
            ]
        }
        Event::Pause => {
            under_way(state)?;
            if state.paused {
                return Err(Refused::Already("paused already"));
            }
            next.paused = true;
            next.open_since = 0;
            vec![note(format!("rotation paused in {}", state.phase.as_str()))]
        }
        Event::Resume => {
            under_way(state)?;
            if !state.paused {
                return Err(Refused::Already("not paused"));
            }
            next.paused = false;
            next.open_since = 0;
            vec![note(format!(
                "rotation resumed in {}",
                state.phase.as_str()
            ))]
        }
        Event::Abort => abort(&mut next, at)?,
        Event::Force(reason) => {
            under_way(state)?;
            check_reason(reason).map_err(|_| Refused::NoReason)?;
            if state.paused {
                return Err(Refused::Paused);
            }
            let mut actions = vec![Action::Journal {
                forced: true,
                detail: format!("forced past {}: {}", state.phase.as_str(), reason.trim()),
            }];
            actions.extend(advance(&mut next, at));
            actions
        }
        Event::Acknowledged { wanted, answers } => {
            if !matches!(state.phase, Phase::Distribute | Phase::Retire)
                || answers.digest != *wanted
            {
                return Ok((next, Vec::new()));
            }
            let open = answers.pilots > 0
                && answers.silent.is_empty()
                && answers.pending.is_empty()
                && answers.acknowledged >= answers.total;
            next.seen = Seen {
                acknowledged: answers.acknowledged,
                total: answers.total,
                pending: first(&answers.pending),
                silent: first(&answers.silent),
                ..Seen::default()
            };
            if answers.pilots == 0 && answers.silent.is_empty() {
                next.seen.unknown = "no Pilot is there to say what proxies trust".into();
            }
            gate(&mut next, open, settings, at)
        }
        Event::Leaves {
            root,
            count,
            holders,
        } => {
            if state.phase != Phase::Drain || state.old != *root {
                return Ok((next, Vec::new()));
            }
            next.seen = Seen {
                old_leaves: *count,
                pending: first(holders),
                ..Seen::default()
            };
            gate(&mut next, *count == 0, settings, at)
        }
        Event::Unknown(why) => {
            if state.phase != Phase::Idle {
                next.open_since = 0;
                next.seen.unknown.clone_from(why);
            }
            Vec::new()
        }
        Event::Reissued(before, after) => {
            if state.phase != Phase::Idle || !next.trusted.remove(before) {
                return Err(Refused::UnderWay);
            }
            next.trusted.insert(after.clone());
            if next.signing == *before {
                next.signing.clone_from(after);
            }
            vec![
                Action::Sign(next.signing.clone()),
                Action::Announce,
                note(format!(
                    "root {before} is made anew with the same key, as {after}"
                )),
            ]
        }
    };
    Ok((next, actions))
}

fn under_way(state: &State) -> Result<(), Refused> {
    if state.phase == Phase::Idle {
        Err(Refused::NoRotation)
    } else {
        Ok(())
    }
}

fn note(detail: String) -> Action {
    Action::Journal {
        forced: false,
        detail,
    }
}

fn first(names: &[String]) -> Vec<String> {
    names.iter().take(MAX_NAMES).cloned().collect()
}

fn enter(next: &mut State, phase: Phase, at: i64) {
    next.phase = phase;
    next.phase_since = at;
    next.open_since = 0;
    next.seen = Seen::default();
}

/// Keeps time while a gate would open, and goes through it when that has lasted. A clock that was set back starts it anew.
fn gate(next: &mut State, open: bool, settings: Settings, at: i64) -> Vec<Action> {
    if !open || next.paused {
        next.open_since = 0;
        return Vec::new();
    }
    if next.open_since == 0 || next.open_since > at {
        next.open_since = at;
    }
    if at - next.open_since >= settings.settle.whole_seconds() {
        advance(next, at)
    } else {
        Vec::new()
    }
}

/// Into the next phase.
fn advance(next: &mut State, at: i64) -> Vec<Action> {
    match next.phase {
        Phase::Idle => Vec::new(),
        Phase::Distribute => {
            next.signing = next.new.clone();
            enter(next, Phase::Drain, at);
            vec![
                Action::Sign(next.new.clone()),
                Action::Announce,
                note(format!(
                    "root {} signs; certificates of {} run out",
                    next.new, next.old
                )),
            ]
        }
        Phase::Drain => {
            next.trusted.remove(&next.old);
            enter(next, Phase::Retire, at);
            vec![
                Action::Announce,
                note(format!("root {} is trusted no longer", next.old)),
            ]
        }
        Phase::Retire => {
            let gone = std::mem::take(&mut next.old);
            next.new.clear();
            enter(next, Phase::Idle, at);
            next.started_at = 0;
            (next.aborting, next.returned) = (false, false);
            vec![
                Action::Destroy(gone.clone()),
                note(format!("rotation finished: root {gone} is retired")),
            ]
        }
    }
}

fn abort(next: &mut State, at: i64) -> Result<Vec<Action>, Refused> {
    match next.phase {
        Phase::Idle => Err(Refused::NoRotation),
        Phase::Distribute => {
            let gone = std::mem::take(&mut next.new);
            next.trusted.remove(&gone);
            next.old.clear();
            next.paused = false;
            enter(next, Phase::Idle, at);
            next.started_at = 0;
            Ok(vec![
                Action::Announce,
                Action::Destroy(gone.clone()),
                note(format!(
                    "rotation aborted: root {gone} leaves, it has signed nothing"
                )),
            ])
        }
        Phase::Drain if next.aborting => Err(Refused::TooLate(
            "the rotation is being undone already: let it run, then start another",
        )),
        Phase::Drain if next.returned => Err(Refused::TooLate(
            "the old root had left, and not everybody may trust it again: resume, then start another rotation",
        )),
        Phase::Drain => {
            std::mem::swap(&mut next.old, &mut next.new);
            next.signing = next.new.clone();
            next.aborting = true;
            next.paused = false;
            enter(next, Phase::Drain, at);
            Ok(vec![
                Action::Sign(next.signing.clone()),
                Action::Announce,
                note(format!(
                    "rotation aborted: root {} signs again, certificates of {} run out",
                    next.new, next.old
                )),
            ])
        }
        Phase::Retire => {
            next.trusted.insert(next.old.clone());
            next.returned = true;
            next.paused = true;
            enter(next, Phase::Drain, at);
            Ok(vec![
                Action::Announce,
                note(format!(
                    "rotation aborted while retiring: root {} is trusted again, and the rotation paused",
                    next.old
                )),
            ])
        }
    }
}

#[cfg(test)]
mod tests;
