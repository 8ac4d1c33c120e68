//! `flotilla`: the whole plane in one process, and the operator's commands.
//!
//! It decides nothing: every command asks a service, or calls the same code offline. Start reading at [`Command`].

mod client;
mod commands;
mod report;
mod table;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Flotilla, a control plane for Envoy that speaks Istio's APIs
#[derive(Debug, Parser)]
#[command(name = "flotilla", version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check configuration files, offline
    Validate(commands::validate::Args),
    /// Print what a proxy would get, offline
    Render(commands::render::Args),
    /// Say which proxies are connected and whether they have everything
    #[command(visible_alias = "ps")]
    ProxyStatus(commands::proxy_status::Args),
    /// Print what a proxy has been given
    #[command(visible_alias = "pc")]
    ProxyConfig(commands::proxy_config::Args),
    /// Say which policies stand before a workload, and what they make of a request
    Authz(Box<commands::authz::Args>),
    /// Wait until a revision is live on every proxy
    Wait(commands::wait::Args),
    /// Say what is wrong with the configuration in force
    Findings(commands::findings::Args),
    /// Serve a folder of Envoy resources as they are
    ServeXds(commands::serve_xds::Args),
    /// Start a whole mesh on this machine: plane, sample, Envoys
    Up(Box<commands::up::Args>),
    /// See and steer the certificate authority
    Ca(commands::ca::Args),
    /// Run Pilot alone
    Pilot(Box<pilot::Args>),
    /// Run Galley alone
    Galley(Box<galley::Args>),
    /// Run Citadel alone
    Citadel(Box<citadel::Args>),
    /// Run an Envoy with identity and configuration, or capture a pod's traffic
    Agent(agent::args::Args),
    /// Run a program that ends when its parent does
    #[command(hide = true)]
    Child(commands::child::Args),
    /// Print an encoded bootstrap as JSON, for the agent
    #[command(hide = true)]
    PrintBootstrap,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Command::Child(args) = &args.command {
        return match commands::child::run(args) {
            Ok(never) => match never {},
            Err(error) => fail(&error),
        };
    }
    // It runs an Envoy, whose life is tied to the main thread, and has a runtime of its own size.
    let of_agent = match args.command {
        Command::Agent(args) => Ok(args.command),
        Command::PrintBootstrap => Ok(agent::args::Command::PrintBootstrap),
        command => Err(command),
    };
    let args = match of_agent {
        Ok(command) => {
            return match agent::main(command) {
                Ok(code) => code,
                Err(error) => fail(&error),
            };
        }
        Err(command) => Args { command },
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("flotilla: no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match args.command {
            Command::Validate(args) => commands::validate::run(args),
            Command::Render(args) => commands::render::run(args),
            Command::ProxyStatus(args) => commands::proxy_status::run(args).await,
            Command::ProxyConfig(args) => commands::proxy_config::run(args).await,
            Command::Authz(args) => commands::authz::run(*args).await,
            Command::Wait(args) => commands::wait::run(args).await,
            Command::Findings(args) => commands::findings::run(args).await,
            Command::ServeXds(args) => commands::serve_xds::run(args).await,
            Command::Up(args) => commands::up::run(*args).await,
            Command::Ca(args) => commands::ca::run(args).await,
            Command::Pilot(args) => commands::services::pilot(*args).await,
            Command::Galley(args) => commands::services::galley(*args).await,
            Command::Citadel(args) => commands::services::citadel(*args).await,
            Command::Agent(_) | Command::Child(_) | Command::PrintBootstrap => {
                unreachable!("handled before there were threads")
            }
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match outcome {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("flotilla: {error:#}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_agree_with_each_other() {
        super::Args::command().debug_assert();
    }
}
