//! News between services: publish and subscribe, ask and answer, and small facts that expire.
//!
//! Must never know: what the news is about. And it never carries truth: everything on the bus is a hint that a receiver
//! checks with its source (gRPC, the store), because any message may come late, twice, or never. Losing the bus makes news
//! slower; no call here waits longer than a few seconds, and an error of a write means "unknown", not "no".
//!
//! Start reading at [`Bus`] and [`Kv`]; `memory` and `nats` are their two implementations, held to the same behaviour by
//! `tests/conformance.rs`.

mod error;
mod kv;
mod memory;
mod message;
mod nats;
mod subject;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use service_kit::tls::{Identities, ServerId};
use tokio::sync::watch;

pub use error::BusError;
pub use kv::{Kv, KvEvent, KvWatch};
pub use memory::MemoryBus;
pub use message::{Message, Subscription};
pub use nats::NatsBus;
pub use subject::{Pattern, check_subject, token};

/// Most bytes of one message or value: 1 000 000, as NATS takes 1 MiB with headers.
pub const MAX_PAYLOAD: usize = 1_000_000;

/// Most answers [`Bus::request_many`] gathers.
pub const MAX_REPLIES: usize = 10_000;

/// Messages a subscription or watch holds for a reader that is slow; further ones are lost.
pub const CAPACITY: usize = 4_096;

/// Whether the bus is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusState {
    /// Whether messages go out now.
    pub connected: bool,
    /// How often it connected. A higher number means that news may have been missed: ask the sources again.
    pub connects: u64,
}

/// How long and for how many answers to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// Wait no longer than this, measured from the call.
    pub timeout: Duration,
    /// Return as soon as so many answers are here; `None` waits for the whole time, as nobody knows how many will come.
    pub expect: Option<usize>,
}

/// News between services. See the crate's documentation for what it does not promise.
///
/// Subjects are words separated by dots (`galley.revision`). In patterns `*` stands for one word and a last `>` for one or
/// more. Use [`token`] to make a word of any text.
#[async_trait]
pub trait Bus: Debug + Send + Sync {
    /// Sends to whoever is subscribed now. `Ok` does not mean that anybody received it.
    ///
    /// # Errors
    /// [`BusError::Away`] at once if the bus is not connected; nothing is sent later.
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError>;

    /// Everything published from now on that matches. The subscription outlives disconnections; what was published
    /// meanwhile is lost. Works before the bus is connected.
    ///
    /// # Errors
    /// [`BusError::Invalid`] for a malformed pattern.
    async fn subscribe(&self, pattern: &str) -> Result<Subscription, BusError>;

    /// Asks everybody who is subscribed to `subject` and gathers the answers, in order of arrival. No answer is an empty
    /// list, returned at once if it is known that nobody listens. To answer, subscribe and use [`Message::respond`].
    ///
    /// # Errors
    /// [`BusError::Away`] at once if the bus is not connected.
    async fn request_many(
        &self,
        subject: &str,
        payload: Bytes,
        gather: Gather,
    ) -> Result<Vec<Bytes>, BusError>;

    /// A bucket of facts that expire `ttl` after they were last put; made if it does not exist. Returns at once, also if
    /// the bus is not connected. Everybody who uses a bucket must give the same `ttl`, at least one second.
    ///
    /// # Errors
    /// [`BusError::Invalid`] for a bucket name with characters other than letters, digits, `-` and `_`, or a `ttl` too short.
    async fn kv(&self, bucket: &str, ttl: Duration) -> Result<Arc<dyn Kv>, BusError>;

    /// Whether the bus is connected, now and later.
    fn state(&self) -> watch::Receiver<BusState>;
}

/// How to connect, beyond the URL. Ignored by `memory:`.
#[derive(Clone, Debug, Default)]
pub struct BusOptions {
    /// Our service ("pilot"): shown in the server's list of clients, and in the subjects where answers to us arrive (`_INBOX.pilot.>`), so
    /// that permissions can keep others from listening there.
    pub name: String,
    /// Who we are and who the server must be: with it the URL is `tls://`, and nothing is said in plaintext beyond this machine.
    pub tls: Option<BusTls>,
    /// A NATS credentials file (JWT and key).
    pub credentials: Option<PathBuf>,
    /// Certificates of the authorities that sign the server's certificate, as PEM.
    pub ca: Option<PathBuf>,
    /// Our certificate and key, as PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Mutual TLS with the server, by an identity that may change while connected: a new connection takes the newest, and when the trust
/// changes there is a new connection.
#[derive(Clone, Debug)]
pub struct BusTls {
    /// Who we are, and whom we believe.
    pub identities: Identities,
    /// Who the server must be.
    pub server: ServerId,
}

/// Connects to the bus at `url`: `memory:` is a new one inside this process (share the `Arc`), `nats://host:port[,host:port..]`
/// or `tls://..` a NATS server. Returns at once; NATS is connected in the background, for as long as it takes.
///
/// # Errors
/// [`BusError::Url`] if the URL or the options cannot be used.
pub async fn connect(url: &str, options: &BusOptions) -> Result<Arc<dyn Bus>, BusError> {
    match url.split_once(':') {
        Some(("memory", "" | "//")) => Ok(Arc::new(MemoryBus::new())),
        Some(("nats" | "tls", _)) => Ok(Arc::new(NatsBus::connect(url, options).await?)),
        _ => Err(BusError::Url {
            url: error::without_password(url),
            reason: "want memory: or nats://host:4222".into(),
        }),
    }
}
