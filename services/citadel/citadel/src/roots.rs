//! The roots of this replica: which key signs here, what the bundle says, and how both follow what all replicas share.
//!
//! What is trusted is kept in the ledger, whole, and changed only by comparing its version: [`Roots::change`] reads, computes and tries
//! again when another replica was faster. This replica's signer and bundle are read from there and published to whoever serves them. A
//! replica that has not noticed a change yet cannot do harm: the ledger records no certificate of a key that was replaced.
//!
//! Start reading at [`Roots::start`], then `compose` (from the shared state to the bundle), `folder` (a plugged-in authority) and `run`.

mod compose;
mod folder;
mod reissue;
mod run;
mod start;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use citadel_core::journal::{Entry, Event};
use citadel_core::rotation::{Action, Settings, State};
use mesh_api::citadel::TrustBundle;
use mesh_types::TrustDomain;
use parking_lot::Mutex;
use pki::{Authority, AuthorityError, KeyType};
use store::{Lease, StoreError};
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};

use crate::ledger::{Ledger, Mode, Trust, TrustError};

pub(crate) use compose::row;
pub use folder::{FolderError, Plugged};

/// What signs certificates now.
#[derive(Debug)]
pub struct Signing {
    /// Key, certificate and chain.
    pub authority: Authority,
    /// The roots in the bundle, one after the other in PEM: the last element of what a client is answered.
    pub bundle_pem: String,
    /// SHA-256 of the public key that signs, hexadecimal: [`Entry::issuer`].
    pub issuer: String,
}

/// What signs, now and later.
pub type Signings = watch::Receiver<Option<Arc<Signing>>>;

/// The bundle, now and later.
pub type Bundles = watch::Receiver<Option<Arc<TrustBundle>>>;

/// How roots are kept.
#[derive(Clone, Debug)]
pub struct RootsConfig {
    /// The trust domain of the mesh.
    pub trust_domain: TrustDomain,
    /// Name of this replica.
    pub replica: String,
    /// Folder of a plugged-in authority; with none of its files in it, roots are made here.
    pub folder: Option<PathBuf>,
    /// Whether the folder may bring other roots than before, if one set of them holds the other.
    pub multi_root: bool,
    /// Whether the folder's `ca-crl.pem` counts.
    pub ca_crl: bool,
    /// Kind of key of a root that is made.
    pub key_type: KeyType,
    /// Life of a root that is made.
    pub root_life: time::Duration,
    /// Percent of its life before its end at which a root is made anew with the same key, 0..=99.
    pub grace_percent: u8,
    /// How often that is looked at; zero: never.
    pub check_interval: Duration,
    /// Whether the first look comes at a random moment of the interval.
    pub check_jitter: bool,
    /// Longest life of a certificate: revocation lists are valid for at least twice that.
    pub longest_life: time::Duration,
    /// How long the right to do root operations lasts without being renewed.
    pub lease_ttl: Duration,
    /// How often the ledger is asked for changes of other replicas.
    pub poll: Duration,
    /// How the gates of a rotation are kept.
    pub rotation: Settings,
}

impl RootsConfig {
    /// The defaults: EC P-256 roots of ten years, made anew when a fifth of that is left.
    pub fn new(trust_domain: TrustDomain, replica: impl Into<String>) -> Self {
        Self {
            trust_domain,
            replica: replica.into(),
            folder: None,
            multi_root: false,
            ca_crl: true,
            key_type: KeyType::EcP256,
            root_life: pki::ROOT_LIFE,
            grace_percent: 20,
            check_interval: Duration::from_secs(3600),
            check_jitter: true,
            longest_life: time::Duration::days(90),
            lease_ttl: Duration::from_secs(15),
            poll: Duration::from_secs(1),
            rotation: Settings::default(),
        }
    }
}

/// Why there is no signer.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The plugged-in folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Key and certificate make no signer.
    #[error("the root {fingerprint} in the store cannot sign: {error}")]
    Authority {
        /// Which root.
        fingerprint: String,
        /// Why.
        error: AuthorityError,
    },
    /// A root could not be made.
    #[error("no root could be made: {0}")]
    Made(String),
    /// The folder was plugged in before, and is empty now.
    #[error(
        "the mesh's authority is plugged in, but {0} holds none of its files: put them back; a new root would be trusted by nobody"
    )]
    Unplugged(String),
    /// The shared state contradicts itself.
    #[error("the store lacks the root {0}, which is trusted: restore it from a backup")]
    Lost(String),
    /// The key of a root cannot be opened, or the database did not answer.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl From<StoreError> for RootsError {
    fn from(error: StoreError) -> Self {
        Self::Trust(error.into())
    }
}

impl RootsError {
    /// Whether the same call may work later without anybody's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Trust(TrustError::Store(error)) => error.is_transient(),
            Self::Trust(TrustError::Conflict) => true,
            _ => false,
        }
    }
}

/// Tells the time. A shell passes the wall clock, a test its own.
pub type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// See the module.
pub struct Roots {
    config: RootsConfig,
    ledger: Ledger,
    clock: Clock,
    /// Differs between processes.
    holder: String,
    plugged: Mutex<Option<Arc<Plugged>>>,
    shared: watch::Sender<Option<Arc<Trust>>>,
    signings: watch::Sender<Option<Arc<Signing>>>,
    bundles: watch::Sender<Option<Arc<TrustBundle>>>,
    lease: watch::Sender<Option<Lease>>,
    nudge: Notify,
    refused_reloads: AtomicU64,
    withheld: Mutex<Vec<String>>,
}

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roots")
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}

impl Roots {
    /// What signs here, now and later. `Some` from [`Roots::start`] on.
    pub fn signings(&self) -> Signings {
        self.signings.subscribe()
    }

    /// The bundle, now and later. `Some` from [`Roots::start`] on.
    pub fn bundles(&self) -> Bundles {
        self.bundles.subscribe()
    }

    /// Whether this replica does root operations, now and later.
    pub fn leading(&self) -> watch::Receiver<Option<Lease>> {
        self.lease.subscribe()
    }

    /// Name of the replica that a lease's holder is a process of.
    pub fn replica_of(holder: &str) -> &str {
        holder
            .rsplit_once('/')
            .map_or(holder, |(replica, _)| replica)
    }

    /// How often the folder brought something that was refused.
    pub fn refused_reloads(&self) -> u64 {
        self.refused_reloads.load(Ordering::Relaxed)
    }

    /// Why revocation lists are withheld, if they are: issuers without a list, or other words.
    pub fn lists_withheld(&self) -> Vec<String> {
        self.withheld.lock().clone()
    }

    /// What is trusted, as this replica last read it.
    pub fn shared(&self) -> watch::Receiver<Option<Arc<Trust>>> {
        self.shared.subscribe()
    }

    /// The ledger behind.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Looks for changes at once instead of at the next period.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    pub(crate) fn rotation_settings(&self) -> Settings {
        self.config.rotation
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        (self.clock)()
    }

    /// Where the signing certificate comes from.
    pub fn mode(&self) -> Mode {
        if self.plugged.lock().is_some() {
            Mode::PluggedIn
        } else {
            Mode::SelfSigned
        }
    }

    /// Roots and signing certificates, for people.
    pub fn authorities(&self) -> Vec<mesh_api::citadel::Authority> {
        let Some(trust) = self.shared.borrow().clone() else {
            return Vec::new();
        };
        compose::authorities(&trust, self.plugged.lock().as_deref())
    }
}

/// The actions of a step that are for the journal, as entries.
pub(crate) fn entries(actions: &[Action], requester: &str, now: OffsetDateTime) -> Vec<Entry> {
    let entry = |action: &Action| match action {
        Action::Journal { forced, detail } => {
            let event = if *forced {
                Event::Forced
            } else {
                Event::Rotation
            };
            Some(Entry {
                requester: requester.to_owned(),
                detail: detail.clone(),
                ..Entry::new(now.unix_timestamp(), event)
            })
        }
        Action::Announce | Action::Sign(_) | Action::Destroy(_) => None,
    };
    actions.iter().filter_map(entry).collect()
}

pub(crate) fn destroyed(actions: &[Action]) -> Vec<String> {
    let destroy = |action: &Action| match action {
        Action::Destroy(root) => Some(root.clone()),
        _ => None,
    };
    actions.iter().filter_map(destroy).collect()
}

/// A change of the shared state: the next state, new roots with it, and what goes with it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) mode: Mode,
    pub(crate) state: State,
    pub(crate) roots: Vec<crate::ledger::RootRow>,
    pub(crate) destroy: Vec<String>,
    pub(crate) entries: Vec<Entry>,
}
