//! Asking a service's HTTP API.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;

/// Where Pilot's API is.
#[derive(Debug, Clone, clap::Args)]
pub struct PilotAddress {
    /// Address of any Pilot's HTTP API
    #[arg(
        long,
        env = "FLOTILLA_PILOT",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub pilot: String,
}

/// Gets JSON; an error says what the service said.
pub async fn get<T: DeserializeOwned>(
    base: &str,
    path: &str,
    patience: Duration,
) -> anyhow::Result<T> {
    let base = if base.contains("://") {
        base.to_owned()
    } else {
        format!("http://{base}")
    };
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let (status, body) = fetch(&url, patience).await?;
    if !status.is_success() {
        let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = said["message"].as_str().map_or_else(
            || String::from_utf8_lossy(&body).into_owned(),
            str::to_owned,
        );
        bail!("{message} ({status} from {url})");
    }
    serde_json::from_slice(&body)
        .with_context(|| format!("{url} answered something else than expected"))
}

/// Gets text, with the status it came with.
pub async fn text(url: &str, patience: Duration) -> anyhow::Result<(u16, String)> {
    let (status, body) = fetch(url, patience).await?;
    Ok((status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
}

async fn fetch(url: &str, patience: Duration) -> anyhow::Result<(StatusCode, Bytes)> {
    let request = Request::get(url)
        .body(Empty::<Bytes>::new())
        .with_context(|| format!("{url} is no URL"))?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answer = async {
        let response = client.request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok::<_, anyhow::Error>((status, body))
    };
    tokio::time::timeout(patience, answer)
        .await
        .map_err(|_| anyhow!("{url} did not answer within {}s", patience.as_secs()))?
        .with_context(|| {
            format!("{url} cannot be reached; is it running, and is this its address?")
        })
}
