//! `flotilla ca token create`: a one-time join token.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mesh_api::citadel::CreateTokenRequest;
use mesh_types::WorkloadId;

use super::connect::Address;
use super::words::at;
use crate::table::{self, Output};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a token with which one workload may get its first certificate, once
    Create(Create),
}

#[derive(Debug, clap::Args)]
struct Create {
    #[command(flatten)]
    address: Address,

    /// The identity it is for: spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT
    #[arg(long, value_name = "ID", value_parser = WorkloadId::parse)]
    spiffe_id: WorkloadId,

    /// How long it may be used
    #[arg(long, value_name = "TIME", value_parser = service_kit::parse_duration, default_value = "10m")]
    ttl: Duration,

    /// The node it is for; kept in the journal, and by it certificates are revoked
    #[arg(long, value_name = "NAME", default_value = "")]
    node: String,

    /// Write the root certificates for the first connection to this file
    #[arg(long, value_name = "FILE")]
    ca_root: Option<std::path::PathBuf>,

    /// The token alone, json or yaml
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Makes a token and prints it: to standard output nothing else, so that it can be piped.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Create(args) = args.command;
    let ttl = u32::try_from(args.ttl.as_secs()).unwrap_or(u32::MAX);
    ensure!(ttl > 0, "--ttl must be a second at least");
    let mut client = args.address.connect().await?;
    let request = CreateTokenRequest {
        spiffe_id: args.spiffe_id.to_string(),
        ttl_seconds: ttl,
        node: args.node,
    };
    let token = args.address.ask(client.create_token(request)).await?;
    if let Some(file) = &args.ca_root {
        std::fs::write(file, &token.bundle)
            .with_context(|| format!("--ca-root {}", file.display()))?;
    }
    if args.output.is_table() {
        eprintln!(
            "token {} for {}, until {}, once",
            token.id,
            args.spiffe_id,
            at(token.not_after)
        );
        table::say!("{}", token.token);
    } else {
        table::print(&token, args.output)?;
    }
    Ok(ExitCode::SUCCESS)
}
