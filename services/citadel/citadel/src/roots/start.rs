//! Starting: of replicas that find nothing, one makes what all use.

use std::sync::Arc;

use citadel_core::journal::{Entry, Event};
use citadel_core::rotation::State;
use parking_lot::Mutex;
use pki::{Authority, PrivateKey, Serial};
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};

use super::{Change, Clock, Plugged, Roots, RootsConfig, RootsError, compose, folder};
use crate::ledger::{Ledger, Mode, Trust};

impl Roots {
    /// Reads the folder and what is shared; makes a root if there is none.
    ///
    /// # Errors
    /// [`RootsError::is_transient`] says whether trying again may help; anything else is for an operator.
    pub async fn start(
        config: RootsConfig,
        ledger: Ledger,
        clock: Clock,
    ) -> Result<Arc<Self>, RootsError> {
        let plugged = read_folder(&config, clock()).await?.map(Arc::new);
        let holder = format!("{}/{:016x}", config.replica, rand::random::<u64>());
        let roots = Arc::new(Self {
            config,
            ledger,
            clock,
            holder,
            plugged: Mutex::new(plugged),
            shared: watch::Sender::default(),
            signings: watch::Sender::default(),
            bundles: watch::Sender::default(),
            lease: watch::Sender::default(),
            nudge: Notify::new(),
            refused_reloads: std::sync::atomic::AtomicU64::default(),
            withheld: Mutex::default(),
        });
        let plugged = roots.plugged.lock().clone();
        // Made once, however often another replica is faster.
        let fresh = std::sync::OnceLock::new();
        roots
            .change(|before| roots.first(before, plugged.as_deref(), &fresh))
            .await?;
        Ok(roots)
    }

    /// What a replica that starts changes of what is shared.
    fn first(
        &self,
        before: Option<&Trust>,
        plugged: Option<&Plugged>,
        fresh: &std::sync::OnceLock<Authority>,
    ) -> Result<Option<Change>, RootsError> {
        let now = self.now();
        match (before, plugged) {
            (None, None) => {
                let root = match fresh.get() {
                    Some(root) => root,
                    None => {
                        let made = self.make_root(now)?;
                        fresh.get_or_init(|| made)
                    }
                };
                let row = compose::row(root.certificate(), Some(root.private_key()), now);
                let detail = format!("root {} is made, and signs", row.fingerprint);
                Ok(Some(Change {
                    mode: Mode::SelfSigned,
                    state: State::new(row.fingerprint.clone(), now),
                    roots: vec![row],
                    destroy: Vec::new(),
                    entries: vec![self.note(detail, now)],
                }))
            }
            (None, Some(plugged)) => {
                let mut state = State::new(plugged.root.fingerprint(), now);
                let all = plugged.authority.roots().roots();
                state.trusted = all.iter().map(pki::Certificate::fingerprint).collect();
                let detail = format!(
                    "the plugged-in authority {} signs, under root {}",
                    plugged.authority.certificate().fingerprint(),
                    state.signing
                );
                Ok(Some(Change {
                    mode: Mode::PluggedIn,
                    state,
                    roots: all
                        .iter()
                        .map(|root| compose::row(root, None, now))
                        .collect(),
                    destroy: Vec::new(),
                    entries: vec![self.note(detail, now)],
                }))
            }
            (Some(before), None) if before.mode == Mode::PluggedIn => {
                let folder = self.config.folder.as_ref();
                Err(RootsError::Unplugged(folder.map_or_else(
                    || "no folder".to_owned(),
                    |folder| folder.display().to_string(),
                )))
            }
            (Some(before), None) => Ok(reseal(before)),
            (Some(before), Some(plugged)) => Ok(self.join(before, plugged, now)),
        }
    }

    /// Makes what a plugged-in authority leads to trusted, beside what is; `None`: it is.
    pub(super) fn join(
        &self,
        before: &Trust,
        plugged: &Plugged,
        now: OffsetDateTime,
    ) -> Option<Change> {
        let all = plugged.authority.roots().roots();
        let known = |root: &pki::Certificate| before.state.trusted.contains(&root.fingerprint());
        let entering = before.mode == Mode::SelfSigned;
        if !entering && known(&plugged.root) {
            return None;
        }
        let mut state = State {
            trusted: before.state.trusted.clone(),
            ..State::new(plugged.root.fingerprint(), now)
        };
        state
            .trusted
            .extend(all.iter().map(pki::Certificate::fingerprint));
        let detail = format!(
            "the plugged-in authority {} signs, under root {}; {} are trusted",
            plugged.authority.certificate().fingerprint(),
            state.signing,
            state.trusted.iter().cloned().collect::<Vec<_>>().join(", ")
        );
        let rows = all
            .iter()
            .filter(|root| !before.roots.contains_key(&root.fingerprint()));
        Some(Change {
            mode: Mode::PluggedIn,
            state,
            roots: rows.map(|root| compose::row(root, None, now)).collect(),
            destroy: Vec::new(),
            entries: vec![self.note(detail, now)],
        })
    }

    /// A new self-signed root.
    pub(crate) fn make_root(&self, now: OffsetDateTime) -> Result<Authority, RootsError> {
        let made = |error: &dyn std::fmt::Display| RootsError::Made(error.to_string());
        let key = PrivateKey::generate(self.config.key_type).map_err(|error| made(&error))?;
        let serial = Serial::from_random(rand::random());
        Authority::self_signed(
            key,
            &self.config.trust_domain,
            self.config.root_life,
            serial,
            now,
        )
        .map_err(|error| made(&error))
    }

    pub(super) fn note(&self, detail: String, now: OffsetDateTime) -> Entry {
        Entry {
            requester: format!("replica {}", self.config.replica),
            detail,
            ..Entry::new(now.unix_timestamp(), Event::Rotation)
        }
    }
}

/// Keys that lie open though they are to be sealed are kept anew.
fn reseal(before: &Trust) -> Option<Change> {
    before.unsealed.then(|| Change {
        mode: before.mode,
        state: before.state.clone(),
        roots: before
            .roots
            .values()
            .filter(|row| row.private_key.is_some())
            .cloned()
            .collect(),
        destroy: Vec::new(),
        entries: Vec::new(),
    })
}

/// Reads the folder off the async workers.
pub(super) async fn read_folder(
    config: &RootsConfig,
    now: OffsetDateTime,
) -> Result<Option<Plugged>, folder::FolderError> {
    let Some(path) = config.folder.clone() else {
        return Ok(None);
    };
    let (ca_crl, trust_domain) = (config.ca_crl, config.trust_domain.clone());
    let read = tokio::task::spawn_blocking(move || folder::read(&path, ca_crl, &trust_domain, now));
    match read.await {
        Ok(read) => read,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
