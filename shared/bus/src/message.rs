//! Messages and the streams they come in.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};

use crate::{Bus, BusError};

/// One message.
#[derive(Clone, Debug)]
pub struct Message {
    /// What it was published to.
    pub subject: String,
    /// What was published.
    pub payload: Bytes,
    pub(crate) reply: Option<(Arc<dyn Bus>, String)>,
}

impl Message {
    /// Whether the sender waits for answers.
    pub fn wants_reply(&self) -> bool {
        self.reply.is_some()
    }

    /// Answers the sender. Does nothing if it does not wait for answers.
    ///
    /// # Errors
    /// As [`Bus::publish`]; the sender will go on without this answer.
    pub async fn respond(&self, payload: impl Into<Bytes> + Send) -> Result<(), BusError> {
        match &self.reply {
            Some((bus, inbox)) => bus.publish(inbox, payload.into()).await,
            None => Ok(()),
        }
    }
}

/// The messages of one subscription, as a stream without end. Dropping it unsubscribes.
pub struct Subscription(BoxStream<'static, Message>);

impl Subscription {
    pub(crate) fn new(stream: impl Stream<Item = Message> + Send + 'static) -> Self {
        Self(stream.boxed())
    }

    /// The next message; `None` only after the bus was closed for good. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Message> {
        self.0.next().await
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}
