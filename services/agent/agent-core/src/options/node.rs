//! Who the proxy is: node id, metadata, labels.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::read::Reader;
use super::{ProxyConfig, Sources};

/// What kind of proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// Beside a workload.
    #[default]
    Sidecar,
    /// A gateway.
    Router,
}

impl Kind {
    /// As node ids have it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Sidecar => "sidecar",
            Kind::Router => "router",
        }
    }
}

/// Who the proxy is.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeOptions {
    /// Kind.
    pub kind: Kind,
    /// `POD_NAME`, else `HOSTNAME`, else `proxy`.
    pub pod: String,
    /// `POD_NAMESPACE`. Default `default`.
    pub namespace: String,
    /// Addresses, the primary one first: `INSTANCE_IP`, `POD_IP`, else the machine's. Never empty.
    pub addresses: Vec<IpAddr>,
    /// Fourth part of the node id.
    pub dns_domain: String,
    /// `node.cluster`.
    pub cluster: String,
    /// Region, zone and subzone.
    pub locality: [String; 3],
    /// Node metadata (Istio's NodeMetadata).
    pub metadata: Map<String, Value>,
}

impl NodeOptions {
    /// `<type>~<ip>~<pod>.<ns>~<domain>`.
    pub fn id(&self) -> String {
        format!(
            "{}~{}~{}.{}~{}",
            self.kind.word(),
            self.addresses[0],
            self.pod,
            self.namespace,
            self.dns_domain
        )
    }
}

/// What the downward API tells of the pod.
pub(super) struct Pod {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// Labels that say where it runs; the first that is there counts.
const LOCALITY: &str = "istio-locality";
const TOPOLOGY: [&str; 3] = [
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
];

/// Most bytes of a downward-API file.
const MAX_FILE: usize = 1 << 20;

/// Lines `key="value"` with Go's escapes, as the kubelet writes them.
pub(super) fn downward(
    reader: &mut Reader<'_>,
    name: &str,
    text: Option<&str>,
) -> BTreeMap<String, String> {
    let text = text.unwrap_or_default();
    if text.len() > MAX_FILE {
        reader.refuse(
            name,
            format!("{} bytes, want {MAX_FILE} at most", text.len()),
        );
        return BTreeMap::new();
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let mut found = BTreeMap::new();
    for line in lines {
        match line
            .split_once('=')
            .and_then(|(key, value)| Some((key, unquote(value)?)))
        {
            Some((key, value)) => drop(found.insert(key.to_owned(), value)),
            None => reader.refuse(name, format!("{line:?} is not key=\"value\"")),
        }
    }
    found
}

/// A text in Go's quotes: JSON's escapes and a few more.
fn unquote(text: &str) -> Option<String> {
    let inner = text.trim_end().strip_prefix('"')?.strip_suffix('"')?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'v' => '\x0b',
            same @ ('\\' | '"' | '\'') => same,
            'x' => number(&mut chars, 2)?,
            'u' => number(&mut chars, 4)?,
            'U' => number(&mut chars, 8)?,
            _ => return None,
        });
    }
    Some(out)
}

fn number(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let hex: String = chars.take(digits).collect();
    char::from_u32(u32::from_str_radix(&hex, 16).ok()?)
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    sources: &Sources<'_>,
    pod: Pod,
    config: &ProxyConfig,
    domain: &str,
) -> NodeOptions {
    let namespace = reader.text_or("POD_NAMESPACE", "default");
    let name = reader
        .text("POD_NAME")
        .or_else(|| reader.text("HOSTNAME"))
        .unwrap_or("proxy")
        .to_owned();
    for (variable, part) in [("POD_NAME", &name), ("POD_NAMESPACE", &namespace)] {
        if part.contains(['~', '/']) || part.chars().any(char::is_control) {
            reader.refuse(variable, format!("{part:?} cannot be part of a node id"));
        }
    }
    let addresses = addresses(reader, sources);
    let metadata = metadata(reader, &pod, config, &addresses);
    let labels = metadata.get("LABELS");
    let label = |key: &str| labels.and_then(|labels| labels.get(key)?.as_str());
    let workload = metadata.get("WORKLOAD_NAME").and_then(Value::as_str);
    let cluster = match (label("app"), workload) {
        (Some(app), _) if !app.is_empty() => format!("{app}.{namespace}"),
        (_, Some(workload)) if !workload.is_empty() => format!("{workload}.{namespace}"),
        _ => format!("{}.{namespace}", config.service_cluster),
    };
    let locality = match label(LOCALITY) {
        Some(text) if !text.is_empty() => {
            // A label cannot hold a slash: dots stand for it.
            let separator = if text.contains('/') { '/' } else { '.' };
            let mut parts = text.split(separator).map(str::to_owned);
            [(); 3].map(|()| parts.next().unwrap_or_default())
        }
        _ => TOPOLOGY.map(|key| label(key).unwrap_or_default().to_owned()),
    };
    NodeOptions {
        kind: sources.kind,
        dns_domain: reader.text_or("DNS_DOMAIN", &format!("{namespace}.svc.{domain}")),
        pod: name,
        namespace,
        addresses,
        cluster,
        locality,
        metadata,
    }
}

/// Most addresses of one proxy.
const MAX_ADDRESSES: usize = 32;

fn addresses(reader: &mut Reader<'_>, sources: &Sources<'_>) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for name in ["INSTANCE_IP", "POD_IP"] {
        for text in reader.list(name) {
            match text.parse() {
                Ok(ip) => found.push(ip),
                Err(_) => reader.refuse(name, format!("{text:?} is no IP address")),
            }
        }
    }
    if found.is_empty() {
        found.extend(&sources.addresses);
    }
    let mut seen = Vec::new();
    found.retain(|ip| {
        let new = !ip.is_unspecified() && !seen.contains(ip);
        seen.push(*ip);
        new
    });
    if found.is_empty() {
        reader.refuse(
            "INSTANCE_IP",
            "the proxy has no address; set it to the address by which services know the workload",
        );
        found.push(std::net::Ipv4Addr::LOCALHOST.into());
    }
    found.truncate(MAX_ADDRESSES);
    found
}

fn metadata(
    reader: &mut Reader<'_>,
    pod: &Pod,
    config: &ProxyConfig,
    addresses: &[IpAddr],
) -> Map<String, Value> {
    let mut found = Map::new();
    let join = |ips: &[IpAddr]| {
        let ips: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
        ips.join(",")
    };
    found.insert("INSTANCE_IPS".into(), join(addresses).into());
    if let Value::Object(config) = &config.json
        && !config.is_empty()
    {
        found.insert("PROXY_CONFIG".into(), config.clone().into());
    }
    for (key, value) in reader.prefixed("ISTIO_META_") {
        found.insert(key.to_owned(), value.into());
    }
    let objects: Vec<_> = reader.prefixed("ISTIO_METAJSON_").collect();
    let mut labels = Map::new();
    for (key, text) in objects {
        match serde_json::from_str(text) {
            // Labels and annotations may come in several pieces.
            Ok(Value::Object(members)) if key == "LABELS" => labels.extend(members),
            Ok(value @ Value::Object(_)) => drop(found.insert(key.to_owned(), value)),
            _ => reader.refuse(&format!("ISTIO_METAJSON_{key}"), "is no JSON object"),
        }
    }
    for (variable, key) in [
        ("POD_NAME", "NAME"),
        ("POD_NAMESPACE", "NAMESPACE"),
        ("SERVICE_ACCOUNT", "SERVICE_ACCOUNT"),
        ("ENVOY_STATUS_PORT", "ENVOY_STATUS_PORT"),
        ("ENVOY_PROMETHEUS_PORT", "ENVOY_PROMETHEUS_PORT"),
        ("ENVOY_SECURE_METRICS_PORT", "ENVOY_SECURE_METRICS_PORT"),
        (
            "ENVOY_SECURE_MERGED_METRICS_PORT",
            "ENVOY_SECURE_MERGED_METRICS_PORT",
        ),
        (
            "EXIT_ON_ZERO_ACTIVE_CONNECTIONS",
            "EXIT_ON_ZERO_ACTIVE_CONNECTIONS",
        ),
        ("PILOT_SAN", "PILOT_SAN"),
    ] {
        if let Some(text) = reader.text(variable) {
            found.insert(key.to_owned(), text.into());
        }
    }
    let from_file = pod.labels.iter();
    let from_file = from_file.filter(|(key, _)| *key != "pod-template-hash");
    labels.extend(from_file.map(|(key, value)| (key.clone(), json!(value))));
    if !labels.is_empty() {
        found.insert("LABELS".into(), labels.into());
    }
    if !pod.annotations.is_empty() {
        let annotations = pod.annotations.iter();
        let annotations: Map<_, _> = annotations
            .map(|(key, value)| (key.clone(), json!(value)))
            .collect();
        found.insert("ANNOTATIONS".into(), annotations.into());
    }
    found
}
