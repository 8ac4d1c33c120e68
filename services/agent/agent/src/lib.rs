//! The agent: runs beside Envoy. Starts and drains it, keeps its keys and certificates, carries its xDS to Pilot, answers probes and DNS, and
//! captures the traffic of a pod.
//!
//! This crate listens, runs and asks; what is decided is decided in `agent-core`. Start reading at [`run`], the order in which things start and end,
//! then [`sds`] (secrets for Envoy), then [`xds`] (its way to Pilot).

pub mod args;
mod bootstrap;
pub mod capture;
pub mod dns;
pub mod envoy;
pub mod http;
pub mod identity;
pub mod machine;
pub mod metrics;
pub mod probe;
pub mod request;
pub mod run;
pub mod scrape;
pub mod sds;
pub mod status;
pub mod trust;
pub mod xds;

use std::process::ExitCode;

use args::Command;
use service_kit::Stop;

/// Does what a command says, on the main thread.
///
/// # Errors
/// What went wrong, in words.
pub fn main(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Child(args) => match request::child(&args)? {},
        Command::PrintBootstrap => Ok(bootstrap::print()?),
        Command::Capture(args) => Ok(capture::run(*args)),
        Command::Proxy(args) => {
            args.init_logs()?;
            on_a_runtime(async {
                let stop = Stop::new();
                service_kit::signals(&stop)?;
                Ok(run::run(*args, stop).await?)
            })
        }
        Command::Wait(args) => on_a_runtime(request::wait(&args)),
        Command::Request(args) => on_a_runtime(request::request(&args)),
    }
}

fn on_a_runtime(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // One agent per proxy: most of the time they do nothing.
        .worker_threads(2)
        .enable_all()
        .build()?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}
