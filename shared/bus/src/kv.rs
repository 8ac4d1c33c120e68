//! Facts that expire: who holds which proxy, how far it is.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};

use crate::BusError;

/// A bucket of facts, each of which expires some time after it was last put. Keys are any text.
///
/// Whoever puts a fact puts it again well before it expires. What was put through this handle and has not expired is also put
/// again by itself when the bus comes back without it.
#[async_trait]
pub trait Kv: fmt::Debug + Send + Sync {
    /// Puts a fact and starts its time anew.
    ///
    /// # Errors
    /// After [`BusError::Away`] and [`BusError::Unknown`] it is put once the bus is back, unless it expires first or is
    /// put or deleted through this handle.
    async fn put(&self, key: &str, value: Bytes) -> Result<(), BusError>;

    /// The fact, if there is one.
    ///
    /// # Errors
    /// See [`BusError`].
    async fn get(&self, key: &str) -> Result<Option<Bytes>, BusError>;

    /// Removes a fact. One that does not exist is no error.
    ///
    /// # Errors
    /// After an error the fact may stay until it expires.
    async fn delete(&self, key: &str) -> Result<(), BusError>;

    /// All facts, in key order.
    ///
    /// # Errors
    /// See [`BusError`].
    async fn list(&self) -> Result<Vec<(String, Bytes)>, BusError>;

    /// What is there, then every change. Works before the bus is connected, and outlives disconnections and lost buckets.
    fn watch(&self) -> KvWatch;
}

/// What a watch says. It starts with `Reset`, a `Put` for every fact there is, and `Synced`; and so again whenever changes may
/// have been missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvEvent {
    /// What follows up to `Synced` is everything there is: collect it apart, then replace what you knew.
    Reset,
    /// The fact is there with this value. May be repeated.
    Put {
        /// Its key.
        key: String,
        /// Its value.
        value: Bytes,
    },
    /// The fact was deleted or expired. May come for one that was not known.
    Gone {
        /// Its key.
        key: String,
    },
    /// Everything there was at `Reset` has been said.
    Synced,
}

/// The events of one watch, as a stream without end. Dropping it ends the watch.
pub struct KvWatch(BoxStream<'static, KvEvent>);

impl KvWatch {
    pub(crate) fn new(stream: impl Stream<Item = KvEvent> + Send + 'static) -> Self {
        Self(stream.boxed())
    }

    /// The next event; `None` only after the bus was closed for good. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<KvEvent> {
        self.0.next().await
    }
}

impl Stream for KvWatch {
    type Item = KvEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<KvEvent>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for KvWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KvWatch")
    }
}
