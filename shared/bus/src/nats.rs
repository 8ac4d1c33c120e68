//! The bus over a NATS server.

mod kv;
mod secure;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::{Client, ConnectOptions, Event, ServerAddr, StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::{check_size, without_password};
use crate::subject::check_bucket;
use crate::{
    Bus, BusError, BusOptions, BusState, CAPACITY, Gather, Kv, MAX_REPLIES, Message, Pattern,
    Subscription, check_subject,
};

/// Longest wait for the server's answer to one request.
const PATIENCE: Duration = Duration::from_secs(2);

/// Longest wait for room in the client's own queue.
const QUEUE: Duration = Duration::from_millis(500);

/// Longest delay between two attempts to connect.
const RECONNECT: Duration = Duration::from_secs(4);

/// A NATS server as bus. Clones share the connection.
#[derive(Clone, Debug)]
pub struct NatsBus {
    client: Client,
    jetstream: jetstream::Context,
    state: watch::Sender<BusState>,
    _follows: Option<Arc<secure::Follows>>,
}

impl NatsBus {
    /// Connects in the background to one of the servers in `url` (`nats://a:4222,b:4222`), and again whenever the connection
    /// breaks, for ever.
    ///
    /// # Errors
    /// [`BusError::Url`] if the URL or a file in `options` cannot be used.
    pub async fn connect(url: &str, options: &BusOptions) -> Result<Self, BusError> {
        let wrong = |reason: String| BusError::Url {
            url: without_password(url),
            reason,
        };
        let servers = servers(url).map_err(|error| wrong(error.to_string()))?;
        let identity = options.tls.as_ref();
        if identity.is_some() {
            secure::check(&servers).map_err(wrong)?;
        }
        let state = watch::Sender::new(BusState::default());
        let mut connect = ConnectOptions::new()
            .name(&options.name)
            .custom_inbox_prefix(inbox(&options.name))
            .retry_on_initial_connect()
            .max_reconnects(None)
            .connection_timeout(PATIENCE)
            .request_timeout(Some(PATIENCE))
            .ping_interval(Duration::from_secs(5))
            .subscription_capacity(CAPACITY)
            .reconnect_delay_callback(delay)
            .event_callback({
                let state = state.clone();
                move |event| {
                    heard(&state, &event);
                    std::future::ready(())
                }
            });
        if let Some(tls) = identity {
            let config =
                service_kit::tls::client_config(tls.identities.clone(), tls.server.clone());
            connect = connect
                .tls_client_config(config)
                .require_tls(secure::is_spoken(&servers));
        }
        if let Some(ca) = &options.ca {
            connect = connect.add_root_certificates(ca.clone()).require_tls(true);
        }
        if let Some((certificate, key)) = &options.identity {
            connect = connect.add_client_certificate(certificate.clone(), key.clone());
        }
        if let Some(file) = &options.credentials {
            let named =
                |error: std::io::Error| wrong(format!("credentials {}: {error}", file.display()));
            connect = connect.credentials_file(file).await.map_err(named)?;
        }
        let tls_spoken = secure::is_spoken(&servers);
        let client = connect
            .connect(servers)
            .await
            .map_err(|error| wrong(error.to_string()))?;
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(PATIENCE)
            .build(client.clone());
        let follows = identity.filter(|_| tls_spoken).map(|tls| {
            let identities = tls.identities.clone();
            Arc::new(secure::Follows::start(client.clone(), identities))
        });
        Ok(Self {
            client,
            jetstream,
            state,
            _follows: follows,
        })
    }

    fn connected(&self) -> Result<(), BusError> {
        if self.state.borrow().connected {
            Ok(())
        } else {
            Err(BusError::Away)
        }
    }
}

/// `nats://a:1,b:2`: the scheme of the first goes for all.
fn servers(url: &str) -> std::io::Result<Vec<ServerAddr>> {
    let (scheme, hosts) = url.split_once("://").unwrap_or(("nats", url));
    hosts
        .split(',')
        .map(|host| {
            let server: ServerAddr = format!("{scheme}://{}", host.trim()).parse()?;
            if server.host().is_empty() {
                return Err(std::io::Error::other(
                    "a host is missing, want nats://host:4222",
                ));
            }
            Ok(server)
        })
        .collect()
}

/// Where answers to a service arrive.
fn inbox(name: &str) -> String {
    if name.is_empty() {
        "_INBOX".into()
    } else {
        format!("_INBOX.{}", crate::token(name))
    }
}

/// Full jitter below a ceiling that doubles.
fn delay(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.min(8)).unwrap_or(8);
    let ceiling = (Duration::from_millis(50) * 2u32.pow(doublings)).min(RECONNECT);
    ceiling.mul_f64(rand::RngExt::random_range(&mut rand::rng(), 0.2..=1.0))
}

fn heard(state: &watch::Sender<BusState>, event: &Event) {
    match event {
        Event::Connected => {
            tracing::info!("bus connected");
            state.send_modify(|state| {
                state.connected = true;
                state.connects += 1;
            });
        }
        Event::Disconnected | Event::Closed => {
            tracing::warn!("bus is away; news will be slow");
            state.send_modify(|state| state.connected = false);
        }
        Event::SlowConsumer(_) => tracing::warn!("a slow subscriber loses messages"),
        Event::LameDuckMode | Event::Draining => tracing::info!("the bus server is about to stop"),
        Event::ServerError(error) => tracing::warn!(%error, "bus server"),
        Event::ClientError(error) => tracing::debug!(%error, "bus client"),
    }
}

#[async_trait]
impl Bus for NatsBus {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check_subject(subject)?;
        check_size(&payload)?;
        // NATS's client would queue the message and deliver it late, when it is no news any more.
        self.connected()?;
        answer(timeout(QUEUE, self.client.publish(subject.to_owned(), payload)).await)
    }

    async fn subscribe(&self, pattern: &str) -> Result<Subscription, BusError> {
        let pattern = Pattern::new(pattern)?;
        let messages =
            answer(timeout(QUEUE, self.client.subscribe(pattern.as_str().to_owned())).await)?;
        let bus: Arc<dyn Bus> = Arc::new(self.clone());
        Ok(Subscription::new(messages.map(move |message| Message {
            subject: message.subject.to_string(),
            payload: message.payload,
            reply: message.reply.map(|inbox| (bus.clone(), inbox.to_string())),
        })))
    }

    async fn request_many(
        &self,
        subject: &str,
        payload: Bytes,
        gather: Gather,
    ) -> Result<Vec<Bytes>, BusError> {
        check_subject(subject)?;
        check_size(&payload)?;
        self.connected()?;
        let deadline = Instant::now() + gather.timeout;
        let inbox = self.client.new_inbox();
        let mut answers = answer(timeout(QUEUE, self.client.subscribe(inbox.clone())).await)?;
        let asked = self
            .client
            .publish_with_reply(subject.to_owned(), inbox, payload);
        answer(timeout(QUEUE, asked).await)?;
        let mut gathered = Vec::new();
        let most = gather.expect.unwrap_or(MAX_REPLIES).min(MAX_REPLIES);
        while gathered.len() < most {
            match timeout_at(deadline, answers.next()).await {
                Ok(Some(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => break,
                Ok(Some(message)) => gathered.push(message.payload),
                Ok(None) | Err(_) => break,
            }
        }
        Ok(gathered)
    }

    async fn kv(&self, bucket: &str, ttl: Duration) -> Result<Arc<dyn Kv>, BusError> {
        check_bucket(bucket, ttl)?;
        Ok(kv::NatsKv::start(self.clone(), bucket, ttl))
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.state.subscribe()
    }
}

/// The answer of the client or the server, or what its absence means.
fn answer<T, E: std::fmt::Display>(
    outcome: Result<Result<T, E>, tokio::time::error::Elapsed>,
) -> Result<T, BusError> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(BusError::Unknown(error.to_string())),
        Err(_) => Err(BusError::Unknown("timed out".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_scheme_goes_for_all_servers() {
        let list = servers("tls://user:pass@a:4222, b:4223").unwrap();
        let list: Vec<_> = list
            .iter()
            .map(|s| (s.scheme().to_owned(), s.host().to_owned(), s.port()))
            .collect();
        assert_eq!(
            list,
            [
                ("tls".into(), "a".into(), 4222),
                ("tls".into(), "b".into(), 4223)
            ]
        );
        assert!(servers("nats://").is_err());
    }

    #[test]
    fn delays_stay_in_bounds() {
        for attempt in [0, 1, 5, 1_000_000, usize::MAX] {
            assert!(delay(attempt) <= RECONNECT && delay(attempt) >= Duration::from_millis(10));
        }
    }
}
