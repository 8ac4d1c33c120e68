//! The other Pilots: any of them answers for all.
//!
//! Each Pilot keeps a fact about itself on the bus and answers questions about its own proxies; whoever is asked gathers the answers.
//! A Pilot that is known and does not answer is named, never guessed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Bus, Gather, Kv};
use bytes::Bytes;
use mesh_api::pilot::{PilotStatus, RevisionStatus};
use prost::Message;
use service_kit::Stop;

use crate::roster::Roster;

const BUCKET: &str = "pilots";
const TTL: Duration = Duration::from_secs(15);
const HEARTBEAT: Duration = Duration::from_secs(5);
const STATUS: &str = "flotilla.pilot.status";
/// How long peers have for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often peers are asked again while somebody waits.
const POLL: Duration = Duration::from_millis(250);

/// This Pilot among its peers.
pub struct Peers {
    roster: Arc<Roster>,
    bus: Arc<dyn Bus>,
    pilots: Arc<dyn Kv>,
}

impl Peers {
    /// Joins the other Pilots of a bus.
    ///
    /// # Errors
    /// What the bus says about the names used here: none in practice.
    pub async fn join(roster: Arc<Roster>, bus: Arc<dyn Bus>) -> Result<Arc<Peers>, bus::BusError> {
        let pilots = bus.kv(BUCKET, TTL).await?;
        Ok(Arc::new(Peers {
            roster,
            bus,
            pilots,
        }))
    }

    /// Keeps this Pilot registered and answers its peers until `stop`.
    pub async fn run(self: Arc<Self>, stop: Stop) -> Result<(), bus::BusError> {
        let mut questions = self.bus.subscribe(STATUS).await?;
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                () = stop.wait() => break,
                _ = heartbeat.tick() => {
                    // Away or unknown: the next heartbeat, or the bus itself, puts it again.
                    let _ = self.pilots.put(self.roster.pilot(), Bytes::new()).await;
                }
                question = questions.next() => {
                    let Some(question) = question else { break };
                    let asked: Result<RevisionStatus, _> = RevisionStatus::decode(question.payload.clone());
                    let answer = match asked {
                        Ok(asked) if asked.revision > 0 => {
                            let mut progress = self.roster.progress(asked.revision);
                            progress.silent_pilots = vec![self.roster.pilot().to_owned()];
                            progress.encode_to_vec()
                        }
                        _ => self.roster.status().encode_to_vec(),
                    };
                    if answer.len() > bus::MAX_PAYLOAD {
                        tracing::warn!(bytes = answer.len(), "an answer is too large for the bus; the asking Pilot will call this one silent");
                        continue;
                    }
                    let _ = question.respond(answer).await;
                }
            }
        }
        let _ = tokio::time::timeout(
            Duration::from_secs(1),
            self.pilots.delete(self.roster.pilot()),
        )
        .await;
        Ok(())
    }

    /// Names of the other Pilots that are registered.
    async fn others(&self) -> BTreeSet<String> {
        let listed = self.pilots.list().await.unwrap_or_default();
        listed
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| name != self.roster.pilot())
            .collect()
    }

    async fn ask(&self, question: Vec<u8>, others: usize) -> Vec<Bytes> {
        // We answer too, being subscribed.
        let gather = Gather {
            timeout: PATIENCE,
            expect: Some(others + 1),
        };
        self.bus
            .request_many(STATUS, question.into(), gather)
            .await
            .unwrap_or_default()
    }

    /// What every Pilot knows, this one first; and the names of those that did not answer.
    pub async fn status(&self) -> (Vec<PilotStatus>, Vec<String>) {
        let mut all = vec![self.roster.status()];
        let mut silent = self.others().await;
        if !silent.is_empty() {
            for answer in self.ask(Vec::new(), silent.len()).await {
                if let Ok(status) = PilotStatus::decode(answer)
                    && silent.remove(&status.pilot)
                {
                    all.push(status);
                }
            }
        }
        (all, silent.into_iter().collect())
    }

    /// How far a revision has come on every Pilot.
    pub async fn progress(&self, revision: u64) -> RevisionStatus {
        let mut sum = self.roster.progress(revision);
        let mut silent = self.others().await;
        if !silent.is_empty() {
            let question = RevisionStatus {
                revision,
                ..RevisionStatus::default()
            };
            for answer in self.ask(question.encode_to_vec(), silent.len()).await {
                let Ok(part) = RevisionStatus::decode(answer) else {
                    continue;
                };
                if !part
                    .silent_pilots
                    .first()
                    .is_some_and(|pilot| silent.remove(pilot))
                {
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
