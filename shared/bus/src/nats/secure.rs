//! The server over TLS.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ServerAddr};
use service_kit::tls::{Identities, Trust};
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// How long after a change of trust the connection may stay, so that not everybody comes back at once.
const SPREAD: Duration = Duration::from_secs(3);

/// With an identity, plaintext is for this machine alone.
pub(super) fn check(servers: &[ServerAddr]) -> Result<(), String> {
    let here = |host: &str| {
        host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    };
    match servers
        .iter()
        .find(|server| !server.tls_required() && !here(server.host()))
    {
        Some(server) => Err(format!(
            "{} is another machine, and nothing is encrypted on the way; write tls://{}:{}",
            server.host(),
            server.host(),
            server.port()
        )),
        None => Ok(()),
    }
}

/// Whether any of them is asked over TLS, so that a change of trust concerns the connection.
pub(super) fn is_spoken(servers: &[ServerAddr]) -> bool {
    servers.iter().any(ServerAddr::tls_required)
}

/// Follows the trust until it is dropped.
#[derive(Debug)]
pub(super) struct Follows(AbortHandle);

impl Follows {
    pub(super) fn start(client: Client, identities: Identities) -> Follows {
        Follows(tokio::spawn(follow(client, identities)).abort_handle())
    }
}

impl Drop for Follows {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects anew whenever the trust changes: the server is believed, and believes us, under the new one.
async fn follow(client: Client, mut identities: Identities) {
    let trust_of = |identities: &mut Identities| -> Option<Arc<Trust>> {
        let newest = identities.borrow_and_update();
        newest.as_ref().map(|identity| identity.trust().clone())
    };
    let mut known = trust_of(&mut identities);
    while identities.changed().await.is_ok() {
        let newest = trust_of(&mut identities);
        if newest == known {
            continue;
        }
        // The first one: the connection that is tried again and again succeeds by itself.
        let first = known.is_none();
        known = newest;
        if first {
            continue;
        }
        let share = rand::RngExt::random_range(&mut rand::rng(), 0.0..=1.0);
        sleep(SPREAD.mul_f64(share)).await;
        tracing::info!("connecting to the bus anew: the trust has changed");
        if client.force_reconnect().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_trust_concerns_tls_alone() {
        let servers = |urls: &[&str]| -> Vec<ServerAddr> {
            urls.iter().map(|url| url.parse().unwrap()).collect()
        };
        assert!(!is_spoken(&servers(&["nats://127.0.0.1:4222"])));
        assert!(is_spoken(&servers(&["tls://nats:4222"])));
        assert!(is_spoken(&servers(&[
            "nats://127.0.0.1:4222",
            "tls://nats:4222"
        ])));
    }
}
