//! Calls to other services, through the Envoy beside the caller.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const MAX_BODY: usize = 1 << 20;
/// Headers that travel from a request to the calls it causes.
const FORWARDED: [&str; 4] = ["end-user", "x-request-id", "traceparent", "tracestate"];

/// The mesh as an application sees it.
#[derive(Clone, Copy)]
pub struct Mesh {
    proxy: SocketAddr,
}

/// What became of a call.
pub enum Answer {
    /// The service answered.
    Ok(Value),
    /// It did not, and why.
    Failed(String),
}

impl Answer {
    /// As JSON, a failure as an object with `error`.
    pub fn into_value(self) -> Value {
        match self {
            Answer::Ok(value) => value,
            Answer::Failed(why) => json!({ "error": why }),
        }
    }
}

impl Mesh {
    /// A mesh behind a forward proxy.
    pub fn through(proxy: SocketAddr) -> Mesh {
        Mesh { proxy }
    }

    /// Gets JSON from a service on port 9080.
    pub async fn get(&self, service: &str, path: &str, from: &HeaderMap) -> Answer {
        match tokio::time::timeout(PATIENCE, self.try_get(service, path, from)).await {
            Ok(Ok(value)) => Answer::Ok(value),
            Ok(Err(error)) => Answer::Failed(format!("{error:#}")),
            Err(_) => Answer::Failed(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn try_get(&self, service: &str, path: &str, from: &HeaderMap) -> anyhow::Result<Value> {
        let stream = TcpStream::connect(self.proxy).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let authority = format!("{service}:9080");
        // The whole URL in the request line, as a forward proxy expects it.
        let mut request =
            Request::get(format!("http://{authority}{path}")).header("host", &authority);
        for name in FORWARDED {
            if let Some(value) = from.get(name) {
                request = request.header(name, value);
            }
        }
        let response = sender
            .send_request(request.body(Empty::<Bytes>::new())?)
            .await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        anyhow::ensure!(
            status.is_success(),
            "{status}: {}",
            String::from_utf8_lossy(&body).trim()
        );
        Ok(serde_json::from_slice(&body)?)
    }
}
