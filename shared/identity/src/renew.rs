//! Getting a certificate, and the next one in time.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::citadel::TrustBundle;
use pki::{BACKDATE, Bundle, Certificate, PrivateKey, Use, csr};
use service_kit::ready::Condition;
use service_kit::tls::{Identities, TlsIdentity, Trust, read_trust};
use service_kit::{Backoff, Ready, Stop};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use zeroize::Zeroizing;

use crate::ca_client::{Credential, Issued, SignError, token};
use crate::folder::{self, FolderError, Material};
use crate::follow::{Followed, follow};
use crate::options::{Proof, RenewOptions};

/// Keeps an identity: [`Renewer::run`] does it, the rest says what it has.
#[derive(Debug)]
pub struct Renewer {
    options: RenewOptions,
    out: Out,
}

/// What is told to others.
#[derive(Debug)]
pub(crate) struct Out {
    pub identity: watch::Sender<Option<Arc<TlsIdentity>>>,
    pub material: watch::Sender<Option<Arc<Material>>>,
    pub bundle: watch::Sender<Option<Arc<TrustBundle>>>,
}

impl Out {
    pub(crate) fn new() -> Out {
        Out {
            identity: watch::Sender::new(None),
            material: watch::Sender::new(None),
            bundle: watch::Sender::new(None),
        }
    }
}

impl Renewer {
    /// A renewer that has not begun.
    pub fn new(options: RenewOptions) -> Renewer {
        Renewer {
            options,
            out: Out::new(),
        }
    }

    /// The newest identity.
    pub fn identities(&self) -> Identities {
        self.out.identity.subscribe()
    }

    /// The newest key, chain and roots, for who must hand them on.
    pub fn material(&self) -> watch::Receiver<Option<Arc<Material>>> {
        self.out.material.subscribe()
    }

    /// Citadel's trust bundle, as it was heard last.
    pub fn bundle(&self) -> watch::Receiver<Option<Arc<TrustBundle>>> {
        self.out.bundle.subscribe()
    }

    /// Gets, keeps and renews the identity until `stop`, however long Citadel is away. The condition `identity` of `ready` is met while there
    /// is a certificate that is valid.
    pub async fn run(self, ready: Ready, stop: Stop) {
        let (believed, known) = watch::channel(None);
        let (bundles, followed) = watch::channel(None);
        let follower = follow(
            self.options.ca.clone(),
            self.options.id.trust_domain().clone(),
            known,
            bundles,
            stop.clone(),
        );
        let waits_for = format!(
            "a certificate from Citadel at {}",
            self.options.ca.address()
        );
        let keeper = Keeper {
            condition: ready.condition("identity", waits_for.clone()),
            waits_for,
            ready,
            backoff: Backoff::new(self.options.retry.0, self.options.retry.1),
            options: self.options,
            out: self.out,
            believed,
            held: None,
            early: None,
            failed: None,
            not_before: Instant::now(),
            refused_token: None,
        };
        tokio::join!(follower, keeper.run(followed, stop));
    }
}

/// A certificate that is held.
struct Held {
    material: Material,
    identity: Arc<TlsIdentity>,
    /// When it came, or what is nearest to that.
    received: OffsetDateTime,
    /// What decides when exactly it is renewed, -1..=1.
    jitter: f64,
}

struct Keeper {
    options: RenewOptions,
    out: Out,
    ready: Ready,
    condition: Condition,
    waits_for: String,
    /// Whom we believe, for the follower.
    believed: watch::Sender<Option<Arc<Trust>>>,
    held: Option<Held>,
    /// Renew at this time, because another root signs now.
    early: Option<Instant>,
    /// Why the last attempt failed.
    failed: Option<String>,
    backoff: Backoff,
    /// No attempt before this.
    not_before: Instant,
    /// The join token that was of no use, or is used up.
    refused_token: Option<Zeroizing<String>>,
}

impl Keeper {
    async fn run(mut self, mut followed: watch::Receiver<Option<Followed>>, stop: Stop) {
        self.load().await;
        loop {
            self.tell_state();
            let due = self.due();
            // The clock may jump, so that sleeping until then is not enough.
            let wake = due.min(Instant::now() + self.options.recheck);
            tokio::select! {
                () = stop.wait() => return,
                Ok(()) = followed.changed() => {
                    let newest = followed.borrow_and_update().clone();
                    if let Some(newest) = newest {
                        self.take_bundle(newest).await;
                    }
                }
                () = sleep_until(wake) => {
                    if self.due() <= Instant::now() {
                        tokio::select! {
                            () = stop.wait() => return,
                            () = self.renew() => {}
                        }
                    }
                }
            }
        }
    }

    /// When the next attempt is due.
    fn due(&self) -> Instant {
        let now = Instant::now();
        let wait = match &self.held {
            None => Duration::ZERO,
            Some(held) => self.remaining(held),
        };
        let due = now + wait;
        let due = self.early.map_or(due, |early| due.min(early));
        due.max(self.not_before)
    }

    fn remaining(&self, held: &Held) -> Duration {
        let now = self.options.clock.now();
        if !self.counts(held, now) {
            return Duration::ZERO;
        }
        let not_after = held.identity.certificate().not_after();
        self.options
            .renewal
            .delay(held.received, not_after, held.jitter, now)
    }

    /// Whether others believe the certificate, if they believe whom we do.
    fn counts(&self, held: &Held, now: OffsetDateTime) -> bool {
        let identity = &held.identity;
        verifies(identity, identity.trust(), now).is_ok()
    }

    /// What the folder has from the last time.
    async fn load(&mut self) {
        let path = self.options.folder.clone();
        let read = tokio::task::spawn_blocking(move || {
            let material = folder::read(&path)?;
            let identity = material.identity()?;
            Ok::<_, FolderError>((material, identity))
        });
        let (material, identity) = match read.await {
            Ok(Ok(found)) => found,
            Ok(Err(FolderError::Missing { .. })) => return,
            Ok(Err(FolderError::Io { error, .. }))
                if error.kind() == std::io::ErrorKind::NotFound =>
            {
                return;
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the certificate that was kept cannot be used");
                return;
            }
            Err(_) => return,
        };
        if *identity.id() != self.options.id {
            tracing::warn!(kept = %identity.id(), wanted = %self.options.id, "the certificate that was kept is somebody else's");
            return;
        }
        let received = identity.certificate().not_before() + BACKDATE;
        tracing::info!(id = %identity.id(), not_after = %identity.certificate().not_after(), "going on with the certificate that was kept");
        self.hold(material, identity, received);
    }

    fn hold(&mut self, material: Material, identity: TlsIdentity, received: OffsetDateTime) {
        let identity = Arc::new(identity);
        self.believed.send_replace(Some(identity.trust().clone()));
        self.out
            .material
            .send_replace(Some(Arc::new(material.clone())));
        self.out.identity.send_replace(Some(identity.clone()));
        self.held = Some(Held {
            material,
            identity,
            received,
            jitter: rand::RngExt::random_range(&mut rand::rng(), -1.0..=1.0),
        });
    }

    /// Another trust: told at once, and perhaps our certificate is not long for this world.
    async fn take_bundle(&mut self, followed: Followed) {
        self.out.bundle.send_replace(Some(followed.bundle.clone()));
        self.believed.send_replace(Some(followed.trust.clone()));
        let Some(held) = &mut self.held else {
            return;
        };
        if **held.identity.trust() != *followed.trust {
            held.material.roots = followed.bundle.roots.concat();
            held.material.crls = followed.bundle.crls.concat();
            held.identity = Arc::new(held.identity.with_trust(followed.trust));
            let material = Arc::new(held.material.clone());
            let identity = held.identity.clone();
            self.keep(material.clone()).await;
            self.out.material.send_replace(Some(material));
            self.out.identity.send_replace(Some(identity));
        }
        self.look_for_another_root();
    }

    /// If another root signs now than did our certificate, it is renewed soon.
    fn look_for_another_root(&mut self) {
        let bundle = self.out.bundle.borrow().clone();
        let (Some(held), Some(bundle)) = (&self.held, bundle) else {
            return;
        };
        let signed_by = root_of(&held.material);
        let other = !bundle.signing.is_empty()
            && signed_by.is_some_and(|ours| !ours.eq_ignore_ascii_case(&bundle.signing));
        if !other {
            self.early = None;
        } else if self.early.is_none() {
            let share = rand::RngExt::random_range(&mut rand::rng(), 0.0..=1.0);
            let wait = self.options.spread.mul_f64(share);
            tracing::info!(
                ?wait,
                "another root signs now: the certificate is renewed soon"
            );
            self.early = Some(Instant::now() + wait);
        }
    }

    async fn keep(&self, material: Arc<Material>) {
        let path = self.options.folder.clone();
        let written = tokio::task::spawn_blocking(move || folder::write(&path, &material));
        match written.await {
            Ok(Ok(())) => self.ready.clear_note("identity-folder"),
            Ok(Err(error)) => {
                tracing::error!(%error, "the certificate cannot be kept: after a restart there will be none");
                self.ready
                    .note("identity-folder", format!("not kept: {error}"));
            }
            Err(_) => tracing::error!("keeping the certificate failed"),
        }
    }

    /// One attempt.
    async fn renew(&mut self) {
        match self.try_renew().await {
            Ok((material, identity)) => {
                tracing::info!(
                    id = %identity.id(),
                    serial = %identity.certificate().serial(),
                    not_after = %identity.certificate().not_after(),
                    "new certificate"
                );
                self.early = None;
                self.failed = None;
                let received = self.options.clock.now();
                // Kept first: whoever hears of it may look into the folder.
                self.keep(Arc::new(material.clone())).await;
                self.hold(material, identity, received);
                // One that is due at once, as our clock is wrong, would be renewed again and again.
                let due_at_once = |held| self.remaining(held).is_zero();
                self.not_before = Instant::now()
                    + if self.held.as_ref().is_some_and(due_at_once) {
                        self.backoff.next_delay()
                    } else {
                        self.backoff.reset();
                        self.options.retry.0
                    };
                self.look_for_another_root();
            }
            Err(reason) => {
                let wait = self.backoff.next_delay();
                tracing::warn!(error = reason, ?wait, "no certificate, trying again");
                self.not_before = Instant::now() + wait;
                self.failed = Some(reason);
            }
        }
    }

    async fn try_renew(&mut self) -> Result<(Material, TlsIdentity), String> {
        let (key_type, id) = (self.options.key_type, self.options.id.clone());
        let made = tokio::task::spawn_blocking(move || {
            let key = PrivateKey::generate(key_type)?;
            let request = csr::create(&key, &id)?;
            Ok::<_, pki::KeyError>((key, request))
        });
        let (key, request) = match made.await {
            Ok(Ok(made)) => made,
            Ok(Err(error)) => return Err(format!("no key: {error}")),
            Err(_) => return Err("no key: making it failed".into()),
        };
        let issued = self.sign(&request).await?;
        let trust = self.trust_of(&issued)?;
        let material = Material {
            key: key.to_pkcs8_pem(),
            chain: issued.chain,
            roots: issued.roots,
            crls: String::new(),
        };
        let mut identity = material
            .identity_with(trust)
            .map_err(|error| format!("Citadel's answer: {error}"))?;
        if *identity.id() != self.options.id {
            return Err(format!(
                "Citadel takes us for {}, and we are {}; check --service-account, --namespace, --trust-domain and the token",
                identity.id(),
                self.options.id
            ));
        }
        let now = self.options.clock.now();
        if let Err(error) = verifies(&identity, identity.trust(), now) {
            let certificate = identity.certificate();
            if certificate.not_before() > now || certificate.not_after() < now {
                // Others' clocks may be right: it is used all the same.
                tracing::error!(%error, "our clock and Citadel's disagree");
            } else {
                return Err(format!("Citadel's answer does not hold: {error}"));
            }
        }
        // The bundle that was heard counts, with what it says of revocations, unless it is too old for the certificate: the roots of the
        // answer have no number, and may be those of a replica that lags.
        let mut material = material;
        if let Some(bundle) = &*self.out.bundle.borrow() {
            let (roots, crls) = (bundle.roots.concat(), bundle.crls.concat());
            let issued = identity.certificate().not_before() + BACKDATE;
            if let Ok(trust) = read_trust(self.options.id.trust_domain().clone(), &roots, &crls)
                && verifies(&identity, &trust, issued).is_ok()
            {
                (material.roots, material.crls) = (roots, crls);
                identity = identity.with_trust(Arc::new(trust));
            }
        }
        Ok((material, identity))
    }

    fn trust_of(&self, issued: &Issued) -> Result<Arc<Trust>, String> {
        let domain = self.options.id.trust_domain().clone();
        let trust = read_trust(domain, &issued.roots, "");
        Ok(Arc::new(
            trust.map_err(|error| format!("Citadel's answer: {error}"))?,
        ))
    }

    /// Asks with whatever shows who we are, one after the other.
    async fn sign(&mut self, request: &str) -> Result<Issued, String> {
        let ours = self.held.as_ref().map(|held| held.identity.clone());
        let ours = ours.map(Credential::Certificate);
        match self.options.proof.clone() {
            Proof::TokenFile(path) => self.ask(request, &Credential::TokenFile(path)).await,
            Proof::Folder(path) => self.ask(request, &Credential::Folder(path)).await,
            Proof::Certificate => match ours {
                Some(ours) => self.ask(request, &ours).await,
                None => Err(format!(
                    "there is no certificate in {} to begin with; make one with `flotilla ca enroll`, or give --ca-token-file or --join-token-file",
                    self.options.folder.display()
                )),
            },
            Proof::JoinTokenFile(path) => {
                let refused = match ours {
                    Some(ours) => match self.ask(request, &ours).await {
                        Ok(issued) => return Ok(issued),
                        Err(error) => Some(error),
                    },
                    None => None,
                };
                self.join(request, &path, refused).await
            }
        }
    }

    /// With the join token, unless it is known to be of no use.
    async fn join(
        &mut self,
        request: &str,
        path: &std::path::Path,
        refused: Option<String>,
    ) -> Result<Issued, String> {
        let token = token(path).await.map_err(|error| error.to_string())?;
        let fresh = token.filter(|token| self.refused_token.as_ref() != Some(token));
        let Some(token) = fresh else {
            return Err(refused.unwrap_or_else(|| {
                format!(
                    "there is no fresh join token in {}; make one with `flotilla ca token create`",
                    path.display()
                )
            }));
        };
        let known = self.believed.borrow().clone();
        let (ca, ttl) = (&self.options.ca, self.options.ttl);
        let credential = Credential::Token(token.clone());
        let outcome = ca.sign(request, ttl, &credential, known.as_ref()).await;
        if matches!(outcome, Ok(_) | Err(SignError::Refused { .. })) {
            self.refused_token = Some(token);
        }
        outcome.map_err(|error| match error {
            SignError::Refused { .. } => {
                format!("{error}; the join token is used up, expired or of somebody else: make another one with `flotilla ca token create`")
            }
            other => other.to_string(),
        })
    }

    async fn ask(&self, request: &str, credential: &Credential) -> Result<Issued, String> {
        let known = self.believed.borrow().clone();
        let (ca, ttl) = (&self.options.ca, self.options.ttl);
        let outcome = ca.sign(request, ttl, credential, known.as_ref()).await;
        outcome.map_err(|error| error.to_string())
    }

    /// Says in `/ready` how it stands.
    fn tell_state(&self) {
        let now = self.options.clock.now();
        let because = |text: String| match &self.failed {
            Some(reason) => format!("{text}: {reason}"),
            None => text,
        };
        match &self.held {
            None => self.condition.unmet(because(self.waits_for.clone())),
            Some(held) => {
                let not_after = held.identity.certificate().not_after();
                if not_after < now {
                    self.condition
                        .unmet(because(format!("the certificate expired at {not_after}")));
                } else {
                    self.condition.met();
                }
                match &self.failed {
                    Some(reason) => {
                        let text = format!("not renewed, valid until {not_after}: {reason}");
                        self.ready.note("identity", text);
                    }
                    None => self.ready.clear_note("identity"),
                }
            }
        }
    }
}

/// Whether the chain shows its identity, as a client's and as a server's.
fn verifies(
    identity: &TlsIdentity,
    trust: &Trust,
    now: OffsetDateTime,
) -> Result<(), pki::VerifyError> {
    if let Some((leaf, rest)) = identity.chain().split_first() {
        trust.verify(leaf, rest, Use::Client, now)?;
        trust.verify(leaf, rest, Use::Server, now)?;
    }
    Ok(())
}

/// Fingerprint of the root that signed the chain, directly or through others.
fn root_of(material: &Material) -> Option<String> {
    let chain = Certificate::all_from_pem(&material.chain).ok()?;
    let roots = Bundle::from_pem(&material.roots).ok()?;
    let signed = |root: &&Certificate| chain.iter().any(|one| root.signed(one));
    let found = roots.roots().iter().find(signed);
    found.map(Certificate::fingerprint)
}
