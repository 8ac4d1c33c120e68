//! What one stream knows of one type: what was asked, what was sent, what was answered.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::nack::{Held, Nack};
use crate::wire::Seen;
use crate::{Encoded, Layers, NameSet, NameSetInterner, Nonce};

/// Which resources of a type a client wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interest {
    /// Everything there is.
    pub(crate) all: bool,
    /// These, whether they exist or not; never contains `*`.
    pub(crate) names: Option<Arc<NameSet>>,
}

impl Interest {
    pub(crate) fn covers(&self, name: &[u8]) -> bool {
        self.all || self.names(name)
    }

    /// Whether the name is wanted by name.
    pub(crate) fn names(&self, name: &[u8]) -> bool {
        self.names.as_ref().is_some_and(|n| n.contains_bytes(name))
    }

    /// Equal by pointer: names are interned.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let ptr = |i: &Self| i.names.as_ref().map(Arc::as_ptr);
        self.all == other.all && ptr(self) == ptr(other)
    }

    pub(crate) fn is_none(&self) -> bool {
        !self.all && self.names.is_none()
    }

    /// Forgets what is not in `to`.
    pub(crate) fn narrow(&mut self, to: &Self, interner: &NameSetInterner) {
        self.all &= to.all;
        self.names = interner.intersection(&self.names, &to.names);
    }
}

/// A response that has not been answered.
pub(crate) struct Outstanding {
    pub(crate) nonce: Nonce,
    pub(crate) version: u64,
    /// What the client was to have before this response; `None` if that is unknown.
    pub(crate) before: Option<Layers>,
    /// Resources of `before` it had rejected.
    pub(crate) before_held: Vec<Held>,
    pub(crate) carried: Carried,
    /// What the client was interested in.
    pub(crate) interest: Interest,
    /// It held everything of that, so accepting it means having it.
    pub(crate) complete: bool,
}

/// What was in a response.
pub(crate) enum Carried {
    /// Everything the client is interested in.
    All,
    /// These.
    Some(Box<[Arc<Encoded>]>),
}

/// Unanswered responses remembered per type. A NACK of one that is forgotten counts against the whole set.
pub(crate) const OUTSTANDING: usize = 8;

/// The state of one type on one stream.
///
/// Between requests and polls this holds: the client has (or has been sent) what `answered` covers of `sent`, except for what is held
/// after a NACK.
#[derive(Default)]
pub(crate) struct Watch {
    /// What the client asks for now.
    pub(crate) interest: Interest,
    /// What of that it has been answered.
    pub(crate) answered: Interest,
    /// The layers of the last poll, shared with every stream of the class.
    pub(crate) sent: Layers,
    /// An answer is owed even if it holds nothing.
    pub(crate) opening: bool,
    /// Names were given at least once, so none at all means none (not everything).
    pub(crate) named: bool,
    /// The names as last listed, state of the world only; `None` if the next list must be read whatever it says.
    pub(crate) listed: Option<Seen>,
    /// Version the client says it has (state of the world reconnect).
    pub(crate) claimed: Option<u64>,
    /// `initial_resource_versions` until the first answer.
    pub(crate) initial: Option<Bytes>,
    /// The client may be waiting for resources although it has them: its `initial` says what to remove, not what to leave out.
    pub(crate) distrust: bool,
    /// Names whose state the client is unsure about.
    pub(crate) recheck: Vec<Arc<str>>,
    pub(crate) last: Option<Nonce>,
    /// Version of the latest response, or the version the client brought along if that was current.
    pub(crate) last_version: Option<u64>,
    pub(crate) acked: Option<Nonce>,
    pub(crate) acked_version: Option<u64>,
    pub(crate) out: SmallVec<[Box<Outstanding>; 1]>,
    pub(crate) nack: Option<Box<Nack>>,
}

impl Watch {
    /// Nothing is owed as long as the layers stay the same.
    pub(crate) fn quiet(&self) -> bool {
        !self.opening && self.recheck.is_empty() && self.answered.same(&self.interest)
    }

    /// Whether the client has a resource of this name if `sent` holds one.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.answered.covers(name) && self.interest.covers(name)
    }

    /// Starts over: everything asked for is owed.
    pub(crate) fn reopen(&mut self) {
        self.answered = Interest::default();
        self.opening = true;
        self.claimed = None;
        if let Some(nack) = &mut self.nack {
            nack.held.clear();
            nack.whole = false;
        }
    }

    /// Everything asked for was sent and accepted.
    pub(crate) fn settled(&self) -> bool {
        self.quiet() && self.out.is_empty() && !self.blocked()
    }

    /// The client refuses something that is still current.
    pub(crate) fn blocked(&self) -> bool {
        let nack = self.nack.as_ref().filter(|_| !self.interest.is_none());
        nack.is_some_and(|n| n.whole || !n.held.is_empty())
    }

    /// What was refused and must not be sent again as it is.
    pub(crate) fn held(&self) -> &[Held] {
        self.nack.as_ref().map_or(&[], |n| &n.held)
    }

    /// Takes an ACK of the response at `index` and, as answers come in order, of all before it.
    pub(crate) fn ack(&mut self, index: usize) {
        let mut answered = self.out.drain(..=index);
        if let Some(last) = answered.next_back() {
            drop(answered);
            self.acked = Some(last.nonce);
            self.acked_version = Some(last.version);
            if let Some(nack) = &mut self.nack {
                nack.whole &= !last.complete;
                if !nack.whole && nack.held.is_empty() {
                    self.nack = None;
                }
            }
        }
    }

    /// Remembers a response that is about to be sent.
    pub(crate) fn push(&mut self, response: Outstanding) {
        if self.out.len() == OUTSTANDING {
            self.out.remove(0);
        }
        self.last = Some(response.nonce);
        self.last_version = Some(response.version);
        self.out.push(Box::new(response));
    }
}
