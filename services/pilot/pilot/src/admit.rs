//! Who may have a stream, and where its snapshots come from.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::ads::{Admission, Admitted, Client, Snapshots};
use crate::metrics::Metrics;
use crate::node;
use crate::planner::{Command, ConnectionId, Planner};
use crate::status::Status;

/// How long a proxy that comes before the first configuration waits for it before it is told to try again.
const FIRST_CONFIGURATION: Duration = Duration::from_secs(5);

/// gRPC's PERMISSION_DENIED.
const PERMISSION_DENIED: u32 = 7;

/// Snapshots made by the planner.
pub struct Planned {
    /// The planner.
    pub planner: Planner,
    /// Whether the first snapshot was built. Before, streams wait a little and are then told to come back: nobody gets an empty world.
    pub ready: watch::Receiver<bool>,
    /// Whether the node of a stream over TLS must agree with its certificate. Source: `PILOT_ENABLE_XDS_IDENTITY_CHECK`.
    pub check: bool,
    /// Whether Pilot has an identity, so that proxies can show who they are.
    pub secured: bool,
    /// Counters.
    pub metrics: Metrics,
}

impl Snapshots for Planned {
    fn admit(&self, id: ConnectionId, node: Option<Bytes>, client: Client) -> Admission {
        let (planner, mut ready) = (self.planner.clone(), self.ready.clone());
        let (check, secured, metrics) = (self.check, self.secured, self.metrics.clone());
        Box::pin(async move {
            let introduced =
                node::introduce(node.as_deref()).map_err(|e| Status::new(3, e.to_string()))?;
            let mut proxy = introduced.proxy;
            // Plaintext is served on loopback alone. Where nobody has an identity, who is there may have what is there.
            proxy.verified = matches!(client, Client::Plaintext) && !secured;
            if let Client::Tls(shown) = &client {
                match node::agree(&proxy, shown.as_ref()) {
                    Ok(()) => proxy.verified = true,
                    Err(disagreement) if check => {
                        tracing::warn!(proxy = %proxy.id, %disagreement, "a node that is not who its certificate shows");
                        metrics.identity_refused();
                        return Err(Status::new(PERMISSION_DENIED, disagreement.to_string()));
                    }
                    Err(_) => {}
                }
            }
            let configured = tokio::time::timeout(FIRST_CONFIGURATION, ready.wait_for(|r| *r));
            if !matches!(configured.await, Ok(Ok(_))) {
                return Err(Status::new(
                    14,
                    "the first configuration has not arrived yet; try again",
                ));
            }
            let (name, node_id, cluster_id) = (
                proxy.id.clone(),
                proxy.node_id.clone(),
                proxy.cluster_id.clone(),
            );
            let snapshots = planner
                .connect(id, proxy)
                .await
                .ok_or_else(|| Status::new(14, "this server is going away"))?;
            Ok(Admitted {
                proxy: name,
                node_id,
                cluster_id,
                version: introduced.version,
                snapshots,
            })
        })
    }

    fn leave(&self, id: ConnectionId) {
        self.planner.send(Command::Disconnect(id));
    }
}
