//! Port 15020: readiness, metrics, probes of the application, drain and end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_core::capture::{Family, passthrough};
use agent_core::options::Kind;
use agent_core::probes::Probes;
use agent_core::readiness::{self, NotReady, Readiness};
use agent_core::{dns, drain};
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse as _, Json, Response};
use http::{HeaderMap, Method, StatusCode, header};
use parking_lot::Mutex;
use serde_json::json;
use service_kit::Stop;
use tokio::sync::watch;

use crate::envoy::Admin;
use crate::probe::Prober;
use crate::scrape::{Scraper, TIMEOUT};

/// Everything the port answers with.
#[derive(Clone)]
pub struct Status(Arc<Inner>);

struct Inner {
    admin: Admin,
    kind: Kind,
    probes: Probes,
    prober: Prober,
    scraper: Scraper,
    seen: Mutex<Readiness>,
    /// The table of names; `None`: names are not answered.
    names: Option<watch::Receiver<Option<Arc<dns::Table>>>>,
    /// The agent was told to end.
    stop: Stop,
    /// Ends everything at once.
    quit: Stop,
    drained: AtomicBool,
    ready_told: AtomicBool,
}

/// What the port needs.
pub struct Parts {
    /// Envoy's administration.
    pub admin: Admin,
    /// What kind of proxy.
    pub kind: Kind,
    /// The application's probes.
    pub probes: Probes,
    /// Who asks them.
    pub prober: Prober,
    /// Metrics.
    pub scraper: Scraper,
    /// The table of names; `None`: names are not answered.
    pub names: Option<watch::Receiver<Option<Arc<dns::Table>>>>,
    /// The agent was told to end.
    pub stop: Stop,
    /// Ends everything at once.
    pub quit: Stop,
}

impl Status {
    /// Nothing was seen of Envoy yet.
    pub fn new(parts: Parts) -> Status {
        Status(Arc::new(Inner {
            admin: parts.admin,
            kind: parts.kind,
            probes: parts.probes,
            prober: parts.prober,
            scraper: parts.scraper,
            seen: Mutex::default(),
            names: parts.names,
            stop: parts.stop,
            quit: parts.quit,
            drained: AtomicBool::new(false),
            ready_told: AtomicBool::new(false),
        }))
    }

    /// The routes.
    pub fn router(&self) -> Router {
        // One handler: which path is meant is decided letter by letter, before anything decodes or normalizes it.
        Router::new().fallback(handle).with_state(self.clone())
    }

    /// Whether a drain was asked for over `/drain` and begun.
    pub fn drained(&self) -> bool {
        self.0.drained.load(Ordering::Acquire)
    }

    /// Whether the proxy is ready.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn ready(&self) -> Result<(), NotReady> {
        let inner = &self.0;
        let settled = inner.seen.lock().settled();
        let observed = if settled || inner.stop.triggered() {
            Ok(())
        } else {
            match inner.admin.stats(readiness::FILTER).await {
                Ok(text) => inner.seen.lock().observe(&text),
                Err(error) => Err(NotReady::Silent(error)),
            }
        };
        let names_missing = inner
            .names
            .as_ref()
            .is_some_and(|names| names.borrow().is_none());
        let stopping = inner.stop.triggered() || self.drained();
        let verdict = Readiness::verdict(observed, stopping, names_missing);
        if verdict.is_ok() && !inner.ready_told.swap(true, Ordering::Relaxed) {
            tracing::info!("Envoy is ready");
        }
        verdict
    }

    async fn drain(&self) -> Response {
        let path = drain::path(self.0.kind, true);
        match self.0.admin.text("POST", &path).await {
            Ok(_) => {
                self.0.drained.store(true, Ordering::Release);
                tracing::info!("draining, as asked over /drain");
                text(StatusCode::OK, "OK\n")
            }
            Err(error) => {
                tracing::warn!(error, "Envoy cannot be told to drain");
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "Envoy cannot be told to drain, see the log\n",
                )
            }
        }
    }

    async fn scrape(&self, headers: &HeaderMap) -> Response {
        let value = |name: &str| headers.get(name)?.to_str().ok();
        let merged = self.0.scraper.scrape(value("accept"), value(TIMEOUT)).await;
        ([(header::CONTENT_TYPE, merged.content_type)], merged.body).into_response()
    }

    fn names(&self) -> Response {
        let Some(names) = &self.0.names else {
            return text(StatusCode::NOT_FOUND, "names are not answered here\n");
        };
        let Some(table) = names.borrow().clone() else {
            return text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the table of names has not come\n",
            );
        };
        let names: serde_json::Map<_, _> = table
            .names()
            .map(|(name, addresses)| (name.to_owned(), json!(addresses)))
            .collect();
        Json(json!({ "table": names })).into_response()
    }
}

async fn handle(
    State(status): State<Status>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let path = request.uri().path();
    match path {
        "/healthz/ready" => match status.ready().await {
            Ok(()) => text(StatusCode::OK, ""),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
        },
        "/metrics" | "/stats/prometheus" => status.scrape(request.headers()).await,
        "/quitquitquit" | "/drain" | "/debug/ndsz" if !is_local(peer) => {
            text(StatusCode::FORBIDDEN, "only from this machine\n")
        }
        "/quitquitquit" | "/drain" if request.method() != Method::POST => {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only POST\n");
            refusal
                .headers_mut()
                .insert(header::ALLOW, http::HeaderValue::from_static("POST"));
            refusal
        }
        "/quitquitquit" => {
            tracing::info!("ending at once, as asked over /quitquitquit");
            status.0.quit.trigger();
            text(StatusCode::OK, "OK\n")
        }
        "/drain" => status.drain().await,
        "/debug/ndsz" => status.names(),
        path if Probes::is_below(path) => match status.0.probes.get(path) {
            Some(probe) => status.0.prober.ask(probe, request.headers()).await,
            None => text(StatusCode::BAD_REQUEST, "no such probe\n"),
        },
        _ => text(StatusCode::NOT_FOUND, "not found\n"),
    }
}

/// Whether a request comes from this machine. The address from which the proxy connects to applications is on loopback and stands for anybody:
/// what the proxy lets through to this port comes from there.
fn is_local(peer: SocketAddr) -> bool {
    let ip = peer.ip().to_canonical();
    ip.is_loopback() && ip != passthrough(Family::V4)
}

fn text(status: StatusCode, text: &'static str) -> Response {
    (status, text).into_response()
}
