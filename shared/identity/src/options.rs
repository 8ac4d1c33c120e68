//! How an identity is kept: what a [`Renewer`](crate::Renewer) is told.

use std::path::PathBuf;
use std::time::Duration;

use mesh_types::SpiffeId;
use pki::{KeyType, Renewal};

use crate::ca_client::CaClient;
use crate::clock::Clock;

/// How an identity is gotten and kept.
#[derive(Clone, Debug)]
pub struct RenewOptions {
    /// Who we are. A certificate of somebody else is not taken.
    pub id: SpiffeId,
    /// Where it comes from.
    pub ca: CaClient,
    /// What shows who we are.
    pub proof: Proof,
    /// Where it is kept.
    pub folder: PathBuf,
    /// How long certificates shall be valid. Default 24 h.
    pub ttl: Duration,
    /// Kind of the keys; each certificate has a new one. Default EC P-256.
    pub key_type: KeyType,
    /// When to renew. Default at half of its life.
    pub renewal: Renewal,
    /// When another root signs than did our certificate, it is renewed at a random time within this: the whole mesh does the same. Default
    /// 1 min.
    pub spread: Duration,
    /// The clock is looked at this often, since it may jump. Default 1 min.
    pub recheck: Duration,
    /// Shortest and longest delay between attempts that fail. Default 1 s to 1 min.
    pub retry: (Duration, Duration),
    /// The wall clock.
    pub clock: Clock,
}

/// What shows who we are.
#[derive(Clone, Debug)]
pub enum Proof {
    /// A token in a file, which somebody keeps fresh.
    TokenFile(PathBuf),
    /// A one-time token in a file, for the first time; then the certificate that we have, for as long as it is renewed.
    JoinTokenFile(PathBuf),
    /// The certificate that is in the folder already.
    Certificate,
    /// The certificate in another folder, which somebody else keeps fresh.
    Folder(PathBuf),
}

impl RenewOptions {
    /// The defaults.
    pub fn new(id: SpiffeId, ca: CaClient, proof: Proof, folder: PathBuf) -> RenewOptions {
        RenewOptions {
            id,
            ca,
            proof,
            folder,
            ttl: Duration::from_secs(24 * 3600),
            key_type: KeyType::EcP256,
            renewal: Renewal::default(),
            spread: Duration::from_secs(60),
            recheck: Duration::from_secs(60),
            retry: (Duration::from_secs(1), Duration::from_secs(60)),
            clock: Clock::system(),
        }
    }
}
