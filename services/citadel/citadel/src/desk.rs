//! Where certificates are handed out: from a caller's request to the answer, with everything in between counted, bounded and kept.

use std::net::IpAddr;
use std::time::Duration;

use citadel_core::issue::{self, Issued, Policy, Request};
use citadel_core::journal::{Entry, Event, Linked};
use citadel_core::limits::{Limits, Verdict};
use citadel_core::names::ControlPlane;
use citadel_core::policy::Caller;
use citadel_core::policy::remembered::Remembered;
use mesh_types::SpiffeId;
use parking_lot::Mutex;
use pki::KeyType;
use service_kit::tls::Peer;
use time::OffsetDateTime;
use tokio::time::Instant;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::callers::Callers;
use crate::ledger::{Ledger, Query, RecordError};
use crate::metrics::Metrics;
use crate::roots::{Signing, Signings};

/// What a caller who is not known hears, whatever is wrong.
const NOT_AUTHENTICATED: &str = "request authenticate failure";
/// The same for one who may not ask for whom it asks.
const NOT_IMPERSONATED: &str = "request impersonation authentication failure";

/// Identities whose limit is kept.
pub const MOST_IDENTITIES: usize = 100_000;
/// Refusals, and nodes of certificates, that are remembered.
const REMEMBERED: usize = 10_000;
/// The same refusal is journaled once in this time.
const QUIET: Duration = Duration::from_secs(300);
/// How long the node of a certificate is remembered: longer than a renewal takes.
const NODES: Duration = Duration::from_secs(3600);
/// A request that was overtaken by a new root is signed again so often.
const AGAIN: usize = 4;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The request in PEM.
    pub csr: &'a str,
    /// Seconds.
    pub seconds: i64,
    /// Name of a signer, or empty.
    pub signer: &'a str,
    /// SPIFFE ID to ask for, or empty.
    pub impersonated: &'a str,
}

/// Everything that issuing needs.
pub struct Desk {
    /// The authenticators.
    pub callers: Callers,
    /// Where every certificate is recorded before it is handed out.
    pub ledger: Ledger,
    /// What signs now.
    pub signings: Signings,
    /// Host names of the control plane.
    pub plane: ControlPlane,
    /// How long certificates live.
    pub policy: Policy,
    /// Metrics.
    pub metrics: Metrics,
    /// Requests by caller; of those that ask for others, by their pod.
    pub limits: Mutex<Limits<(SpiffeId, String)>>,
    memory: Memory,
}

struct Memory {
    start: Instant,
    refusals: Mutex<Remembered<(SpiffeId, u64), ()>>,
    nodes: Mutex<Remembered<String, String>>,
}

/// The node that a certificate was issued to, of the entries about it: that it was revoked or lifted tells nothing of nodes.
fn node_of(found: Vec<Linked>) -> String {
    let mut entries = found.into_iter().map(|found| found.entry);
    let issued = entries.find(|entry| entry.event == Event::Issued);
    issued.map(|entry| entry.node).unwrap_or_default()
}

impl Desk {
    /// A desk.
    pub fn new(
        callers: Callers,
        signings: Signings,
        plane: ControlPlane,
        policy: Policy,
        limits: Limits<(SpiffeId, String)>,
    ) -> Desk {
        Desk {
            ledger: callers.ledger.clone(),
            metrics: callers.metrics.clone(),
            callers,
            signings,
            plane,
            policy,
            limits: Mutex::new(limits),
            memory: Memory {
                start: Instant::now(),
                refusals: Mutex::new(Remembered::new(REMEMBERED)),
                nodes: Mutex::new(Remembered::new(REMEMBERED)),
            },
        }
    }

    /// A certificate chain for whoever asks, the trust bundle last.
    ///
    /// # Errors
    /// What the client may hear of it; the log hears more.
    pub async fn serve(
        &self,
        peer: Option<&Peer>,
        address: IpAddr,
        metadata: &MetadataMap,
        wish: Wish<'_>,
    ) -> Result<Vec<String>, Status> {
        let started = Instant::now();
        self.metrics.asked();
        let now = OffsetDateTime::now_utc();
        let caller = self.know(peer, address, metadata, now).await?;
        // Before anybody else is asked on its behalf. Node agents share an identity, but not a pod.
        let pod = caller.pod.as_ref().map(|pod| pod.name.clone());
        let pod = pod.filter(|_| !wish.impersonated.is_empty());
        let who = (caller.identity.clone(), pod.unwrap_or_default());
        let verdict = self.limits.lock().take(who, self.memory.start.elapsed());
        if verdict != Verdict::Allowed {
            self.metrics.limited(verdict);
            return Err(Status::resource_exhausted(
                "too many requests, try again later",
            ));
        }
        let (identity, caller) = self.for_whom(caller, metadata, wish).await?;
        let caller = self.with_node(caller).await?;
        let chain = self.issue(&caller, &identity, wish, now).await?;
        self.metrics.issued(started.elapsed().as_secs_f64());
        Ok(chain)
    }

    /// Who asks.
    async fn know(
        &self,
        peer: Option<&Peer>,
        address: IpAddr,
        metadata: &MetadataMap,
        now: OffsetDateTime,
    ) -> Result<Caller, Status> {
        let known = self.callers.authenticate(peer, address, metadata, now);
        let caller = known.await.map_err(|attempts| {
            self.metrics.not_authenticated();
            tracing::info!(%address, reason = %attempts, "a caller is not known");
            if attempts.not_now() {
                Status::unavailable(NOT_AUTHENTICATED)
            } else {
                Status::unauthenticated(NOT_AUTHENTICATED)
            }
        })?;
        self.metrics.caller(caller.attestation.as_str());
        Ok(caller)
    }

    /// Whom the certificate is for: the caller, or whom it may ask for. And the caller with the node it was found on.
    async fn for_whom(
        &self,
        caller: Caller,
        metadata: &MetadataMap,
        wish: Wish<'_>,
    ) -> Result<(SpiffeId, Caller), Status> {
        if wish.impersonated.is_empty() {
            return Ok((caller.identity.clone(), caller));
        }
        let asked = self
            .callers
            .impersonate(&caller, wish.impersonated, metadata);
        let (identity, node) = asked.await.map_err(|reason| {
            self.metrics.not_authenticated();
            tracing::warn!(caller = %caller.identity, %reason, "a caller may not ask for somebody else");
            Status::unauthenticated(NOT_IMPERSONATED)
        })?;
        // Older clusters do not say it of a token: without, what is issued would not be found by the node.
        let node = Some(node);
        Ok((identity, Caller { node, ..caller }))
    }

    /// A caller that renews has no node of its own to show: its certificate was issued to one.
    async fn with_node(&self, mut caller: Caller) -> Result<Caller, Status> {
        let Some(serial) = caller.serial.clone().filter(|_| caller.node.is_none()) else {
            return Ok(caller);
        };
        let now = self.memory.start.elapsed();
        let known = self.memory.nodes.lock().get(&serial, now);
        let node = match known {
            Some(node) => node,
            None => {
                let query = Query {
                    serial: serial.clone(),
                    ..Query::default()
                };
                let found = self.ledger.journal(&query).await.map_err(|error| {
                    tracing::warn!(%error, "the journal cannot be read");
                    Status::unavailable("the journal cannot be read now, try again later")
                })?;
                let node = node_of(found);
                let mut nodes = self.memory.nodes.lock();
                nodes.put(serial, node.clone(), NODES, now);
                node
            }
        };
        caller.node = Some(node).filter(|node| !node.is_empty());
        Ok(caller)
    }

    /// Signs, records, and only then hands out.
    async fn issue(
        &self,
        caller: &Caller,
        identity: &SpiffeId,
        wish: Wish<'_>,
        now: OffsetDateTime,
    ) -> Result<Vec<String>, Status> {
        if let Some(revocation) = issue::revoked(&self.ledger.in_force().1, caller, identity) {
            return Err(self.revoked(caller, identity, revocation, now).await);
        }
        for _ in 0..AGAIN {
            let signing = self.signings.borrow().clone();
            let Some(signing) = signing else {
                return Err(self.refused(caller, &issue::Refused::NotReady));
            };
            let issued = self.sign(signing, caller, identity, wish, now).await;
            let Issued { chain, entry } = issued.map_err(|why| self.refused(caller, &why))?;
            match self.ledger.record_issued(entry, caller.token.clone()).await {
                Ok(()) => return Ok(chain),
                Err(RecordError::Overtaken) => self.next_signing().await,
                Err(RecordError::Revoked(revocation)) => {
                    return Err(self.revoked(caller, identity, revocation, now).await);
                }
                Err(RecordError::TokenUsed) => {
                    self.metrics.not_authenticated();
                    tracing::warn!(caller = %caller.identity, token = caller.requester, "a join token was used already");
                    return Err(Status::unauthenticated(NOT_AUTHENTICATED));
                }
                Err(RecordError::Store(error)) => {
                    self.metrics.not_signed("UNKNOWN");
                    tracing::warn!(%error, "a certificate is not handed out: the journal did not take it");
                    return Err(Status::unavailable(
                        "the certificate cannot be recorded now, try again later",
                    ));
                }
            }
        }
        Err(Status::unavailable(
            "the root changes at this moment, try again",
        ))
    }

    async fn sign(
        &self,
        signing: std::sync::Arc<Signing>,
        caller: &Caller,
        identity: &SpiffeId,
        wish: Wish<'_>,
        now: OffsetDateTime,
    ) -> Result<Issued, issue::Refused> {
        let random = rand::random();
        let policy = self.policy;
        let hosts = self.plane.hosts(identity);
        let request = Request {
            csr: wish.csr,
            seconds: wish.seconds,
            signer: wish.signer,
            caller,
            identity,
            hosts,
        };
        if !matches!(signing.authority.private_key().key_type(), KeyType::Rsa(_)) {
            // Shorter than it takes to hand it to another thread.
            return issue::issue(
                &signing.authority,
                &signing.bundle_pem,
                request,
                policy,
                random,
                now,
            );
        }
        let (csr, signer) = (wish.csr.to_owned(), wish.signer.to_owned());
        let (caller, identity, hosts) = (caller.clone(), identity.clone(), hosts.to_vec());
        let seconds = wish.seconds;
        let work = tokio::task::spawn_blocking(move || {
            let request = Request {
                csr: &csr,
                seconds,
                signer: &signer,
                caller: &caller,
                identity: &identity,
                hosts: &hosts,
            };
            let (authority, bundle) = (&signing.authority, &signing.bundle_pem);
            issue::issue(authority, bundle, request, policy, random, now)
        });
        work.await.unwrap_or_else(|error| {
            tracing::error!(%error, "signing broke off");
            Err(issue::Refused::NotReady)
        })
    }

    /// Another replica has changed what signs: waits for it, a moment at most.
    async fn next_signing(&self) {
        let mut signings = self.signings.clone();
        let _ = tokio::time::timeout(Duration::from_secs(2), signings.changed()).await;
    }

    fn refused(&self, caller: &Caller, why: &issue::Refused) -> Status {
        self.metrics.not_signed(why.kind());
        if why.is_parsing() {
            self.metrics.not_parsed();
        }
        tracing::info!(caller = %caller.identity, reason = %why, "a request is not signed");
        match why.status() {
            issue::Status::InvalidArgument => Status::invalid_argument(why.words()),
            issue::Status::Internal => Status::internal(why.words()),
        }
    }

    async fn revoked(
        &self,
        caller: &Caller,
        identity: &SpiffeId,
        revocation: u64,
        now: OffsetDateTime,
    ) -> Status {
        self.metrics.not_authenticated();
        tracing::warn!(caller = %caller.identity, %identity, revocation, "a caller that was revoked asks for a certificate");
        let elapsed = self.memory.start.elapsed();
        let fresh = {
            let key = (identity.clone(), revocation);
            let mut refusals = self.memory.refusals.lock();
            let fresh = refusals.get(&key, elapsed).is_none();
            refusals.put(key, (), QUIET, elapsed);
            fresh
        };
        if fresh {
            let entry = Entry {
                spiffe_id: identity.to_string(),
                requester: caller.requester.clone(),
                attestation: caller.attestation.as_str().to_owned(),
                node: caller.node.clone().unwrap_or_default(),
                replaces: caller.serial.clone().unwrap_or_default(),
                detail: format!("revocation {revocation} is in force"),
                ..Entry::new(now.unix_timestamp(), Event::Refused)
            };
            if let Err(error) = self.ledger.record(entry).await {
                tracing::warn!(%error, "a refusal is not in the journal");
            }
        }
        Status::unauthenticated(NOT_AUTHENTICATED)
    }
}

#[cfg(test)]
mod tests {
    use citadel_core::journal::{Position, chain};

    use super::*;

    #[test]
    fn a_certificate_keeps_its_node_whatever_became_of_it() {
        let entry = |event, node: &str| Entry {
            serial: "a1".into(),
            node: node.into(),
            ..Entry::new(1, event)
        };
        let mut found = chain(
            Position::START,
            [
                entry(Event::Issued, "n1"),
                entry(Event::Revoked, ""),
                entry(Event::Lifted, ""),
            ],
        );
        found.reverse();
        assert_eq!(node_of(found), "n1");
        assert_eq!(node_of(Vec::new()), "");
    }
}
