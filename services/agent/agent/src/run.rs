//! `agent proxy`: wiring, and how it begins and ends.

mod start;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use agent_core::bootstrap::{self, BootstrapError};
use agent_core::drain::{self, Idle, Next, Plan};
use agent_core::options::{OptionError, Options};
use agent_core::paths::{Paths, SourceError, TooLong};
use agent_core::{metrics as scraping, probes};
use prost::Message as _;
use service_kit::{Ready, Stop, Tasks};
use tokio::time::sleep;

use crate::args::ProxyArgs;
use crate::envoy::{self, Admin, Envoy};
use crate::status::Status;
use crate::{identity, machine, sds, xds};

/// After the drain, tasks have this long to end.
const STOP_BOUND: Duration = Duration::from_secs(5);

/// Why the agent did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Options cannot be acted on; all of them.
    #[error("{}", list(.0))]
    Options(Vec<OptionError>),
    /// A socket's path.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// No source of the identity.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The identity cannot be kept as the options say.
    #[error(transparent)]
    Identity(#[from] identity::IdentityError),
    /// A socket of secrets or of xDS.
    #[error(transparent)]
    Socket(#[from] sds::SocketError),
    /// Pilot cannot be asked.
    #[error(transparent)]
    Upstream(#[from] xds::UpstreamError),
    /// The application's probes.
    #[error(transparent)]
    Probes(#[from] probes::ProbesError),
    /// The application's metrics.
    #[error(transparent)]
    Scrape(#[from] scraping::ScrapeError),
    /// The bootstrap.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// A metric's name is taken.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] service_kit::BindError),
    /// A task failed.
    #[error(transparent)]
    Tasks(#[from] service_kit::TasksError),
    /// A file, a socket or a program.
    #[error("{what}: {error}")]
    Io {
        /// Which.
        what: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// Envoy ended by itself.
    #[error("Envoy {0}; its log is above")]
    Envoy(String),
}

fn list(errors: &[OptionError]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// An error with what it is about.
fn about(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> RunError {
    let what = what.into();
    move |error| RunError::Io { what, error }
}

/// Runs an Envoy until `stop`. Must be called on the main thread: Envoy's life is tied to it.
///
/// # Errors
/// See [`RunError`].
pub async fn run(args: ProxyArgs, stop: Stop) -> Result<ExitCode, RunError> {
    service_kit::tls::install_provider();
    let paths = Paths::new(args.root_dir.clone());
    let options = options(&args, &paths)?;
    for note in &options.notes {
        tracing::warn!("{note}");
    }
    // Everything but Envoy goes on during the drain.
    let end = Stop::new();
    let quit = Stop::new();
    let ready = Ready::new(&stop);
    let tasks = Tasks::new(&end, &ready);
    let started = tokio::select! {
        started = start::start(&args, &options, &paths, &tasks, &ready, &stop, &quit) => started?,
        // Before Envoy there is nothing to drain, whatever was waited for.
        () = async { tokio::select! { () = stop.wait() => {}, () = quit.wait() => {} } } => {
            end.trigger();
            tasks.join(STOP_BOUND).await?;
            return Ok(ExitCode::SUCCESS);
        }
    };

    let override_text = match &options.envoy.bootstrap_override {
        Some(path) => {
            let path = paths.resolve(path);
            let text = std::fs::read_to_string(&path).map_err(about(path.display().to_string()))?;
            Some(text)
        }
        None => None,
    };
    let file = paths.bootstrap(&options);
    let encoded = bootstrap::bootstrap(&options, &started.places)?.encode_to_vec();
    let json = crate::bootstrap::printed(&encoded)
        .await
        .map_err(about("the bootstrap"))?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(about(folder.display().to_string()))?;
    }
    service_kit::replace_file(&file, &json, 0o640).map_err(about(file.display().to_string()))?;
    let arguments = envoy::arguments(&options, file, override_text);
    let binary = binary(&args, &options, &paths);
    let mut envoy = Envoy::start(&binary, &arguments).map_err(about("Envoy"))?;
    tracing::info!(binary = %binary.display(), node = options.node.id(), "Envoy is started");

    let ended = tokio::select! {
        status = envoy.ended() => Err(match status {
            Ok(status) => RunError::Envoy(envoy::how(status)),
            Err(error) => about("Envoy")(error),
        }),
        () = quit.wait() => Ok(()),
        // A task of ours that failed: not alive without it.
        () = end.wait() => Ok(()),
        () = stop.wait() => {
            // While it drains it may still end by itself, or be told to.
            tokio::select! {
                () = drain(&options, &started.status, started.places.admin, &started.own_ports) => {}
                () = quit.wait() => {}
                _ = envoy.ended() => {}
            }
            Ok(())
        }
    };
    envoy.stop().await;
    stop.trigger();
    // While they are still served they are ours: nobody else has taken their place.
    for path in &started.sockets {
        let _ = std::fs::remove_file(path);
    }
    end.trigger();
    let joined = tasks.join(STOP_BOUND).await;
    ended?;
    joined?;
    Ok(ExitCode::SUCCESS)
}

fn options(args: &ProxyArgs, paths: &Paths) -> Result<Options, RunError> {
    let read = |path: PathBuf| machine::optional(&path).map_err(about(path.display().to_string()));
    let (mesh, labels, annotations) = (
        read(paths.mesh_file())?,
        read(paths.labels())?,
        read(paths.annotations())?,
    );
    let mut options = agent_core::options::read(&agent_core::options::Sources {
        vars: args.over(machine::variables()),
        kind: args.role.into(),
        mesh_file: mesh.as_deref(),
        labels: labels.as_deref(),
        annotations: annotations.as_deref(),
        addresses: machine::addresses(),
    })
    .map_err(RunError::Options)?;
    if let Some(concurrency) = args.concurrency {
        options.envoy.concurrency = concurrency;
    }
    paths.check(&options)?;
    Ok(options)
}

fn binary(args: &ProxyArgs, options: &Options, paths: &Paths) -> PathBuf {
    match &args.envoy {
        Some(path) => path.clone(),
        None => paths.resolve(&options.proxy_config.binary_path),
    }
}

/// Lets connections end, as long as the options say.
async fn drain(options: &Options, status: &Status, admin: std::net::SocketAddr, own: &[u16]) {
    let admin = Admin(admin);
    let plan = drain::plan(&options.drain, status.drained());
    if plan == Plan::AtOnce {
        return;
    }
    if let Err(error) = admin
        .text("POST", &drain::path(options.node.kind, false))
        .await
    {
        tracing::warn!(error, "Envoy cannot be told to drain");
    }
    match plan {
        Plan::AtOnce => {}
        Plan::Wait(time) => {
            tracing::info!(?time, "draining");
            sleep(time).await;
        }
        Plan::UntilIdle(time) => {
            tracing::info!(?time, "draining, then until no connection is left");
            sleep(time).await;
            let mut idle = Idle::default();
            loop {
                let stats = admin.stats(drain::FILTER).await;
                match idle.look(stats.as_deref().ok(), own) {
                    Next::Again(open) => tracing::info!(open, "waiting for connections to end"),
                    Next::Idle => return tracing::info!("no connection is left"),
                    Next::GiveUp => {
                        return tracing::warn!("Envoy does not say how many connections are left");
                    }
                }
                sleep(drain::PERIOD).await;
            }
        }
    }
}
