//! What is due: the difference between what a client was told and a snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use super::nack::{Held, Nack};
use super::watch::{Carried, Interest, Outstanding, Watch};
use super::{Force, MAX_FORCED, Missing, Session};
use crate::encoded::{hex16, parse_hex16};
use crate::names::{as_str, difference};
use crate::response::Content;
use crate::set::{Change, Set, finish};
use crate::{Encoded, Layers, Nonce, Response, Snapshot, TypeId, wire};

/// What goes into one response.
#[derive(Default)]
struct Plan {
    /// All of the new layers; `puts` holds only what is not in them.
    whole: bool,
    puts: Vec<Arc<Encoded>>,
    removed: Vec<Arc<str>>,
}

/// What a client had before a response.
struct Before {
    layers: Option<Layers>,
    held: Vec<Held>,
    /// Nothing, so that the response holds everything.
    first: bool,
}

/// What a client has not been answered yet, as found in the new layers.
#[derive(Default)]
struct Owed {
    whole: bool,
    puts: Vec<Arc<Encoded>>,
    /// Names without a resource or an object that stands for one.
    absent: Vec<Arc<str>>,
    /// Something was asked for, found or not.
    any: bool,
}

impl Session {
    pub(super) fn poll_type(
        &mut self,
        t: TypeId,
        w: &mut Watch,
        snapshot: &Snapshot,
        missing: &Missing<'_>,
    ) -> Option<Response> {
        let new = snapshot.layers(t);
        let force = if t == TypeId::Eds {
            std::mem::take(&mut self.force)
        } else {
            Force::Nothing
        };
        if w.quiet() && w.sent.ptr_eq(new) && matches!(force, Force::Nothing) {
            return None;
        }

        let mut changed = Vec::new();
        let mut gone = Vec::new();
        if !w.answered.is_none() {
            w.sent.diff(new, |change| match change {
                Change::Put(e) if w.has(e.name().as_bytes()) => changed.push(e),
                Change::Removed(e) if w.has(e.name().as_bytes()) => gone.push(e),
                _ => {}
            });
        }
        // After a rejection that could not be pinned down, the next change brings everything: nobody knows what the client has.
        let unsure = w.nack.as_ref().is_some_and(|n| n.whole);
        if unsure && (!changed.is_empty() || !gone.is_empty()) {
            w.answered = Interest::default();
        }

        let (opening, reconnect) = (w.opening, w.initial.is_some());
        let full = !self.delta && t.wildcard();
        let claimed =
            w.claimed == Some(new.version()) && w.interest.all && w.interest.names.is_none();
        let before_held = w.held().to_vec();
        w.prune(new);
        let (plan, due) = if full {
            let due =
                opening || !changed.is_empty() || !gone.is_empty() || owed(w, new, t, missing).any;
            (
                if due {
                    full_plan(w, new, t, missing)
                } else {
                    Plan::default()
                },
                due,
            )
        } else {
            let plan = self.part_plan(t, w, new, missing, &changed, &gone, &force);
            let nothing = !plan.whole && plan.puts.is_empty() && plan.removed.is_empty();
            let must = self.delta && (opening || (w.interest.all && !w.answered.all));
            (plan, must || !nothing)
        };

        let before = std::mem::replace(&mut w.sent, new.clone());
        let first = opening || w.answered.is_none();
        let before = Before {
            layers: (!unsure).then(|| if first { Layers::default() } else { before }),
            held: before_held,
            first,
        };
        w.answered = w.interest.clone();
        w.opening = false;
        w.claimed = None;
        w.initial = None;
        w.recheck = Vec::new();
        if full && opening && claimed {
            w.acked_version = Some(new.version());
            w.last_version = w.acked_version;
            return None;
        }
        if !due {
            return None;
        }
        if t == TypeId::Cds {
            let all = first && !(self.delta && reconnect);
            let some = if self.delta && !plan.whole {
                &plan.puts
            } else {
                &changed
            };
            self.force(all, some);
        }
        self.respond(t, w, snapshot, before, plan)
    }

    /// Delta of any type, and state of the world of the types whose responses may hold a part.
    #[expect(clippy::too_many_arguments, reason = "one caller, one step of it")]
    fn part_plan(
        &self,
        t: TypeId,
        w: &mut Watch,
        new: &Layers,
        missing: &Missing<'_>,
        changed: &[Arc<Encoded>],
        gone: &[Arc<Encoded>],
        force: &Force,
    ) -> Plan {
        let current = |name: &str| new.get(name).cloned().or_else(|| missing(t, name));
        let initial = w.initial.take();
        let mut owed = owed(w, new, t, missing);
        for e in &mut owed.puts {
            // Asked for again though rejected before: what the client had is the better answer.
            if let Some(good) = held(w.held(), e).and_then(|h| h.good.as_ref()) {
                *e = good.clone();
            }
        }
        let mut plan = Plan {
            whole: owed.whole,
            puts: owed.puts,
            removed: Vec::new(),
        };
        if !plan.whole {
            plan.puts.extend(
                changed
                    .iter()
                    .filter(|e| w.has(e.name().as_bytes()))
                    .cloned(),
            );
        }
        let removable = self.delta && t.removable();
        for e in gone {
            let stand_in = if w.interest.names(e.name().as_bytes()) {
                missing(t, e.name())
            } else {
                None
            };
            match stand_in {
                Some(e) => plan.puts.push(e),
                None if removable => plan.removed.push(e.name().clone()),
                None => {}
            }
        }
        if self.delta && t.wildcard() {
            plan.removed.append(&mut owed.absent);
        }
        for name in &w.recheck {
            match current(name) {
                Some(e) => plan.puts.push(e),
                None => plan.removed.push(name.clone()),
            }
        }
        let mut forced: Vec<Arc<Encoded>> = match force {
            Force::Nothing => Vec::new(),
            Force::Names(names) => names
                .iter()
                .filter(|n| w.interest.covers(n.as_bytes()))
                .filter_map(|n| current(n))
                .collect(),
            Force::All => {
                let all = all_of(&w.interest, new, t, missing);
                plan.whole |= all.whole;
                all.puts
            }
        };
        forced.retain_mut(|e| match held(w.held(), e) {
            Some(Held {
                good: Some(good), ..
            }) => {
                *e = good.clone();
                true
            }
            Some(_) => false,
            None => true,
        });

        if let Some(initial) = initial {
            let had: HashMap<&[u8], &[u8]> = wire::entries(&initial)
                .filter_map(wire::map_entry)
                .collect();
            if plan.whole {
                plan.puts.extend(new.iter().cloned());
                plan.whole = false;
            }
            if !w.distrust && !matches!(force, Force::All) {
                let version =
                    |e: &Encoded| had.get(e.name().as_bytes()).and_then(|v| parse_hex16(v));
                plan.puts.retain(|e| version(e) != Some(e.version()));
            }
            let stale = |name: &&[u8]| {
                let explicit = w.interest.names(name);
                new.get_bytes(name).is_none() && !(explicit && missing(t, as_str(name)).is_some())
            };
            if removable {
                plan.removed.extend(
                    had.keys()
                        .filter(|n| stale(n))
                        .map(|n| Arc::from(as_str(n))),
                );
            }
        }

        plan.puts.append(&mut forced);
        plan.puts.sort_by(|a, b| a.name().cmp(b.name()));
        plan.puts.dedup_by(|a, b| a.name() == b.name());
        if plan.whole {
            plan.puts.retain(|e| new.get(e.name()).is_none());
        }
        plan.removed.sort();
        plan.removed.dedup();
        plan
    }

    /// Makes endpoints due for clusters that are about to be sent.
    fn force(&mut self, all: bool, clusters: &[Arc<Encoded>]) {
        let eds = self.watches[TypeId::Eds.index()].as_deref();
        let wanted = |e: &&Arc<Encoded>| eds.is_none_or(|w| w.interest.covers(e.name().as_bytes()));
        match &mut self.force {
            _ if all => self.force = Force::All,
            Force::All => {}
            Force::Nothing => {
                let names: Vec<_> = clusters
                    .iter()
                    .filter(wanted)
                    .map(|e| e.name().clone())
                    .collect();
                if !names.is_empty() {
                    self.force = Force::Names(names);
                }
            }
            Force::Names(names) => {
                names.extend(clusters.iter().filter(wanted).map(|e| e.name().clone()));
                names.sort();
                names.dedup();
            }
        }
        if let Force::Names(names) = &self.force
            && names.len() > MAX_FORCED
        {
            self.force = Force::All;
        }
    }

    fn respond(
        &mut self,
        t: TypeId,
        w: &mut Watch,
        snapshot: &Snapshot,
        before: Before,
        plan: Plan,
    ) -> Option<Response> {
        let new = snapshot.layers(t);
        let nonce = Nonce {
            revision: snapshot.revision,
            counter: self.counter + 1,
        };
        let version = version(w, new);
        let (hex, revision) = (hex16(version), snapshot.revision.to_string());
        let content = Content {
            delta: self.delta,
            type_id: t,
            nonce,
            version: if self.delta { &revision } else { as_str(&hex) },
            whole: if plan.whole { new.sets() } else { &[] },
            puts: &plan.puts,
            from: new,
            removed: &plan.removed,
        };
        match content.build(self.setup.limits.response) {
            Ok(response) => {
                self.counter += 1;
                let complete = plan.whole || before.first || (!self.delta && t.wildcard());
                let carried = if plan.whole
                    || plan.puts.len() > super::MAX_BLAMED
                    || (!self.delta && t.wildcard())
                {
                    Carried::All
                } else {
                    Carried::Some(plan.puts.into())
                };
                w.push(Outstanding {
                    nonce,
                    version,
                    before: before.layers,
                    before_held: before.held,
                    carried,
                    interest: w.interest.clone(),
                    complete,
                });
                Some(response)
            }
            Err(bytes) => {
                // Nothing smaller would be complete: keep what the client has, and say so.
                let limit = self.setup.limits.response;
                w.nack = Some(Box::new(Nack {
                    nonce: None,
                    code: 8,
                    text: format!(
                        "not sent: a response of {bytes} bytes is larger than the limit of {limit}"
                    )
                    .into(),
                    resources: Box::default(),
                    held: Vec::new(),
                    whole: true,
                }));
                None
            }
        }
    }
}

impl Watch {
    /// Whether the layers hold anything else than what the client was told.
    pub(super) fn differs(&self, new: &Layers) -> bool {
        if self.sent.ptr_eq(new) {
            return false;
        }
        let mut differs = false;
        self.sent.diff(new, |change| match change {
            Change::Put(e) | Change::Removed(e) => differs |= self.has(e.name().as_bytes()),
        });
        differs
    }
}

/// Content hash of what this client gets of the layers, as `version_info`.
fn version(w: &Watch, new: &Layers) -> u64 {
    let mut version = new.version();
    if !w.interest.all || w.interest.names.is_some() {
        version = finish(
            version,
            w.interest.names.as_ref().map_or(0, |n| n.hash() as usize),
        );
    }
    // With rejected resources left out, it must not pass for the complete version on the next stream.
    w.held()
        .iter()
        .fold(version, |v, h| finish(v ^ h.bad.version(), 1))
}

fn held<'a>(held: &'a [Held], e: &Arc<Encoded>) -> Option<&'a Held> {
    held.iter()
        .find(|h| h.bad.name() == e.name() && h.bad.same(e))
}

/// What of the client's interest has not been answered.
fn owed(w: &Watch, new: &Layers, t: TypeId, missing: &Missing<'_>) -> Owed {
    gather(&w.interest, &w.answered, new, t, missing)
}

/// All of an interest.
fn all_of(interest: &Interest, new: &Layers, t: TypeId, missing: &Missing<'_>) -> Owed {
    gather(interest, &Interest::default(), new, t, missing)
}

fn gather(
    interest: &Interest,
    answered: &Interest,
    new: &Layers,
    t: TypeId,
    missing: &Missing<'_>,
) -> Owed {
    let mut out = Owed {
        whole: interest.all && !answered.all,
        ..Owed::default()
    };
    out.any = out.whole;
    if interest.same(answered) {
        return out;
    }
    let Some(names) = &interest.names else {
        return out;
    };
    let mut wanted: Vec<&[u8]> = Vec::new();
    difference(names, answered.names.as_deref(), |name| wanted.push(name));
    out.any |= !wanted.is_empty();
    let mut found: Vec<Option<&Arc<Encoded>>> = vec![None; wanted.len()];
    new.sets()
        .iter()
        .for_each(|set| look_up(&wanted, set, &mut found));
    let hits = found.iter().flatten().count();
    let all = hits == new.len() && hits > 0;
    for (name, found) in wanted.iter().zip(found) {
        match found {
            Some(_) if out.whole || all => {}
            Some(e) => out.puts.push(e.clone()),
            None => match missing(t, as_str(name)) {
                Some(e) => out.puts.push(Arc::clone(&e)),
                None => out.absent.push(as_str(name).into()),
            },
        }
    }
    out.whole |= all;
    out
}

/// Finds sorted names in a set: by search if they are few, else by walking both.
fn look_up<'a>(names: &[&[u8]], set: &'a Set, found: &mut [Option<&'a Arc<Encoded>>]) {
    if names.len() * 8 < set.len() {
        for (name, slot) in names.iter().zip(found) {
            *slot = slot.or_else(|| set.find(name).map(|i| &set.items()[i]));
        }
        return;
    }
    let mut items = set.items().iter().peekable();
    for (name, slot) in names.iter().zip(found) {
        while items.next_if(|e| e.name().as_bytes() < *name).is_some() {}
        *slot = slot.or_else(|| {
            items
                .peek()
                .filter(|e| e.name().as_bytes() == *name)
                .copied()
        });
    }
}

/// Everything the client is interested in, with what it has rejected replaced by what it has.
fn full_plan(w: &Watch, new: &Layers, t: TypeId, missing: &Missing<'_>) -> Plan {
    let all = all_of(&w.interest, new, t, missing);
    let mut plan = Plan {
        whole: all.whole,
        puts: all.puts,
        removed: Vec::new(),
    };
    if !w.held().is_empty() {
        if plan.whole {
            plan.whole = false;
            plan.puts.extend(new.iter().cloned());
        }
        plan.puts.retain_mut(|e| match held(w.held(), e) {
            Some(Held {
                good: Some(good), ..
            }) => {
                *e = good.clone();
                true
            }
            Some(_) => false,
            None => true,
        });
    }
    plan.puts.sort_by(|a, b| a.name().cmp(b.name()));
    plan
}
