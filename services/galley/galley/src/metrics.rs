//! Galley's metrics: the old galley's names where it has them.

use std::sync::Arc;
use std::time::Duration;

use galley_core::Snapshot;
use mesh_types::{Code, Finding, Kind, Level};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Buckets of times in seconds.
const SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Every metric, shared.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    passed: IntCounter,
    failed: IntCounterVec,
    findings: IntGaugeVec,
    instances: IntGaugeVec,
    published: IntCounter,
    commit_seconds: Histogram,
    revision: IntGauge,
    writer: IntGauge,
    store_errors: IntCounter,
    clients: IntGauge,
    acks: IntCounter,
    nacks: IntCounter,
    sent_bytes: IntCounter,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// A name that is taken in `registry`.
    pub fn new(registry: &Registry) -> prometheus::Result<Metrics> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let failed = IntCounterVec::new(
            Opts::new(
                "galley_validation_failed",
                "Objects refused, by code of the finding.",
            ),
            &["group", "resource", "reason"],
        )?;
        registry.register(Box::new(failed.clone()))?;
        let commit_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "flotilla_galley_commit_seconds",
                "Time to store a change set as a revision.",
            )
            .buckets(SECONDS.to_vec()),
        )?;
        registry.register(Box::new(commit_seconds.clone()))?;
        let findings = gauges(
            "flotilla_galley_findings",
            "Findings that hold now, by code and level.",
            &["code", "level"],
        )?;
        for code in Code::ALL {
            findings.with_label_values(&[code.as_str(), level(code.level())]);
        }
        Ok(Metrics(Arc::new(Inner {
            passed: counter(
                "galley_validation_passed",
                "Objects accepted into a revision, new or changed.",
            )?,
            failed,
            findings,
            instances: gauges(
                "galley_runtime_state_type_instances_total",
                "Objects distributed, by collection.",
                &["collection"],
            )?,
            published: counter(
                "galley_runtime_processor_snapshots_published_total",
                "Revisions published to subscribers.",
            )?,
            revision: gauge("flotilla_galley_revision", "The newest revision.")?,
            writer: gauge("flotilla_galley_writer", "1 while this Galley writes.")?,
            store_errors: counter(
                "flotilla_galley_store_errors_total",
                "Times the store could not be used.",
            )?,
            clients: gauge("istio_mcp_clients_total", "Subscribers connected.")?,
            acks: counter(
                "istio_mcp_request_acks_total",
                "Responses that subscribers took.",
            )?,
            nacks: counter(
                "istio_mcp_request_nacks_total",
                "Responses that subscribers rejected.",
            )?,
            sent_bytes: counter(
                "flotilla_galley_sent_bytes_total",
                "Bytes of responses sent to subscribers.",
            )?,
            commit_seconds,
        })))
    }

    /// Something new was found in a source.
    pub fn found(&self, finding: &Finding) {
        if finding.is_error() {
            let kind = finding.key.as_ref().map(|key| key.kind);
            let group = kind.map_or("", Kind::group);
            let resource = kind.map_or("", Kind::as_str);
            self.0
                .failed
                .with_label_values(&[group, resource, finding.code.as_str()])
                .inc();
        }
    }

    /// These findings hold now.
    pub fn findings<'a>(&self, findings: impl IntoIterator<Item = &'a Finding>) {
        let mut counts = std::collections::BTreeMap::new();
        for finding in findings {
            *counts.entry((finding.code, finding.level)).or_insert(0_i64) += 1;
        }
        for code in Code::ALL {
            for level_of in [Level::Info, Level::Warning, Level::Error] {
                let count = counts.get(&(*code, level_of)).copied().unwrap_or(0);
                if count > 0 || level_of == code.level() {
                    self.0
                        .findings
                        .with_label_values(&[code.as_str(), level(level_of)])
                        .set(count);
                } else {
                    // Levels that a code has rarely appear and vanish again.
                    let _ = self
                        .0
                        .findings
                        .remove_label_values(&[code.as_str(), level(level_of)]);
                }
            }
        }
    }

    /// A change set was stored, with so many objects that are new or changed.
    pub fn committed(&self, objects: usize, took: Duration) {
        self.0.passed.inc_by(objects as u64);
        self.0.commit_seconds.observe(took.as_secs_f64());
    }

    /// A revision was published.
    pub fn published(&self, snapshot: &Snapshot) {
        self.0.published.inc();
        self.0.revision.set(count(snapshot.revision));
        for (kind, collection) in &snapshot.collections {
            self.0
                .instances
                .with_label_values(&[kind.as_str()])
                .set(count(collection.items.len() as u64));
        }
    }

    /// Whether this Galley writes.
    pub fn writer(&self, writes: bool) {
        self.0.writer.set(writes.into());
    }

    /// The store could not be used.
    pub fn store_error(&self) {
        self.0.store_errors.inc();
    }

    /// A subscriber came or left.
    pub fn client(&self, came: bool) {
        if came {
            self.0.clients.inc();
        } else {
            self.0.clients.dec();
        }
    }

    /// A response was taken or rejected.
    pub fn answered(&self, taken: bool) {
        if taken {
            self.0.acks.inc();
        } else {
            self.0.nacks.inc();
        }
    }

    /// A response was sent.
    pub fn sent(&self, bytes: usize) {
        self.0.sent_bytes.inc_by(bytes as u64);
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}

fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
