//! Citadel, Galley and Pilot: as tasks of this process, or as processes of their own with a NATS server between them.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use bus::{Bus, BusOptions};
use clap::Parser;
use service_kit::Stop;
use tokio::task::JoinHandle;

use super::args::Args;
use super::children::{Children, Index, Spec};
use super::flags::{
    Addresses, CITADEL, GALLEY, PILOT, address, citadel_arguments, galley_arguments,
    nats_arguments, pilot_arguments, pinned, ports_file,
};
use super::identities::Identities;
use super::state::State;

/// How often a file is looked for.
const POLL: Duration = Duration::from_millis(5);

/// A running plane.
pub struct Plane {
    /// Of Citadel.
    pub citadel: Addresses,
    /// Who gets an identity, and how.
    pub identities: Identities,
    /// Of Galley.
    pub galley: Addresses,
    /// Of Pilot.
    pub pilot: Addresses,
    /// The NATS server, if there is one.
    pub nats: Option<String>,
    how: How,
}

enum How {
    /// Tasks of this process, in the order in which they stop.
    Tasks(Vec<Task>),
    /// Processes, in the order in which they stop.
    Processes(Vec<Index>),
}

struct Task {
    name: &'static str,
    stop: Stop,
    run: JoinHandle<anyhow::Result<()>>,
}

impl Plane {
    /// Starts it; returns when everything listens.
    pub async fn start(
        args: &Args,
        state: &State,
        nats_server: Option<&Path>,
        children: &mut Children,
    ) -> anyhow::Result<Plane> {
        match nats_server {
            Some(program) => Plane::processes(args, state, program, children).await,
            None => Plane::tasks(args, state).await,
        }
    }

    async fn tasks(args: &Args, state: &State) -> anyhow::Result<Plane> {
        let bus = bus::connect("memory:", &BusOptions::default()).await?;
        let mut citadel_task = {
            let arguments = citadel_arguments(args, state, "memory:");
            let citadel = parse::<citadel::Args>("citadel", arguments)?;
            task("Citadel", |stop| run_citadel(citadel, bus.clone(), stop))
        };
        let citadel = ports_of_task(&mut citadel_task, &ports_file(state, "citadel")).await?;
        let identities = Identities::new(state, address(&citadel, "grpc", "Citadel")?);
        tokio::select! {
            () = identities.ready() => {}
            outcome = &mut citadel_task.run => return Err(failure(citadel_task.name, outcome)),
        }
        admit(&identities).await?;

        let mut galley_task = {
            let arguments = galley_arguments(args, state, &identities, "memory:");
            let galley = parse::<galley::Args>("galley", arguments)?;
            task("Galley", |stop| run_galley(galley, bus.clone(), stop))
        };
        let galley = ports_of_task(&mut galley_task, &ports_file(state, "galley")).await?;
        let mut pilot_task = {
            let arguments = pilot_arguments(args, state, &identities, &galley, "memory:")?;
            let pilot = parse::<pilot::Args>("pilot", arguments)?;
            task("Pilot", |stop| run_pilot(pilot, bus, stop))
        };
        let pilot = ports_of_task(&mut pilot_task, &ports_file(state, "pilot")).await?;
        Ok(Plane {
            citadel,
            identities,
            galley,
            pilot,
            nats: None,
            how: How::Tasks(vec![pilot_task, galley_task, citadel_task]),
        })
    }

    async fn processes(
        args: &Args,
        state: &State,
        nats_server: &Path,
        children: &mut Children,
    ) -> anyhow::Result<Plane> {
        let flotilla = std::env::current_exe()?;
        let service = |children: &mut Children, name: &str, arguments: Vec<OsString>| {
            let arguments = std::iter::once(name.into()).chain(arguments).collect();
            children.start(Spec {
                name: name.to_owned(),
                program: flotilla.clone(),
                arguments,
                variables: Vec::new(),
                log: state.log(name),
            })
        };

        let nats = children.start(Spec {
            name: "nats-server".into(),
            program: nats_server.to_owned(),
            arguments: nats_arguments(state, -1),
            variables: Vec::new(),
            log: state.log("nats-server"),
        })?;
        let folder = state.dir.join("run/nats");
        let url = children.wait_for(nats, || nats_url(&folder)).await?;
        // Started again, it must be where the others look for it.
        if let Some(port) = url.rsplit(':').next().and_then(|port| port.parse().ok()) {
            children.set_arguments(nats, nats_arguments(state, port));
        }

        let arguments = citadel_arguments(args, state, &url);
        let citadel_child = service(children, "citadel", arguments.clone())?;
        let file = ports_file(state, "citadel");
        let citadel = children
            .wait_for(citadel_child, || addresses(&file))
            .await?;
        children.set_arguments(
            citadel_child,
            pinned("citadel", arguments, &CITADEL, &citadel),
        );
        let identities = Identities::new(state, address(&citadel, "grpc", "Citadel")?);
        tokio::select! {
            () = identities.ready() => {}
            ending = children.watch() => {
                let ending = ending?;
                bail!("{} {}; see {}", ending.name, ending.how, state.show(&ending.log).display());
            }
        }
        admit(&identities).await?;

        let arguments = galley_arguments(args, state, &identities, &url);
        let galley_child = service(children, "galley", arguments.clone())?;
        let file = ports_file(state, "galley");
        let galley = children.wait_for(galley_child, || addresses(&file)).await?;
        children.set_arguments(galley_child, pinned("galley", arguments, &GALLEY, &galley));

        let arguments = pilot_arguments(args, state, &identities, &galley, &url)?;
        let pilot_child = service(children, "pilot", arguments.clone())?;
        let file = ports_file(state, "pilot");
        let pilot = children.wait_for(pilot_child, || addresses(&file)).await?;
        children.set_arguments(pilot_child, pinned("pilot", arguments, &PILOT, &pilot));
        Ok(Plane {
            citadel,
            identities,
            galley,
            pilot,
            nats: Some(url),
            how: How::Processes(vec![pilot_child, galley_child, citadel_child, nats]),
        })
    }

    /// Returns only if a task ends, which none should. (Processes are watched by whoever has the [`Children`].)
    pub async fn ended(&mut self) -> anyhow::Error {
        let How::Tasks(tasks) = &mut self.how else {
            return std::future::pending().await;
        };
        let runs = tasks.iter_mut().map(|task| {
            let name = task.name;
            Box::pin(async move { failure(name, (&mut task.run).await) })
        });
        futures::future::select_all(runs).await.0
    }

    /// Ends it in order.
    pub async fn stop(self, children: &mut Children) {
        match self.how {
            How::Tasks(tasks) => {
                for task in tasks {
                    task.stop.trigger();
                    if !task.run.is_finished()
                        && let Ok(Err(error)) = task.run.await
                    {
                        tracing::warn!(
                            error = format!("{error:#}"),
                            "{} did not end well",
                            task.name
                        );
                    }
                }
            }
            How::Processes(processes) => {
                for process in processes {
                    children.stop([process]).await;
                }
            }
        }
    }
}

async fn run_citadel(args: citadel::Args, bus: Arc<dyn Bus>, stop: Stop) -> anyhow::Result<()> {
    Ok(citadel::run(args, bus, stop).await?)
}

async fn run_galley(args: galley::Args, bus: Arc<dyn Bus>, stop: Stop) -> anyhow::Result<()> {
    Ok(galley::run(args, bus, stop).await?)
}

async fn run_pilot(args: pilot::Args, bus: Arc<dyn Bus>, stop: Stop) -> anyhow::Result<()> {
    Ok(pilot::run(args, bus, stop).await?)
}

fn task<F>(name: &'static str, run: impl FnOnce(Stop) -> F) -> Task
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let stop = Stop::new();
    let run = tokio::spawn(run(stop.clone()));
    Task { name, stop, run }
}

fn failure(
    name: &str,
    outcome: Result<anyhow::Result<()>, tokio::task::JoinError>,
) -> anyhow::Error {
    match outcome {
        Ok(Ok(())) => anyhow!("{name} ended"),
        Ok(Err(error)) => error.context(format!("{name} ended")),
        Err(error) => anyhow::Error::from(error).context(format!("{name} broke down")),
    }
}

async fn ports_of_task(task: &mut Task, file: &Path) -> anyhow::Result<Addresses> {
    let mut poll = tokio::time::interval(POLL);
    loop {
        tokio::select! {
            _ = poll.tick() => if let Some(addresses) = addresses(file) {
                return Ok(addresses);
            },
            outcome = &mut task.run => return Err(failure(task.name, outcome)),
        }
    }
}

/// What a service wrote once it listened.
fn addresses(file: &Path) -> Option<Addresses> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// What the NATS server wrote, which names the file itself.
fn nats_url(folder: &Path) -> Option<String> {
    let file = std::fs::read_dir(folder).ok()?.next()?.ok()?.path();
    let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    Some(ports["nats"][0].as_str()?.to_owned())
}

fn parse<A: Parser>(name: &str, arguments: Vec<OsString>) -> anyhow::Result<A> {
    A::try_parse_from(std::iter::once(name.into()).chain(arguments))
        .map_err(|error| anyhow!("{name}: {error}"))
}

/// Tokens for the plane's other services, and a certificate for whoever operates it.
async fn admit(identities: &Identities) -> anyhow::Result<()> {
    use identity::accounts;
    identities.admit_service("galley", accounts::GALLEY).await?;
    identities.admit_service("pilot", accounts::PILOT).await?;
    identities.enroll_operator().await
}

/// What is elsewhere than the commands of `flotilla` expect, as variables for them.
pub fn variables(plane: &Plane, state: &State) -> Vec<String> {
    let found = [
        ("FLOTILLA_PILOT", PILOT[2], &plane.pilot),
        ("FLOTILLA_GALLEY", GALLEY[1], &plane.galley),
    ];
    let mut variables: Vec<String> = found
        .into_iter()
        .filter_map(|(variable, (name, _, usual), addresses)| {
            let address = addresses.get(name)?;
            (address.port() != usual).then(|| format!("{variable}=https://{address}"))
        })
        .collect();
    if state.shown != Path::new(".flotilla") {
        let at = |path: &Path| state.show(path).display().to_string();
        variables.push(format!("FLOTILLA_IDENTITY={}", at(&state.operator())));
        let socket = state.dir.join("citadel/operator.sock");
        variables.push(format!("FLOTILLA_CA_SOCKET={}", at(&socket)));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nats_server_says_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(nats_url(dir.path()), None);
        let file = dir.path().join("nats-server_1.ports");
        std::fs::write(&file, "{\"nats\":[").unwrap();
        assert_eq!(nats_url(dir.path()), None);
        std::fs::write(
            &file,
            r#"{"nats":["nats://127.0.0.1:45123"],"monitoring":null}"#,
        )
        .unwrap();
        assert_eq!(
            nats_url(dir.path()).as_deref(),
            Some("nats://127.0.0.1:45123")
        );
    }
}
