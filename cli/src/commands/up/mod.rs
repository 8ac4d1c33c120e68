//! `flotilla up`: a whole mesh on this machine: the plane, a sample application, an agent with an Envoy beside each of its workloads.
//!
//! Start reading at [`run`]. What is started is in `plane` and `sample`, how it lives and ends in `children`, what is said meanwhile in
//! `story` and `words`.

mod args;
mod children;
mod flags;
mod identities;
mod plane;
mod programs;
mod revisions;
mod sample;
mod state;
mod story;
mod words;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use service_kit::Stop;

pub use args::Args;
use args::Network;
use children::{Children, Spec};
use identities::Identities;
use plane::Plane;
use programs::Places;
use sample::{WORKLOADS, Workload};
use state::State;
use story::{Story, say};

/// The programs that are run.
struct Programs {
    /// Envoy and the application; none without sample.
    sample: Option<(PathBuf, PathBuf)>,
    /// With `--split`.
    nats_server: Option<PathBuf>,
}

/// Runs the mesh until told to stop.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let stop = Stop::new();
    service_kit::signals(&stop)?;
    let flotilla = std::env::current_exe()?;
    let programs = programs(&args, &flotilla)?;
    let state = State::open(&args)?;
    if programs.sample.is_some() {
        check_ports(args.network)?;
    }
    logs(&args, &state)?;
    let mut children = Children::new(flotilla);

    let outcome = live(&args, &programs, &state, &mut children, &stop).await;
    stop.trigger();
    let all = 0..children.len();
    children.stop(all).await;
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// From the first process to the wish to stop.
async fn live(
    args: &Args,
    programs: &Programs,
    state: &State,
    children: &mut Children,
    stop: &Stop,
) -> anyhow::Result<()> {
    let started = tokio::time::Instant::now();
    let nats_server = programs.nats_server.as_deref();
    let mut plane = tokio::select! {
        () = stop.wait() => return Ok(()),
        plane = Plane::start(args, state, nats_server, children) => plane?,
    };
    let first = children.len();
    if let Some(sample) = &programs.sample {
        start_sample(args, sample, state, &plane, children).await?;
    }
    let sample = first..children.len();

    let identities = plane.identities.clone();
    let mut story = Story::new(args, state, &plane, started)?;
    let mut telling = std::pin::pin!(story.tell());
    let outcome = loop {
        tokio::select! {
            () = stop.wait() => break Ok(()),
            error = plane.ended() => break Err(error),
            never = &mut telling => break never.map(|never| match never {}),
            ending = children.watch() => match ending {
                Ok(ending) => {
                    say(&format!(
                        "{} {}, and is started again; see {}",
                        ending.name,
                        ending.how,
                        state.show(&ending.log).display()
                    ));
                    admit_again(&identities, &ending.name).await;
                }
                Err(error) => break Err(error),
            },
        }
    };
    say("stopping");
    // Envoys first: while they are there, they want the plane.
    children.stop(sample).await;
    plane.stop(children).await;
    outcome
}

fn programs(args: &Args, flotilla: &Path) -> anyhow::Result<Programs> {
    let current = std::env::current_dir()?;
    let places = Places {
        flotilla,
        current: &current,
        path: &args.path,
    };
    let sample = if args.no_sample {
        None
    } else {
        let envoy = places.installed("envoy", "--envoy", args.envoy.as_deref())?;
        Some((envoy, places.sample(args.sample.as_deref())?))
    };
    let nats_server = args
        .split
        .then(|| places.installed("nats-server", "--nats-server", args.nats_server.as_deref()))
        .transpose()?;
    Ok(Programs {
        sample,
        nats_server,
    })
}

/// Says at once what would otherwise be in an Envoy's log.
fn check_ports(network: Network) -> anyhow::Result<()> {
    let ports = WORKLOADS
        .iter()
        .flat_map(|workload| workload.ports(network));
    for address in ports {
        if let Err(error) = std::net::TcpListener::bind(address) {
            bail!(
                "the sample needs {address}, which cannot be had ({error}); perhaps another `flotilla up` runs: stop it, or give this \
                 one another network with --network, such as --network 127.78.0"
            );
        }
    }
    Ok(())
}

/// The plane of this process logs into a file; the terminal belongs to the user.
fn logs(args: &Args, state: &State) -> anyhow::Result<()> {
    let path = state.log("flotilla");
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    service_kit::init_logs_to(
        args.log_format,
        &args.log_output_level,
        false,
        std::sync::Arc::new(file),
    )?;
    Ok(())
}

async fn start_sample(
    args: &Args,
    (envoy, application): &(PathBuf, PathBuf),
    state: &State,
    plane: &Plane,
    children: &mut Children,
) -> anyhow::Result<()> {
    let Some(pilot) = plane.pilot.get("grpc-tls") else {
        bail!("Pilot does not say where it listens");
    };
    let flotilla = std::env::current_exe()?;
    // Envoys take longest to start.
    for workload in &WORKLOADS {
        let name = workload.name();
        admit(&plane.identities, workload).await?;
        let identities = &plane.identities;
        let mut arguments: Vec<OsString> = workload
            .agent(args.network)
            .into_iter()
            .map(OsString::from)
            .collect();
        for (flag, value) in [
            ("--root-dir", state.agent(&name).into_os_string()),
            ("--discovery-address", pilot.to_string().into()),
            ("--ca-addr", identities.ca.to_string().into()),
            ("--ca-root", identities.root.clone().into()),
            ("--join-token-file", identities.token_file(&name).into()),
            ("--envoy", envoy.clone().into()),
        ] {
            arguments.extend([flag.into(), value]);
        }
        let mut variables: Vec<(&str, OsString)> = workload
            .variables()
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        variables.push(("XDS_ROOT_CA", identities.root.clone().into()));
        children.start(Spec {
            name: agent_of(workload),
            program: flotilla.clone(),
            arguments,
            variables,
            log: state.log(&format!("{name}-envoy")),
        })?;
    }
    for workload in &WORKLOADS {
        let Some(arguments) = workload.application(args.network) else {
            continue;
        };
        children.start(Spec {
            name: workload.name(),
            program: application.clone(),
            arguments: arguments.into_iter().map(OsString::from).collect(),
            variables: Vec::new(),
            log: state.log(&workload.name()),
        })?;
    }
    Ok(())
}

/// As the terminal names the agent and Envoy of a workload.
fn agent_of(workload: &Workload) -> String {
    format!("the Envoy of {}", workload.name())
}

/// A token for the agent of a workload. Its key lives and dies with it, so that each start takes a new one.
async fn admit(identities: &Identities, workload: &Workload) -> anyhow::Result<()> {
    identities
        .admit(&workload.name(), sample::NAMESPACE, &workload.account())
        .await
}

/// The same for one that has ended, if it was an agent.
async fn admit_again(identities: &Identities, ended: &str) {
    let Some(workload) = WORKLOADS.iter().find(|one| agent_of(one) == ended) else {
        return;
    };
    if let Err(error) = admit(identities, workload).await {
        tracing::warn!(
            name = ended,
            error = format!("{error:#}"),
            "no token for its next start"
        );
    }
}
