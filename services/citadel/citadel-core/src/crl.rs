//! Which certificate revocation lists there are, and when one is made anew.
//!
//! A proxy that is given any list demands one of every issuer it meets, and refuses everybody under an issuer without one, or under a list
//! that has run out. So either there is no list at all, or one, possibly empty, for each key that signed live certificates; and each is
//! valid much longer than Citadel may be away.
//!
//! A list can only be signed by the key it is about. The key of an authority that was replaced in the plugged-in folder is gone: as long as
//! certificates of it live, lists are withheld as a whole rather than cutting those off, and revocation then rests on refused renewal and
//! on the identities that every proxy denies.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::revocation::{InForce, Line};

/// How far back a list begins to be valid: a proxy whose clock is behind would refuse a list of the future, and with it everybody.
pub const BACKDATED: Duration = Duration::hours(1);

/// The least time a list is valid for.
pub const LEAST_VALIDITY: Duration = Duration::days(30);

/// A list as it is kept and announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Whose list: the key as [`Entry::issuer`](crate::journal::Entry::issuer) names it.
    pub issuer: String,
    /// Its number, which grows with each list of an issuer.
    pub number: u64,
    /// Unit: seconds since 1970.
    pub made_at: i64,
    /// Unit: seconds since 1970.
    pub next_update: i64,
    /// SHA-256 of the lines, hexadecimal.
    pub content: String,
    /// The list itself.
    pub pem: String,
}

/// A list that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Whose list.
    pub issuer: String,
    /// Its number.
    pub number: u64,
    /// What is on it, in the order of serial numbers; may be empty.
    pub lines: Vec<Line>,
    /// When it begins to be valid.
    pub this_update: OffsetDateTime,
    /// When it ends.
    pub next_update: OffsetDateTime,
    made_at: i64,
}

impl Order {
    /// The list that was made to this order.
    pub fn kept(&self, pem: String) -> Kept {
        Kept {
            issuer: self.issuer.clone(),
            number: self.number,
            made_at: self.made_at,
            next_update: self.next_update.unix_timestamp(),
            content: content(&self.lines),
            pem,
        }
    }
}

/// What is to be announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing is revoked: no list.
    None,
    /// Certificates of these issuers live, and nobody has their keys: no list, though something is revoked.
    Withheld(Vec<String>),
    /// One list for each issuer, in order: kept ones, and those to make.
    Lists(Vec<Step>),
}

/// One list of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The one that is there stays.
    Keep(Kept),
    /// A new one is to be made.
    Make(Order),
}

/// What lists are made from.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What is revoked.
    pub in_force: &'a InForce,
    /// What else goes on the list of an issuer, in order: from lists that came with a plugged-in authority.
    pub also: &'a BTreeMap<String, Vec<Line>>,
    /// Issuers whose keys are at hand.
    pub ours: &'a [String],
    /// Every issuer that has certificates in use.
    pub live: &'a [String],
    /// Issuers that nobody trusts any more: what they signed is refused with or without a list.
    pub gone: &'a BTreeSet<String>,
    /// The lists now.
    pub kept: &'a [Kept],
    /// The longest life of a certificate.
    pub longest: Duration,
}

impl Facts<'_> {
    fn lists(&self, now: OffsetDateTime) -> BTreeMap<String, Vec<Line>> {
        let mut lists = self.in_force.lists(now);
        for (issuer, also) in self.also {
            let lines = lists.entry(issuer.clone()).or_default();
            let known: BTreeSet<String> = lines.iter().map(|line| line.serial.clone()).collect();
            lines.extend(
                also.iter()
                    .filter(|line| !known.contains(&line.serial))
                    .cloned(),
            );
            lines.sort();
        }
        lists.retain(|issuer, _| !self.gone.contains(issuer));
        lists
    }
}

/// Plans the lists.
///
/// A list is made anew when what is on it has changed, except that expired certificates alone may stay on it; when a third of its validity
/// is over; or when the clock says that it was made in the future.
pub fn plan(facts: &Facts<'_>, now: OffsetDateTime) -> Plan {
    let Facts {
        ours,
        live,
        gone,
        kept,
        longest,
        ..
    } = facts;
    let lists = facts.lists(now);
    if lists.is_empty() {
        return Plan::None;
    }
    let mut foreign: Vec<String> = live.to_vec();
    foreign.extend(lists.keys().cloned());
    foreign.retain(|issuer| !ours.contains(issuer) && !gone.contains(issuer));
    foreign.sort();
    foreign.dedup();
    if !foreign.is_empty() {
        return Plan::Withheld(foreign);
    }
    let validity = LEAST_VALIDITY.max(*longest * 2);
    let step = |issuer: &String| {
        let before = kept.iter().find(|list| list.issuer == *issuer);
        if let Some(list) = before.filter(|list| stands(list, facts, now)) {
            return Step::Keep(list.clone());
        }
        Step::Make(Order {
            issuer: issuer.clone(),
            number: before.map_or(1, |list| list.number + 1).max(seconds(now)),
            lines: lists.get(issuer).cloned().unwrap_or_default(),
            this_update: now - BACKDATED,
            next_update: now + validity,
            made_at: now.unix_timestamp(),
        })
    };
    let mut issuers: Vec<&String> = ours.iter().collect();
    issuers.sort();
    issuers.dedup();
    Plan::Lists(issuers.into_iter().map(step).collect())
}

/// Numbers follow the clock, so that they grow even when a list was taken away for a while and nobody remembers its number.
fn seconds(now: OffsetDateTime) -> u64 {
    u64::try_from(now.unix_timestamp()).unwrap_or(1)
}

fn stands(list: &Kept, facts: &Facts<'_>, now: OffsetDateTime) -> bool {
    let Ok(made_at) = OffsetDateTime::from_unix_timestamp(list.made_at) else {
        return false;
    };
    let then = facts.lists(made_at);
    let unchanged = content(then.get(&list.issuer).map_or(&[], Vec::as_slice)) == list.content;
    let third = (list.next_update - list.made_at) / 3;
    let at = now.unix_timestamp();
    unchanged && at >= list.made_at && at < list.made_at + third
}

fn content(lines: &[Line]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for line in lines {
        context.update(format!("{} {} {}\n", line.serial, line.at, line.hold).as_bytes());
    }
    let digest = context.finish();
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::{Listed, Revocation, Target};

    const DAY: i64 = 86_400;
    const LONGEST: Duration = Duration::days(90);

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    fn revoked(certificates: &[(&str, &str, i64)]) -> InForce {
        let listed = |(serial, issuer, not_after): &(&str, &str, i64)| Listed {
            serial: (*serial).into(),
            issuer: (*issuer).into(),
            not_after: *not_after,
        };
        InForce::new(&[Revocation {
            id: 1,
            target: Target::Node("n".into()),
            reason: "r".into(),
            requester: "socket".into(),
            at: 7,
            lifted_at: 0,
            certificates: certificates.iter().map(listed).collect(),
        }])
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn check(in_force: &InForce, ours: &[&str], kept: &[Kept], now: i64) -> Plan {
        let facts = Facts {
            in_force,
            also: &BTreeMap::new(),
            ours: &names(ours),
            live: &[],
            gone: &BTreeSet::new(),
            kept,
            longest: LONGEST,
        };
        plan(&facts, at(now))
    }

    /// Makes what the plan orders; the list's text is its number.
    fn make(plan: Plan) -> Vec<Kept> {
        let Plan::Lists(steps) = plan else {
            panic!("no lists: {plan:?}")
        };
        let made = steps.into_iter().map(|step| match step {
            Step::Keep(list) => list,
            Step::Make(order) => order.kept(order.number.to_string()),
        });
        made.collect()
    }

    #[test]
    fn without_revocations_there_is_no_list() {
        assert_eq!(check(&InForce::default(), &["k"], &[], DAY), Plan::None);
        assert_eq!(
            check(&revoked(&[("a", "k", DAY)]), &["k"], &[], DAY + 1),
            Plan::None
        );
    }

    #[test]
    fn one_revocation_makes_a_list_for_every_issuer() {
        let Plan::Lists(steps) = check(&revoked(&[("a", "k2", 9 * DAY)]), &["k2", "k1"], &[], DAY)
        else {
            panic!("no lists")
        };
        let lines: Vec<(String, usize)> = steps
            .iter()
            .map(|step| match step {
                Step::Make(order) => (order.issuer.clone(), order.lines.len()),
                Step::Keep(list) => panic!("{list:?} was never made"),
            })
            .collect();
        assert_eq!(lines, [("k1".to_owned(), 0), ("k2".to_owned(), 1)]);
    }

    #[test]
    fn a_list_stays_until_it_changes_or_a_third_of_it_is_over() {
        let two = revoked(&[("a", "k", 9 * DAY), ("b", "k", 2 * DAY)]);
        let first = make(check(&two, &["k"], &[], DAY));
        assert_eq!(first[0].next_update, DAY + 180 * DAY);
        let later = |in_force: &InForce, now| make(check(in_force, &["k"], &first, now));
        assert_eq!(later(&two, DAY + 1), first);
        assert_eq!(later(&two, 3 * DAY), first, "an expired line may stay");
        assert_ne!(later(&two, DAY - 5), first, "it was made in the future");
        let lifted = revoked(&[("a", "k", 9 * DAY)]);
        let next = later(&lifted, DAY + 1);
        assert!(next[0].number > first[0].number);
        let old = revoked(&[("a", "k", 400 * DAY)]);
        let first = make(check(&old, &["k"], &[], DAY));
        assert_eq!(make(check(&old, &["k"], &first, 60 * DAY)), first);
        assert_ne!(make(check(&old, &["k"], &first, 61 * DAY)), first);
    }

    #[test]
    fn numbers_grow_even_after_a_while_without_lists() {
        let one = revoked(&[("a", "k", 9 * DAY)]);
        let before = make(check(&one, &["k"], &[], DAY));
        let after = make(check(&one, &["k"], &[], DAY + 1));
        assert!(after[0].number > before[0].number);
        let twice = revoked(&[("a", "k", 9 * DAY), ("b", "k", 9 * DAY)]);
        let at_once = make(check(&twice, &["k"], &before, DAY));
        assert!(at_once[0].number > before[0].number);
    }

    #[test]
    fn lists_are_withheld_while_an_issuer_lives_whose_key_is_gone() {
        let one = revoked(&[("a", "k", 9 * DAY)]);
        let facts = Facts {
            in_force: &one,
            also: &BTreeMap::new(),
            ours: &names(&["k"]),
            live: &names(&["gone", "k"]),
            gone: &BTreeSet::new(),
            kept: &[],
            longest: LONGEST,
        };
        let plan = plan(&facts, at(DAY));
        assert_eq!(plan, Plan::Withheld(names(&["gone"])));
        assert_eq!(
            check(&revoked(&[("a", "gone", 9 * DAY)]), &["k"], &[], DAY),
            Plan::Withheld(names(&["gone"]))
        );
    }

    #[test]
    fn what_was_revoked_under_a_retired_root_does_not_withhold_the_lists_of_others() {
        let both = revoked(&[("a", "retired", 9 * DAY), ("b", "k", 9 * DAY)]);
        let one = revoked(&[("a", "retired", 9 * DAY)]);
        let check = |in_force: &InForce| {
            let facts = Facts {
                in_force,
                also: &BTreeMap::new(),
                ours: &names(&["k"]),
                live: &names(&["k", "retired"]),
                gone: &BTreeSet::from(["retired".to_owned()]),
                kept: &[],
                longest: LONGEST,
            };
            plan(&facts, at(DAY))
        };
        let Plan::Lists(steps) = check(&both) else {
            panic!("no lists")
        };
        let [Step::Make(order)] = &steps[..] else {
            panic!("{steps:?}")
        };
        assert_eq!((order.issuer.as_str(), order.lines.len()), ("k", 1));
        assert_eq!(check(&one), Plan::None);
    }

    #[test]
    fn lists_that_came_with_an_authority_are_merged() {
        let line = |serial: &str| Line {
            serial: serial.into(),
            at: 7,
            hold: true,
        };
        let also = BTreeMap::from([("k".to_owned(), vec![line("a"), line("z")])]);
        for (in_force, want) in [
            (InForce::default(), vec!["a", "z"]),
            (
                revoked(&[("b", "k", 9 * DAY), ("a", "k", 9 * DAY)]),
                vec!["a", "b", "z"],
            ),
        ] {
            let mut facts = Facts {
                in_force: &in_force,
                also: &also,
                ours: &names(&["k"]),
                live: &[],
                gone: &BTreeSet::new(),
                kept: &[],
                longest: LONGEST,
            };
            let Plan::Lists(steps) = plan(&facts, at(DAY)) else {
                panic!("no lists")
            };
            let Step::Make(order) = &steps[0] else {
                panic!("kept")
            };
            let serials: Vec<&str> = order
                .lines
                .iter()
                .map(|line| line.serial.as_str())
                .collect();
            assert_eq!(serials, want);
            let kept = [order.kept(String::new())];
            facts.kept = &kept;
            assert_eq!(
                plan(&facts, at(DAY + 1)),
                Plan::Lists(vec![Step::Keep(kept[0].clone())])
            );
        }
    }
}
