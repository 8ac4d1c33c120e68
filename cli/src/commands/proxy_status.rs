//! `flotilla proxy-status`: every proxy of every Pilot, and whether it has what it should have.

use std::process::ExitCode;
use std::time::Duration;

use mesh_api::pilot::{ProxyStatus, TypeStatus};
use pilot::debug::Proxies;

use crate::client::PilotAddress;
use crate::table::{self, Output};

/// Columns and the type each shows.
const TYPES: [(&str, &str); 4] = [
    ("CDS", "type.googleapis.com/envoy.config.cluster.v3.Cluster"),
    (
        "LDS",
        "type.googleapis.com/envoy.config.listener.v3.Listener",
    ),
    (
        "EDS",
        "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    ),
    (
        "RDS",
        "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    ),
];

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    address: PilotAddress,

    /// Only this proxy, by pod or pod.namespace, with the rejections in full
    proxy: Option<String>,

    /// Table, json or yaml
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Prints a line per proxy; fails if a Pilot did not answer or a proxy is unknown.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut all: Proxies = args
        .address
        .service()?
        .get("/v1/proxies", Duration::from_secs(10))
        .await?;
    if let Some(name) = &args.proxy {
        for pilot in &mut all.pilots {
            pilot.proxies.retain(|proxy| {
                proxy.proxy == *name || proxy.proxy.split('.').next() == Some(name)
            });
        }
        if all.pilots.iter().all(|pilot| pilot.proxies.is_empty()) {
            anyhow::bail!("no proxy {name} is connected to any Pilot that answered");
        }
    }
    if args.output != Output::Short {
        table::print(&all, args.output)?;
        return Ok(code(&all));
    }
    let proxies: Vec<&ProxyStatus> = all.pilots.iter().flat_map(|pilot| &pilot.proxies).collect();
    let mut rows: Vec<Vec<String>> = proxies.iter().map(|proxy| row(proxy)).collect();
    rows.sort();
    let head = [
        "NAME", "CLUSTER", "CDS", "LDS", "EDS", "RDS", "REVISION", "PILOT", "VERSION",
    ];
    table::lines(&head, &rows)
        .iter()
        .for_each(|line| table::say!("{line}"));
    for proxy in &proxies {
        for rejection in proxy.types.iter().filter_map(|t| t.rejection.as_ref()) {
            table::say!(
                "\n{} rejected revision {}: {}",
                proxy.proxy,
                rejection.revision,
                rejection.message.trim()
            );
        }
    }
    // Seconds are counted while Galley is not heard; a Pilot that reads files has none.
    for pilot in all.pilots.iter().filter(|pilot| pilot.stale_seconds > 0) {
        table::say!(
            "\nPilot {} has no stream from Galley and serves revision {} as it was {} ago",
            pilot.pilot,
            pilot.revision,
            service_kit::spell_duration(Duration::from_secs(pilot.stale_seconds))
        );
    }
    for pilot in &all.silent_pilots {
        table::say!("\nPilot {pilot} is registered and did not answer: its proxies are not listed");
    }
    Ok(code(&all))
}

fn code(all: &Proxies) -> ExitCode {
    if all.silent_pilots.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn row(proxy: &ProxyStatus) -> Vec<String> {
    let state = |url: &str| state(proxy.types.iter().find(|t| t.type_url == url)).to_owned();
    let mut row = vec![proxy.proxy.clone(), proxy.cluster_id.clone()];
    row.extend(TYPES.iter().map(|(_, url)| state(url)));
    row.extend([
        proxy.live_revision.to_string(),
        proxy.pilot.clone(),
        proxy.proxy_version.clone(),
    ]);
    row
}

/// istioctl's words.
fn state(status: Option<&TypeStatus>) -> &'static str {
    match status {
        None => "IGNORED",
        Some(status) if status.rejection.is_some() => "ERROR",
        Some(status) if status.synced => "SYNCED",
        Some(status) if status.sent_version.is_empty() => "NOT SENT",
        Some(_) => "STALE",
    }
}
