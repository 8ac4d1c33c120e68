//! Requests: which response they answer and what they change in the subscription.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::watch::{Interest, Watch};
use super::{Answer, InterestChange, Outcome, Session};
use crate::encoded::parse_hex16;
use crate::names::as_str;
use crate::proto::put_field;
use crate::{ErrorDetail, NameSet, Nonce, Refusal, Request, Span, TypeId, wire};

impl Session {
    pub(super) fn on_known(
        &mut self,
        type_id: TypeId,
        request: Request,
    ) -> Result<Outcome, Refusal> {
        let mut watch = self.watches[type_id.index()].take();
        let done = if self.delta {
            self.on_delta(type_id, &mut watch, request)
        } else {
            self.on_sotw(type_id, &mut watch, request)
        };
        self.watches[type_id.index()] = watch;
        let (answer, change) = done?;
        Ok(Outcome::Known {
            type_id,
            answer,
            change,
        })
    }

    /// State of the world. The rules, in order: an error is recorded; no names of a type without wildcard ends the watch, whatever the
    /// nonce (Envoy does not answer what it has no use for any more); no nonce, or nothing
    /// sent yet on this stream, opens it anew; an old nonce is ignored; the rest accepts, and may add or drop names.
    fn on_sotw(
        &self,
        type_id: TypeId,
        slot: &mut Option<Box<Watch>>,
        request: Request,
    ) -> Result<(Answer, InterestChange), Refusal> {
        let closes = request.names.is_empty() && !type_id.wildcard();
        let Some(watch) = slot else {
            if closes {
                return Ok((Answer::None, InterestChange::Closed));
            }
            let mut watch = Box::new(Watch::default());
            self.list(type_id, &mut watch, &request.names)?;
            watch.reopen();
            watch.claimed = parse_hex16(&request.version);
            let answer = watch.answer(&[], request.error);
            *slot = Some(watch);
            return Ok((answer, InterestChange::Opened));
        };

        // Checked before anything changes: a refused request must leave no trace.
        if self.relisted(watch, &request.names) {
            self.interned(&request.names)?;
        }

        let rejected = request.error.is_some();
        let fresh = watch.last.is_none() || (request.nonce.is_empty() && !rejected);
        let current = watch.last.is_some() && Nonce::parse(&request.nonce) == watch.last;
        let nonce = if watch.last.is_none() {
            &[]
        } else {
            &request.nonce[..]
        }; // one of an earlier stream
        let answer = watch.answer(nonce, request.error);
        if closes && !rejected {
            *slot = None;
            return Ok((answer, InterestChange::Closed));
        }
        let counts = fresh || current || (rejected && request.nonce.is_empty());
        if closes {
            return Ok((answer, InterestChange::Same));
        }
        if !counts {
            self.forget(type_id, watch, &request.names)?;
            return Ok((answer, InterestChange::Same));
        }
        let mut change = self.list(type_id, watch, &request.names)?;
        if fresh {
            watch.reopen();
            if watch.last.is_none() {
                watch.claimed = parse_hex16(&request.version);
            }
            change = InterestChange::Opened;
        }
        Ok((answer, change))
    }

    fn relisted(&self, watch: &Watch, names: &Span) -> bool {
        !names.is_empty() && names.seen().is_none_or(|seen| watch.listed != Some(seen))
    }

    /// Replaces the names of a state-of-the-world watch.
    fn list(
        &self,
        type_id: TypeId,
        watch: &mut Watch,
        names: &Span,
    ) -> Result<InterestChange, Refusal> {
        if !names.is_empty() && !self.relisted(watch, names) {
            return Ok(InterestChange::Same);
        }
        let to = self.listed(type_id, watch, names)?;
        watch.named |= !names.is_empty();
        watch.listed = names.seen();
        if to.same(&watch.interest) {
            return Ok(InterestChange::Same);
        }
        let closed = to.is_none();
        watch.answered.narrow(&to, &self.setup.names);
        watch.interest = to;
        Ok(if closed {
            InterestChange::Closed
        } else {
            InterestChange::Changed
        })
    }

    /// A stale request changes nothing that is owed, but what it no longer lists the client no longer has: should a later request list
    /// that again, it is owed again.
    fn forget(&self, type_id: TypeId, watch: &mut Watch, names: &Span) -> Result<(), Refusal> {
        if names.is_empty() || self.relisted(watch, names) {
            let to = self.listed(type_id, watch, names)?;
            watch.answered.narrow(&to, &self.setup.names);
            watch.interest.narrow(&to, &self.setup.names);
            watch.listed = None;
        }
        Ok(())
    }

    /// What a state-of-the-world request asks for.
    fn listed(&self, type_id: TypeId, watch: &Watch, names: &Span) -> Result<Interest, Refusal> {
        if names.is_empty() {
            // Nothing was ever named: everything. Something was: no longer.
            return Ok(Interest {
                all: type_id.wildcard() && !watch.named,
                names: None,
            });
        }
        let set = self.interned(names)?;
        let all = set.star();
        let names = if all {
            self.setup.names.minus(&Some(set), &None)
        } else {
            Some(set)
        };
        Ok(Interest { all, names })
    }

    fn interned(&self, names: &Span) -> Result<Arc<NameSet>, Refusal> {
        self.setup.names.span(names.bytes())
    }

    /// Delta. Names are added and removed whatever the nonce says: a client sends each of them once.
    fn on_delta(
        &self,
        type_id: TypeId,
        slot: &mut Option<Box<Watch>>,
        request: Request,
    ) -> Result<(Answer, InterestChange), Refusal> {
        let interner = &self.setup.names;
        let add = if request.names.is_empty() {
            None
        } else {
            Some(self.interned(&request.names)?)
        };
        let drop = if request.unsubscribe.is_empty() {
            None
        } else {
            Some(self.interned(&request.unsubscribe)?)
        };
        let star = |set: &Option<Arc<NameSet>>| set.as_ref().is_some_and(|s| s.star());

        let mut to = match slot {
            Some(watch) => watch.interest.clone(),
            None => {
                // A first request without names means everything; what the client brings along it wants to keep.
                let brought = if type_id.wildcard() {
                    None
                } else {
                    self.keys(&request.initial_versions)?
                };
                Interest {
                    all: type_id.wildcard() && add.is_none(),
                    names: brought,
                }
            }
        };
        // An acknowledgement names nothing: it must not cost a walk over all names.
        if drop.is_some() {
            to.names = interner.minus(&to.names, &drop);
        }
        if add.is_some() {
            to.names = interner.union(&to.names, &add);
        }
        to.all = (to.all && !star(&drop)) || star(&add);
        let rechecked = if to.all {
            drop.as_ref().map_or(0, |d| d.len())
        } else {
            0
        };
        let owed = slot.as_ref().map_or(0, |w| w.recheck.len()) + rechecked;
        let limit = self.setup.limits.names;
        if to.names.as_ref().is_some_and(|n| n.len() > limit) || owed > limit {
            return Err(Refusal::TooManyNames { limit });
        }

        let Some(watch) = slot else {
            let mut watch = Box::new(Watch {
                interest: to,
                opening: true,
                ..Watch::default()
            });
            if !request.initial_versions.is_empty() {
                watch.initial = Some(request.initial_versions.bytes().clone());
            }
            // Envoy keeps back its CDS request while clusters warm. Endpoints asked for before clusters may thus be waited for,
            // even those the client lists among its versions.
            watch.distrust = type_id == TypeId::Eds && self.watches[TypeId::Cds.index()].is_none();
            let answer = watch.answer(&[], request.error);
            *slot = Some(watch);
            return Ok((answer, InterestChange::Opened));
        };

        let answer = watch.answer(&request.nonce, request.error);
        if add.is_none() && drop.is_none() {
            return Ok((answer, InterestChange::Same));
        }
        // What is subscribed to again is owed again: the client may have forgotten it.
        watch.answered.narrow(&to, interner);
        watch.answered.names = interner.minus(&watch.answered.names, &add);
        watch.answered.all &= !star(&add);
        if to.all
            && let Some(drop) = &drop
        {
            // Still covered by the wildcard, which the client cannot know: tell it whether the resource exists.
            watch.recheck.extend(
                drop.iter()
                    .filter(|name| !to.names(name.as_bytes()))
                    .map(Arc::from),
            );
        }
        // What it brought along it may have dropped since.
        for set in [&add, &drop].into_iter().flatten() {
            watch.initial = watch.initial.take().map(|initial| without(&initial, set));
        }
        let closed = to.is_none() && !watch.interest.is_none();
        watch.interest = to;
        Ok((
            answer,
            if closed {
                InterestChange::Closed
            } else {
                InterestChange::Changed
            },
        ))
    }

    /// The names in `initial_resource_versions`.
    fn keys(&self, versions: &Span) -> Result<Option<Arc<NameSet>>, Refusal> {
        let mut names: Vec<&[u8]> = versions
            .entries()
            .filter_map(wire::map_entry)
            .map(|(name, _)| name)
            .filter(|name| !name.is_empty() && *name != b"*")
            .collect();
        if names.iter().any(|name| as_str(name).is_empty()) {
            return Err(Refusal::NotUtf8 {
                field: "initial_resource_versions",
            });
        }
        names.sort_unstable();
        names.dedup();
        Ok(self.setup.names.sorted(&names))
    }
}

impl Watch {
    /// Books a request's nonce and error. Only an error makes a NACK; without a nonce it is about the latest response.
    fn answer(&mut self, nonce: &[u8], error: Option<ErrorDetail>) -> Answer {
        let parsed = if nonce.is_empty() && error.is_some() {
            self.last
        } else {
            Nonce::parse(nonce)
        };
        let index = self.out.iter().position(|o| Some(o.nonce) == parsed);
        match (index, error) {
            (index, Some(error)) => {
                let nonce = index.map(|i| self.out[i].nonce);
                self.reject(index, error);
                Answer::Nack(nonce)
            }
            (Some(i), None) => {
                let nonce = self.out[i].nonce;
                self.ack(i);
                Answer::Ack(nonce)
            }
            (None, None) if nonce.is_empty() || (parsed.is_some() && parsed == self.last) => {
                Answer::None
            }
            (None, None) => Answer::Stale,
        }
    }
}

/// Map entries whose key is not among the names.
fn without(entries: &[u8], names: &NameSet) -> Bytes {
    let mut out = BytesMut::new();
    for entry in wire::entries(entries) {
        if !wire::map_entry(entry).is_some_and(|(name, _)| names.contains_bytes(name)) {
            put_field(5, entry, &mut out);
        }
    }
    out.freeze()
}
