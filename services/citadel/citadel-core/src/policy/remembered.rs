//! Answers that are remembered for a while: bounded in number and in time.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// Answers by question. `now` is the time since any fixed moment, and never goes back.
#[derive(Debug)]
pub struct Remembered<K, V> {
    most: usize,
    kept: HashMap<K, (Duration, V)>,
}

impl<K: Hash + Eq + Clone, V: Clone> Remembered<K, V> {
    /// Remembers at most `most` answers.
    pub fn new(most: usize) -> Remembered<K, V> {
        Remembered {
            most,
            kept: HashMap::new(),
        }
    }

    /// The answer, while it is good.
    pub fn get(&self, question: &K, now: Duration) -> Option<V> {
        let (until, answer) = self.kept.get(question)?;
        (now < *until).then(|| answer.clone())
    }

    /// Remembers an answer for `good_for`. When there is no room, what is no longer good is forgotten, and if nothing is, this answer
    /// is not remembered: a flood of new questions does not push out what is in use.
    pub fn put(&mut self, question: K, answer: V, good_for: Duration, now: Duration) {
        if self.kept.len() >= self.most {
            self.kept.retain(|_, (until, _)| now < *until);
            if self.kept.len() >= self.most {
                return;
            }
        }
        self.kept.insert(question, (now + good_for, answer));
    }

    /// Answers that are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn answers_are_good_for_a_while_and_few() {
        let mut memory = Remembered::new(2);
        memory.put("a", 1, seconds(10), seconds(0));
        memory.put("b", 2, seconds(5), seconds(0));
        memory.put("c", 3, seconds(5), seconds(4));
        assert_eq!(memory.get(&"c", seconds(4)), None, "no room");
        assert_eq!(memory.get(&"a", seconds(9)), Some(1));
        assert_eq!(memory.get(&"b", seconds(5)), None, "too old");
        memory.put("c", 3, seconds(5), seconds(5));
        assert_eq!(memory.get(&"c", seconds(9)), Some(3));
        assert_eq!(memory.get(&"a", seconds(10)), None);
        assert_eq!(memory.len(), 2);
    }
}
