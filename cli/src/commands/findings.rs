//! `flotilla findings`: what is wrong with the configuration in force.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::client;
use crate::table::{self, Output};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address of Galley's HTTP API
    #[arg(
        long,
        env = "FLOTILLA_GALLEY",
        value_name = "URL",
        default_value = "http://127.0.0.1:8081"
    )]
    galley: String,

    /// Only objects of this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Table, json or yaml
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Prints every finding.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut findings: Vec<Value> =
        client::get(&args.galley, "/v1/findings", Duration::from_secs(10)).await?;
    if let Some(namespace) = &args.namespace {
        findings.retain(|finding| finding["namespace"] == **namespace);
    }
    if args.output != Output::Short {
        table::print(&findings, args.output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let cell = |finding: &Value, field: &str| finding[field].as_str().unwrap_or("-").to_owned();
    let rows: Vec<Vec<String>> = findings
        .iter()
        .map(|f| {
            [
                "level",
                "code",
                "kind",
                "namespace",
                "name",
                "path",
                "message",
            ]
            .map(|field| cell(f, field))
            .into()
        })
        .collect();
    let head = [
        "LEVEL",
        "CODE",
        "KIND",
        "NAMESPACE",
        "NAME",
        "PATH",
        "MESSAGE",
    ];
    table::lines(&head, &rows)
        .iter()
        .for_each(|line| println!("{line}"));
    Ok(ExitCode::SUCCESS)
}
