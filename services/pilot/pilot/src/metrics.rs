//! Pilot's metrics: Istio's names where Istio has them, every series there from the start.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mesh_model::Change;
use mesh_types::{Kind, Revision};
use parking_lot::Mutex;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use tokio::time::Instant;
use xds_core::{Response, TypeId};

/// Buckets of times in seconds.
const SECONDS: &[f64] = &[
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0,
];

/// Revisions whose arrival is remembered, to measure how long proxies take.
const REMEMBERED: usize = 64;

/// Types that Istio has a counter of its own for: `pilot_xds_cds_reject` and so on.
const REJECTABLE: [TypeId; 4] = [TypeId::Cds, TypeId::Eds, TypeId::Lds, TypeId::Rds];

/// What a change is about: the `type` of `pilot_inbound_updates`.
const UPDATES: [&str; 4] = ["config", "svc", "eds", "workload"];

/// Every metric, shared.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    connected: IntGauge,
    pushes: [IntCounter; TypeId::COUNT],
    push_bytes: [IntCounter; TypeId::COUNT],
    push_resources: [IntCounter; TypeId::COUNT],
    rejects: [IntCounter; TypeId::COUNT],
    rejects_of: [IntCounter; REJECTABLE.len()],
    expired: [IntCounter; TypeId::COUNT],
    unknown_types: IntCounter,
    refused: IntCounter,
    identity_refused: IntCounter,
    jwks: Vec<IntCounter>,
    trust_generation: IntGauge,
    revision: IntGauge,
    classes: IntGauge,
    build_seconds: Histogram,
    convergence_seconds: Histogram,
    debounce_seconds: Histogram,
    arrivals: Mutex<VecDeque<(u64, Instant)>>,
    updates: [IntCounter; UPDATES.len()],
    services: IntGauge,
    virtual_services: IntGauge,
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
        let labelled = |name: &str, help: &str, label: &str, values: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(family.clone()))?;
            let counters: Vec<IntCounter> = values
                .iter()
                .map(|value| family.with_label_values(&[*value]))
                .collect();
            Ok::<_, prometheus::Error>(counters)
        };
        let histogram = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            let histogram = Histogram::with_opts(options)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let info = IntGaugeVec::new(
            Opts::new("pilot_info", "1, with the version of this program."),
            &["version"],
        )?;
        registry.register(Box::new(info.clone()))?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let rejects_of = REJECTABLE.map(|type_id| {
            counter(
                &format!("pilot_xds_{}_reject", type_id.label()),
                &format!(
                    "Responses with {} that proxies rejected.",
                    type_id.label().to_uppercase()
                ),
            )
        });
        let [cds, eds, lds, rds] = rejects_of;
        let updates = labelled(
            "pilot_inbound_updates",
            "Changes of objects that reached this Pilot, by what they are about.",
            "type",
            &UPDATES,
        )?;
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
            rejects: by_type(
                "pilot_total_xds_rejects",
                "Responses that proxies rejected, by type.",
            )?,
            rejects_of: [cds?, eds?, lds?, rds?],
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
            identity_refused: counter(
                "flotilla_pilot_identity_mismatches_total",
                "Streams ended because their node is not who their certificate shows.",
            )?,
            jwks: labelled(
                "flotilla_pilot_jwks_fetches_total",
                "Times keys of token issuers were fetched, by result.",
                "result",
                &["ok", "failed"],
            )?,
            trust_generation: gauge(
                "flotilla_pilot_trust_generation",
                "Generation of the trust bundle that proxies are served; 0 if there is none.",
            )?,
            revision: gauge(
                "flotilla_pilot_revision",
                "Revision that every snapshot holds.",
            )?,
            classes: gauge(
                "flotilla_pilot_classes",
                "Classes of proxies that share their outbound configuration.",
            )?,
            convergence_seconds: histogram(
                "pilot_proxy_convergence_time",
                "Seconds from a change reaching this Pilot until a proxy accepted all it has of it.",
            )?,
            debounce_seconds: histogram(
                "pilot_debounce_time",
                "Seconds a change set waited for others to go out with.",
            )?,
            arrivals: Mutex::default(),
            updates: std::array::from_fn(|i| updates[i].clone()),
            services: gauge("pilot_services", "Services of the mesh.")?,
            virtual_services: gauge("pilot_virt_services", "VirtualServices of the mesh.")?,
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
            build_seconds: histogram(
                "pilot_pushcontext_init_seconds",
                "Seconds it took to turn a change set into snapshots.",
            )?,
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
        self.0.rejects[type_id.index()].inc();
        if let Some(own) = REJECTABLE.iter().position(|t| *t == type_id) {
            self.0.rejects_of[own].inc();
        }
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

    /// A stream was ended because its node is not who its certificate shows.
    pub fn identity_refused(&self) {
        self.0.identity_refused.inc();
    }

    /// Keys were fetched, or not.
    pub fn jwks_fetched(&self, good: bool) {
        self.0.jwks[usize::from(!good)].inc();
    }

    /// Another trust bundle is served.
    pub fn trust(&self, generation: u64) {
        self.0
            .trust_generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
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

    /// A change set went out of the debounce after this time.
    pub fn debounced(&self, waited: Duration) {
        self.0.debounce_seconds.observe(waited.as_secs_f64());
    }

    /// A change set that arrived then is about to be built.
    pub fn applying(&self, revision: Revision, changes: &[Change], arrived: Instant) {
        let mut arrivals = self.0.arrivals.lock();
        if arrivals.len() == REMEMBERED {
            arrivals.pop_front();
        }
        arrivals.push_back((revision.0, arrived));
        for change in changes {
            let kind = match change {
                Change::Upsert(object) => object.meta.key.kind,
                Change::Delete(key) => key.kind,
            };
            let about = match kind {
                Kind::MeshService => 1,
                Kind::MeshEndpoints => 2,
                Kind::MeshWorkload => 3,
                _ => 0,
            };
            self.0.updates[about].inc();
        }
    }

    /// A connected proxy has accepted all that changed for it with this revision.
    pub fn converged(&self, revision: u64) {
        let arrivals = self.0.arrivals.lock();
        // Not found: so long ago that the time would say nothing of Pilot.
        if let Some((_, arrived)) = arrivals.iter().rev().find(|(known, _)| *known == revision) {
            let took = arrived.elapsed();
            self.0.convergence_seconds.observe(took.as_secs_f64());
        }
    }

    /// How many services there are.
    pub fn services(&self, count: usize) {
        self.0
            .services
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many VirtualServices there are.
    pub fn virtual_services(&self, count: usize) {
        self.0
            .virtual_services
            .set(i64::try_from(count).unwrap_or(i64::MAX));
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
