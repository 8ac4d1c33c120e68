//! Pilot's metrics: Istio's names where Istio has them, every series there from the start.

use std::sync::Arc;
use std::time::Duration;

use mesh_types::Revision;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use xds_core::{Response, TypeId};

/// Buckets of times in seconds.
const SECONDS: &[f64] = &[
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0,
];

/// Every metric, shared.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    connected: IntGauge,
    pushes: [IntCounter; TypeId::COUNT],
    push_bytes: [IntCounter; TypeId::COUNT],
    push_resources: [IntCounter; TypeId::COUNT],
    rejects: IntCounter,
    rejects_by_type: [IntCounter; TypeId::COUNT],
    expired: [IntCounter; TypeId::COUNT],
    unknown_types: IntCounter,
    refused: IntCounter,
    revision: IntGauge,
    classes: IntGauge,
    build_seconds: Histogram,
    changes: IntCounter,
    galley_connected: IntGauge,
    galley_reconnects: IntCounter,
    galley_divergences: IntCounter,
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
        let by_type = |name: &str, help: &str| {
            let family = IntCounterVec::new(Opts::new(name, help), &["type"])?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(
                TypeId::ALL.map(|type_id| family.with_label_values(&[type_id.label()])),
            )
        };
        let build_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "pilot_pushcontext_init_seconds",
                "Time to turn a change set into snapshots.",
            )
            .buckets(SECONDS.to_vec()),
        )?;
        registry.register(Box::new(build_seconds.clone()))?;
        Ok(Metrics(Arc::new(Inner {
            connected: gauge("pilot_xds", "Proxies connected by xDS.")?,
            pushes: by_type("pilot_xds_pushes", "Responses sent, by type.")?,
            push_bytes: by_type(
                "flotilla_pilot_sent_bytes_total",
                "Bytes of responses sent, by type.",
            )?,
            push_resources: by_type(
                "flotilla_pilot_sent_resources_total",
                "Resources sent, by type.",
            )?,
            rejects: counter(
                "pilot_total_xds_rejects",
                "Responses that proxies rejected.",
            )?,
            rejects_by_type: by_type(
                "flotilla_pilot_rejects_total",
                "Responses that proxies rejected, by type.",
            )?,
            expired: by_type(
                "pilot_xds_expired_nonce",
                "Requests with a nonce that is not the latest, by type.",
            )?,
            unknown_types: counter(
                "flotilla_pilot_unknown_type_requests_total",
                "Requests for types that are not served.",
            )?,
            refused: counter(
                "flotilla_pilot_refused_streams_total",
                "Streams ended for what the client sent.",
            )?,
            revision: gauge(
                "flotilla_pilot_revision",
                "Revision that every snapshot holds.",
            )?,
            classes: gauge(
                "flotilla_pilot_classes",
                "Classes of proxies that share their outbound configuration.",
            )?,
            changes: counter("flotilla_pilot_change_sets_total", "Change sets applied.")?,
            galley_connected: gauge(
                "flotilla_pilot_galley_connected",
                "1 while the stream from Galley is up.",
            )?,
            galley_reconnects: counter(
                "flotilla_pilot_galley_reconnects_total",
                "Times the stream from Galley was opened.",
            )?,
            galley_divergences: counter(
                "flotilla_pilot_galley_divergences_total",
                "Times the digest of a revision differed and everything was fetched again.",
            )?,
            build_seconds,
        })))
    }

    /// A response was handed to a stream.
    pub fn pushed(&self, response: &Response) {
        let index = response.type_id.index();
        self.0.pushes[index].inc();
        self.0.push_bytes[index].inc_by(response.bytes as u64);
        self.0.push_resources[index].inc_by(response.resources as u64);
    }

    /// A proxy rejected a response.
    pub fn rejected(&self, type_id: TypeId) {
        self.0.rejects.inc();
        self.0.rejects_by_type[type_id.index()].inc();
    }

    /// A request had an old nonce.
    pub fn expired_nonce(&self, type_id: TypeId) {
        self.0.expired[type_id.index()].inc();
    }

    /// A type was asked for that is not served.
    pub fn unknown_type(&self) {
        self.0.unknown_types.inc();
    }

    /// A stream was ended for what the client sent.
    pub fn refused(&self) {
        self.0.refused.inc();
    }

    /// A proxy connected.
    pub fn connected(&self, proxy: &str, id: u64) {
        tracing::info!(proxy, id, "connected");
        self.0.connected.inc();
    }

    /// A proxy left.
    pub fn disconnected(&self) {
        self.0.connected.dec();
    }

    /// A revision was built.
    pub fn built(&self, revision: Revision, took: Duration, classes: usize) {
        self.0
            .revision
            .set(i64::try_from(revision.0).unwrap_or(i64::MAX));
        self.0
            .classes
            .set(i64::try_from(classes).unwrap_or(i64::MAX));
        self.0.changes.inc();
        self.0.build_seconds.observe(took.as_secs_f64());
    }

    /// The stream from Galley is up or down.
    pub fn galley(&self, connected: bool) {
        self.0.galley_connected.set(connected.into());
        if connected {
            self.0.galley_reconnects.inc();
        }
    }

    /// A digest differed.
    pub fn diverged(&self) {
        self.0.galley_divergences.inc();
    }
}
