//! `flotilla proxy-config`: what a proxy has been given, in istioctl's columns.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::client::{self, PilotAddress};
use crate::table::{self, Output};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to print
    #[arg(value_enum)]
    kind: Kind,

    /// The proxy, by pod or pod.namespace
    proxy: String,

    #[command(flatten)]
    address: PilotAddress,

    /// Only resources whose name contains this
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,

    /// Table, json or yaml
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Clusters
    #[value(alias = "c", alias = "clusters")]
    Cluster,
    /// Listeners
    #[value(alias = "l", alias = "listeners")]
    Listener,
    /// Routes
    #[value(alias = "r", alias = "routes")]
    Route,
    /// Endpoints
    #[value(alias = "ep", alias = "endpoints", alias = "eds")]
    Endpoint,
    /// Everything
    #[value(alias = "a")]
    All,
}

/// Prints the resources of a proxy.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/proxies/{}/config", args.proxy);
    let mut all: Value = client::get(&args.address.pilot, &path, Duration::from_secs(10)).await?;
    if let Some(text) = &args.name {
        for list in all
            .as_object_mut()
            .into_iter()
            .flat_map(|all| all.values_mut())
            .filter_map(Value::as_array_mut)
        {
            list.retain(|resource| name(resource).contains(text.as_str()));
        }
    }
    let kinds: &[Kind] = match args.kind {
        Kind::All => &[Kind::Cluster, Kind::Listener, Kind::Route, Kind::Endpoint],
        _ => &[args.kind],
    };
    if args.output != Output::Short {
        match args.kind {
            Kind::All => table::print(&all, args.output)?,
            kind => table::print(&all[field(kind)], args.output)?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    for kind in kinds {
        let resources = all[field(*kind)]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let (head, rows) = match kind {
            Kind::Cluster => (
                &["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE"][..],
                resources.iter().map(cluster).collect(),
            ),
            Kind::Listener => (
                &["ADDRESSES", "PORT", "MATCH", "DESTINATION"][..],
                resources.iter().flat_map(listener).collect(),
            ),
            Kind::Route => (
                &["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"][..],
                resources.iter().flat_map(route).collect(),
            ),
            Kind::Endpoint | Kind::All => (
                &["ENDPOINT", "STATUS", "CLUSTER"][..],
                resources.iter().flat_map(endpoint).collect::<Vec<_>>(),
            ),
        };
        table::lines(head, &rows)
            .iter()
            .for_each(|line| println!("{line}"));
        if kinds.len() > 1 {
            println!();
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn field(kind: Kind) -> &'static str {
    match kind {
        Kind::Cluster => "clusters",
        Kind::Listener => "listeners",
        Kind::Route => "routes",
        Kind::Endpoint | Kind::All => "endpoints",
    }
}

fn name(resource: &Value) -> &str {
    resource["name"]
        .as_str()
        .or(resource["clusterName"].as_str())
        .unwrap_or_default()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn cluster(cluster: &Value) -> Vec<String> {
    let name = name(cluster);
    let parts: Vec<&str> = name.split('|').collect();
    let kind = match (&cluster["type"], &cluster["clusterType"]) {
        (Value::Null, Value::Null) => "STATIC".to_owned(),
        (Value::Null, custom) => text(&custom["name"]),
        (kind, _) => text(kind),
    };
    match parts[..] {
        [direction, port, subset, host] => {
            let dash = |text: &str| {
                if text.is_empty() {
                    "-".to_owned()
                } else {
                    text.to_owned()
                }
            };
            vec![
                host.to_owned(),
                port.to_owned(),
                dash(subset),
                direction.to_owned(),
                kind,
            ]
        }
        _ => vec![name.to_owned(), "-".into(), "-".into(), "-".into(), kind],
    }
}

fn listener(listener: &Value) -> Vec<Vec<String>> {
    let socket = &listener["address"]["socketAddress"];
    let (address, port) = (text(&socket["address"]), text(&socket["portValue"]));
    let chains = listener["filterChains"].as_array().into_iter().flatten();
    let chains = chains.chain(listener.get("defaultFilterChain"));
    chains
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
    let list = |value: &Value| -> String {
        value
            .as_array()
            .into_iter()
            .flatten()
            .map(text)
            .collect::<Vec<_>>()
            .join(",")
    };
    for (what, value) in [
        ("SNI", &chain["serverNames"]),
        ("App", &chain["applicationProtocols"]),
    ] {
        if value.is_array() {
            parts.push(format!("{what}: {}", list(value)));
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
            return format!("Inline Route: {}", text(&config["routeConfig"]["name"]));
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

fn route(config: &Value) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for host in config["virtualHosts"].as_array().into_iter().flatten() {
        let domains: Vec<String> = host["domains"]
            .as_array()
            .into_iter()
            .flatten()
            .map(text)
            .collect();
        let shown = if domains.len() > 2 {
            format!(
                "{}, {} + {} more...",
                domains[0],
                domains[1],
                domains.len() - 2
            )
        } else {
            domains.join(", ")
        };
        for route in host["routes"].as_array().into_iter().flatten() {
            let matched = &route["match"];
            let path = ["prefix", "path", "pathSeparatedPrefix"]
                .iter()
                .find_map(|kind| {
                    let value = matched[kind].as_str()?;
                    Some(if *kind == "path" {
                        value.to_owned()
                    } else {
                        format!("{}*", value)
                    })
                })
                .unwrap_or_else(|| text(&matched["safeRegex"]["regex"]));
            let source = text(&route["metadata"]["filterMetadata"]["istio"]["config"]);
            let mut parts = source.rsplit('/');
            let source = match (parts.next(), parts.next(), parts.next()) {
                (Some(name), Some(_), Some(namespace)) if !name.is_empty() => {
                    format!("{name}.{namespace}")
                }
                _ => String::new(),
            };
            rows.push(vec![
                name(config).to_owned(),
                name(host).to_owned(),
                shown.clone(),
                path,
                source,
            ]);
        }
    }
    rows
}

fn endpoint(assignment: &Value) -> Vec<Vec<String>> {
    let groups = assignment["endpoints"].as_array().into_iter().flatten();
    groups
        .flat_map(|group| group["lbEndpoints"].as_array().into_iter().flatten())
        .map(|lb| {
            let address = &lb["endpoint"]["address"];
            let socket = &address["socketAddress"];
            let place = match address["pipe"]["path"].as_str() {
                Some(path) => format!("unix://{path}"),
                None => format!(
                    "{}:{}",
                    text(&socket["address"]),
                    text(&socket["portValue"])
                ),
            };
            let health = lb["healthStatus"].as_str().unwrap_or("UNKNOWN");
            vec![place, health.to_owned(), name(assignment).to_owned()]
        })
        .collect()
}
