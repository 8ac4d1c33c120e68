//! One stream: what it was asked, what it has said, what it owes.

mod nack;
mod poll;
mod request;
mod status;
mod watch;

#[cfg(test)]
mod model_test;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::{
    Encoded, Limits, NameSetInterner, Nonce, Refusal, Request, Response, Snapshot, TypeId, TypeUrl,
};

pub use nack::{MAX_BLAMED, Nack};
pub use status::WatchStatus;
use watch::Watch;

/// What all streams of a server share.
pub struct Setup {
    /// Bounds on requests and responses.
    pub limits: Limits,
    /// Sharing of equal subscriptions.
    pub names: NameSetInterner,
    /// Types a proxy must have subscribed to before it can count as synced. Default: CDS and LDS.
    pub expects: Box<[TypeId]>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            names: NameSetInterner::default(),
            expects: [TypeId::Cds, TypeId::Lds].into(),
        }
    }
}

/// Makes the object for a name that is subscribed to but does not exist: an empty endpoint list or route configuration, so that Envoy never
/// waits for it. `None` where absence is an answer (clusters, listeners, secrets).
///
/// The result must depend on nothing but type and name.
pub type Missing<'a> = dyn Fn(TypeId, &str) -> Option<Arc<Encoded>> + 'a;

/// The protocol state of one stream. Small: everything big is shared with other streams.
///
/// The shell gives every request to [`Session::on_request`], then calls [`Session::poll`] until it returns `None`, and polls
/// again when there is a new snapshot and room on the connection. A stream that is slow to read is polled rarely
/// and skips the snapshots in between.
///
/// Like Istio, a session does not wait for an ACK before it sends the next response of a type: Envoy holds back the ACK of a cluster
/// response while clusters warm, and the next response may be what lets them. Up to eight unanswered responses per type are
/// remembered, to blame a NACK on the right one.
pub struct Session {
    setup: Arc<Setup>,
    delta: bool,
    counter: u64,
    force: Force,
    unknown: u64,
    last_unknown: Option<Box<str>>,
    watches: [Option<Box<Watch>>; TypeId::COUNT],
}

/// Endpoints owed because their cluster was sent: Envoy warms a changed cluster and waits for its endpoints even if they are unchanged.
#[derive(Default)]
enum Force {
    #[default]
    Nothing,
    Names(Vec<Arc<str>>),
    All,
}

/// Names remembered in [`Force::Names`]; beyond, all endpoints are sent.
const MAX_FORCED: usize = 4096;

/// What a request was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A type that is not served: answered with nothing, the stream goes on.
    UnknownType(Box<str>),
    /// A request of a type we serve.
    Known {
        /// Its type.
        type_id: TypeId,
        /// What it answers.
        answer: Answer,
        /// What it does to the subscription.
        change: InterestChange,
    },
}

/// Which response a request answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// None: no nonce.
    None,
    /// Accepts this response.
    Ack(Nonce),
    /// Rejects this response, or none that is known. Details in [`WatchStatus::nack`].
    Nack(Option<Nonce>),
    /// The nonce is not the latest of its type: nothing to do (`pilot_xds_expired_nonce`).
    Stale,
}

/// What a request does to a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InterestChange {
    /// Nothing.
    Same,
    /// First request of the type on this stream, or one that starts over: all is owed.
    Opened,
    /// Names came or went.
    Changed,
    /// The client wants nothing of this type any more.
    Closed,
}

impl Session {
    /// A state-of-the-world stream.
    pub fn sotw(setup: Arc<Setup>) -> Self {
        Self::new(setup, false)
    }

    /// A delta stream.
    pub fn delta(setup: Arc<Setup>) -> Self {
        Self::new(setup, true)
    }

    fn new(setup: Arc<Setup>, delta: bool) -> Self {
        Self {
            setup,
            delta,
            counter: 0,
            force: Force::Nothing,
            unknown: 0,
            last_unknown: None,
            watches: Default::default(),
        }
    }

    /// Whether this is a delta stream.
    pub fn is_delta(&self) -> bool {
        self.delta
    }

    /// Reads a message of this stream's protocol: [`wire::parse_delta`](crate::wire::parse_delta) or [`wire::parse_sotw`](crate::wire::parse_sotw).
    ///
    /// # Errors
    /// A [`Refusal`]: end the stream with its code.
    pub fn parse(&self, message: bytes::Bytes) -> Result<Request, Refusal> {
        if self.delta {
            return crate::wire::parse_delta(message, &self.setup.limits);
        }
        // An acknowledgement repeats what was listed: recognised, it need not be walked.
        let listed = self.watches.iter().flatten().filter_map(|w| w.listed);
        crate::wire::parse_sotw_after(message, &self.setup.limits, listed)
    }

    /// Takes a request. What it makes due is returned by the polls that follow.
    ///
    /// # Errors
    /// A [`Refusal`]: end the stream with its code. The session is unchanged.
    pub fn on_request(&mut self, request: Request) -> Result<Outcome, Refusal> {
        if request.delta != self.delta {
            return Err(Refusal::WrongProtocol);
        }
        match &request.type_url {
            TypeUrl::Known(type_id) => self.on_known(*type_id, request),
            TypeUrl::Other(url) => {
                self.unknown += 1;
                self.last_unknown = Some(url.clone());
                Ok(Outcome::UnknownType(url.clone()))
            }
        }
    }

    /// The next response that is due towards `snapshot`, in push order; `None` when the client has been told everything.
    ///
    /// Constant time if nothing has changed since the last poll, else a walk over pointers.
    pub fn poll(&mut self, snapshot: &Snapshot, missing: &Missing<'_>) -> Option<Response> {
        TypeId::ALL.into_iter().find_map(|type_id| {
            let mut watch = self.watches[type_id.index()].take()?;
            let response = self.poll_type(type_id, &mut watch, snapshot, missing);
            self.watches[type_id.index()] = Some(watch);
            response
        })
    }

    /// Whether the client has acknowledged all of `snapshot` that it is subscribed to, and is subscribed to what [`Setup::expects`].
    ///
    /// True for a newer snapshot too if that holds nothing new for this client: no message, no wake-up, live at once.
    pub fn is_synced(&self, snapshot: &Snapshot) -> bool {
        let expected = self
            .setup
            .expects
            .iter()
            .all(|t| self.watches[t.index()].is_some());
        expected
            && TypeId::ALL
                .into_iter()
                .all(|t| self.is_type_synced(t, snapshot))
    }

    /// As [`Session::is_synced`], for one type; true for a type that is not subscribed.
    pub fn is_type_synced(&self, type_id: TypeId, snapshot: &Snapshot) -> bool {
        let Some(watch) = &self.watches[type_id.index()] else {
            return true;
        };
        let forced = type_id == TypeId::Eds && !matches!(self.force, Force::Nothing);
        watch.settled() && !forced && !watch.differs(snapshot.layers(type_id))
    }
}
