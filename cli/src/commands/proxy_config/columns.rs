//! istioctl's columns: a resource, as proto3 JSON, to rows of a table.

use serde_json::Value;

use super::name;

/// Parts of a cluster's name; all but the host are empty for one that is no service's.
pub struct ClusterParts<'a> {
    /// `inbound` or `outbound`.
    pub direction: &'a str,
    /// Service port.
    pub port: &'a str,
    /// Subset.
    pub subset: &'a str,
    /// Host, or the whole name.
    pub host: &'a str,
}

/// Takes a cluster's name apart.
pub fn cluster_parts(name: &str) -> ClusterParts<'_> {
    let parts: Vec<&str> = name.split('|').collect();
    match parts[..] {
        [direction, port, subset, host] => ClusterParts {
            direction,
            port,
            subset,
            host,
        },
        _ => ClusterParts {
            direction: "",
            port: "",
            subset: "",
            host: name,
        },
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn dash(text: &str) -> String {
    let text = if text.is_empty() { "-" } else { text };
    text.to_owned()
}

fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

/// `reviews.shop` of `/apis/networking.istio.io/v1/namespaces/shop/destination-rule/reviews`.
fn source(resource: &Value) -> String {
    let path = text(&resource["metadata"]["filterMetadata"]["istio"]["config"]);
    let mut parts = path.rsplit('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(_), Some(namespace)) if !name.is_empty() => {
            format!("{name}.{namespace}")
        }
        _ => String::new(),
    }
}

/// One row.
pub fn cluster(cluster: &Value) -> Vec<Vec<String>> {
    let parts = cluster_parts(name(cluster));
    let kind = match (&cluster["type"], &cluster["clusterType"]) {
        (Value::Null, Value::Null) => "STATIC".to_owned(),
        (Value::Null, custom) => text(&custom["name"]),
        (kind, _) => text(kind),
    };
    vec![vec![
        parts.host.to_owned(),
        dash(parts.port),
        dash(parts.subset),
        dash(parts.direction),
        kind,
        source(cluster),
    ]]
}

fn chains(listener: &Value) -> impl Iterator<Item = &Value> {
    let chains = listener["filterChains"].as_array().into_iter().flatten();
    chains.chain(listener.get("defaultFilterChain"))
}

/// `HTTP`, `TCP`, `HTTP+TCP` or `UNKNOWN`, by the filters of all chains.
pub fn kinds(listener: &Value) -> &'static str {
    let has = |what: &str| {
        chains(listener)
            .flat_map(|chain| chain["filters"].as_array().into_iter().flatten())
            .any(|filter| text(&filter["typedConfig"]["@type"]).ends_with(what))
    };
    match (has(".HttpConnectionManager"), has(".TcpProxy")) {
        (true, true) => "HTTP+TCP",
        (true, false) => "HTTP",
        (false, true) => "TCP",
        (false, false) => "UNKNOWN",
    }
}

/// A row per filter chain.
pub fn listener(listener: &Value) -> Vec<Vec<String>> {
    let socket = &listener["address"]["socketAddress"];
    let (address, port) = (text(&socket["address"]), text(&socket["portValue"]));
    chains(listener)
        .map(|chain| {
            vec![
                address.clone(),
                port.clone(),
                chain_match(&chain["filterChainMatch"]),
                destination(chain),
            ]
        })
        .collect()
}

fn chain_match(chain: &Value) -> String {
    let mut parts = Vec::new();
    for (what, value) in [
        ("SNI", &chain["serverNames"]),
        ("App", &chain["applicationProtocols"]),
    ] {
        if value.is_array() {
            parts.push(format!("{what}: {}", list(value).join(",")));
        }
    }
    if let Some(transport) = chain["transportProtocol"].as_str() {
        parts.push(format!("Trans: {transport}"));
    }
    if chain["destinationPort"].is_number() {
        parts.push(format!("Port: {}", chain["destinationPort"]));
    }
    if let Some(ranges) = chain["prefixRanges"].as_array() {
        let ranges: Vec<String> = ranges
            .iter()
            .map(|r| format!("{}/{}", text(&r["addressPrefix"]), text(&r["prefixLen"])))
            .collect();
        parts.push(format!("Addr: {}", ranges.join(",")));
    }
    if parts.is_empty() {
        "ALL".into()
    } else {
        parts.join("; ")
    }
}

fn destination(chain: &Value) -> String {
    for filter in chain["filters"].as_array().into_iter().flatten().rev() {
        let config = &filter["typedConfig"];
        if let Some(route) = config["rds"]["routeConfigName"].as_str() {
            return format!("Route: {route}");
        }
        if config["routeConfig"].is_object() {
            return inline(&config["routeConfig"]);
        }
        if let Some(cluster) = config["cluster"].as_str() {
            return format!("Cluster: {cluster}");
        }
        if let Some(clusters) = config["weightedClusters"]["clusters"].as_array() {
            let names: Vec<String> = clusters
                .iter()
                .map(|c| format!("{} ({})", text(&c["name"]), text(&c["weight"])))
                .collect();
            return format!("Clusters: {}", names.join(", "));
        }
    }
    "Non-HTTP/Non-TCP".into()
}

/// Routes within a listener: the cluster, if there is but one way.
fn inline(config: &Value) -> String {
    let hosts = config["virtualHosts"].as_array();
    let routes: Vec<&Value> = hosts
        .into_iter()
        .flatten()
        .flat_map(|host| host["routes"].as_array().into_iter().flatten())
        .collect();
    match routes[..] {
        [only] if only["match"]["prefix"] == "/" && only["route"]["cluster"].is_string() => {
            format!("Cluster: {}", text(&only["route"]["cluster"]))
        }
        _ => {
            let paths: Vec<String> = routes.iter().map(|route| path(&route["match"])).collect();
            format!("Inline Route: {}", paths.join(", "))
        }
    }
}

fn path(matched: &Value) -> String {
    if let Some(path) = matched["path"].as_str() {
        return path.to_owned();
    }
    ["prefix", "pathSeparatedPrefix"]
        .iter()
        .find_map(|kind| Some(format!("{}*", matched[kind].as_str()?)))
        .unwrap_or_else(|| text(&matched["safeRegex"]["regex"]))
}

/// A row per route of every virtual host; one that has none answers 404.
pub fn route(config: &Value) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for host in config["virtualHosts"].as_array().into_iter().flatten() {
        let domains = list(&host["domains"]);
        let domains = match &*domains {
            [first, second, rest @ ..] if !rest.is_empty() => {
                format!("{first}, {second} + {} more...", rest.len())
            }
            few => few.join(", "),
        };
        let mut row = |matched: String, source: String| {
            rows.push(vec![
                name(config).to_owned(),
                name(host).to_owned(),
                domains.clone(),
                matched,
                source,
            ]);
        };
        match host["routes"].as_array().map(Vec::as_slice) {
            None | Some([]) => row("/*".into(), "404".into()),
            Some(routes) => routes
                .iter()
                .for_each(|route| row(path(&route["match"]), source(route))),
        }
    }
    rows
}

/// `10.0.0.1:9080`, `unix:///run/app.sock`.
pub fn place(endpoint: &Value) -> String {
    let address = &endpoint["endpoint"]["address"];
    let socket = &address["socketAddress"];
    match address["pipe"]["path"].as_str() {
        Some(path) => format!("unix://{path}"),
        None => format!(
            "{}:{}",
            text(&socket["address"]),
            text(&socket["portValue"])
        ),
    }
}

/// A row per endpoint. What Envoy itself thinks of it, Pilot does not know: a dash.
pub fn endpoint(assignment: &Value) -> Vec<Vec<String>> {
    let groups = assignment["endpoints"].as_array().into_iter().flatten();
    groups
        .flat_map(|group| group["lbEndpoints"].as_array().into_iter().flatten())
        .map(|endpoint| {
            let health = endpoint["healthStatus"].as_str().unwrap_or("UNKNOWN");
            vec![
                place(endpoint),
                health.to_owned(),
                "-".to_owned(),
                name(assignment).to_owned(),
            ]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn clusters_name_their_rule() {
        let config = "/apis/networking.istio.io/v1/namespaces/shop/destination-rule/mine";
        let subset = json!({
            "name": "outbound|9080|v1|reviews.shop",
            "type": "EDS",
            "metadata": { "filterMetadata": { "istio": { "config": config } } },
        });
        assert_eq!(
            cluster(&subset),
            [["reviews.shop", "9080", "v1", "outbound", "EDS", "mine.shop"]]
        );
        assert_eq!(
            cluster(&json!({ "name": "BlackHoleCluster" })),
            [["BlackHoleCluster", "-", "-", "-", "STATIC", ""]]
        );
    }

    #[test]
    fn listeners_say_where_a_chain_leads() {
        let to = |config: Value| destination(&json!({ "filters": [{ "typedConfig": config }] }));
        assert_eq!(
            to(json!({ "rds": { "routeConfigName": "80" } })),
            "Route: 80"
        );
        let only = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "in" } }]);
        assert_eq!(
            to(json!({ "routeConfig": { "virtualHosts": [{ "routes": only }] } })),
            "Cluster: in"
        );
        let two = json!([{ "match": { "path": "/a" } }, { "match": { "prefix": "/" } }]);
        assert_eq!(
            to(json!({ "routeConfig": { "virtualHosts": [{ "routes": two }] } })),
            "Inline Route: /a, /*"
        );
        assert_eq!(to(json!({ "cluster": "tcp" })), "Cluster: tcp");
        assert_eq!(to(json!({})), "Non-HTTP/Non-TCP");
    }

    #[test]
    fn many_domains_are_counted() {
        let config = json!({ "name": "80", "virtualHosts": [
            { "name": "v", "domains": ["a", "b", "c", "d"], "routes": [{ "match": { "prefix": "/x" } }] },
            { "name": "none", "domains": ["e"] },
        ] });
        assert_eq!(
            route(&config),
            [
                ["80", "v", "a, b + 2 more...", "/x*", ""],
                ["80", "none", "e", "/*", "404"]
            ]
        );
    }
}
