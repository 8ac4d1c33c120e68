//! Who is asking: the authenticators, one after the other, with what they need of files and other servers.

pub mod jwks;
pub mod kubernetes;

use std::net::IpAddr;
use std::num::NonZeroU32;

use citadel_core::limits::{Limits, Rate};
use citadel_core::policy::impersonation::{self, ImpersonationRefusal, TrustedAccounts};
use citadel_core::policy::jwt::{self, JwtRule};
use citadel_core::policy::kubernetes::Clusters;
use citadel_core::policy::{
    self, Attempts, Attestation, Bearer, Caller, JoinToken, Refusal, Token, bearer,
};
use citadel_core::revocation::serial_form;
use mesh_types::{SpiffeId, TrustDomain};
use parking_lot::Mutex;
use service_kit::tls::Peer;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use crate::ledger::{Ledger, TokenError};
use crate::metrics::Metrics;
use jwks::Keys;
use kubernetes::Reviewer;

/// Join tokens that are none which one address may send.
const WRONG: Rate = Rate {
    per_second: NonZeroU32::new(20).unwrap(),
    burst: NonZeroU32::new(500).unwrap(),
};

/// Addresses whose wrong join tokens are counted.
const ADDRESSES: usize = 10_000;

/// Join tokens that are looked up at once: whoever makes them up must not take every connection to the database.
const AT_ONCE: usize = 2;

/// What keeps made-up join tokens from the database.
pub struct Guesses {
    wrong: Mutex<Limits<IpAddr>>,
    places: Semaphore,
    start: Instant,
}

impl Default for Guesses {
    fn default() -> Guesses {
        Guesses {
            wrong: Mutex::new(Limits::new(WRONG, None, ADDRESSES)),
            places: Semaphore::new(AT_ONCE),
            start: Instant::now(),
        }
    }
}

impl Guesses {
    /// Whether a token of this address is looked up.
    fn allow(&self, address: IpAddr) -> bool {
        self.wrong.lock().would_take(&address, self.start.elapsed())
    }

    /// One was none.
    fn wrong(&self, address: IpAddr) {
        self.wrong.lock().take(address, self.start.elapsed());
    }
}

/// Every authenticator that is configured.
pub struct Callers {
    /// Ours.
    pub trust_domain: TrustDomain,
    /// Its other names.
    pub aliases: Vec<TrustDomain>,
    /// Where join tokens are kept.
    pub ledger: Ledger,
    /// Who sent join tokens that are none.
    pub guesses: Guesses,
    /// The issuer whose JWTs are taken, and its keys.
    pub jwt: Option<(JwtRule, Keys)>,
    /// The Kubernetes API server.
    pub reviewer: Option<Reviewer>,
    /// The names of its cluster.
    pub clusters: Clusters,
    /// Who may ask for others.
    pub trusted: TrustedAccounts,
    /// Counts certificates without a usable identity.
    pub metrics: Metrics,
}

impl Callers {
    /// The caller, or everything that was tried.
    ///
    /// # Errors
    /// Nobody knows the caller.
    pub async fn authenticate(
        &self,
        peer: Option<&Peer>,
        address: IpAddr,
        metadata: &MetadataMap,
        now: OffsetDateTime,
    ) -> Result<Caller, Attempts> {
        let mut attempts = Attempts::default();
        if let Some(peer) = peer {
            let serial = serial_form(&peer.certificate.serial().to_string()).unwrap_or_default();
            match policy::certificate(&peer.id, serial, &self.trust_domain) {
                Ok(caller) => return Ok(caller),
                Err(why) => {
                    self.metrics.not_extracted();
                    attempts.refused(Attestation::ClientCertificate, why);
                }
            }
        }
        let values = metadata.get_all("authorization").iter();
        let values: Vec<&[u8]> = values.map(|value| value.as_encoded_bytes()).collect();
        match bearer(values) {
            Err(why) => attempts.malformed(why),
            Ok(None) => {}
            Ok(Some(Bearer::Join(token))) => match self.join(&token, address, now).await {
                Ok(caller) => return Ok(caller),
                Err(why) => attempts.refused(Attestation::JoinToken, why),
            },
            Ok(Some(Bearer::Other(token))) => {
                match self
                    .token(&token, address, metadata, now, &mut attempts)
                    .await
                {
                    Some(caller) => return Ok(caller),
                    None => return Err(attempts),
                }
            }
        }
        Err(attempts)
    }

    /// Whoever a join token was made for. It is used up later, with the certificate's entry in the journal.
    async fn join(
        &self,
        token: &JoinToken,
        address: IpAddr,
        now: OffsetDateTime,
    ) -> Result<Caller, Refusal> {
        let unknown = || Refusal::JoinToken(token.id().to_owned());
        let guesses = &self.guesses;
        // The semaphore is never closed.
        let place = guesses.places.acquire().await;
        let place = place.map_err(|error| Refusal::NotNow(error.to_string()))?;
        // After waiting: of those that came at once, the first may have been wrong.
        if !guesses.allow(address) {
            self.metrics.limited_address();
            return Err(Refusal::NotNow(format!(
                "{address} sends too many join tokens that are none"
            )));
        }
        let found = self.ledger.redeem_token(token.expose(), now).await;
        drop(place);
        let grant = found.map_err(|error| match error {
            TokenError::Store(error) => {
                Refusal::NotNow(format!("join tokens cannot be looked up: {error}"))
            }
            TokenError::Invalid | TokenError::TooMany => {
                guesses.wrong(address);
                unknown()
            }
        })?;
        let identity = SpiffeId::parse(&grant.spiffe_id).map_err(|_| unknown())?;
        policy::join(&identity, grant.id, grant.node, &self.trust_domain)
    }

    /// A token of the configured issuer, or one that the API server knows.
    async fn token(
        &self,
        token: &Token,
        address: IpAddr,
        metadata: &MetadataMap,
        now: OffsetDateTime,
        attempts: &mut Attempts,
    ) -> Option<Caller> {
        if let Some((rule, keys)) = &self.jwt {
            let keys = keys.borrow().clone();
            let answer = match keys {
                Some(keys) => jwt::authenticate(token, rule, &keys, &self.trust_domain, now),
                None => Err(Refusal::NotNow(
                    "the issuer's keys are not known yet".into(),
                )),
            };
            match answer {
                Ok(caller) => return Some(caller),
                Err(why) => attempts.refused(Attestation::Jwt, why),
            }
        }
        if let Some(reviewer) = &self.reviewer {
            let answer = match self.clusters.choose(&clusters(metadata)) {
                Ok(_) => reviewer.authenticate(token, address).await,
                Err(why) => Err(why),
            };
            match answer {
                Ok(caller) => return Some(caller),
                Err(why) => attempts.refused(Attestation::Kubernetes, why),
            }
        }
        None
    }

    /// The identity that the caller asks for, if it may, and the node of both.
    ///
    /// # Errors
    /// See [`ImpersonationRefusal`].
    pub async fn impersonate(
        &self,
        caller: &Caller,
        requested: &str,
        metadata: &MetadataMap,
    ) -> Result<(SpiffeId, String), ImpersonationRefusal> {
        let cluster = self.clusters.choose(&clusters(metadata));
        let cluster = cluster.map_err(|_| ImpersonationRefusal::Cluster)?;
        let domains: Vec<TrustDomain> = std::iter::once(&self.trust_domain)
            .chain(&self.aliases)
            .cloned()
            .collect();
        let wanted = impersonation::target(caller, requested, cluster, &self.trusted, &domains)?;
        let Some(reviewer) = &self.reviewer else {
            return Err(ImpersonationRefusal::NotConfigured);
        };
        let (Some(pod), Some(own)) = (&caller.pod, caller.identity.workload()) else {
            return Err(ImpersonationRefusal::NotAPod);
        };
        let not_now = ImpersonationRefusal::NotNow;
        let api = &reviewer.api;
        let found = api.pod(own.namespace(), &pod.name).await.map_err(not_now)?;
        let node = impersonation::node(caller, found.as_ref())?;
        let pods = api.pods(wanted.namespace(), wanted.service_account(), node);
        let identity = impersonation::authorize(&wanted, node, &pods.await.map_err(not_now)?)?;
        Ok((identity, node.to_owned()))
    }
}

/// Values of `clusterid`; what is no text is no cluster's name.
fn clusters(metadata: &MetadataMap) -> Vec<&str> {
    metadata
        .get_all("clusterid")
        .iter()
        .map(|value| value.to_str().unwrap_or("?"))
        .collect()
}
