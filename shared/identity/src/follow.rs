//! Following Citadel's trust bundle.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::citadel::trust_client::TrustClient;
use mesh_api::citadel::{TrustBundle, WatchRequest};
use mesh_types::TrustDomain;
use service_kit::tls::{Trust, read_trust};
use service_kit::{Backoff, Stop};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Code, Streaming};

use crate::ca_client::{CaClient, SignError};

/// Largest bundle that is taken. Unit: bytes.
const MAX_BUNDLE: usize = 8 << 20;
/// How long to leave an authority alone that has no bundle to follow.
const ABSENT: Duration = Duration::from_secs(5 * 60);
/// How long an older generation than the one that is held must be the newest there is, before it counts: a replica that lags catches up in
/// that time, and one with another past does not.
const OLDER: Duration = Duration::from_secs(30);

/// A bundle that was read.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    pub bundle: Arc<TrustBundle>,
    pub trust: Arc<Trust>,
}

/// Keeps the newest bundle in `out` until `stop`. `known` is whom we believe at the time.
pub(crate) async fn follow(
    ca: CaClient,
    domain: TrustDomain,
    known: watch::Receiver<Option<Arc<Trust>>>,
    out: watch::Sender<Option<Followed>>,
    stop: Stop,
) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(15));
    let mut attempt = 0;
    loop {
        attempt += 1;
        let known = known.borrow().clone();
        let mut heard = false;
        let ended = tokio::select! {
            () = stop.wait() => return,
            ended = stream(&ca, &domain, known.as_ref(), attempt, &out, &mut heard) => ended,
        };
        if heard {
            backoff.reset();
            attempt = 0;
        }
        let wait = match &ended {
            SignError::Refused {
                code: Code::Unimplemented,
                ..
            } => ABSENT,
            _ => backoff.next_delay(),
        };
        tracing::debug!(error = %ended, ?wait, "the trust bundle is not followed now");
        tokio::select! { () = stop.wait() => return, () = sleep(wait) => {} }
    }
}

async fn stream(
    ca: &CaClient,
    domain: &TrustDomain,
    known: Option<&Arc<Trust>>,
    attempt: u32,
    out: &watch::Sender<Option<Followed>>,
    heard: &mut bool,
) -> SignError {
    let opened = async {
        let trust = ca.trust(known, attempt).await?;
        let digest = out.borrow().as_ref().map(|held| held.bundle.digest.clone());
        let request = WatchRequest {
            digest: digest.unwrap_or_default(),
        };
        TrustClient::new(ca.channel(trust.into()))
            .max_decoding_message_size(MAX_BUNDLE)
            .watch(request)
            .await
            .map_err(|status| ca.explain(&status))
    };
    let mut bundles: Streaming<TrustBundle> = match opened.await {
        Ok(answer) => answer.into_inner(),
        Err(error) => return error,
    };
    *heard = true;
    let mut doubtful: Option<(Instant, Followed)> = None;
    loop {
        let due = async {
            match &doubtful {
                Some((due, _)) => sleep_until(*due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {
                if let Some((_, followed)) = doubtful.take() {
                    tracing::warn!(generation = followed.bundle.generation, "Citadel stays at an older trust bundle: it counts now");
                    out.send_replace(Some(followed));
                }
            }
            next = bundles.message() => match next {
                Ok(Some(bundle)) => {
                    let Some(followed) = read(domain, bundle) else { continue };
                    doubtful = None;
                    let held = out.borrow().as_ref().map(|held| held.bundle.generation);
                    if held.is_some_and(|held| followed.bundle.generation < held) {
                        doubtful = Some((Instant::now() + OLDER, followed));
                    } else {
                        tracing::info!(generation = followed.bundle.generation, roots = followed.bundle.roots.len(), "trust bundle");
                        out.send_replace(Some(followed));
                    }
                }
                Ok(None) => return SignError::Unavailable("Citadel ended the stream".into()),
                Err(status) => return ca.explain(&status),
            },
        }
    }
}

/// A bundle that cannot be used is said so, and what is held stays.
fn read(domain: &TrustDomain, bundle: TrustBundle) -> Option<Followed> {
    if bundle.trust_domain != domain.as_str() {
        tracing::error!(
            theirs = bundle.trust_domain,
            ours = domain.as_str(),
            "Citadel's trust bundle is of another trust domain; check --trust-domain"
        );
        return None;
    }
    match read_trust(
        domain.clone(),
        &bundle.roots.concat(),
        &bundle.crls.concat(),
    ) {
        Ok(trust) => Some(Followed {
            bundle: Arc::new(bundle),
            trust: Arc::new(trust),
        }),
        Err(error) => {
            tracing::error!(%error, "Citadel's trust bundle cannot be used; the one before stays");
            None
        }
    }
}
