//! Readiness: what a process still waits for, and what it does without.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use crate::Stop;

/// The readiness of one process: named conditions that must all be met, and notes about what is degraded.
///
/// Cheap to clone; all clones are the same readiness. A process without conditions is ready. A process that was told to
/// stop is not, so that load balancers turn away before the listener closes.
#[derive(Clone, Debug, Default)]
pub struct Ready(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stop: Option<Stop>,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// `Some(why)` is what the condition waits for, `None` means met.
    conditions: BTreeMap<String, Option<String>>,
    notes: BTreeMap<String, Note>,
}

/// Made when somebody asks: what it says may change with time.
struct Note(Box<dyn Fn() -> String + Send>);

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0().fmt(f)
    }
}

/// What `/ready` answers, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadyReport {
    /// Whether every condition is met and the process is not stopping.
    pub ready: bool,
    /// Unmet conditions, by name, with what each waits for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub waiting: BTreeMap<String, String>,
    /// What does not work although the process serves, by name: "galley away since .., serving revision 7".
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub degraded: BTreeMap<String, String>,
}

impl Ready {
    /// Readiness that ends when `stop` is triggered.
    pub fn new(stop: &Stop) -> Self {
        Self(Arc::new(Inner {
            stop: Some(stop.clone()),
            ..Inner::default()
        }))
    }

    /// Adds a condition, unmet, and says what it waits for. Adding a name again resets it.
    pub fn condition(&self, name: impl Into<String>, waits_for: impl Into<String>) -> Condition {
        let condition = Condition {
            ready: self.clone(),
            name: name.into(),
        };
        condition.unmet(waits_for);
        condition
    }

    /// Says that something does not work although the process serves. Replaces the note of the same name.
    pub fn note(&self, name: impl Into<String>, what: impl Into<String>) {
        let what = what.into();
        self.note_with(name, move || what.clone());
    }

    /// As [`Ready::note`], with words that are found when somebody asks: for how long something is so.
    pub fn note_with(&self, name: impl Into<String>, what: impl Fn() -> String + Send + 'static) {
        let note = Note(Box::new(what));
        self.0.state.lock().notes.insert(name.into(), note);
        self.0.changed.send_replace(());
    }

    /// Takes a note back. Unknown names are ignored.
    pub fn clear_note(&self, name: &str) {
        self.0.state.lock().notes.remove(name);
        self.0.changed.send_replace(());
    }

    /// Whether every condition is met and the process is not stopping.
    pub fn is_ready(&self) -> bool {
        !self.stopping() && self.0.state.lock().conditions.values().all(Option::is_none)
    }

    /// Everything `/ready` says.
    pub fn report(&self) -> ReadyReport {
        let state = self.0.state.lock();
        let mut waiting: BTreeMap<String, String> = state
            .conditions
            .iter()
            .filter_map(|(name, why)| why.as_ref().map(|why| (name.clone(), why.clone())))
            .collect();
        if self.stopping() {
            waiting.insert("stop".into(), "the process is stopping".into());
        }
        let degraded = state.notes.iter();
        let degraded = degraded.map(|(name, note)| (name.clone(), note.0()));
        ReadyReport {
            ready: waiting.is_empty(),
            waiting,
            degraded: degraded.collect(),
        }
    }

    /// Returns once the process is ready. Never returns if it is told to stop first: race it against [`Stop::wait`].
    pub async fn wait(&self) {
        let mut changed = self.0.changed.subscribe();
        while !self.is_ready() {
            changed.borrow_and_update();
            if self.is_ready() {
                return;
            }
            // The sender lives in `self`, so this cannot fail while we wait.
            let _ = changed.changed().await;
        }
    }

    fn stopping(&self) -> bool {
        self.0.stop.as_ref().is_some_and(Stop::triggered)
    }

    fn set(&self, name: &str, why: Option<String>) {
        self.0.state.lock().conditions.insert(name.to_owned(), why);
        self.0.changed.send_replace(());
    }
}

/// One named condition of a [`Ready`]. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Condition {
    ready: Ready,
    name: String,
}

impl Condition {
    /// The condition holds.
    pub fn met(&self) {
        self.ready.set(&self.name, None);
    }

    /// The condition does not hold (any more), and why.
    pub fn unmet(&self, waits_for: impl Into<String>) {
        self.ready.set(&self.name, Some(waits_for.into()));
    }

    /// Removes the condition: it no longer counts.
    pub fn remove(self) {
        self.ready.0.state.lock().conditions.remove(&self.name);
        self.ready.0.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn json(ready: &Ready) -> String {
        serde_json::to_string(&ready.report()).unwrap()
    }

    #[test]
    fn says_what_it_waits_for() {
        let ready = Ready::default();
        let config = ready.condition("config", "the first snapshot");
        let tls = ready.condition("tls", "a certificate");
        tls.met();
        expect![[r#"{"ready":false,"waiting":{"config":"the first snapshot"}}"#]]
            .assert_eq(&json(&ready));
        config.met();
        ready.note("galley", "away since 10:00, serving revision 7");
        expect![[r#"{"ready":true,"degraded":{"galley":"away since 10:00, serving revision 7"}}"#]]
            .assert_eq(&json(&ready));
        ready.clear_note("galley");
        tls.unmet("a new certificate");
        tls.remove();
        expect![[r#"{"ready":true}"#]].assert_eq(&json(&ready));
    }

    #[test]
    fn a_stopping_process_is_not_ready() {
        let stop = Stop::new();
        let ready = Ready::new(&stop);
        assert!(ready.is_ready());
        stop.trigger();
        assert!(!ready.is_ready());
        expect![[r#"{"ready":false,"waiting":{"stop":"the process is stopping"}}"#]]
            .assert_eq(&json(&ready));
    }

    #[tokio::test]
    async fn wait_returns_when_the_last_condition_is_met() {
        let ready = Ready::default();
        let a = ready.condition("a", "x");
        let b = ready.condition("b", "x");
        let waiter = tokio::spawn({
            let ready = ready.clone();
            async move { ready.wait().await }
        });
        a.met();
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        b.met();
        waiter.await.unwrap();
    }
}
