//! Wiring: listeners, tasks, and how they end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use config_source::FolderOptions;
use mesh_registry::Options;
use prometheus::Registry;
use service_kit::{PortsFile, Ready, ServeConfig, Stop, Tasks};
use tokio::sync::{mpsc, watch};
use xds_core::Setup;

use crate::ads::{Ads, Planned};
use crate::args::Args;
use crate::debounce::{Debounce, debounce};
use crate::debug::Api;
use crate::galley::GalleyOptions;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::planner::Planner;
use crate::roster::Roster;
use crate::{files, galley};

/// After SIGTERM everything has ended within this.
const STOP_BOUND: Duration = Duration::from_secs(10);

/// Why Pilot did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] service_kit::BindError),
    /// A task failed.
    #[error(transparent)]
    Tasks(#[from] service_kit::TasksError),
    /// The bus cannot be used.
    #[error(transparent)]
    Bus(#[from] bus::BusError),
    /// A metric cannot be registered.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// A file or folder cannot be used.
    #[error("{what}: {error}")]
    Io {
        /// Which.
        what: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file of settings cannot be used.
    #[error("{file}: {reason}")]
    MeshConfig {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Runs Pilot until `stop`.
///
/// # Errors
/// See [`RunError`].
pub async fn run(args: Args, bus: Arc<dyn Bus>, stop: Stop) -> Result<(), RunError> {
    let registry = Registry::new();
    service_kit::register_process_metrics(&registry)?;
    let metrics = Metrics::new(&registry)?;
    let ready = Ready::new(&stop);
    let first = ready.condition("configuration", "the first revision");
    let tasks = Tasks::new(&stop, &ready);

    let grpc = service_kit::bind(args.grpc_addr.to_string(), "grpc-addr").await?;
    let http = service_kit::bind(args.http_addr.to_string(), "http-addr").await?;
    let monitoring =
        service_kit::bind(args.common.monitoring_addr.to_string(), "monitoring-addr").await?;
    let mut ports = PortsFile::new();
    for (name, listener) in [
        ("grpc", &grpc),
        ("http", &http),
        ("monitoring", &monitoring),
    ] {
        ports.add(name, listener).map_err(|error| RunError::Io {
            what: name.into(),
            error,
        })?;
    }
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| default_name(grpc.local_addr().ok()));

    let roster = Arc::new(Roster::new(name.clone()));
    let (planner, planner_end) =
        Planner::start(roster.clone(), metrics.clone()).map_err(|error| RunError::Io {
            what: "planner thread".into(),
            error,
        })?;
    tasks.spawn("planner", {
        let stop = stop.clone();
        async move {
            tokio::select! {
                () = stop.wait() => Ok(()),
                end = planner_end => end.map_err(|_| "it panicked (this is a bug, please report it)"),
            }
        }
    });
    let (built, is_built) = watch::channel(false);
    {
        let mut news = roster.news();
        let (roster, stop) = (roster.clone(), stop.clone());
        tasks.spawn_infallible("first-revision", async move {
            while roster.revision() == 0 {
                tokio::select! {
                    () = stop.wait() => return,
                    changed = news.changed() => if changed.is_err() { return },
                }
            }
            let _ = built.send(true);
            first.met();
            // Keeps the sender: streams watch it as long as the process lives.
            stop.wait().await;
        });
    }

    let (arrived, arriving) = mpsc::channel(64);
    tasks.spawn_infallible("debounce", {
        let settings = Debounce {
            after: args.debounce_after,
            max: args.debounce_max,
        };
        debounce(arriving, planner.clone(), settings, metrics.clone())
    });
    if args.config_dir.is_empty() {
        let file = match &args.data_dir {
            Some(dir) => {
                std::fs::create_dir_all(dir).map_err(|error| RunError::Io {
                    what: dir.display().to_string(),
                    error,
                })?;
                Some(dir.join("revision.pb"))
            }
            None => None,
        };
        let options = GalleyOptions {
            address: args.galley.clone(),
            pilot: name,
            file,
        };
        tasks.spawn_infallible(
            "galley",
            galley::follow(
                options,
                arrived,
                roster.link().clone(),
                metrics.clone(),
                ready.clone(),
                stop.clone(),
            ),
        );
    } else {
        let folders = FolderOptions {
            mesh_config: args.mesh_config.clone(),
            ..FolderOptions::new(args.config_dir.clone())
        };
        let options = Options {
            domain: (*args.domain).into(),
            ..Options::default()
        };
        tasks.spawn_infallible(
            "files",
            files::follow(folders, options, planner.clone(), arrived, stop.clone()),
        );
    }

    let peers = Peers::join(roster.clone(), bus).await?;
    tasks.spawn("peers", peers.clone().run(stop.clone()));

    let ads = Ads {
        snapshots: Arc::new(Planned {
            planner: planner.clone(),
            ready: is_built,
        }),
        roster: roster.clone(),
        setup: Arc::new(Setup::default()),
        missing: Arc::new(pilot_core::generate::missing),
        metrics,
        stop: stop.clone(),
    };
    tasks.spawn(
        "xds",
        service_kit::serve(grpc, ads.router(), ServeConfig::streams(), stop.clone()),
    );
    let api = Api {
        roster,
        peers,
        planner: Some(planner),
    };
    tasks.spawn(
        "http",
        service_kit::serve_http(http, api.router(), stop.clone()),
    );
    let endpoints = service_kit::http_router(registry, ready, service_kit::version!());
    tasks.spawn(
        "monitoring",
        service_kit::serve_http(monitoring, endpoints, stop.clone()),
    );

    ports
        .write(args.common.ports_file.as_deref())
        .map_err(|error| RunError::Io {
            what: "--ports-file".into(),
            error,
        })?;
    tracing::info!(ports = ?ports.addrs(), "listening");
    tasks.join(STOP_BOUND).await?;
    Ok(())
}

fn default_name(grpc: Option<SocketAddr>) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let port = grpc.map_or(0, |address| address.port());
    format!("pilot-{}-{port}", host.trim())
}
