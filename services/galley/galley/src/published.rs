//! What the keeper is given, and what others see of its work.

use std::sync::Arc;
use std::time::Duration;

use config_source::Scan;
use galley_core::Snapshot;
use galley_core::analyze::News;
use mesh_types::Finding;
use store::Store;
use tokio::sync::watch;

use crate::source::SourceSet;

/// What the keeper is told at start.
#[derive(Debug)]
pub struct KeeperOptions {
    /// The store.
    pub store_url: String,
    /// Name of this process, unlike any other's and unlike its predecessor's.
    pub holder: String,
    /// How long a lease holds.
    pub lease_ttl: Duration,
    /// How often the store is asked without news.
    pub poll: Duration,
    /// Revisions of history, 0 for all.
    pub keep_revisions: u64,
    /// Where configuration comes from.
    pub sources: SourceSet,
    /// How it is normalized.
    pub registry: mesh_registry::Options,
}

/// What the keeper hears.
#[derive(Debug)]
pub struct Inputs {
    /// The newest scan, if there are sources.
    pub scans: watch::Receiver<Option<Scan>>,
    /// The highest revision that anybody told of.
    pub heard: watch::Receiver<u64>,
}

/// What others see of the keeper's work.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// The newest revision.
    pub snapshot: watch::Sender<Arc<Snapshot>>,
    /// Number of the newest revision this process committed.
    pub committed: watch::Sender<u64>,
    /// What the sources' authors should know, without what only an analysis of the whole shows.
    pub findings: watch::Sender<Arc<Vec<Finding>>>,
    /// What an analysis has not seen yet; whoever analyzes takes it out.
    pub news: watch::Sender<News>,
    /// Whether this process writes.
    pub writer: watch::Sender<bool>,
    /// The store, once it is open.
    pub store: watch::Sender<Option<Store>>,
}
