//! The other Pilots: any of them answers for all.
//!
//! Each Pilot keeps a fact about itself on the bus and answers questions about its own proxies; whoever is asked gathers the answers.
//! A Pilot that is known and does not answer is named, never guessed.

mod config;
mod trust;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Bus, Gather, Kv, Message, Subscription};
use bytes::Bytes;
use mesh_api::citadel::TrustQuestion;
use mesh_api::pilot::{ConfigQuestion, PilotStatus, Question, RevisionStatus};
use parking_lot::Mutex;
use prost::Message as _;
use service_kit::Stop;
use tokio::time::MissedTickBehavior;

use crate::clock::now_us;
use crate::roster::Roster;
use crate::trust::Served;

pub use config::ConfigError;

const BUCKET: &str = "pilots";
const TTL: Duration = Duration::from_secs(15);
const HEARTBEAT: Duration = Duration::from_secs(5);
const STATUS: &str = "flotilla.pilot.status";
/// How long peers have for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often peers are asked again while somebody waits.
const POLL: Duration = Duration::from_millis(250);
/// Most bytes of proxies in one answer; the rest is asked for by name.
const PAGE: usize = bus::MAX_PAYLOAD / 2;
/// Most names of proxies of one kind in an answer about a revision. Counts are always exact.
const MAX_NAMES: usize = 2_000;

/// This Pilot among its peers.
pub struct Peers {
    roster: Arc<Roster>,
    bus: Arc<dyn Bus>,
    pilots: Arc<dyn Kv>,
    trust: Served,
    known: Mutex<Known>,
    /// What this process registers as: not another one of its name.
    instance: Bytes,
}

/// The other Pilots as last listed. While the bus is away they are not forgotten, nor when it comes back without them: a server that lost
/// its store knows only those that have come back to it.
#[derive(Debug, Default)]
struct Known {
    pilots: BTreeSet<String>,
    /// Which connection to the bus they were listed on.
    connects: u64,
    /// Until then nobody is forgotten.
    faithful_until: Option<tokio::time::Instant>,
}

impl Known {
    /// Takes a list from the bus; who there is to reckon with.
    fn listed(&mut self, mut pilots: BTreeSet<String>, connects: u64) -> BTreeSet<String> {
        let now = tokio::time::Instant::now();
        if self.connects != connects {
            self.connects = connects;
            self.faithful_until = Some(now + TTL);
        }
        if self.faithful_until.is_some_and(|until| now < until) {
            pilots.append(&mut self.pilots);
        }
        self.pilots.clone_from(&pilots);
        pilots
    }
}

impl Peers {
    /// Joins the other Pilots of a bus. `trust` is the bundle that proxies are handed.
    ///
    /// # Errors
    /// What the bus says about the names used here: none in practice.
    pub async fn join(
        roster: Arc<Roster>,
        bus: Arc<dyn Bus>,
        trust: Served,
    ) -> Result<Arc<Peers>, bus::BusError> {
        let pilots = bus.kv(BUCKET, TTL).await?;
        Ok(Arc::new(Peers {
            roster,
            bus,
            pilots,
            trust,
            known: Mutex::default(),
            instance: format!("{}@{}", std::process::id(), now_us()).into(),
        }))
    }

    /// Keeps this Pilot registered and answers its peers until `stop`.
    pub async fn run(self: Arc<Self>, stop: Stop) -> Result<(), bus::BusError> {
        let questions = self.bus.subscribe(STATUS).await?;
        let about_configs = self.bus.subscribe(config::SUBJECT).await?;
        let about_trust = self.bus.subscribe(trust::SUBJECT).await?;
        // A bus that is slow to take the registration must keep neither answers nor the end waiting.
        tokio::select! {
            () = stop.wait() => {}
            () = self.stay_registered() => {}
            () = self.answer_all(questions, about_configs, about_trust) => {}
        }
        let _ = tokio::time::timeout(
            Duration::from_secs(1),
            self.pilots.delete(self.roster.pilot()),
        )
        .await;
        Ok(())
    }

    async fn stay_registered(&self) {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut registered = false;
        loop {
            heartbeat.tick().await;
            let name = self.roster.pilot();
            if registered
                && let Ok(Some(there)) = self.pilots.get(name).await
                && there != self.instance
            {
                tracing::error!(
                    name,
                    "another Pilot has the same name, so neither counts the proxies of the other: give each its own --name"
                );
            }
            // Away or unknown: the next heartbeat, or the bus itself, puts it again.
            registered = self.pilots.put(name, self.instance.clone()).await.is_ok();
            // Also what makes us remember the others, should the bus go away.
            self.others().await;
        }
    }

    async fn answer_all(
        &self,
        mut questions: Subscription,
        mut about_configs: Subscription,
        mut about_trust: Subscription,
    ) {
        loop {
            tokio::select! {
                Some(question) = questions.next() => self.answer(&question).await,
                Some(question) = about_configs.next() => self.answer_config(&question).await,
                Some(question) = about_trust.next() => self.answer_trust(&question).await,
                else => return,
            }
        }
    }

    async fn answer(&self, message: &Message) {
        let Ok(question) = Question::decode(message.payload.clone()) else {
            return;
        };
        if !question.pilot.is_empty() && question.pilot != self.roster.pilot() {
            return;
        }
        let answer = if question.revision > 0 {
            let mut progress = self.roster.progress(question.revision);
            progress.pending.truncate(MAX_NAMES);
            progress.rejected.truncate(MAX_NAMES);
            progress.silent_pilots = vec![self.roster.pilot().to_owned()];
            progress.encode_to_vec()
        } else {
            page(self.roster.status(), question.from).encode_to_vec()
        };
        // A lost answer is a silent Pilot to the one who asked.
        let _ = message.respond(answer).await;
    }

    async fn answer_config(&self, message: &Message) {
        let Ok(question) = ConfigQuestion::decode(message.payload.clone()) else {
            return;
        };
        if question.pilot.is_empty() || question.pilot == self.roster.pilot() {
            let part = config::part(&self.roster, &question);
            // As above.
            let _ = message.respond(part.encode_to_vec()).await;
        }
    }

    async fn answer_trust(&self, message: &Message) {
        let Ok(question) = TrustQuestion::decode(message.payload.clone()) else {
            return;
        };
        let served = self.trust.borrow().clone();
        let answer = trust::answer(&self.roster, served.as_deref(), &question);
        // A lost answer is a silent Pilot to Citadel, which then waits.
        let _ = message.respond(answer.encode_to_vec()).await;
    }

    /// Names of the other Pilots that are registered, or were when the bus was last there.
    async fn others(&self) -> BTreeSet<String> {
        // Before the list, which may be of a later connection then, but never of an earlier one.
        let connects = self.bus.state().borrow().connects;
        let Ok(listed) = self.pilots.list().await else {
            return self.known.lock().pilots.clone();
        };
        let others: BTreeSet<String> = listed
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| name != self.roster.pilot())
            .collect();
        self.known.lock().listed(others, connects)
    }

    async fn ask(&self, question: &Question, expect: usize) -> Vec<Bytes> {
        let gather = Gather {
            timeout: PATIENCE,
            expect: Some(expect),
        };
        self.bus
            .request_many(STATUS, question.encode_to_vec().into(), gather)
            .await
            .unwrap_or_default()
    }

    /// What every Pilot knows, this one first; and the names of those that did not answer in full.
    pub async fn status(&self) -> (Vec<PilotStatus>, Vec<String>) {
        let mut all = vec![self.roster.status()];
        let mut silent = self.others().await;
        if !silent.is_empty() {
            // We answer too, being subscribed.
            let answers = self.ask(&Question::default(), silent.len() + 1).await;
            for answer in answers {
                let Ok(mut status) = PilotStatus::decode(answer) else {
                    continue;
                };
                if !silent.remove(&status.pilot) {
                    continue;
                }
                if !self.complete(&mut status).await {
                    silent.insert(status.pilot.clone());
                }
                all.push(status);
            }
        }
        all[1..].sort_by(|a, b| a.pilot.cmp(&b.pilot));
        (all, silent.into_iter().collect())
    }

    /// Fetches the proxies that did not fit into the first answer; whether all are there now.
    async fn complete(&self, status: &mut PilotStatus) -> bool {
        while (status.proxies.len() as u64) < status.total_proxies {
            let question = Question {
                pilot: status.pilot.clone(),
                from: status.proxies.len() as u64,
                ..Question::default()
            };
            let answers = self.ask(&question, 1).await;
            let more = answers
                .into_iter()
                .find_map(|answer| PilotStatus::decode(answer).ok());
            match more {
                // Some may have left meanwhile; the newest count is right.
                Some(more) if !more.proxies.is_empty() => {
                    status.total_proxies = more.total_proxies;
                    status.proxies.extend(more.proxies);
                }
                Some(more) => return more.total_proxies <= status.proxies.len() as u64,
                None => return false,
            }
        }
        true
    }

    /// How far a revision has come on every Pilot.
    pub async fn progress(&self, revision: u64) -> RevisionStatus {
        let mut sum = self.roster.progress(revision);
        let mut silent = self.others().await;
        if !silent.is_empty() {
            let question = Question {
                revision,
                ..Question::default()
            };
            for answer in self.ask(&question, silent.len() + 1).await {
                let Ok(part) = RevisionStatus::decode(answer) else {
                    continue;
                };
                let who = part.silent_pilots.first();
                if !who.is_some_and(|pilot| silent.remove(pilot)) {
                    continue;
                }
                sum.live += part.live;
                sum.total += part.total;
                sum.pending.extend(part.pending);
                sum.rejected.extend(part.rejected);
            }
            sum.pending.sort();
            sum.rejected.sort();
        }
        sum.silent_pilots = silent.into_iter().collect();
        sum
    }

    /// Waits until a revision is live everywhere, or nobody is left to wait for but those who refuse it, or the deadline.
    pub async fn settle(&self, revision: u64, deadline: Instant) -> RevisionStatus {
        loop {
            let own = self.roster.settle(revision, deadline).await;
            let all = if self.others().await.is_empty() {
                own
            } else {
                self.progress(revision).await
            };
            let settled = all.pending.is_empty()
                && all.silent_pilots.is_empty()
                && self.roster.revision() >= revision;
            if settled || tokio::time::Instant::now().into_std() >= deadline {
                return all;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// As many proxies as one answer carries, from the given one on.
fn page(mut status: PilotStatus, from: u64) -> PilotStatus {
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    let mut room = PAGE;
    let listed = std::mem::take(&mut status.proxies);
    status.proxies = listed
        .into_iter()
        .skip(from)
        .take_while(|proxy| {
            // Its own length, and what comes around it.
            let len = proxy.encoded_len() + 8;
            let fits = len <= room;
            room = room.saturating_sub(len);
            fits
        })
        .collect();
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_api::pilot::ProxyStatus;

    #[tokio::test(start_paused = true)]
    async fn a_bus_that_comes_back_empty_makes_nobody_forgotten_at_once() {
        let set = |names: &[&str]| -> BTreeSet<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let mut known = Known::default();
        assert_eq!(known.listed(set(&["a", "b"]), 1), set(&["a", "b"]));
        tokio::time::advance(TTL).await;
        assert_eq!(known.listed(set(&["a"]), 1), set(&["a"]), "b said goodbye");
        assert_eq!(known.listed(set(&[]), 2), set(&["a"]));
        assert_eq!(known.listed(set(&["c"]), 2), set(&["a", "c"]));
        tokio::time::advance(TTL).await;
        assert_eq!(known.listed(set(&["c"]), 2), set(&["c"]));
    }

    #[test]
    fn pages_cover_every_proxy_once() {
        let proxies: Vec<_> = (0..5_000)
            .map(|n| ProxyStatus {
                proxy: format!("pod-{n}.{}", "n".repeat(400)),
                ..ProxyStatus::default()
            })
            .collect();
        let whole = PilotStatus {
            total_proxies: proxies.len() as u64,
            proxies,
            ..PilotStatus::default()
        };
        let (mut found, mut pages) = (Vec::new(), 0);
        while found.len() < whole.proxies.len() {
            let part = page(whole.clone(), found.len() as u64);
            assert!(part.encoded_len() < bus::MAX_PAYLOAD);
            assert!(!part.proxies.is_empty());
            found.extend(part.proxies);
            pages += 1;
        }
        assert_eq!(found, whole.proxies);
        assert_eq!(pages, 5);
        assert!(page(whole, 5_000).proxies.is_empty());
    }
}
