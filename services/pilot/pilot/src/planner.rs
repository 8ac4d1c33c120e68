//! The only owner of the mesh: takes change sets and proxies, decides what every proxy should have, and hands snapshots to streams.
//!
//! It runs on a thread of its own, since building is work and not waiting. Streams read snapshots from `watch` channels; a proxy whose
//! snapshot has not changed is not woken.

mod state;

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_config::resource::normal::JwksSource;
use mesh_model::{Change, Mesh, PolicySettings, Proxy};
use mesh_types::{Finding, Revision};
use pilot_core::Options;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use xds_core::Snapshot;

use crate::metrics::Metrics;
use crate::roster::Roster;
use crate::trust::ServedTrust;

use state::State;

/// A connected proxy, as the planner knows it.
pub type ConnectionId = u64;

/// What the planner is asked.
pub enum Command {
    /// A change set, whole.
    Apply {
        /// Its revision.
        revision: Revision,
        /// What changes.
        changes: Vec<Change>,
        /// When the first of it reached this Pilot.
        arrived: Instant,
        /// Told when every snapshot holds it.
        done: oneshot::Sender<()>,
    },
    /// Facts that are no configuration: the revision stays.
    Facts(Vec<Change>),
    /// Another trust bundle for the agents.
    Trust(Arc<ServedTrust>),
    /// A proxy connected; the answer is where its snapshots appear.
    Connect {
        /// Its stream.
        id: ConnectionId,
        /// Who it is.
        proxy: Box<Proxy>,
        /// Where its snapshots appear.
        reply: oneshot::Sender<watch::Receiver<Arc<Snapshot>>>,
    },
    /// A proxy left.
    Disconnect(ConnectionId),
    /// Somebody wants the mesh as it is, for reading.
    Inspect(oneshot::Sender<Mesh>),
    /// Somebody wants to know what policies ask of connected proxies that they cannot do.
    Unprotected(oneshot::Sender<Vec<Finding>>),
}

/// The way to the planner.
#[derive(Clone)]
pub struct Planner {
    commands: mpsc::UnboundedSender<Command>,
    sources: watch::Sender<Vec<Finding>>,
    wanted: watch::Receiver<Arc<BTreeSet<JwksSource>>>,
}

impl Planner {
    /// Starts the planner's thread, which ends when the last `Planner` is dropped. The receiver hears `Ok` then, and an error if the thread
    /// died of a bug: nothing would ever change again, so the process must end.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        roster: Arc<Roster>,
        metrics: Metrics,
        options: Options,
        policies: PolicySettings,
    ) -> std::io::Result<(Planner, oneshot::Receiver<()>)> {
        // Unbounded, and bounded by its senders: each stream has at most two commands under way, ingestion one.
        let (commands, inbox) = mpsc::unbounded_channel();
        let (ended, end) = oneshot::channel();
        let (wants, wanted) = watch::channel(Arc::default());
        std::thread::Builder::new()
            .name("planner".into())
            .spawn(move || {
                State::new(roster, metrics, (options, policies), wants).run(inbox);
                let _ = ended.send(());
            })?;
        let planner = Planner {
            commands,
            sources: watch::Sender::new(Vec::new()),
            wanted,
        };
        Ok((planner, end))
    }

    /// Sends a command; after the planner's end nothing happens, as the process is stopping.
    pub fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Applies a change set; returns once every snapshot holds it.
    pub async fn apply(&self, revision: Revision, changes: Vec<Change>, arrived: Instant) {
        let (done, finished) = oneshot::channel();
        self.send(Command::Apply {
            revision,
            changes,
            arrived,
            done,
        });
        let _ = finished.await;
    }

    /// Registers a proxy and returns where its snapshots appear.
    pub async fn connect(
        &self,
        id: ConnectionId,
        proxy: Proxy,
    ) -> Option<watch::Receiver<Arc<Snapshot>>> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Connect {
            id,
            proxy: Box::new(proxy),
            reply,
        });
        answer.await.ok()
    }

    /// Replaces what there is to tell about the sources of configuration, besides what the mesh itself shows.
    pub fn report_sources(&self, findings: Vec<Finding>) {
        self.sources.send_replace(findings);
    }

    /// What there is to tell about the sources of configuration.
    pub fn source_findings(&self) -> Vec<Finding> {
        self.sources.borrow().clone()
    }

    /// What policies ask of connected proxies that they cannot do.
    pub async fn unprotected(&self) -> Vec<Finding> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Unprotected(reply));
        answer.await.unwrap_or_default()
    }

    /// Where the keys are that some policy of the mesh needs.
    pub fn wanted_keys(&self) -> watch::Receiver<Arc<BTreeSet<JwksSource>>> {
        self.wanted.clone()
    }

    /// The mesh as it is.
    pub async fn mesh(&self) -> Option<Mesh> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Inspect(reply));
        answer.await.ok()
    }
}
