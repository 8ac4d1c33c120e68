//! What is known about a stream, for metrics, `/debug` and the question "is it live?".

use super::{Nack, Session};
use crate::{Nonce, TypeId};

/// The state of one type on one stream.
#[derive(Clone, Copy, Debug)]
pub struct WatchStatus<'a> {
    /// The type.
    pub type_id: TypeId,
    /// Subscribed to everything.
    pub wildcard: bool,
    /// Number of names subscribed to.
    pub names: usize,
    /// Nonce of the latest response; its revision is the one sent last.
    pub sent: Option<Nonce>,
    /// Content hash of what the client was told last; equal to `acked_version` when it has accepted that.
    pub sent_version: Option<u64>,
    /// Nonce of the latest accepted response.
    pub acked: Option<Nonce>,
    /// Content hash of what was accepted last, as in `version_info`.
    pub acked_version: Option<u64>,
    /// Responses that have not been answered.
    pub unanswered: usize,
    /// Everything of the snapshot polled last was accepted.
    pub synced: bool,
    /// The client rejects something that is still current.
    pub rejecting: bool,
    /// The last NACK, until the client is well again.
    pub nack: Option<&'a Nack>,
}

impl Session {
    /// The state of a type; `None` if it is not subscribed.
    pub fn status(&self, type_id: TypeId) -> Option<WatchStatus<'_>> {
        let w = self.watches[type_id.index()].as_deref()?;
        Some(WatchStatus {
            type_id,
            wildcard: w.interest.all,
            names: w.interest.names.as_ref().map_or(0, |n| n.len()),
            sent: w.last,
            sent_version: w.last_version,
            acked: w.acked,
            acked_version: w.acked_version,
            unanswered: w.out.len(),
            synced: w.settled(),
            rejecting: w.blocked(),
            nack: w.nack.as_deref(),
        })
    }

    /// Every subscribed type, in push order.
    pub fn statuses(&self) -> impl Iterator<Item = WatchStatus<'_>> {
        TypeId::ALL.into_iter().filter_map(|t| self.status(t))
    }

    /// Requests for types that are not served: how many, and the last type URL.
    pub fn unknown_types(&self) -> (u64, Option<&str>) {
        (self.unknown, self.last_unknown.as_deref())
    }
}
