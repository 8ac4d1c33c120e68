//! The `agent` program.

use std::process::ExitCode;

use agent::args::Args;
use clap::Parser as _;

fn main() -> ExitCode {
    match agent::main(Args::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}
