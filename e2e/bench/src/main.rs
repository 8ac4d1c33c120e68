//! `bench`: what a control plane costs, by the processor time, memory, bytes and delays of serving a fleet of xDS clients.
//!
//! What it must never know: anything of our server but its command line. It drives any server of ADS that reads Istio's configuration from
//! two folders.
//!
//! Start reading at [`measure::measure`], which is one row; [`session::Session`] is what a client does.

mod args;
mod ca;
mod catalog;
mod client;
mod door;
mod fleet;
mod folders;
mod gates;
mod measure;
mod node;
mod process;
mod report;
mod response;
mod rows;
mod server;
mod session;
mod summary;
mod tally;
mod wire;
mod workload;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use crate::args::{Args, Command, Variant, name_of};
use crate::ca::{Authority, Root};
use crate::folders::Folders;
use crate::measure::{Measured, measure};
use crate::rows::Row;
use crate::server::{Own, Server};
use crate::summary::{Summary, summaries};

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    // One thread: the other cores are the server's.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            tokio::select! {
                outcome = measure_it(&args) => outcome,
                _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
            }
        })
}

async fn measure_it(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        None => run(args).await,
        // A missed gate is told, and no failure, as with the rows of a fleet.
        Some(Command::Ca(args)) => ca::run(args).await.map(|_| ExitCode::SUCCESS),
    }
}

async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let work = tempfile::tempdir()?;
    let mut json = match &args.json {
        Some(path) => Some(File::create(path).with_context(|| path.display().to_string())?),
        None => None,
    };
    let mut all: Vec<Summary> = Vec::new();
    let mut failed = false;
    println!("{}", report::head());
    for row in args.rows.iter().map(|name| Row::new(*name, args)) {
        for &variant in &args.protocols {
            let measured = match one(args, work.path(), row, variant).await {
                Ok(measured) => measured,
                Err(error) => {
                    failed = true;
                    println!("{} {}: {error:#}", name_of(&row.name), name_of(&variant));
                    continue;
                }
            };
            failed |= !measured.lost.is_empty();
            let lines = summaries(&measured);
            for summary in &lines {
                println!("{}", report::line(summary));
            }
            print!("{}", report::notes(&measured));
            if let Some(file) = &mut json {
                let samples = measured.samples.iter().map(|sample| sample.json());
                for value in samples.chain(lines.iter().map(Summary::json)) {
                    writeln!(file, "{value}")?;
                }
            }
            all.extend(lines);
        }
    }
    let gates = gates::gates(&all);
    if !gates.is_empty() {
        println!("\n{}", report::gates(&gates));
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// One row with one protocol, on a server of its own or on the one that runs.
async fn one(args: &Args, work: &Path, row: Row, variant: Variant) -> anyhow::Result<Measured> {
    if let (Some(address), Some(pid), Some(fixed), Some(hot)) =
        (args.address, args.pid, &args.static_dir, &args.hot_dir)
    {
        let staging = hot.with_file_name(".bench-staging");
        let folders = Folders {
            fixed: fixed.clone(),
            hot: hot.clone(),
            staging: staging.clone(),
        };
        let measured = measure(args, &Server::running(address, pid), &folders, row, variant).await;
        let _ = std::fs::remove_dir_all(staging);
        return measured;
    }
    let work = tempfile::tempdir_in(work)?;
    let at = |name: &str| work.path().join(name);
    let folders = Folders {
        fixed: at("static"),
        hot: at("hot"),
        staging: at("staging"),
    };
    std::fs::create_dir(&folders.fixed)?;
    std::fs::create_dir(&folders.hot)?;
    std::fs::write(at("mesh.yaml"), workload::MESH)?;
    let program = match &args.server {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("flotilla"),
    };
    let mut own = Own {
        program,
        args: args.server_arg.clone(),
        tls: None,
    };
    let authority = if args.tls {
        let authority = Authority::start(args.server.as_deref(), Root::Ec).await?;
        own.args
            .extend(authority.identity_of_pilot(&at("identity")).await?);
        own.tls = Some(authority.proxy().await?);
        Some(authority)
    } else {
        None
    };
    let server = Server::start(&own, &folders, &at("mesh.yaml"), work.path()).await?;
    let measured = measure(args, &server, &folders, row, variant)
        .await
        .map_err(|error| {
            let log = std::fs::read_to_string(at("server.log")).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(10).collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            error.context(format!("the server said: {}", tail.join("\n")))
        });
    server.end().await;
    if let Some(authority) = authority {
        authority.end().await;
    }
    measured
}
