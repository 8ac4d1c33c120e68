//! The state of a rotation: everything that outlives a restart.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Names a root: SHA-256 of its certificate, hexadecimal.
pub type Fingerprint = String;

/// Most names of proxies, holders of certificates or Pilots that are kept of one kind.
pub const MAX_NAMES: usize = 100;

/// Where a rotation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// There is none.
    #[default]
    Idle,
    /// The new root is trusted and signs nothing yet.
    Distribute,
    /// The new root signs, the old one is still trusted.
    Drain,
    /// The old root is not trusted any more.
    Retire,
}

impl Phase {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Distribute => "distribute",
            Self::Drain => "drain",
            Self::Retire => "retire",
        }
    }
}

/// Everything that must outlive a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where the rotation is.
    pub phase: Phase,
    /// Whether gates are kept shut.
    pub paused: bool,
    /// Roots in the bundle. Never empty.
    pub trusted: BTreeSet<Fingerprint>,
    /// The root that signs; trusted, always.
    pub signing: Fingerprint,
    /// The root on its way out; empty when idle.
    pub old: Fingerprint,
    /// The root on its way in; empty when idle.
    pub new: Fingerprint,
    /// Whether the rotation runs backwards, after an abort.
    pub aborting: bool,
    /// Whether the old root left the bundle in this rotation and was put back.
    pub returned: bool,
    /// Unit: seconds since 1970; 0 when idle.
    pub started_at: i64,
    /// Unit: seconds since 1970.
    pub phase_since: i64,
    /// Since when what is seen would open the gate. Unit: seconds since 1970; 0: it would not.
    pub open_since: i64,
    /// What was seen last.
    pub seen: Seen,
}

/// What keeps a gate shut, as last seen; for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Proxies that have acknowledged, and all.
    pub acknowledged: u64,
    /// See `acknowledged`.
    pub total: u64,
    /// Those that have not, or who hold certificates of the old root.
    pub pending: Vec<String>,
    /// Pilots that do not answer.
    pub silent: Vec<String>,
    /// Live certificates of the old root without a successor.
    pub old_leaves: u64,
    /// Why nothing is known, if so.
    pub unknown: String,
}

impl State {
    /// One root, which signs; no rotation.
    pub fn new(root: Fingerprint, now: OffsetDateTime) -> Self {
        Self {
            phase: Phase::Idle,
            paused: false,
            trusted: BTreeSet::from([root.clone()]),
            signing: root,
            old: String::new(),
            new: String::new(),
            aborting: false,
            returned: false,
            started_at: 0,
            phase_since: now.unix_timestamp(),
            open_since: 0,
            seen: Seen::default(),
        }
    }

    /// Why the rotation does not go on, in words; empty if nothing is in its way, or there is none.
    pub fn blocked(&self) -> String {
        if self.phase == Phase::Idle {
            return String::new();
        }
        if self.paused {
            return "paused by an operator; `flotilla ca rotate resume` goes on".into();
        }
        if self.open_since != 0 {
            return String::new();
        }
        let seen = &self.seen;
        if !seen.unknown.is_empty() {
            return seen.unknown.clone();
        }
        if !seen.silent.is_empty() {
            return format!(
                "{} Pilots do not answer: {}",
                seen.silent.len(),
                seen.silent.join(", ")
            );
        }
        match self.phase {
            Phase::Drain => format!(
                "{} certificates of the old root are in use",
                seen.old_leaves
            ),
            _ => format!(
                "{} of {} proxies have not acknowledged the bundle",
                seen.total - seen.acknowledged.min(seen.total),
                seen.total
            ),
        }
    }
}
