//! `flotilla findings`: what is wrong with the configuration in force.

use std::process::ExitCode;
use std::time::Duration;

use crate::client::GalleyAddress;
use crate::report::Report;
use crate::table::{self, Output};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    address: GalleyAddress,

    /// Only objects of this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Table, json or yaml
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Prints every finding.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let galley = args.address.service()?;
    let mut findings: Vec<Report> = galley.get("/v1/findings", Duration::from_secs(10)).await?;
    if let Some(namespace) = &args.namespace {
        findings.retain(|finding| finding.namespace.as_ref() == Some(namespace));
    }
    if args.output.is_table() && findings.is_empty() {
        table::say!("no findings");
    } else if args.output.is_table() {
        table::lines(&HEAD, &findings.iter().map(row).collect::<Vec<_>>())
            .iter()
            .for_each(|line| table::say!("{line}"));
    } else {
        table::print(&findings, args.output)?;
    }
    Ok(ExitCode::SUCCESS)
}

const HEAD: [&str; 7] = ["LEVEL", "CODE", "KIND", "NAME", "FILE", "PATH", "MESSAGE"];

fn row(finding: &Report) -> Vec<String> {
    let dash = |text: Option<&str>| {
        text.filter(|text| !text.is_empty())
            .unwrap_or("-")
            .to_owned()
    };
    let name = finding
        .name
        .as_ref()
        .map(|name| match finding.namespace.as_deref() {
            None | Some("") => name.clone(),
            Some(namespace) => format!("{name}.{namespace}"),
        });
    let file = match finding.line {
        0 => finding.file.clone(),
        line => format!("{}:{line}", finding.file),
    };
    vec![
        finding.level().to_owned(),
        finding.code.clone(),
        dash(finding.kind.as_deref()),
        dash(name.as_deref()),
        dash(Some(&file)),
        dash(Some(&finding.path)),
        finding.message.clone(),
    ]
}
