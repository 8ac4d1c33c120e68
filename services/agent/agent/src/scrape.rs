//! One scrape of Envoy, the agent and the application.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use agent_core::bootstrap::reached_at;
use agent_core::metrics::{
    MAX_OF_ONE, MAX_OF_SEVERAL, Merged, Part, ScrapeTarget, TEXT, accept, merge,
};

use tokio::sync::Semaphore;

use crate::http::{Ask, Beyond, ask};
use crate::metrics::Metrics;

/// How long a part may take if the scraper does not say.
const PATIENCE: Duration = Duration::from_secs(10);
/// Header by which Prometheus says how long it waits. Unit: seconds.
pub const TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";

/// What is scraped.
#[derive(Clone)]
pub struct Scraper {
    /// Envoy's listener of metrics.
    pub envoy: SocketAddr,
    /// Loopback, of the pod's family: where the application is scraped.
    pub loopback: IpAddr,
    /// The application's.
    pub targets: Vec<ScrapeTarget>,
    /// The agent's own.
    pub metrics: Metrics,
    /// Scrapes at once: each may hold some hundred megabytes, and anybody may ask.
    pub turns: Arc<Semaphore>,
}

/// Most scrapes at once; others wait.
pub const TURNS: usize = 4;

impl Scraper {
    /// Scrapes everything; a part that fails is left out and counted. `accepted` and `patience` are what the scraper said.
    pub async fn scrape(&self, accepted: Option<&str>, patience: Option<&str>) -> Merged {
        self.metrics.scrapes.inc();
        // Never closed.
        let _turn = self.turns.acquire().await;
        let bound = patience.and_then(|text| text.parse::<f64>().ok());
        let bound = bound.filter(|seconds| seconds.is_finite() && *seconds > 0.0);
        let bound = bound.map_or(PATIENCE, |seconds| {
            Duration::from_secs_f64(seconds.min(120.0))
        });
        let at = reached_at(self.envoy);
        let timeout = bound.as_secs_f64().to_string();
        let wanted = accept(accepted, self.targets.len());
        let envoy = self.part(
            "envoy",
            at,
            "/stats/prometheus",
            TEXT,
            &timeout,
            MAX_OF_ONE,
            bound,
        );
        let most = match self.targets.len() {
            0 | 1 => MAX_OF_ONE,
            _ => MAX_OF_SEVERAL,
        };
        let applications = self.targets.iter().map(|target| {
            let at = SocketAddr::new(self.loopback, target.port);
            self.part(
                "application",
                at,
                &target.path,
                wanted,
                &timeout,
                most,
                bound,
            )
        });
        let (envoy, applications) = futures::join!(envoy, futures::future::join_all(applications));
        let agent = self.metrics.text().unwrap_or_else(|error| {
            self.failed("agent", &error.to_string());
            Vec::new()
        });
        let envoy = envoy.map_or_else(Vec::new, |part| part.body);
        let applications: Vec<Part> = applications.into_iter().flatten().collect();
        merge(&[&envoy, &agent], &applications, accepted)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the three kinds of parts differ in all of them"
    )]
    async fn part(
        &self,
        kind: &str,
        at: SocketAddr,
        path: &str,
        accepted: &str,
        timeout: &str,
        most: usize,
        patience: Duration,
    ) -> Option<Part> {
        let host = at.to_string();
        let request = Ask {
            method: "GET",
            path,
            host: &host,
            headers: &[("accept", accepted), (TIMEOUT, timeout)],
            most,
            beyond: Beyond::Refuse,
            patience,
        };
        match ask(at, &request).await {
            Ok(answer) if answer.status == 200 => Some(Part {
                content_type: answer.header("content-type").unwrap_or(TEXT).to_owned(),
                body: answer.body.to_vec(),
            }),
            Ok(answer) => {
                self.failed(kind, &format!("status {}", answer.status));
                None
            }
            Err(error) => {
                self.failed(kind, &error.to_string());
                None
            }
        }
    }

    fn failed(&self, kind: &str, why: &str) {
        tracing::debug!(kind, error = why, "a part of a scrape failed");
        self.metrics
            .scrape_failures
            .with_label_values(&[kind])
            .inc();
    }
}
