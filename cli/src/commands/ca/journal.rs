//! `flotilla ca journal`: what was issued, to whom, when; and what else was done.

use std::process::ExitCode;

use anyhow::anyhow;
use mesh_api::citadel::{JournalEntry, JournalRequest};

use super::connect::Address;
use super::words::{at, dash};
use crate::table::{self, Output};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    address: Address,

    /// At most so many entries
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,

    /// Only of this identity
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<String>,

    /// Only of this certificate, by its serial number in hexadecimal
    #[arg(long, value_name = "HEX")]
    serial: Option<String>,

    /// Only of this node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,

    /// Only what is older than this entry: the next page
    #[arg(long, value_name = "N")]
    before: Option<u64>,

    /// Table, json or yaml
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Prints the entries.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut client = args.address.connect().await?;
    let request = JournalRequest {
        limit: args.limit,
        spiffe_id: args.spiffe_id.unwrap_or_default(),
        serial: args.serial.unwrap_or_default(),
        before: args.before.unwrap_or_default(),
        node: args.node.unwrap_or_default(),
    };
    let mut stream = args.address.ask(client.journal(request)).await?;
    let mut entries = Vec::new();
    loop {
        let next = stream.message().await;
        match next.map_err(|status| anyhow!("the journal broke off: {}", status.message()))? {
            Some(entry) => entries.push(entry),
            None => break,
        }
    }
    if !args.output.is_table() {
        table::print(&entries, args.output)?;
    } else if entries.is_empty() {
        table::say!("no entries");
    } else {
        let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
        table::lines(&HEAD, &rows)
            .iter()
            .for_each(|line| table::say!("{line}"));
    }
    Ok(ExitCode::SUCCESS)
}

const HEAD: [&str; 9] = [
    "N", "AT", "EVENT", "IDENTITY", "SERIAL", "UNTIL", "ASKED BY", "SHOWN BY", "DETAIL",
];

fn row(entry: &JournalEntry) -> Vec<String> {
    let mut detail = entry.detail.clone();
    if !entry.node.is_empty() {
        let separator = if detail.is_empty() { "" } else { "; " };
        detail.push_str(&format!("{separator}node {}", entry.node));
    }
    vec![
        entry.sequence.to_string(),
        at(entry.at),
        entry.event.clone(),
        dash(&entry.spiffe_id),
        dash(&entry.serial),
        at(entry.not_after),
        dash(&entry.requester),
        dash(&entry.attestation),
        dash(&detail),
    ]
}
