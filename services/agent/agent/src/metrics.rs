//! What the agent counts. Names that begin with `istio_agent_` are those of Istio's agent.

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// What requests to the authority are for.
const CSR: &str = "csr";

/// Counters and gauges. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Those of the process, with the agent's name before theirs: the application, scraped together with it, has such as well.
    process: Registry,
    /// Requests of Envoy's that went to Pilot.
    pub xds_requests: IntCounter,
    /// Responses of Pilot's.
    pub xds_responses: IntCounter,
    /// Connections to Pilot that did not come about.
    pub pilot_failures: IntCounter,
    /// Streams to Pilot that ended.
    pub pilot_terminations: IntCounter,
    /// Streams that Envoy ended.
    pub envoy_terminations: IntCounter,
    /// Secrets sent.
    pub sds_pushes: IntCounter,
    /// Secrets that Envoy rejected.
    pub sds_rejections: IntCounter,
    /// Streams that ended because a secret could not be served.
    pub sds_failures: IntCounter,
    /// Parts that a scrape went without, by type.
    pub scrape_failures: IntCounterVec,
    /// Scrapes.
    pub scrapes: IntCounter,
    /// Questions about names.
    pub dns_requests: IntCounter,
    /// Questions that were passed on.
    pub dns_upstream: IntCounter,
    /// Questions that nobody answered.
    pub dns_failures: IntCounter,
    /// Seconds since 1970 at which a certificate ends, by resource name.
    pub cert_expiry: IntGaugeVec,
    /// Requests to the authority: all, those without success, those that were not the first, and their time in milliseconds.
    authority: Authority,
}

#[derive(Clone)]
struct Authority {
    requests: IntCounter,
    failures: IntCounter,
    retries: IntCounter,
    latency: Histogram,
}

impl Authority {
    fn new(registry: &Registry) -> prometheus::Result<Authority> {
        let counter = |name: &str, help: &str| {
            let all = IntCounterVec::new(Opts::new(name, help), &["request_type"])?;
            registry.register(Box::new(all.clone()))?;
            Ok::<_, prometheus::Error>(all.with_label_values(&[CSR]))
        };
        let latency = HistogramVec::new(
            HistogramOpts::new(
                "istio_agent_outgoing_latency",
                "Time that requests to the authority take, in milliseconds, by type.",
            )
            .buckets(vec![
                5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1e3, 2.5e3, 5e3, 1e4,
            ]),
            &["request_type"],
        )?;
        registry.register(Box::new(latency.clone()))?;
        Ok(Authority {
            requests: counter(
                "istio_agent_num_outgoing_requests",
                "Requests to the authority, by type.",
            )?,
            failures: counter(
                "istio_agent_num_failed_outgoing_requests",
                "Requests to the authority without success, by type.",
            )?,
            retries: counter(
                "istio_agent_num_outgoing_retries",
                "Requests to the authority that were not the first for their purpose, by type.",
            )?,
            latency: latency.with_label_values(&[CSR]),
        })
    }
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// A name is taken: a mistake of this program.
    pub fn new() -> prometheus::Result<Metrics> {
        let registry = Registry::new();
        let process = Registry::new_custom(Some("istio_agent".to_owned()), None)?;
        service_kit::register_process_metrics(&process)?;
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let scrape_failures = IntCounterVec::new(
            Opts::new(
                "istio_agent_scrape_failures_total",
                "Parts that a scrape went without, by type.",
            ),
            &["type"],
        )?;
        registry.register(Box::new(scrape_failures.clone()))?;
        for kind in ["envoy", "application", "agent"] {
            scrape_failures.with_label_values(&[kind]);
        }
        let cert_expiry = IntGaugeVec::new(
            Opts::new(
                "istio_agent_cert_expiry_timestamp_seconds",
                "When a certificate ends, in seconds since 1970, by resource name.",
            ),
            &["resource_name"],
        )?;
        registry.register(Box::new(cert_expiry.clone()))?;
        Ok(Metrics {
            xds_requests: counter(
                "istio_agent_xds_proxy_requests",
                "Requests of Envoy's that went to Pilot.",
            )?,
            xds_responses: counter("istio_agent_xds_proxy_responses", "Responses of Pilot's.")?,
            pilot_failures: counter(
                "istio_agent_istiod_connection_failures",
                "Connections to Pilot that did not come about.",
            )?,
            pilot_terminations: counter(
                "istio_agent_istiod_connection_terminations",
                "Streams to Pilot that ended.",
            )?,
            envoy_terminations: counter(
                "istio_agent_envoy_connection_terminations",
                "Streams that Envoy ended.",
            )?,
            sds_pushes: counter("istio_agent_sds_pushes_total", "Secrets sent.")?,
            sds_rejections: counter(
                "istio_agent_sds_rejections_total",
                "Secrets that Envoy rejected.",
            )?,
            sds_failures: counter(
                "istio_agent_sds_failures_total",
                "Streams that ended because a secret could not be served.",
            )?,
            scrapes: counter("istio_agent_scrapes_total", "Scrapes.")?,
            dns_requests: counter("istio_agent_dns_requests_total", "Questions about names.")?,
            dns_upstream: counter(
                "istio_agent_dns_upstream_requests_total",
                "Questions about names that were passed on.",
            )?,
            dns_failures: counter(
                "istio_agent_dns_upstream_failures_total",
                "Questions about names that nobody answered.",
            )?,
            scrape_failures,
            cert_expiry,
            authority: Authority::new(&registry)?,
            registry,
            process,
        })
    }

    /// The authority was asked.
    pub fn asked_authority(&self, call: identity::Call) {
        let authority = &self.authority;
        authority.requests.inc();
        if call.failed {
            authority.failures.inc();
        }
        if call.attempt > 1 {
            authority.retries.inc();
        }
        authority.latency.observe(call.took.as_secs_f64() * 1e3);
    }

    /// All of them, in Prometheus's text format.
    ///
    /// # Errors
    /// One cannot be printed.
    pub fn text(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        for registry in [&self.registry, &self.process] {
            TextEncoder::new().encode(&registry.gather(), &mut text)?;
        }
        Ok(text)
    }
}
