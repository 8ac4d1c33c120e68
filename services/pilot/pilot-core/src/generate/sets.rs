//! Sets of resources that share: equal ones are one, and one step of a set is taken once for all classes that take it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use xds_core::{Change, Encoded, Set, SetInterner};

/// Steps that are remembered: those of a class's four types, and some.
const STEPS: usize = 8;

/// Makes sets. Whatever comes out equal to a set in use is that set.
#[derive(Default)]
pub(super) struct Sets {
    interner: SetInterner,
    steps: Mutex<VecDeque<Step>>,
}

/// Changes of one set. What is put wins over its removal.
#[derive(Default)]
pub(super) struct Edits {
    pub(super) put: Vec<Arc<Encoded>>,
    pub(super) removed: Vec<String>,
}

impl Edits {
    /// Changes that remove nothing.
    pub(super) fn put(put: Vec<Arc<Encoded>>) -> Edits {
        Edits {
            put,
            removed: Vec::new(),
        }
    }
}

impl Sets {
    /// The set of these resources.
    pub(super) fn of(&self, items: Vec<Arc<Encoded>>) -> Arc<Set> {
        self.interner.intern(Set::new(items))
    }

    /// The old set brought to these items. It remembers the step, so that streams need not compare the whole.
    pub(super) fn exchanged(&self, old: &Arc<Set>, items: Vec<Arc<Encoded>>) -> Arc<Set> {
        let new = Arc::new(Set::new(items));
        let mut edits = Edits::default();
        old.diff(&new, |change| match change {
            Change::Put(e) => edits.put.push(e),
            Change::Removed(e) => edits.removed.push(e.name().to_string()),
        });
        self.edited(old, edits)
    }

    /// The old set with these changes; itself if they change nothing.
    pub(super) fn edited(&self, old: &Arc<Set>, edits: Edits) -> Arc<Set> {
        if edits.put.is_empty() && edits.removed.is_empty() {
            return old.clone();
        }
        // Classes that share a set nearly always see the same change of it, one after the other.
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let known = steps.iter().find(|step| step.is(old, &edits));
        if let Some(new) = known.and_then(|step| step.to.upgrade()) {
            return new;
        }
        let mut step = Step {
            from: Arc::downgrade(old),
            put: edits.put.iter().map(Arc::downgrade).collect(),
            removed: edits.removed.clone(),
            to: Weak::new(),
        };
        let removed = edits.removed.iter().map(String::as_str);
        let mut new = old.with_changes(edits.put, removed);
        if !Arc::ptr_eq(old, &new) {
            new = self.interner.intern(new);
        }
        step.to = Arc::downgrade(&new);
        steps.truncate(STEPS - 1);
        steps.push_front(step);
        new
    }
}

/// What became of a set. Holds nothing.
struct Step {
    from: Weak<Set>,
    put: Vec<Weak<Encoded>>,
    removed: Vec<String>,
    to: Weak<Set>,
}

impl Step {
    fn is(&self, from: &Arc<Set>, edits: &Edits) -> bool {
        let mut pairs = self.put.iter().zip(&edits.put);
        std::ptr::eq(self.from.as_ptr(), Arc::as_ptr(from))
            && self.removed == edits.removed
            && self.put.len() == edits.put.len()
            && pairs.all(|(a, b)| std::ptr::eq(a.as_ptr(), Arc::as_ptr(b)))
    }
}
