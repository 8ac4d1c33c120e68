//! The `agent` program.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Flotilla's agent: what runs beside an Envoy
#[derive(Debug, Parser)]
#[command(name = "agent", version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hand a pod's traffic to its proxy by iptables
    Capture(Box<agent::capture::Args>),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Capture(args) => agent::capture::run(*args),
    }
}
