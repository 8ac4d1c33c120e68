//! The keys of the configured issuer: read from a file or fetched at the start, and again every so often.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use citadel_core::policy::jwks::{Jwks, MAX_JWKS};
use citadel_core::policy::jwt::JwtRule;
use hyper::Method;
use rustls::ClientConfig;
use serde::Deserialize;
use service_kit::{Backoff, Ready, Stop};
use tokio::sync::watch;

use crate::https::{self, Target};

/// Where the keys come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file, for issuers that cannot be reached.
    File(PathBuf),
    /// The rule's `jwks_uri`, or what the issuer's discovery document names.
    Url(Arc<ClientConfig>),
}

/// The newest keys; `None` before there were any.
pub type Keys = watch::Receiver<Option<Arc<Jwks>>>;

/// Keeps the keys fresh until `stop`. Keys that were read once stay in use while newer ones cannot be had.
pub async fn follow(
    rule: JwtRule,
    source: Source,
    period: Duration,
    keys: watch::Sender<Option<Arc<Jwks>>>,
    ready: Ready,
    stop: Stop,
) {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    loop {
        let wait = match read(&rule, &source).await {
            Ok(found) => {
                backoff.reset();
                ready.clear_note("jwks");
                if found.skipped() > 0 {
                    tracing::debug!(
                        skipped = found.skipped(),
                        "keys of the issuer that no token is verified with"
                    );
                }
                keys.send_replace(Some(Arc::new(found)));
                period
            }
            Err(reason) => {
                tracing::warn!(issuer = rule.issuer, %reason, "the keys of the JWT issuer cannot be read, trying again");
                let known = keys.borrow().is_some();
                let state = if known {
                    "the last known keys are used"
                } else {
                    "its tokens are refused"
                };
                ready.note(
                    "jwks",
                    format!("the keys of {} cannot be read; {state}", rule.issuer),
                );
                backoff.next_delay()
            }
        };
        tokio::select! {
            () = stop.wait() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn read(rule: &JwtRule, source: &Source) -> Result<Jwks, String> {
    let document = match source {
        Source::File(path) => {
            let size = tokio::fs::metadata(path).await.map(|found| found.len());
            match size {
                Ok(size) if size > MAX_JWKS as u64 => {
                    return Err(format!("{} is too long", path.display()));
                }
                Ok(_) => tokio::fs::read(path).await,
                Err(error) => Err(error),
            }
            .map_err(|error| format!("{}: {error}", path.display()))?
        }
        Source::Url(tls) => {
            let url = match &rule.jwks_uri {
                Some(url) => Target::parse(url).map_err(|error| error.to_string())?,
                None => discover(tls, &rule.issuer).await?,
            };
            get(tls, &url).await?
        }
    };
    // RSA keys are converted once each: short, but not on a worker that serves.
    tokio::task::spawn_blocking(move || Jwks::parse(&document))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

/// Where the issuer says that its keys are (OpenID Connect Discovery 1.0, section 4).
async fn discover(tls: &Arc<ClientConfig>, issuer: &str) -> Result<Target, String> {
    #[derive(Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
    }
    let url = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    let url = Target::parse(&url).map_err(|error| error.to_string())?;
    let body = get(tls, &url).await?;
    let document: Document = serde_json::from_slice(&body)
        .map_err(|error| format!("the discovery document cannot be read: {error}"))?;
    if document.issuer != issuer {
        return Err("the discovery document is of another issuer".into());
    }
    let keys = Target::parse(&document.jwks_uri).map_err(|error| error.to_string())?;
    // What an operator wrote may be this machine; what a document says may not lead there.
    if keys.is_loopback() && !url.is_loopback() {
        return Err("the discovery document leads into this machine".into());
    }
    Ok(keys)
}

async fn get(tls: &Arc<ClientConfig>, url: &Target) -> Result<Vec<u8>, String> {
    let answer = https::ask(tls, url, Method::GET, &[], Vec::new(), MAX_JWKS).await;
    match answer.map_err(|error| error.to_string())? {
        (status, body) if status.is_success() => Ok(body.to_vec()),
        (status, _) => Err(format!("the answer has status {status}")),
    }
}
