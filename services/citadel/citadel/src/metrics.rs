//! Citadel's metrics: Istio's names where it has them.

use std::sync::Arc;

use citadel_core::limits::Verdict;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Buckets of times in seconds.
const SECONDS: &[f64] = &[
    0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0,
];

/// Every metric, shared.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    csr: IntCounter,
    csr_parsing_err: IntCounter,
    csr_sign_err: IntCounterVec,
    authentication_failure: IntCounter,
    id_extraction_err: IntCounter,
    success: IntCounter,
    root_expiry: IntGauge,
    root_left: IntGauge,
    chain_expiry: IntGauge,
    chain_left: IntGauge,
    limited: IntCounterVec,
    callers: IntCounterVec,
    seconds: Histogram,
    watchers: IntGauge,
    generation: IntGauge,
    leader: IntGauge,
    material: IntCounter,
}

/// Values of `error`, as Istio names them.
const ERRORS: [&str; 5] = [
    "CA_NOT_READY",
    "CSR_ERROR",
    "TTL_ERROR",
    "CERT_GEN_ERROR",
    "UNKNOWN",
];

impl Metrics {
    /// Registers every metric, every series at zero.
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
        let counters = |name: &str, help: &str, label: &str, values: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(family.clone()))?;
            for value in values {
                family.with_label_values(&[value]);
            }
            Ok::<_, prometheus::Error>(family)
        };
        let info = IntGaugeVec::new(
            Opts::new("citadel_info", "1, with the version of the program."),
            &["version"],
        )?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(info))?;
        let seconds = Histogram::with_opts(
            HistogramOpts::new(
                "flotilla_citadel_issue_seconds",
                "Time from a request for a certificate to the answer.",
            )
            .buckets(SECONDS.to_vec()),
        )?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Metrics(Arc::new(Inner {
            csr: counter("citadel_server_csr_count", "Requests for a certificate.")?,
            csr_parsing_err: counter(
                "citadel_server_csr_parsing_err_count",
                "Requests whose CSR cannot be read.",
            )?,
            csr_sign_err: counters(
                "citadel_server_csr_sign_err_count",
                "Requests that were not signed, by kind of error.",
                "error",
                &ERRORS,
            )?,
            authentication_failure: counter(
                "citadel_server_authentication_failure_count",
                "Requests of callers that are not known.",
            )?,
            id_extraction_err: counter(
                "citadel_server_id_extraction_err_count",
                "Client certificates without a usable identity.",
            )?,
            success: counter(
                "citadel_server_success_cert_issuance_count",
                "Certificates issued.",
            )?,
            root_expiry: gauge(
                "citadel_server_root_cert_expiry_timestamp",
                "When the root expires that signs now, in seconds since 1970.",
            )?,
            root_left: gauge(
                "citadel_server_root_cert_expiry_seconds",
                "Seconds until then.",
            )?,
            chain_expiry: gauge(
                "citadel_server_cert_chain_expiry_timestamp",
                "When the first certificate of the signing chain expires, in seconds since 1970.",
            )?,
            chain_left: gauge(
                "citadel_server_cert_chain_expiry_seconds",
                "Seconds until then.",
            )?,
            limited: counters(
                "flotilla_citadel_limited_requests_total",
                "Requests refused because there were too many, by whose limit.",
                "limit",
                &["identity", "total", "address"],
            )?,
            callers: counters(
                "flotilla_citadel_callers_total",
                "Callers that were known, by how they showed who they are.",
                "attestation",
                &["client-certificate", "join-token", "jwt", "kubernetes"],
            )?,
            watchers: gauge(
                "flotilla_citadel_trust_watchers",
                "Streams that follow the trust bundle.",
            )?,
            generation: gauge(
                "flotilla_citadel_bundle_generation",
                "Number of the trust bundle that is announced.",
            )?,
            leader: gauge(
                "flotilla_citadel_leader",
                "1 while this replica does root operations.",
            )?,
            material: counter(
                "flotilla_citadel_refused_material_total",
                "Times that the plugged-in files were refused and the old ones kept.",
            )?,
            seconds,
        })))
    }

    /// A request came.
    pub fn asked(&self) {
        self.0.csr.inc();
    }

    /// A CSR could not be read.
    pub fn not_parsed(&self) {
        self.0.csr_parsing_err.inc();
    }

    /// A request was not signed; `error` is one of Istio's words.
    pub fn not_signed(&self, error: &str) {
        self.0.csr_sign_err.with_label_values(&[error]).inc();
    }

    /// A caller is not known.
    pub fn not_authenticated(&self) {
        self.0.authentication_failure.inc();
    }

    /// A client certificate has no usable identity.
    pub fn not_extracted(&self) {
        self.0.id_extraction_err.inc();
    }

    /// A certificate was issued.
    pub fn issued(&self, seconds: f64) {
        self.0.success.inc();
        self.0.seconds.observe(seconds);
    }

    /// A caller is known; `attestation` says how.
    pub fn caller(&self, attestation: &str) {
        self.0.callers.with_label_values(&[attestation]).inc();
    }

    /// A request was one too many.
    pub fn limited(&self, verdict: Verdict) {
        match verdict {
            Verdict::Allowed => {}
            Verdict::Identity => self.0.limited.with_label_values(&["identity"]).inc(),
            Verdict::Total => self.0.limited.with_label_values(&["total"]).inc(),
        }
    }

    /// An address sent too many requests of callers that are not known.
    pub fn limited_address(&self) {
        self.0.limited.with_label_values(&["address"]).inc();
    }

    /// When the root and the signing chain expire, seen at `now`. All in seconds since 1970.
    pub fn expiry(&self, root: i64, chain: i64, now: i64) {
        self.0.root_expiry.set(root);
        self.0.root_left.set(root - now);
        self.0.chain_expiry.set(chain);
        self.0.chain_left.set(chain - now);
    }

    /// A stream of the trust bundle came or left.
    pub fn watcher(&self, came: bool) {
        if came {
            self.0.watchers.inc();
        } else {
            self.0.watchers.dec();
        }
    }

    /// The bundle that is announced.
    pub fn generation(&self, generation: u64) {
        self.0
            .generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// Whether this replica does root operations.
    pub fn leader(&self, leads: bool) {
        self.0.leader.set(leads.into());
    }

    /// Plugged-in files were refused.
    pub fn refused_material(&self) {
        self.0.material.inc();
    }
}
