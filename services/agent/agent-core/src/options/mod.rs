//! What the agent is told: variables of its container, files of the pod, and what was found on the machine, once and for all turned into
//! typed options.
//!
//! Names and defaults are those of Istio's agent. Everything that is wrong is told at once, by name. A variable that this version cannot act
//! on is refused rather than ignored; settings of ProxyConfig that have no effect are told in [`Options::notes`].

mod control_plane;
mod identity;
mod node;
mod proxy_config;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use control_plane::{ControlPlane, Endpoint, Roots};
pub use identity::{IdentityOptions, Key, SOCKET};
pub use node::{Kind, NodeOptions};
pub use proxy_config::{ANNOTATION, ProxyConfig, StatsMatcher};
pub use read::OptionError;

use read::Reader;

/// The only JWT policy.
const THIRD_PARTY_JWT: &str = "third-party-jwt";

/// Where options come from.
#[derive(Debug, Clone, Default)]
pub struct Sources<'a> {
    /// Variables, with flags put over them.
    pub vars: BTreeMap<String, String>,
    /// `sidecar` or `router`.
    pub kind: Kind,
    /// Text of the mesh's file, if there is one.
    pub mesh_file: Option<&'a str>,
    /// Text of the downward API's file of labels.
    pub labels: Option<&'a str>,
    /// Text of the downward API's file of annotations.
    pub annotations: Option<&'a str>,
    /// Addresses of this machine, the primary one first; used when `INSTANCE_IP` and `POD_IP` are not set.
    pub addresses: Vec<IpAddr>,
}

/// Everything the agent is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Who the proxy is.
    pub node: NodeOptions,
    /// How Pilot is reached.
    pub control: ControlPlane,
    /// How keys and certificates are got.
    pub identity: IdentityOptions,
    /// How Envoy is run.
    pub envoy: EnvoyOptions,
    /// How names are answered.
    pub dns: DnsOptions,
    /// What port 15020 does.
    pub status: StatusOptions,
    /// How it ends.
    pub drain: DrainOptions,
    /// The effective ProxyConfig.
    pub proxy_config: ProxyConfig,
    /// What was said and has no effect.
    pub notes: Vec<String>,
}

/// How Envoy is run. Port 0 in an address takes any free port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvoyOptions {
    /// `ENVOY_ADMIN_ADDRESS`. Default loopback and `proxyAdminPort`.
    pub admin: SocketAddr,
    /// `ENVOY_STATUS_ADDRESS`, or `ENVOY_STATUS_PORT` on every interface. Default 0.0.0.0:15021, with IPv6 alone [::]:15021.
    pub status: SocketAddr,
    /// `ENVOY_PROMETHEUS_ADDRESS`, or `ENVOY_PROMETHEUS_PORT` on every interface. Default 0.0.0.0:15090, with IPv6 alone [::]:15090.
    pub prometheus: SocketAddr,
    /// `ENVOY_SECURE_METRICS_PORT`: Envoy's metrics over mutual TLS; 0, the default, means nowhere.
    pub secure_metrics: u16,
    /// `ENVOY_SECURE_MERGED_METRICS_PORT`: merged metrics over mutual TLS; 0, the default, means nowhere.
    pub secure_merged_metrics: u16,
    /// `PROXY_LOG_LEVEL`. Default `warning`.
    pub log_level: String,
    /// `PROXY_COMPONENT_LOG_LEVEL`. Default `misc:error`.
    pub component_log_level: String,
    /// Worker threads: `concurrency`, else `ISTIO_CPU_LIMIT` rounded up, else 0: one per core.
    pub concurrency: u32,
    /// `ISTIO_BOOTSTRAP_OVERRIDE`: a file that Envoy merges over the bootstrap.
    pub bootstrap_override: Option<PathBuf>,
    /// `SKIP_DEPRECATED_LOGS`. Default false.
    pub skip_deprecated_logs: bool,
}

/// How names are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsOptions {
    /// `ISTIO_META_DNS_CAPTURE`. Default false.
    pub enabled: bool,
    /// `DNS_PROXY_ADDR`. Default 127.0.0.1:15053. A loopback address of the other family is listened on too.
    pub address: SocketAddr,
    /// `DNS_FORWARD_TIMEOUT`, of one question to one server. Default 5s.
    pub forward_timeout: Duration,
    /// `DNS_FORWARD_PARALLEL`: every server is asked at once. Default false.
    pub forward_parallel: bool,
    /// Domain of the cluster, of `DOMAIN_SUFFIX`. Default cluster.local.
    pub domain: String,
}

/// What the status port does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusOptions {
    /// `STATUS_ADDRESS`. Default every interface, of each family that the pod has, and `statusPort`.
    pub address: SocketAddr,
    /// `ISTIO_KUBE_APP_PROBERS`: JSON, see [`crate::probes`].
    pub probers: Option<String>,
    /// `ISTIO_PROMETHEUS_ANNOTATIONS`: JSON, see [`crate::metrics`].
    pub prometheus: Option<String>,
    /// `REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION`: probes go to localhost rather than to the pod's address. Default false.
    pub probe_localhost: bool,
}

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainOptions {
    /// `TERMINATION_DRAIN_DURATION_SECONDS` or `terminationDrainDuration`. Default 5s.
    pub termination: Duration,
    /// `MINIMUM_DRAIN_DURATION`. Default 5s.
    pub minimum: Duration,
    /// `EXIT_ON_ZERO_ACTIVE_CONNECTIONS`. Default false.
    pub exit_on_zero: bool,
}

/// Variables that stand for something this version does not have.
const REFUSED: &[(&str, &str)] = &[
    (
        "GRPC_XDS_BOOTSTRAP",
        "no bootstrap for proxyless gRPC is written by this version",
    ),
    (
        "PROXY_XDS_DEBUG_VIA_AGENT",
        "the tap of port 15004 is not served by this version",
    ),
];

/// Reads options.
///
/// # Errors
/// Everything that is wrong, by name. Never empty.
pub fn read(sources: &Sources<'_>) -> Result<Options, Vec<OptionError>> {
    let mut reader = Reader::new(&sources.vars);
    for (name, reason) in REFUSED {
        if reader.text(name).is_some_and(|text| text != "false") {
            reader.refuse(name, reason);
        }
    }
    let annotations = node::downward(&mut reader, "annotations", sources.annotations);
    let labels = node::downward(&mut reader, "labels", sources.labels);
    let annotation = annotations.get(ANNOTATION).map(String::as_str);
    let config = proxy_config::read(&mut reader, sources.mesh_file, annotation);
    let control = control_plane::read(&mut reader, &config.discovery_address);
    // As with Istio's agent, certificates come from where configuration does, unless said otherwise.
    let fallback = control.pilots.iter().find(|pilot| pilot.tls).cloned();
    let identity = identity::read(&mut reader, fallback);
    let domain = reader.text_or("DOMAIN_SUFFIX", "cluster.local");
    let pod = node::Pod {
        labels,
        annotations,
    };
    let node = node::read(&mut reader, sources, pod, &config, &domain);
    let only_v6 = node.addresses.iter().all(IpAddr::is_ipv6);
    let envoy = envoy(&mut reader, &config, only_v6);
    // One of IPv6 takes IPv4 as well.
    let any_v6 = node.addresses.iter().any(IpAddr::is_ipv6);
    let status = StatusOptions {
        address: reader.address("STATUS_ADDRESS", every(config.status_port, any_v6)),
        probers: reader.text("ISTIO_KUBE_APP_PROBERS").map(str::to_owned),
        prometheus: reader
            .text("ISTIO_PROMETHEUS_ANNOTATIONS")
            .map(str::to_owned),
        probe_localhost: reader.flag("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", false),
    };
    let dns = DnsOptions {
        enabled: reader.flag("ISTIO_META_DNS_CAPTURE", false),
        address: reader.address("DNS_PROXY_ADDR", ([127, 0, 0, 1], 15_053).into()),
        forward_timeout: reader.duration("DNS_FORWARD_TIMEOUT", Duration::from_secs(5)),
        forward_parallel: reader.flag("DNS_FORWARD_PARALLEL", false),
        domain,
    };
    let termination = reader
        .text("TERMINATION_DRAIN_DURATION_SECONDS")
        .map(|_| reader.parsed("TERMINATION_DRAIN_DURATION_SECONDS", 5_u32));
    let drain = DrainOptions {
        termination: termination.map_or(config.termination_drain_duration, |seconds| {
            Duration::from_secs(seconds.into())
        }),
        minimum: reader.duration("MINIMUM_DRAIN_DURATION", Duration::from_secs(5)),
        exit_on_zero: reader.flag("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", false),
    };
    let notes = config.ignored.iter();
    let notes = notes
        .map(|key| format!("ProxyConfig {key} has no effect in this version"))
        .collect();
    if !reader.errors.is_empty() {
        return Err(reader.errors);
    }
    Ok(Options {
        node,
        control,
        identity,
        envoy,
        dns,
        status,
        drain,
        proxy_config: config,
        notes,
    })
}

/// Every interface.
fn every(port: u16, v6: bool) -> SocketAddr {
    match v6 {
        true => (Ipv6Addr::UNSPECIFIED, port).into(),
        false => (Ipv4Addr::UNSPECIFIED, port).into(),
    }
}

fn envoy(reader: &mut Reader<'_>, config: &ProxyConfig, only_v6: bool) -> EnvoyOptions {
    let every = |port| every(port, only_v6);
    let local: IpAddr = match only_v6 {
        true => Ipv6Addr::LOCALHOST.into(),
        false => Ipv4Addr::LOCALHOST.into(),
    };
    let status_port = reader.parsed("ENVOY_STATUS_PORT", 15_021);
    let prometheus_port = reader.parsed("ENVOY_PROMETHEUS_PORT", 15_090);
    let concurrency = config
        .concurrency
        .or_else(|| cores(reader.text("ISTIO_CPU_LIMIT")?));
    let level = reader.text_or("PROXY_LOG_LEVEL", "warning");
    const LEVELS: &[&str] = &[
        "trace", "debug", "info", "warning", "warn", "error", "critical", "off",
    ];
    if !LEVELS.contains(&level.as_str()) {
        reader.refuse(
            "PROXY_LOG_LEVEL",
            format!("{level:?} is none of {}", LEVELS.join(", ")),
        );
    }
    EnvoyOptions {
        admin: reader.address(
            "ENVOY_ADMIN_ADDRESS",
            (local, config.proxy_admin_port).into(),
        ),
        status: reader.address("ENVOY_STATUS_ADDRESS", every(status_port)),
        prometheus: reader.address("ENVOY_PROMETHEUS_ADDRESS", every(prometheus_port)),
        secure_metrics: reader.parsed("ENVOY_SECURE_METRICS_PORT", 0),
        secure_merged_metrics: reader.parsed("ENVOY_SECURE_MERGED_METRICS_PORT", 0),
        log_level: level,
        component_log_level: reader.text_or("PROXY_COMPONENT_LOG_LEVEL", "misc:error"),
        concurrency: concurrency.unwrap_or(0),
        bootstrap_override: reader.text("ISTIO_BOOTSTRAP_OVERRIDE").map(PathBuf::from),
        skip_deprecated_logs: reader.flag("SKIP_DEPRECATED_LOGS", false),
    }
}

/// A Kubernetes quantity of CPUs, rounded up: `1500m` is 2.
fn cores(text: &str) -> Option<u32> {
    match text.strip_suffix('m') {
        Some(thousandths) => Some(thousandths.parse::<u32>().ok()?.div_ceil(1000).max(1)),
        None => {
            let whole: f64 = text.parse().ok()?;
            (whole > 0.0 && whole <= 4096.0).then(|| whole.ceil() as u32)
        }
    }
}
