//! What is trusted, as all replicas share it: the state of the rotation, the roots with their keys, and the bundle that is announced.

use std::collections::BTreeMap;

use bytes::Bytes;
use citadel_core::crl::Kept;
use citadel_core::journal::Entry;
use citadel_core::rotation::{Fingerprint, State};
use mesh_api::citadel::TrustBundle;
use prost::Message as _;
use store::{StoreError, sql_snapshot};
use zeroize::Zeroizing;

use super::seal::{self, SealError};
use super::transaction::{append, write_transaction};
use super::{Ledger, Versions};

/// Where the signing certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Citadel makes its roots itself and keeps their keys here.
    SelfSigned,
    /// A folder holds key and certificates.
    PluggedIn,
}

impl Mode {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SelfSigned => "self-signed",
            Self::PluggedIn => "plugged-in",
        }
    }
}

/// A root as it is kept.
#[derive(Clone)]
pub struct RootRow {
    /// SHA-256 of the certificate, hexadecimal.
    pub fingerprint: Fingerprint,
    /// SHA-256 of its public key, hexadecimal.
    pub issuer: String,
    /// The certificate in PEM.
    pub certificate: String,
    /// Its key, PKCS#8 in PEM; `None` if the folder has it, or it was destroyed.
    pub private_key: Option<Zeroizing<String>>,
    /// Unit: seconds since 1970.
    pub made_at: i64,
}

impl std::fmt::Debug for RootRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootRow")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// Everything about trust, as of one moment.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Which versions this is of.
    pub versions: Versions,
    /// Where the signing certificate comes from.
    pub mode: Mode,
    /// The rotation.
    pub state: State,
    /// The bundle that is announced.
    pub bundle: TrustBundle,
    /// The lists in it.
    pub crls: Vec<Kept>,
    /// [`Versions::revocations`] that the bundle was made from.
    pub bundle_of: u64,
    /// Every root there was, by fingerprint; keys are opened.
    pub roots: BTreeMap<Fingerprint, RootRow>,
    /// Whether a key is kept open though keys are to be sealed.
    pub unsealed: bool,
}

/// A change of what is trusted.
#[derive(Clone, Debug)]
pub struct TrustUpdate {
    /// [`Versions::trust`] it was computed from; 0 for the first.
    pub expect: u64,
    /// Where the signing certificate comes from.
    pub mode: Mode,
    /// The rotation.
    pub state: State,
    /// Which key may sign from now on; empty: the folder of each replica says.
    pub issuer: String,
    /// The bundle to announce.
    pub bundle: TrustBundle,
    /// The lists in it.
    pub crls: Vec<Kept>,
    /// [`Versions::revocations`] that the bundle was made from.
    pub bundle_of: u64,
    /// Roots that are new, or kept in another form.
    pub roots: Vec<RootRow>,
    /// Roots whose keys are to be destroyed.
    pub destroy: Vec<Fingerprint>,
    /// For the journal.
    pub entries: Vec<Entry>,
}

/// Why what is trusted could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Somebody else changed it since it was read: read it and compute anew.
    #[error("another replica changed what is trusted")]
    Conflict,
    /// The key of a root cannot be opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for TrustError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

type TrustRow = (String, String, Vec<u8>, String, i64);
type RootColumns = (String, String, String, Option<String>, i64);

impl Ledger {
    /// What is trusted; `None` before the first start of any replica.
    ///
    /// # Errors
    /// [`TrustError::Seal`], [`TrustError::Store`].
    pub async fn trust(&self) -> Result<Option<Trust>, TrustError> {
        let (versions, row, rows): ((i64, i64), Option<TrustRow>, Vec<RootColumns>) = sql_snapshot!(&self.db, t => {
            let versions = sqlx::query_as("SELECT revocations, trust FROM citadel_head WHERE id = 1").fetch_one(&mut *t).await?;
            let row = sqlx::query_as("SELECT mode, state, bundle, crls, revocations FROM citadel_trust WHERE id = 1")
                .fetch_optional(&mut *t).await?;
            let rows = sqlx::query_as("SELECT fingerprint, issuer, certificate, private_key, made_at FROM citadel_root")
                .fetch_all(&mut *t).await?;
            (versions, row, rows)
        });
        let Some((mode, state, bundle, crls, bundle_of)) = row else {
            return Ok(None);
        };
        let corrupt =
            |what: &str| StoreError::Corrupt(format!("citadel_trust: its {what} is unreadable"));
        let mut roots = BTreeMap::new();
        let mut unsealed = false;
        for (fingerprint, issuer, certificate, kept, made_at) in rows {
            let kept = kept.map(Zeroizing::new);
            let private_key = match kept {
                Some(kept) => {
                    let (open, sealed) = seal::opened(self.seal.as_deref(), &fingerprint, &kept)?;
                    unsealed |= !sealed && self.seal.is_some();
                    Some(open)
                }
                None => None,
            };
            let root = RootRow {
                fingerprint: fingerprint.clone(),
                issuer,
                certificate,
                private_key,
                made_at,
            };
            roots.insert(fingerprint, root);
        }
        Ok(Some(Trust {
            versions: Versions {
                revocations: versions.0.cast_unsigned(),
                trust: versions.1.cast_unsigned(),
            },
            mode: match mode.as_str() {
                "self-signed" => Mode::SelfSigned,
                "plugged-in" => Mode::PluggedIn,
                _ => return Err(corrupt("mode").into()),
            },
            state: serde_json::from_str(&state).map_err(|_| corrupt("state"))?,
            bundle: TrustBundle::decode(Bytes::from(bundle)).map_err(|_| corrupt("bundle"))?,
            crls: serde_json::from_str(&crls).map_err(|_| corrupt("crls"))?,
            bundle_of: bundle_of.cast_unsigned(),
            roots,
            unsealed,
        }))
    }

    /// Changes what is trusted, whole or not at all, and only if nobody changed it since it was read. Of several replicas that start with
    /// nothing and each make a root, one succeeds.
    ///
    /// # Errors
    /// See [`TrustError`]. After [`TrustError::Store`] it may have happened: read it again.
    pub async fn update_trust(&self, update: &TrustUpdate) -> Result<u64, TrustError> {
        let corrupt = |error: serde_json::Error| StoreError::Invalid(error.to_string());
        let state = serde_json::to_string(&update.state).map_err(corrupt)?;
        let crls = serde_json::to_string(&update.crls).map_err(corrupt)?;
        let bundle = update.bundle.encode_to_vec();
        let mut keys = Vec::with_capacity(update.roots.len());
        for root in &update.roots {
            keys.push(match &root.private_key {
                Some(pem) => Some(seal::kept(self.seal.as_deref(), &root.fingerprint, pem)?),
                None => None,
            });
        }
        write_transaction!(&self.db, t, head => {
            if head.trust != update.expect {
                Err(TrustError::Conflict)
            } else {
                for (root, key) in update.roots.iter().zip(&keys) {
                    sqlx::query(
                        "INSERT INTO citadel_root (fingerprint, issuer, certificate, private_key, made_at) VALUES ($1, $2, $3, $4, $5)
                         ON CONFLICT (fingerprint) DO UPDATE SET private_key = excluded.private_key",
                    )
                    .bind(&root.fingerprint).bind(&root.issuer).bind(&root.certificate).bind(key.as_ref().map(|key| key.as_str()))
                    .bind(root.made_at).execute(&mut *t).await?;
                }
                for fingerprint in &update.destroy {
                    sqlx::query("UPDATE citadel_root SET private_key = NULL WHERE fingerprint = $1")
                        .bind(fingerprint).execute(&mut *t).await?;
                }
                sqlx::query(
                    "INSERT INTO citadel_trust (id, mode, state, generation, bundle, crls, revocations) VALUES (1, $1, $2, $3, $4, $5, $6)
                     ON CONFLICT (id) DO UPDATE SET mode = excluded.mode, state = excluded.state, generation = excluded.generation,
                     bundle = excluded.bundle, crls = excluded.crls, revocations = excluded.revocations",
                )
                .bind(update.mode.as_str()).bind(&state).bind(update.bundle.generation.cast_signed()).bind(bundle.as_slice()).bind(&crls)
                .bind(update.bundle_of.cast_signed()).execute(&mut *t).await?;
                sqlx::query("UPDATE citadel_head SET issuer = $1, trust = trust + 1 WHERE id = 1")
                    .bind(&update.issuer).execute(&mut *t).await?;
                let _ = append!(t, head, update.entries.iter().cloned().map(Entry::tidy));
                Ok(head.trust + 1)
            }
        })
    }
}
