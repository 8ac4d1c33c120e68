//! Reading a proxy out of its node (XDS-TRAFFIC 1.1-1.3).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_config::resource::Duration;
use mesh_types::{Labels, Locality};
use serde_json::{Map, Value};

use crate::{CertificateFiles, Interception, Node, Proxy, ProxyError, ProxyKind};

/// Longest node id.
const MAX_ID: usize = 4096;
/// Most labels, addresses, ports and networks that are read; the rest is left out.
const MAX_ITEMS: usize = 1024;
/// Longest text that is read from metadata; a longer one counts as not given.
const MAX_TEXT: usize = 64 * 1024;
/// Extensions that only Istio's builds of Envoy have.
const ISTIO_EXTENSIONS: [&str; 3] = ["alpn", "metadata_exchange", "stats"];

impl Proxy {
    /// Reads a node. Labels and locality are the proxy's own words: [`crate::Mesh::complete`] replaces them by what the mesh knows.
    ///
    /// `vanilla` follows the extension list: no `istio.alpn`, `istio.metadata_exchange` or `istio.stats` in it means upstream Envoy. A node
    /// that lists no extensions is taken for Istio's build only if its metadata has ISTIO_VERSION, which Istio's agent always writes and
    /// nobody else does.
    pub fn parse(node: &Node) -> Result<Proxy, ProxyError> {
        if node.id.is_empty() {
            return Err(ProxyError::MissingNode);
        }
        let malformed = || ProxyError::MalformedId(node.id.chars().take(256).collect());
        if node.id.len() > MAX_ID {
            return Err(malformed());
        }
        let parts: Vec<&str> = node.id.split('~').collect();
        let [kind, ip, id, dns_domain] = parts[..] else {
            return Err(malformed());
        };
        let kind = match kind {
            "sidecar" => ProxyKind::Sidecar,
            "router" => ProxyKind::Router,
            other => return Err(ProxyError::UnknownType(other.to_owned())),
        };
        let metadata = Metadata(node.metadata.as_object());
        let addresses =
            addresses(&metadata, ip).ok_or_else(|| ProxyError::NoAddress(node.id.clone()))?;
        let namespace = match metadata.text("NAMESPACE") {
            "" => dns_domain.split_once('.').map_or("", |(first, _)| first),
            given => given,
        };
        let mut proxy = Proxy {
            node_id: node.id.as_str().into(),
            kind,
            addresses,
            id: id.into(),
            dns_domain: dns_domain.into(),
            namespace: namespace.into(),
            labels: metadata.labels(),
            locality: node.locality.clone(),
            cluster_id: metadata.text("CLUSTER_ID").into(),
            network: metadata.text("NETWORK").into(),
            node_name: metadata.text("NODE_NAME").into(),
            service_account: metadata.text("SERVICE_ACCOUNT").into(),
            interception: match metadata.text("INTERCEPTION_MODE") {
                "TPROXY" => Interception::Tproxy,
                "NONE" => Interception::None,
                _ => Interception::Redirect,
            },
            http_proxy_port: metadata.port("HTTP_PROXY_PORT").unwrap_or_default(),
            idle_timeout: Duration::parse(metadata.text("IDLE_TIMEOUT")).filter(|d| d.nanos >= 0),
            unprivileged: metadata.flag("UNPRIVILEGED_POD"),
            reserved_ports: metadata.reserved_ports(),
            http10: metadata.flag("HTTP10"),
            inbound_exact_balance: metadata.flag("INBOUND_LISTENER_EXACT_BALANCE"),
            outbound_exact_balance: metadata.flag("OUTBOUND_LISTENER_EXACT_BALANCE"),
            dns_capture: metadata.flag("DNS_CAPTURE"),
            network_view: metadata.list("REQUESTED_NETWORK_VIEW"),
            pod_ports: metadata.pod_ports(),
            proxy_config: metadata.object("PROXY_CONFIG"),
            istio_version: version(metadata.text("ISTIO_VERSION")),
            vanilla: is_vanilla(&node.extensions, &metadata),
            agent: !metadata.text("ISTIO_VERSION").is_empty(),
            verified: false,
            server_files: metadata.files("TLS_SERVER"),
            client_files: metadata.files("TLS_CLIENT"),
        };
        locate(&mut proxy);
        Ok(proxy)
    }
}

/// INSTANCE_IPS if all of them are addresses, else the node id's; `None` if there is no address at all.
fn addresses(metadata: &Metadata, in_id: &str) -> Option<Vec<IpAddr>> {
    let listed = metadata.text("INSTANCE_IPS");
    if !listed.is_empty() {
        let all: Option<Vec<IpAddr>> = listed
            .split(',')
            .take(MAX_ITEMS)
            .map(|ip| ip.trim().parse().ok())
            .collect();
        if let Some(all) = all {
            return Some(all);
        }
    }
    in_id.parse().ok().map(|ip| vec![ip])
}

/// `1.20.3`, `release-1.20`, `1.20.3-alpha`: numbers in order, a missing patch is the newest; anything else is the newest of all.
fn version(text: &str) -> (u16, u16, u16) {
    let text = text.strip_prefix("release-").unwrap_or(text);
    let mut parts = text.split('.').map(|part| {
        let digits = part
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(part.len());
        part[..digits].parse::<u16>().ok()
    });
    match (
        parts.next().flatten(),
        parts.next().flatten(),
        parts.next().flatten(),
    ) {
        (Some(major), Some(minor), patch) => (major, minor, patch.unwrap_or(u16::MAX)),
        _ => (u16::MAX, u16::MAX, u16::MAX),
    }
}

fn is_vanilla(extensions: &[String], metadata: &Metadata) -> bool {
    if extensions.is_empty() {
        return metadata.text("ISTIO_VERSION").is_empty();
    }
    let istio = |name: &String| {
        // istio.alpn, envoy.filters.network.metadata_exchange, envoy.filters.http.peer_metadata, istio.stats, ..
        name.strip_prefix("istio.")
            .is_some_and(|rest| ISTIO_EXTENSIONS.contains(&rest))
            || name == "envoy.filters.network.metadata_exchange"
    };
    !extensions.iter().any(istio)
}

/// Locality from labels where they have it, and the labels that follow from where the proxy is.
pub(crate) fn locate(proxy: &mut Proxy) {
    let get = |key: &str| -> Arc<str> { proxy.labels.get(key).unwrap_or_default().into() };
    let labelled = Locality {
        region: get(REGION),
        zone: get(ZONE),
        sub_zone: get(SUB_ZONE),
    };
    if !labelled.is_empty() {
        proxy.locality = labelled;
    } else if let Some(text) = proxy.labels.get("topology.istio.io/locality") {
        proxy.locality = Locality::parse(text);
    } else if let Some(text) = proxy.labels.get("istio-locality") {
        let slashed = if text.contains('/') {
            text.to_owned()
        } else {
            text.replace('.', "/")
        };
        proxy.locality = Locality::parse(&slashed);
    }
    let facts = [
        (REGION, proxy.locality.region.clone()),
        (ZONE, proxy.locality.zone.clone()),
        (SUB_ZONE, proxy.locality.sub_zone.clone()),
        ("topology.istio.io/cluster", proxy.cluster_id.clone()),
        ("kubernetes.io/hostname", proxy.node_name.clone()),
        ("topology.istio.io/network", proxy.network.clone()),
    ];
    for (key, value) in facts {
        if !value.is_empty() && proxy.labels.get(key).is_none() {
            proxy.labels.insert(key, value);
        }
    }
}

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUB_ZONE: &str = "topology.istio.io/subzone";

/// Node metadata: every value may be missing or of an unexpected type.
struct Metadata<'a>(Option<&'a Map<String, Value>>);

impl Metadata<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0?.get(key)
    }

    /// A text; empty if there is none.
    fn text(&self, key: &str) -> &str {
        self.get(key)
            .and_then(Value::as_str)
            .filter(|text| text.len() <= MAX_TEXT)
            .unwrap_or_default()
    }

    /// A boolean, also as text: `true`, `1`, `t` in any case.
    fn flag(&self, key: &str) -> bool {
        match self.get(key) {
            Some(Value::Bool(set)) => *set,
            Some(Value::String(text)) => ["true", "1", "t"]
                .iter()
                .any(|yes| text.eq_ignore_ascii_case(yes)),
            Some(Value::Number(number)) => number.as_f64() == Some(1.0),
            _ => false,
        }
    }

    /// A port, as number or text.
    fn port(&self, key: &str) -> Option<u16> {
        self.get(key).and_then(port)
    }

    /// A list of texts, as list or comma-separated.
    fn list(&self, key: &str) -> Vec<Arc<str>> {
        let text = |text: &str| Arc::<str>::from(text.trim());
        let items: Vec<Arc<str>> = match self.get(key) {
            Some(Value::Array(items)) => items
                .iter()
                .filter_map(Value::as_str)
                .take(MAX_ITEMS)
                .map(text)
                .collect(),
            Some(Value::String(items)) => items.split(',').take(MAX_ITEMS).map(text).collect(),
            _ => Vec::new(),
        };
        items.into_iter().filter(|item| !item.is_empty()).collect()
    }

    /// `<prefix>_CERT_CHAIN`, `_KEY` and `_ROOT_CERT`, all three or none. A path with `~` could not be told from two.
    fn files(&self, prefix: &str) -> Option<CertificateFiles> {
        let base = self.text("BASE");
        let path = |name: &str| -> Option<Arc<str>> {
            let text = self.text(&format!("{prefix}_{name}"));
            let usable = !text.is_empty() && !text.contains(['~', '\0']);
            usable.then(|| match text.starts_with('/') || base.is_empty() {
                true => text.into(),
                false => format!("{base}/{text}").into(),
            })
        };
        Some(CertificateFiles {
            chain: path("CERT_CHAIN")?,
            key: path("KEY")?,
            root: path("ROOT_CERT")?,
        })
    }

    /// An object, also as JSON inside a text; null if there is none.
    fn object(&self, key: &str) -> Value {
        match self.get(key) {
            Some(value @ Value::Object(_)) => value.clone(),
            Some(Value::String(_)) => serde_json::from_str(self.text(key))
                .ok()
                .filter(Value::is_object)
                .unwrap_or_default(),
            _ => Value::Null,
        }
    }

    fn labels(&self) -> Labels {
        let Value::Object(labels) = self.object("LABELS") else {
            return Labels::default();
        };
        let texts = labels
            .iter()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
        texts.take(MAX_ITEMS).collect()
    }

    fn reserved_ports(&self) -> Vec<u16> {
        let status = self.port("ENVOY_STATUS_PORT").unwrap_or(15021);
        let prometheus = self.port("ENVOY_PROMETHEUS_PORT").unwrap_or(15090);
        let secure = [
            "ENVOY_SECURE_METRICS_PORT",
            "ENVOY_SECURE_MERGED_METRICS_PORT",
        ]
        .map(|key| self.port(key));
        let mut ports: Vec<u16> = [status, prometheus]
            .into_iter()
            .chain(secure.into_iter().flatten())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// `[{"name":"http","containerPort":8080}]`, as list or as JSON inside a text.
    fn pod_ports(&self) -> BTreeMap<String, u16> {
        let items = match self.get("POD_PORTS") {
            Some(Value::Array(items)) => items.clone(),
            Some(Value::String(_)) => {
                serde_json::from_str(self.text("POD_PORTS")).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let read = |item: &Value| {
            Some((
                item.get("name")?.as_str()?.to_owned(),
                port(item.get("containerPort")?)?,
            ))
        };
        items.iter().filter_map(read).take(MAX_ITEMS).collect()
    }
}

fn port(value: &Value) -> Option<u16> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    (number.fract() == 0.0 && (1.0..=65535.0).contains(&number)).then_some(number as u16)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(id: &str, metadata: Value) -> Result<Proxy, ProxyError> {
        Proxy::parse(&Node {
            id: id.into(),
            metadata,
            ..Node::default()
        })
    }

    const ID: &str = "sidecar~10.0.0.1~a-1.shop~shop.svc.cluster.local";

    #[test]
    fn an_id_has_four_parts_a_known_type_and_an_address() {
        assert_eq!(parse("", json!({})), Err(ProxyError::MissingNode));
        assert!(matches!(
            parse("sidecar~10.0.0.1~a", json!({})),
            Err(ProxyError::MalformedId(_))
        ));
        assert!(matches!(
            parse(&format!("{ID}~"), json!({})),
            Err(ProxyError::MalformedId(_))
        ));
        assert!(matches!(
            parse("mixer~10.0.0.1~a~b", json!({})),
            Err(ProxyError::UnknownType(_))
        ));
        assert!(matches!(
            parse("sidecar~host~a~b", json!({})),
            Err(ProxyError::NoAddress(_))
        ));
    }

    #[test]
    fn the_namespace_is_the_given_one_or_the_first_label_of_the_domain() {
        assert_eq!(&*parse(ID, json!({})).unwrap().namespace, "shop");
        assert_eq!(
            &*parse(ID, json!({"NAMESPACE": "other"})).unwrap().namespace,
            "other"
        );
        assert_eq!(
            &*parse("router~::1~a~local", json!({})).unwrap().namespace,
            ""
        );
    }

    #[test]
    fn instance_ips_count_only_if_all_are_addresses() {
        let first =
            |ips: &str| parse(ID, json!({"INSTANCE_IPS": ips})).unwrap().addresses[0].to_string();
        assert_eq!(
            [first("10.9.9.9,fd00::1"), first("10.9.9.9,what"), first("")],
            ["10.9.9.9", "10.0.0.1", "10.0.0.1"]
        );
    }

    #[test]
    fn booleans_and_numbers_may_be_texts() {
        let proxy = parse(
            ID,
            json!({"DNS_CAPTURE": "true", "UNPRIVILEGED_POD": true, "HTTP10": "1", "HTTP_PROXY_PORT": "15002",
                   "ENVOY_STATUS_PORT": 15999, "POD_PORTS": "[{\"name\":\"http\",\"containerPort\":8080}]"}),
        )
        .unwrap();
        assert!(
            proxy.dns_capture && proxy.unprivileged && proxy.http10 && !proxy.inbound_exact_balance
        );
        assert_eq!(
            (proxy.http_proxy_port, proxy.reserved_ports),
            (15002, vec![15090, 15999])
        );
        assert_eq!(proxy.pod_ports, BTreeMap::from([("http".to_owned(), 8080)]));
    }

    #[test]
    fn versions_read_as_far_as_they_go() {
        let texts = ["1.20.3", "release-1.20", "1.30-alpha.1", "dev", ""];
        assert_eq!(
            texts.map(version),
            [
                (1, 20, 3),
                (1, 20, 65535),
                (1, 30, 1),
                (65535, 65535, 65535),
                (65535, 65535, 65535)
            ]
        );
    }

    #[test]
    fn the_extension_list_tells_the_build() {
        let vanilla = |extensions: &[&str], metadata| {
            let extensions = extensions.iter().map(|e| (*e).to_owned()).collect();
            Proxy::parse(&Node {
                id: ID.into(),
                metadata,
                extensions,
                ..Node::default()
            })
            .unwrap()
            .vanilla
        };
        assert!(vanilla(
            &["envoy.filters.http.router"],
            json!({"ISTIO_VERSION": "1.20.0"})
        ));
        assert!(!vanilla(
            &["envoy.filters.http.router", "istio.alpn"],
            json!({})
        ));
        assert!(!vanilla(&[], json!({"ISTIO_VERSION": "1.20.0"})));
        assert!(vanilla(&[], json!({})));
    }

    #[test]
    fn an_agent_says_its_version_and_may_bring_certificates() {
        let plain = parse(ID, json!({})).unwrap();
        assert!(!plain.agent && !plain.verified && plain.server_files.is_none());
        let proxy = parse(
            ID,
            json!({"ISTIO_VERSION": "1.29.0", "BASE": "/etc", "TLS_SERVER_CERT_CHAIN": "c.pem", "TLS_SERVER_KEY": "/k.pem",
                   "TLS_SERVER_ROOT_CERT": "r.pem", "TLS_CLIENT_CERT_CHAIN": "c~.pem", "TLS_CLIENT_KEY": "k", "TLS_CLIENT_ROOT_CERT": "r"}),
        )
        .unwrap();
        let files = proxy.server_files.unwrap();
        assert_eq!(
            [&*files.chain, &*files.key, &*files.root],
            ["/etc/c.pem", "/k.pem", "/etc/r.pem"]
        );
        assert!(proxy.agent && proxy.client_files.is_none());
    }

    #[test]
    fn locality_comes_from_labels_first() {
        let of = |labels: Value| {
            let locality = Locality::parse("node/zone/rack");
            let node = Node {
                id: ID.into(),
                metadata: json!({"LABELS": labels}),
                locality,
                ..Node::default()
            };
            Proxy::parse(&node).unwrap().locality.to_string()
        };
        assert_eq!(of(json!({})), "node/zone/rack");
        assert_eq!(of(json!({"istio-locality": "r.z.s"})), "r/z/s");
        assert_eq!(of(json!({"topology.istio.io/locality": "r2/z2"})), "r2/z2");
        assert_eq!(
            of(json!({"topology.kubernetes.io/region": "r1", "istio-locality": "x"})),
            "r1"
        );
    }

    #[test]
    fn topology_labels_are_added_where_absent() {
        let proxy = parse(ID, json!({"CLUSTER_ID": "c1", "NODE_NAME": "n1", "LABELS": {"kubernetes.io/hostname": "own"}})).unwrap();
        assert_eq!(proxy.labels.get("topology.istio.io/cluster"), Some("c1"));
        assert_eq!(proxy.labels.get("kubernetes.io/hostname"), Some("own"));
    }
}
