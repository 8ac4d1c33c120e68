//! `flotilla proxy-config`: what a proxy has been given, with istioctl's filters and columns.

mod columns;
mod filters;
mod secret;

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::Value;

use crate::client::PilotAddress;
use crate::table::{self, Output};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    kind: Kind,
}

/// What to print.
#[derive(Debug, Subcommand)]
enum Kind {
    /// Clusters: what it may call
    #[command(visible_alias = "c", alias = "clusters")]
    Cluster {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        filter: filters::ClusterFilter,
    },
    /// Listeners: where it accepts connections
    #[command(visible_alias = "l", alias = "listeners")]
    Listener {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        filter: filters::ListenerFilter,
    },
    /// Routes: where requests go
    #[command(visible_alias = "r", alias = "routes")]
    Route {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        filter: filters::RouteFilter,
    },
    /// Endpoints: the addresses behind clusters
    #[command(visible_alias = "ep", aliases = ["endpoints", "eds"])]
    Endpoint {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        filter: filters::EndpointFilter,
    },
    /// Secrets: its certificate, whom it trusts, credentials it was given
    #[command(visible_alias = "s", alias = "secrets")]
    Secret {
        #[command(flatten)]
        common: Common,
    },
    /// Everything
    #[command(visible_alias = "a")]
    All {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The proxy: pod or pod.namespace
    proxy: String,

    /// Namespace of the proxy, if its name says none
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    #[command(flatten)]
    address: PilotAddress,

    /// Table, json or yaml
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Common {
    async fn fetch(&self) -> anyhow::Result<Value> {
        let proxy = proxy(&self.proxy, self.namespace.as_deref());
        let path = format!("/v1/proxies/{proxy}/config");
        let pilot = self.address.service()?;
        pilot.get(&path, Duration::from_secs(10)).await
    }
}

/// `pod/reviews` in `shop` is `reviews.shop`.
pub fn proxy(name: &str, namespace: Option<&str>) -> String {
    let name = ["pod/", "pods/"]
        .iter()
        .find_map(|kind| name.strip_prefix(kind))
        .unwrap_or(name);
    match namespace {
        Some(namespace) if !name.contains(['.', '~']) => format!("{name}.{namespace}"),
        _ => name.to_owned(),
    }
}

/// A kind of resource, in the words of Pilot's API.
struct List {
    field: &'static str,
    head: &'static [&'static str],
    rows: fn(&Value) -> Vec<Vec<String>>,
}

const CLUSTERS: List = List {
    field: "clusters",
    head: &[
        "SERVICE FQDN",
        "PORT",
        "SUBSET",
        "DIRECTION",
        "TYPE",
        "DESTINATION RULE",
    ],
    rows: columns::cluster,
};
const LISTENERS: List = List {
    field: "listeners",
    head: &["ADDRESSES", "PORT", "MATCH", "DESTINATION"],
    rows: columns::listener,
};
const ROUTES: List = List {
    field: "routes",
    head: &["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"],
    rows: columns::route,
};
const ENDPOINTS: List = List {
    field: "endpoints",
    head: &["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"],
    rows: columns::endpoint,
};

/// Prints the resources of a proxy.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.kind {
        Kind::Cluster { common, filter } => {
            one(&common, &CLUSTERS, |resource| filter.wants(resource)).await
        }
        Kind::Listener { common, filter } => {
            one(&common, &LISTENERS, |resource| filter.wants(resource)).await
        }
        Kind::Route { common, filter } => {
            one(&common, &ROUTES, |resource| filter.wants(resource)).await
        }
        Kind::Endpoint { common, filter } => {
            one(&common, &ENDPOINTS, |resource| filter.reduce(resource)).await
        }
        Kind::Secret { common } => secret::run(&common).await,
        Kind::All { common } => {
            let all = common.fetch().await?;
            if !common.output.is_table() {
                table::print(&all, common.output)?;
                return Ok(ExitCode::SUCCESS);
            }
            for (at, list) in [CLUSTERS, LISTENERS, ROUTES, ENDPOINTS].iter().enumerate() {
                if at > 0 {
                    table::say!("");
                }
                print_table(list, all[list.field].as_array().into_iter().flatten());
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints one kind; `wants` may also cut parts of a resource.
async fn one(
    common: &Common,
    list: &List,
    mut wants: impl FnMut(&mut Value) -> bool,
) -> anyhow::Result<ExitCode> {
    let mut all = common.fetch().await?;
    let Value::Array(mut resources) = all[list.field].take() else {
        anyhow::bail!("Pilot's answer has no {}", list.field);
    };
    resources.retain_mut(|resource| wants(resource));
    if common.output.is_table() {
        print_table(list, &resources);
    } else {
        table::print(&resources, common.output)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print_table<'a>(list: &List, resources: impl IntoIterator<Item = &'a Value>) {
    let rows: Vec<Vec<String>> = resources.into_iter().flat_map(list.rows).collect();
    table::lines(list.head, &rows)
        .iter()
        .for_each(|line| table::say!("{line}"));
}

/// Name of a resource.
fn name(resource: &Value) -> &str {
    resource["name"]
        .as_str()
        .or(resource["clusterName"].as_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::proxy;

    #[test]
    fn proxies_are_named_as_users_of_istioctl_do() {
        assert_eq!(proxy("reviews-v1", None), "reviews-v1");
        assert_eq!(proxy("pod/reviews-v1", Some("shop")), "reviews-v1.shop");
        assert_eq!(proxy("reviews-v1.shop", Some("other")), "reviews-v1.shop");
    }
}
