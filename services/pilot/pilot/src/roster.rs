//! Who is connected, and how far each proxy is: what "is my change live?" is answered from.
//!
//! A revision is live on a proxy when the proxy has accepted all of the newest snapshot made for it, and that snapshot was made from this
//! revision or a later one. A revision that changes nothing for a proxy is therefore live there as soon as it is built.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use mesh_api::pilot::{
    ClientCertificate, PilotStatus, ProxyStatus, Rejection, RevisionStatus, TypeStatus,
};
use mesh_types::Revision;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use xds_core::{Session, Snapshot, WatchStatus};

use crate::clock::now_us;
use crate::link::Link;
use crate::planner::ConnectionId;

/// Whoever waits for a revision looks at the proxies for one part of the time in so many.
const PAUSE: u32 = 20;

/// Everything that is known about one stream.
pub struct Connection {
    /// Its number.
    pub id: ConnectionId,
    /// `pod.namespace`.
    pub proxy: Arc<str>,
    /// Whole node id.
    pub node_id: Arc<str>,
    /// Cluster.
    pub cluster_id: Arc<str>,
    /// Version the proxy says it is.
    pub proxy_version: String,
    /// The certificate it showed when it connected.
    pub certificate: Option<ClientCertificate>,
    /// Protocol state, shared with the stream.
    pub session: Arc<Mutex<Session>>,
    /// What the proxy should have.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Connected since, in microseconds since 1970.
    pub connected_us: i64,
    /// When each type was last rejected, in microseconds since 1970.
    pub rejected_us: Mutex<BTreeMap<usize, i64>>,
    /// Highest revision known to be live on it.
    live: AtomicU64,
}

/// What a stream brings to be listed.
pub struct Arrival {
    /// Its number.
    pub id: ConnectionId,
    /// The proxy's names.
    pub proxy: Arc<str>,
    /// Whole node id.
    pub node_id: Arc<str>,
    /// Cluster.
    pub cluster_id: Arc<str>,
    /// Version the proxy says it is.
    pub proxy_version: String,
    /// The certificate it showed when it connected.
    pub certificate: Option<ClientCertificate>,
    /// Protocol state.
    pub session: Arc<Mutex<Session>>,
    /// What the proxy should have.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
}

impl Connection {
    /// What the proxy should have now.
    pub fn current(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// Highest revision that is live, `built` being the newest there is.
    fn live_revision(&self, built: u64) -> u64 {
        let current = self.current();
        if self.session.lock().is_synced(&current) {
            self.live.fetch_max(built, SeqCst).max(built)
        } else {
            self.live.load(SeqCst)
        }
    }

    fn rejecting(&self) -> bool {
        self.session
            .lock()
            .statuses()
            .any(|status| status.rejecting)
    }

    fn status(&self, pilot: &str, built: u64) -> ProxyStatus {
        let live_revision = self.live_revision(built);
        let current = self.current();
        let session = self.session.lock();
        let types = session
            .statuses()
            .map(|status| {
                self.type_status(&status, session.is_type_synced(status.type_id, &current))
            })
            .collect();
        ProxyStatus {
            proxy: self.proxy.to_string(),
            node_id: self.node_id.to_string(),
            cluster_id: self.cluster_id.to_string(),
            pilot: pilot.into(),
            proxy_version: self.proxy_version.clone(),
            protocol: if session.is_delta() { "delta" } else { "sotw" }.into(),
            live_revision,
            connected_us: self.connected_us,
            types,
            certificate: self.certificate.clone(),
        }
    }

    fn type_status(&self, status: &WatchStatus<'_>, synced: bool) -> TypeStatus {
        let rejection = status
            .nack
            .filter(|_| status.rejecting)
            .map(|nack| Rejection {
                revision: nack.nonce.map_or(0, |nonce| nonce.revision),
                nonce: nack
                    .nonce
                    .map(|nonce| nonce.to_string())
                    .unwrap_or_default(),
                message: nack.text.to_string(),
                resources: nack.resources.iter().map(|name| name.to_string()).collect(),
                at_us: self
                    .rejected_us
                    .lock()
                    .get(&status.type_id.index())
                    .copied()
                    .unwrap_or_default(),
            });
        TypeStatus {
            type_url: status.type_id.url().into(),
            subscribed: true,
            synced,
            sent_version: status.sent_version.map(hex).unwrap_or_default(),
            acked_version: status.acked_version.map(hex).unwrap_or_default(),
            acked_revision: status.acked.map_or(0, |nonce| nonce.revision),
            rejection,
        }
    }
}

fn hex(version: u64) -> String {
    format!("{version:016x}")
}

/// Every connected proxy of this Pilot.
pub struct Roster {
    pilot: String,
    connections: RwLock<BTreeMap<ConnectionId, Arc<Connection>>>,
    next_id: AtomicU64,
    built: AtomicU64,
    link: Link,
    /// Counts whatever may change an answer: acknowledgements, arrivals, revisions.
    news: watch::Sender<u64>,
}

impl Roster {
    /// An empty roster of the Pilot of that name.
    pub fn new(pilot: impl Into<String>) -> Roster {
        Roster {
            pilot: pilot.into(),
            connections: RwLock::default(),
            next_id: AtomicU64::new(1),
            built: AtomicU64::new(0),
            link: Link::default(),
            news: watch::Sender::new(0),
        }
    }

    /// Name of this Pilot.
    pub fn pilot(&self) -> &str {
        &self.pilot
    }

    /// How this Pilot stands with Galley.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// A number for a new stream.
    pub fn next_id(&self) -> ConnectionId {
        self.next_id.fetch_add(1, SeqCst)
    }

    /// Lists a stream.
    pub fn arrive(&self, arrival: Arrival) -> Arc<Connection> {
        let connection = Arc::new(Connection {
            id: arrival.id,
            proxy: arrival.proxy,
            node_id: arrival.node_id,
            cluster_id: arrival.cluster_id,
            proxy_version: arrival.proxy_version,
            certificate: arrival.certificate,
            session: arrival.session,
            snapshot: arrival.snapshot,
            connected_us: now_us(),
            rejected_us: Mutex::default(),
            live: AtomicU64::new(0),
        });
        self.connections
            .write()
            .insert(connection.id, connection.clone());
        self.tell();
        connection
    }

    /// Takes a stream off the list.
    pub fn leave(&self, id: ConnectionId) {
        self.connections.write().remove(&id);
        self.tell();
    }

    /// Says that something happened that may change an answer.
    pub fn tell(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// Says that every snapshot now holds this revision. A lower one than before means that Galley counts anew: its store was lost.
    pub fn built(&self, revision: Revision) {
        if self.built.swap(revision.0, SeqCst) > revision.0 {
            let connections = self.connections.read();
            connections.values().for_each(|c| c.live.store(0, SeqCst));
        }
        self.tell();
    }

    /// The newest revision that every snapshot holds.
    pub fn revision(&self) -> u64 {
        self.built.load(SeqCst)
    }

    /// Changes whenever an answer may have.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// How many streams there are.
    pub fn len(&self) -> usize {
        self.connections.read().len()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every stream.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections.read().values().cloned().collect()
    }

    /// The newest stream of a proxy, by `pod.namespace`, `pod`, or node id.
    pub fn find(&self, name: &str) -> Option<Arc<Connection>> {
        let connections = self.connections.read();
        let named = |c: &&Arc<Connection>| {
            *c.proxy == *name
                || *c.node_id == *name
                || c.proxy.split('.').next().is_some_and(|pod| pod == name)
        };
        connections.values().rev().find(named).cloned()
    }

    /// Everything about every proxy.
    pub fn status(&self) -> PilotStatus {
        let built = self.revision();
        let connections = self.connections();
        let mut proxies: Vec<_> = connections
            .iter()
            .map(|c| c.status(&self.pilot, built))
            .collect();
        proxies.sort_by(|a, b| (&a.proxy, a.connected_us).cmp(&(&b.proxy, b.connected_us)));
        let (galley_connected, stale) = self.link.report();
        PilotStatus {
            pilot: self.pilot.clone(),
            revision: built,
            total_proxies: proxies.len() as u64,
            proxies,
            galley_connected,
            stale_seconds: stale.as_secs(),
            at_us: now_us(),
        }
    }

    /// How far a revision has come on this Pilot.
    pub fn progress(&self, revision: u64) -> RevisionStatus {
        let built = self.revision();
        let connections = self.connections();
        let mut status = RevisionStatus {
            revision,
            total: connections.len() as u64,
            ..RevisionStatus::default()
        };
        for connection in connections {
            if built >= revision && connection.live_revision(built) >= revision {
                status.live += 1;
            } else if connection.rejecting() {
                status.rejected.push(connection.proxy.to_string());
            } else {
                status.pending.push(connection.proxy.to_string());
            }
        }
        status.pending.sort();
        status.rejected.sort();
        status
    }

    /// Waits until a revision is live everywhere, somebody refuses it, or the deadline; says how far it is then.
    pub async fn settle(&self, revision: u64, deadline: Instant) -> RevisionStatus {
        let mut news = self.news();
        loop {
            news.borrow_and_update();
            let looked = tokio::time::Instant::now();
            let status = self.progress(revision);
            let settled = status.pending.is_empty() && self.revision() >= revision;
            // Thousands of proxies accept at once, and looking at all of them for each would take a worker from them.
            let pause = (looked + looked.elapsed() * PAUSE).min(deadline.into());
            if settled
                || tokio::time::timeout_at(deadline.into(), news.changed())
                    .await
                    .is_err()
            {
                return status;
            }
            tokio::time::sleep_until(pause).await;
        }
    }
}
