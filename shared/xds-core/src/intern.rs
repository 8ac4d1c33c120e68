//! Sharing of equal sets: classes that differ elsewhere often agree on a type.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::Set;

/// Turns equal sets into one `Arc`. Holds weak references only: a set lives as long as its users.
#[derive(Default)]
pub struct SetInterner {
    by_version: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    sets: HashMap<u64, Weak<Set>>,
    sweep_at: usize,
}

impl SetInterner {
    /// The set with this content: the one known already, or `set` itself.
    pub fn intern(&self, set: impl Into<Arc<Set>>) -> Arc<Set> {
        let set: Arc<Set> = set.into();
        let mut table = self
            .by_version
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.sets.get(&set.version()).and_then(Weak::upgrade)
            && known.same(&set)
        {
            return known;
        }
        if table.sets.len() >= table.sweep_at {
            table.sets.retain(|_, weak| weak.strong_count() > 0);
            table.sweep_at = (2 * table.sets.len()).max(64);
        }
        table.sets.insert(set.version(), Arc::downgrade(&set));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Encoded, TypeId};

    fn set(body: &str) -> Set {
        Set::new(vec![Arc::new(Encoded::new(
            "a",
            TypeId::Cds,
            body.as_bytes(),
        ))])
    }

    #[test]
    fn equal_sets_become_one_and_dead_ones_are_forgotten() {
        let interner = SetInterner::default();
        let a = interner.intern(set("1"));
        assert!(Arc::ptr_eq(&a, &interner.intern(set("1"))));
        assert!(!Arc::ptr_eq(&a, &interner.intern(set("2"))));
        for i in 0..1000 {
            interner.intern(set(&i.to_string()));
        }
        assert!(interner.by_version.lock().unwrap().sets.len() <= 130);
    }
}
