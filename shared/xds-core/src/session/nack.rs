//! Rejected responses: what to blame, and what not to send again.

use std::sync::Arc;

use super::watch::{Carried, Outstanding, Watch};
use crate::set::Change;
use crate::{Encoded, ErrorDetail, Layers, Nonce};

/// Most resources one NACK is blamed on; beyond, the whole set of the type counts as rejected.
pub const MAX_BLAMED: usize = 256;

/// The last rejection of a type on a stream, kept until an ACK shows that the client is well again.
#[derive(Debug)]
pub struct Nack {
    /// The rejected response; `None` if the client named none that is known.
    pub nonce: Option<Nonce>,
    /// gRPC code the client sent.
    pub code: i32,
    /// The client's words, bounded by [`Limits::error_text`](crate::Limits::error_text).
    pub text: Box<str>,
    /// Resources the text names, or, if it names none, those that were new in the response (at most [`MAX_BLAMED`]).
    pub resources: Box<[Arc<str>]>,
    pub(crate) held: Vec<Held>,
    /// Not attributable: the state of the client is unknown until it accepts a full answer.
    pub(crate) whole: bool,
}

/// A resource the client has rejected, as long as it is what it should have.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) bad: Arc<Encoded>,
    /// What the client has of that name instead.
    pub(crate) good: Option<Arc<Encoded>>,
    /// `bad` is an object for a name that does not exist.
    pub(crate) absent: bool,
}

impl Held {
    fn current(&self, layers: &Layers) -> bool {
        layers
            .get(self.bad.name())
            .map_or(self.absent, |e| e.same(&self.bad))
    }
}

impl Watch {
    /// Records a NACK of the response at `index`, or of none that is known.
    pub(crate) fn reject(&mut self, index: Option<usize>, error: ErrorDetail) {
        let mut nack = Nack {
            nonce: None,
            code: error.code,
            text: error.text,
            resources: Box::default(),
            held: Vec::new(),
            whole: false,
        };
        if let Some(earlier) = self.nack.take() {
            (nack.held, nack.whole) = (earlier.held, earlier.whole);
        }
        let Some(index) = index else {
            self.nack = Some(Box::new(nack));
            return;
        };
        let after = self
            .out
            .get(index + 1)
            .map_or(Some(&self.sent), |next| next.before.as_ref());
        // Responses before this one that were never answered: a client may answer only the last of several. What it had before the first of
        // them is the last that it is known to have had.
        let (base, out) = (&self.out[0], &self.out[index]);
        nack.nonce = Some(out.nonce);
        let blamed = after.and_then(|after| {
            named(base, out, after, &nack.text).or_else(|| suspects(base, out, after))
        });
        match blamed {
            Some(blamed) => {
                nack.resources = blamed.iter().map(|e| e.name().clone()).collect();
                let held = blamed.into_iter().map(|bad| {
                    let known = out.before_held.iter().find(|h| h.bad.name() == bad.name());
                    let before = || {
                        base.before
                            .as_ref()
                            .and_then(|b| b.get(bad.name()))
                            .cloned()
                    };
                    let good = known
                        .map_or_else(before, |h| h.good.clone())
                        .filter(|_| self.has(bad.name().as_bytes()));
                    let absent = after.is_some_and(|a| a.get(bad.name()).is_none());
                    Held { bad, good, absent }
                });
                let held: Vec<_> = held.collect();
                nack.held
                    .retain(|h| held.iter().all(|new| new.bad.name() != h.bad.name()));
                for later in &mut self.out[index + 1..] {
                    later
                        .before_held
                        .retain(|h| held.iter().all(|new| new.bad.name() != h.bad.name()));
                    later.before_held.extend(held.iter().cloned());
                }
                nack.held.extend(held);
                if nack.held.len() > MAX_BLAMED {
                    nack.held.clear();
                    nack.whole = true;
                }
            }
            None => {
                nack.whole = true;
                self.out[index + 1..]
                    .iter_mut()
                    .for_each(|later| later.before = None);
            }
        }
        self.out.drain(..=index);
        self.nack = Some(Box::new(nack));
        self.prune(&self.sent.clone());
    }

    /// Forgets what is held of resources that are no longer what the client should have.
    pub(crate) fn prune(&mut self, layers: &Layers) {
        if let Some(nack) = &mut self.nack {
            let interest = &self.interest;
            nack.held
                .retain(|h| interest.covers(h.bad.name().as_bytes()) && h.current(layers));
        }
    }
}

/// Resources of the response the text names.
fn named(
    base: &Outstanding,
    out: &Outstanding,
    after: &Layers,
    text: &str,
) -> Option<Vec<Arc<Encoded>>> {
    // A word of the text may happen to be the name of a resource the client had all along.
    let news = |e: &&Arc<Encoded>| {
        let had = base.before.as_ref().and_then(|b| b.get(e.name()));
        let rejected = out.before_held.iter().any(|h| h.bad.same(e));
        out.interest.covers(e.name().as_bytes())
            && (rejected || !had.is_some_and(|had| had.same(e)))
    };
    let mut found: Vec<Arc<Encoded>> = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || "'\"`,;()[]{}<>".contains(c)) {
        // names hold colons and dots, sentences end in them
        for name in [word, word.trim_end_matches([':', '.'])] {
            let e = match &out.carried {
                Carried::All => after.get(name).filter(news),
                Carried::Some(list) => list.iter().find(|e| **e.name() == *name),
            };
            if let Some(e) = e
                && found.len() < MAX_BLAMED
                && !found.iter().any(|f| f.name() == e.name())
            {
                found.push(e.clone());
            }
        }
    }
    (!found.is_empty()).then_some(found)
}

/// Without a name in the text, what the response changed is to blame; nothing if that is too much.
fn suspects(base: &Outstanding, out: &Outstanding, after: &Layers) -> Option<Vec<Arc<Encoded>>> {
    let mut found = Vec::new();
    match &out.carried {
        Carried::Some(list) => found.extend_from_slice(list),
        Carried::All => base.before.as_ref()?.diff(after, |change| match change {
            Change::Put(e) if out.interest.covers(e.name().as_bytes()) => found.push(e),
            _ => {}
        }),
    }
    (!found.is_empty() && found.len() <= MAX_BLAMED).then_some(found)
}
