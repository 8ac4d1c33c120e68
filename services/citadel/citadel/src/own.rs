//! Citadel's own identity: issued by itself, and again when half of its life is over or another root signs.

use std::sync::Arc;
use std::time::Duration;

use citadel_core::issue::{self, Policy, Request};
use citadel_core::names::{CITADEL, ControlPlane};
use citadel_core::policy::{Attestation, Caller};
use mesh_api::citadel::TrustBundle;
use mesh_types::SpiffeId;
use pki::{KeyType, PrivateKey, Renewal, csr};
use service_kit::tls::{Identities, TlsIdentity, Trust, read_trust};
use service_kit::{Backoff, Ready, Stop};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::ledger::{Ledger, Query};
use crate::roots::{Bundles, Signing, Signings};

/// Where Citadel's own identity is found once there is one: the bus may need it before Citadel runs.
#[derive(Debug, Clone, Default)]
pub struct OwnIdentity(watch::Sender<Option<Arc<TlsIdentity>>>);

impl OwnIdentity {
    /// The identity, now and later.
    pub fn identities(&self) -> Identities {
        self.0.subscribe()
    }
}

/// What a certificate of our own is made with.
pub struct Own {
    /// Our names.
    pub plane: ControlPlane,
    /// How long it lives.
    pub policy: Policy,
    /// The journal.
    pub ledger: Ledger,
    /// Name of this replica: the node of its certificates in the journal, by which its successor finds the one to replace.
    pub replica: String,
    /// Where it goes.
    pub identity: OwnIdentity,
}

/// Keeps our identity in date until `stop`.
pub async fn keep(
    own: Own,
    mut signings: Signings,
    mut bundles: Bundles,
    ready: Ready,
    stop: Stop,
) {
    let condition = ready.condition("identity", "our own certificate");
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    // Under which key, and when it is renewed.
    let mut held: Option<(String, tokio::time::Instant)> = None;
    loop {
        let signing = signings.borrow_and_update().clone();
        let bundle = bundles.borrow_and_update().clone();
        let mut wait = Duration::from_secs(3600);
        if let (Some(signing), Some(bundle)) = (signing, bundle) {
            let signer = signing.issuer.clone();
            let due = held
                .as_ref()
                .is_none_or(|(of, at)| *of != signer || *at <= tokio::time::Instant::now());
            let outcome = if due {
                own.renew(&signing, &bundle)
                    .await
                    .map(|delay| held = Some((signer, tokio::time::Instant::now() + delay)))
            } else {
                own.retrust(&bundle)
            };
            match outcome {
                Ok(()) => {
                    backoff.reset();
                    condition.met();
                    ready.clear_note("identity");
                    if let Some((_, at)) = &held {
                        wait = at.saturating_duration_since(tokio::time::Instant::now());
                    }
                }
                Err(reason) => {
                    wait = backoff.next_delay();
                    tracing::warn!(%reason, again_in = ?wait, "our own certificate is not renewed");
                    ready.note(
                        "identity",
                        format!("our own certificate is not renewed: {reason}"),
                    );
                }
            }
        }
        tokio::select! {
            () = stop.wait() => return,
            changed = signings.changed() => if changed.is_err() { return stop.wait().await },
            changed = bundles.changed() => if changed.is_err() { return stop.wait().await },
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl Own {
    /// A new key and certificate; says after which time it is due again.
    async fn renew(&self, signing: &Signing, bundle: &TrustBundle) -> Result<Duration, String> {
        let words = |error: &dyn std::fmt::Display| error.to_string();
        let id = self.plane.id(CITADEL).map_err(|error| words(&error))?;
        let key = PrivateKey::generate(KeyType::EcP256).map_err(|error| words(&error))?;
        let csr = csr::create(&key, &id).map_err(|error| words(&error))?;
        let caller = Caller {
            requester: id.to_string(),
            attestation: Attestation::Own,
            node: Some(self.replica.clone()),
            pod: None,
            serial: self.last(&id).await?,
            token: None,
            identity: id,
        };
        let request = Request {
            csr: &csr,
            seconds: 0,
            signer: "",
            caller: &caller,
            identity: &caller.identity,
            hosts: self.plane.hosts(&caller.identity),
        };
        let now = OffsetDateTime::now_utc();
        let (authority, roots) = (&signing.authority, &signing.bundle_pem);
        let issued = issue::issue(authority, roots, request, self.policy, rand::random(), now);
        let issued = issued.map_err(|error| words(&error))?;
        let not_after = OffsetDateTime::from_unix_timestamp(issued.entry.not_after);
        let not_after = not_after.map_err(|error| words(&error))?;
        let recorded = self.ledger.record_issued(issued.entry, None).await;
        recorded.map_err(|error| words(&error))?;
        let (_, chain) = issued.chain.split_last().ok_or("no chain")?;
        let trust = Arc::new(trust(bundle)?);
        let identity = TlsIdentity::new(&chain.concat(), &key.to_pkcs8_pem(), trust);
        let identity = identity.map_err(|error| words(&error))?;
        self.identity.0.send_replace(Some(Arc::new(identity)));
        let random = rand::RngExt::random_range(&mut rand::rng(), -1.0..=1.0);
        tracing::info!(id = %caller.identity, until = %not_after, "our own certificate is issued");
        Ok(Renewal::default().delay(now, not_after, random, now))
    }

    /// The certificate that this one replaces: a rotation of the root waits for those that nothing replaces.
    async fn last(&self, id: &SpiffeId) -> Result<Option<String>, String> {
        let query = Query {
            spiffe_id: id.to_string(),
            node: self.replica.clone(),
            limit: 1,
            ..Query::default()
        };
        let found = self.ledger.journal(&query).await;
        let found = found.map_err(|error| error.to_string())?;
        Ok(found.into_iter().next().map(|found| found.entry.serial))
    }

    /// The same certificate with the newest trust.
    fn retrust(&self, bundle: &TrustBundle) -> Result<(), String> {
        let trust = trust(bundle)?;
        self.identity.0.send_if_modified(|identity| match identity {
            Some(held) if **held.trust() != trust => {
                *held = Arc::new(held.with_trust(Arc::new(trust)));
                true
            }
            _ => false,
        });
        Ok(())
    }
}

fn trust(bundle: &TrustBundle) -> Result<Trust, String> {
    let domain = bundle.trust_domain.parse();
    let domain = domain.map_err(|error: mesh_types::SpiffeError| error.to_string())?;
    read_trust(domain, &bundle.roots.concat(), &bundle.crls.concat())
        .map_err(|error| error.to_string())
}
