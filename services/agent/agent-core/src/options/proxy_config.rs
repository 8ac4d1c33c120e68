//! The effective ProxyConfig: defaults, the mesh's file, `PROXY_CONFIG`, the pod's annotation; later wins.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::read::{OptionError, Reader, duration, split};

/// Annotation of a pod with settings of its proxy, in YAML.
pub const ANNOTATION: &str = "proxy.istio.io/config";

/// What the agent reads of Istio's ProxyConfig.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyConfig {
    /// `configPath`: folder of the bootstrap and the xDS socket. Default `./etc/istio/proxy`.
    pub config_path: PathBuf,
    /// `binaryPath`: Envoy. Default `/usr/local/bin/envoy`.
    pub binary_path: PathBuf,
    /// `serviceCluster`. Default `istio-proxy`.
    pub service_cluster: String,
    /// `drainDuration`: how long Envoy drains a listener that is replaced. Default 45s.
    pub drain_duration: Duration,
    /// `terminationDrainDuration`: how long connections may go on after SIGTERM. Default 5s.
    pub termination_drain_duration: Duration,
    /// `proxyAdminPort`. Default 15000.
    pub proxy_admin_port: u16,
    /// `statusPort`. Default 15020.
    pub status_port: u16,
    /// `discoveryAddress`: where Pilot is; several, separated by commas, are tried in turn.
    pub discovery_address: Vec<String>,
    /// `concurrency`: worker threads; 0 means one per core. `None`: by the CPU limit.
    pub concurrency: Option<u32>,
    /// `runtimeValues`: more of Envoy's runtime layer.
    pub runtime_values: Map<String, Value>,
    /// `proxyStatsMatcher`: more statistics.
    pub stats: StatsMatcher,
    /// `extraStatTags`: more tags of Istio's statistics.
    pub extra_stat_tags: Vec<String>,
    /// The whole of it, as it goes into the node's metadata.
    pub json: Value,
    /// Settings that are known and not acted on.
    pub ignored: Vec<String>,
}

/// Which statistics are kept besides those that the mesh needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsMatcher {
    /// By the beginning of their name.
    pub prefixes: Vec<String>,
    /// By the end of their name.
    pub suffixes: Vec<String>,
    /// By regular expression.
    pub regexps: Vec<String>,
}

/// Settings that others act on, or that have no effect on the agent.
const ELSEWHERE: &[&str] = &[
    // The injector: they are variables of the container.
    "proxyMetadata",
    "image",
    "holdApplicationUntilProxyStarts",
    // Pilot, by the metadata.
    "interceptionMode",
    "gatewayTopology",
    "proxyHeaders",
    // Statistics' names are limited by Envoy itself.
    "statNameLength",
    // Always MUTUAL_TLS unless the address says http://.
    "controlPlaneAuthPolicy",
];

pub(super) fn read(
    reader: &mut Reader<'_>,
    mesh_file: Option<&str>,
    annotation: Option<&str>,
) -> ProxyConfig {
    let mut merged = Map::new();
    let mesh = mesh_file.and_then(|text| parse(reader, "mesh file", text));
    if let Some(Value::Object(mesh)) = mesh
        && let Some(Value::Object(defaults)) = mesh.get("defaultConfig")
    {
        merge(&mut merged, defaults);
    }
    for (name, text) in [
        ("PROXY_CONFIG", reader.text("PROXY_CONFIG")),
        (ANNOTATION, annotation),
    ] {
        let Some(text) = text else { continue };
        match parse(reader, name, text) {
            Some(Value::Object(config)) => merge(&mut merged, &config),
            Some(Value::Null) | None => {}
            Some(_) => reader.refuse(name, "is no object"),
        }
    }
    if let Some(text) = reader.text("DISCOVERY_ADDRESS") {
        merged.insert("discoveryAddress".into(), text.into());
    }
    typed(reader, merged)
}

fn parse(reader: &mut Reader<'_>, name: &str, text: &str) -> Option<Value> {
    match serde_saphyr::from_str(text) {
        Ok(value) => Some(value),
        Err(error) => {
            reader.refuse(name, format!("is no YAML: {}", error.without_snippet()));
            None
        }
    }
}

/// Objects are merged, everything else is replaced.
fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            _ => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

fn typed(reader: &mut Reader<'_>, merged: Map<String, Value>) -> ProxyConfig {
    let json = Value::Object(merged.clone());
    let mut fields = Fields {
        fields: merged,
        errors: Vec::new(),
    };
    let mut config = ProxyConfig {
        config_path: fields.text("configPath", "./etc/istio/proxy").into(),
        binary_path: fields.text("binaryPath", "/usr/local/bin/envoy").into(),
        service_cluster: fields.text("serviceCluster", "istio-proxy"),
        drain_duration: fields.duration("drainDuration", Duration::from_secs(45)),
        termination_drain_duration: fields
            .duration("terminationDrainDuration", Duration::from_secs(5)),
        proxy_admin_port: fields.number("proxyAdminPort").unwrap_or(15_000),
        status_port: fields.number("statusPort").unwrap_or(15_020),
        discovery_address: split(&fields.text("discoveryAddress", "istiod.istio-system.svc:15012")),
        concurrency: fields.number("concurrency"),
        runtime_values: fields.object("runtimeValues"),
        stats: StatsMatcher::default(),
        extra_stat_tags: Vec::new(),
        json,
        ignored: Vec::new(),
    };
    let mut stats = Fields {
        fields: fields.object("proxyStatsMatcher"),
        errors: Vec::new(),
    };
    config.stats = StatsMatcher {
        prefixes: stats.texts("inclusionPrefixes"),
        suffixes: stats.texts("inclusionSuffixes"),
        regexps: stats.texts("inclusionRegexps"),
    };
    config.extra_stat_tags = fields.texts("extraStatTags");
    let (found, more) = (std::mem::take(&mut fields.errors), stats.errors);
    reader.errors.extend(found.into_iter().chain(more));
    config.ignored = fields
        .fields
        .into_iter()
        .map(|(key, _)| key)
        .filter(|key| !ELSEWHERE.contains(&key.as_str()))
        .collect();
    config
}

/// Members that are taken out as they are read: what is left was not acted on.
struct Fields {
    fields: Map<String, Value>,
    errors: Vec<OptionError>,
}

impl Fields {
    fn refuse(&mut self, key: &str, value: &Value, want: &str) {
        self.errors.push(OptionError {
            name: format!("ProxyConfig {key}"),
            reason: format!("{value} is {want}"),
        });
    }

    fn text(&mut self, key: &str, default: &str) -> String {
        match self.fields.remove(key) {
            Some(Value::String(text)) if !text.trim().is_empty() => text,
            None | Some(Value::Null | Value::String(_)) => default.to_owned(),
            // It may be an object with one member, as Istio writes `serviceCluster` when read back.
            Some(other) => {
                self.refuse(key, &other, "no text");
                default.to_owned()
            }
        }
    }

    fn duration(&mut self, key: &str, default: Duration) -> Duration {
        match self.fields.remove(key) {
            None | Some(Value::Null) => default,
            Some(value) => match value.as_str().and_then(duration) {
                Some(found) => found,
                None => {
                    self.refuse(key, &value, "no duration; write for example 5s");
                    default
                }
            },
        }
    }

    fn number<T: TryFrom<u64>>(&mut self, key: &str) -> Option<T> {
        let value = self.fields.remove(key).filter(|value| !value.is_null())?;
        let number = value.as_u64().and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            self.refuse(key, &value, "no number in range");
        }
        number
    }

    fn object(&mut self, key: &str) -> Map<String, Value> {
        match self.fields.remove(key) {
            Some(Value::Object(found)) => found,
            None | Some(Value::Null) => Map::new(),
            Some(other) => {
                self.refuse(key, &other, "no object");
                Map::new()
            }
        }
    }

    fn texts(&mut self, key: &str) -> Vec<String> {
        match self.fields.remove(key) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(members)) if members.iter().all(Value::is_string) => {
                let texts = members.iter().filter_map(Value::as_str);
                texts.map(str::to_owned).collect()
            }
            Some(other) => {
                self.refuse(key, &other, "no list of texts");
                Vec::new()
            }
        }
    }
}
