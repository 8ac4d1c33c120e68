//! Wiring: listeners, tasks, and how they end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bus::{Bus, BusOptions, BusTls};
use config_source::FolderOptions;
use identity::{Identity, accounts};
use mesh_registry::Options;
use prometheus::Registry;
use service_kit::tls::{Channel, ClientTls, Clients, ServerId, TlsServer, serve_tls};
use service_kit::{ListenAddr, PortsFile, Ready, ServeConfig, Stop, Tasks};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use xds_core::Setup;

use crate::admit::Planned;
use crate::ads::Ads;
use crate::args::{Args, JwksArgs};
use crate::debounce::{Debounce, debounce};
use crate::debug::Api;
use crate::galley::GalleyOptions;
use crate::jwks::{Facts as _, Fetcher, Guard, Kept};
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::planner::Planner;
use crate::roster::Roster;
use crate::trust::Servants;
use crate::{files, galley, jwks, trust};

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
    /// The flags about identity make no sense together.
    #[error(transparent)]
    Identity(#[from] identity::ArgsError),
    /// xDS in plaintext for other machines.
    #[error(
        "--grpc-addr {0}: other machines can reach this address, and nothing is encrypted there; use 127.0.0.1, and --secure-grpc-addr with --ca-addr for others"
    )]
    Plaintext(ListenAddr),
    /// Galley cannot be spoken to over TLS.
    #[error("--galley: {0}")]
    Galley(#[from] service_kit::tls::ConnectError),
    /// A file of settings cannot be used.
    #[error("{file}: {reason}")]
    MeshConfig {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Runs Pilot until `stop`, on the bus that `--bus` names: with an identity over mutual TLS, if that is NATS on another machine.
///
/// # Errors
/// See [`RunError`].
pub async fn run_alone(args: Args, stop: Stop) -> Result<(), RunError> {
    service_kit::tls::install_provider();
    let own = own_identity(&args)?;
    let tls = match &own {
        Some(own) => Some(BusTls {
            identities: own.identities(),
            server: args.identity.nats()?,
        }),
        None => None,
    };
    let options = BusOptions {
        name: "pilot".into(),
        tls,
        ..BusOptions::default()
    };
    let bus = bus::connect(&args.bus, &options).await?;
    run_as(args, own, bus, stop).await
}

/// Runs Pilot until `stop`, on a bus that it shares with others of the process.
///
/// # Errors
/// See [`RunError`].
pub async fn run(args: Args, bus: Arc<dyn Bus>, stop: Stop) -> Result<(), RunError> {
    let own = own_identity(&args)?;
    run_as(args, own, bus, stop).await
}

async fn run_as(
    args: Args,
    own: Option<Identity>,
    bus: Arc<dyn Bus>,
    stop: Stop,
) -> Result<(), RunError> {
    let registry = Registry::new();
    service_kit::register_process_metrics(&registry)?;
    let metrics = Metrics::new(&registry)?;
    let ready = Ready::new(&stop);
    let first = ready.condition("configuration", "the first revision");
    let tasks = Tasks::new(&stop, &ready);

    let grpc = service_kit::bind(args.grpc_addr.to_string(), "grpc-addr").await?;
    let http = service_kit::bind(args.http_addr.to_string(), "http-addr").await?;
    let secure = match &own {
        Some(_) => {
            let addr = args.secure_grpc_addr.to_string();
            Some(service_kit::bind(addr, "secure-grpc-addr").await?)
        }
        None => None,
    };
    let monitoring =
        service_kit::bind(args.common.monitoring_addr.to_string(), "monitoring-addr").await?;
    let mut ports = PortsFile::new();
    let listeners = [
        ("grpc", &grpc),
        ("http", &http),
        ("monitoring", &monitoring),
    ];
    let secure_listener = secure.iter().map(|listener| ("grpc-tls", listener));
    for (name, listener) in listeners.into_iter().chain(secure_listener) {
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
    let (planner, planner_end) = Planner::start(
        roster.clone(),
        metrics.clone(),
        args.tls.options(),
        args.policies(),
    )
    .map_err(|error| RunError::Io {
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
    if let Some(dir) = &args.data_dir {
        std::fs::create_dir_all(dir).map_err(|error| RunError::Io {
            what: dir.display().to_string(),
            error,
        })?;
    }
    let kept = |name: &str| args.data_dir.as_ref().map(|dir| dir.join(name));
    // Before any configuration: what it means depends on both.
    let (serves, served) = watch::channel(None);
    if let Some(own) = &own {
        let servants = Servants {
            planner: planner.clone(),
            served: serves,
            metrics: metrics.clone(),
        };
        let file = kept("trust.pb");
        file.iter().for_each(|file| servants.begin(file));
        let following = trust::follow(own.bundle(), file, servants, stop.clone());
        tasks.spawn_infallible("trust", following);
    }
    let file = kept("jwks.json");
    spawn_jwks(&args.jwks, file, &tasks, &planner, &metrics, &stop)?;

    if args.config_dir.is_empty() {
        let options = GalleyOptions {
            address: args.galley.clone(),
            tls: match &own {
                Some(own) => Some(galley_over_tls(&args, own)?),
                None => None,
            },
            pilot: name,
            file: kept("revision.pb"),
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

    let peers = Peers::join(roster.clone(), bus, served).await?;
    tasks.spawn("peers", peers.clone().run(stop.clone()));

    let ads = Ads {
        snapshots: Arc::new(Planned {
            planner: planner.clone(),
            ready: is_built,
            check: args.xds_identity_check,
            secured: own.is_some(),
            metrics: metrics.clone(),
        }),
        roster: roster.clone(),
        setup: Arc::new(Setup::default()),
        missing: Arc::new(pilot_core::generate::missing),
        metrics,
        tls: false,
        stop: stop.clone(),
    };
    let api = Api {
        roster,
        peers,
        planner: Some(planner),
    };
    serve_all(
        &tasks,
        own,
        Served {
            ads,
            api: api.router(),
            clients: if args.xds_identity_check {
                Clients::Required
            } else {
                Clients::Optional
            },
        },
        (grpc, secure, http),
        &ready,
        &stop,
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

/// Who this Pilot is. Without an identity, what it serves is for this machine only; xDS in plaintext is so in any case.
fn own_identity(args: &Args) -> Result<Option<Identity>, RunError> {
    if !args.grpc_addr.is_loopback() {
        return Err(RunError::Plaintext(args.grpc_addr.clone()));
    }
    args.identity.check_listen("http-addr", &args.http_addr)?;
    let data_dir = args.data_dir.clone().unwrap_or_else(|| "pilot-data".into());
    Ok(args.identity.identity(accounts::PILOT, &data_dir)?)
}

fn galley_over_tls(args: &Args, own: &Identity) -> Result<Channel, RunError> {
    let server = ServerId::spiffe(args.identity.id_of(accounts::GALLEY)?);
    let tls = ClientTls::from(own.identities()).with_settings(own.settings().clone());
    Ok(galley::over_tls(&args.galley, tls, server)?)
}

fn spawn_jwks(
    args: &JwksArgs,
    file: Option<PathBuf>,
    tasks: &Tasks,
    planner: &Planner,
    metrics: &Metrics,
    stop: &Stop,
) -> Result<(), RunError> {
    let guard = Guard {
        blocked: args.blocked_cidrs_in_jwks_uris.clone(),
        allowed: args.allowed_cidrs_in_jwks_uris.clone(),
    };
    let fetcher =
        Fetcher::new(guard, args.jwks_extra_roots.as_deref()).map_err(|error| RunError::Io {
            what: "--jwks-extra-roots".into(),
            error,
        })?;
    let kept = Kept::read(file);
    let known = kept.facts();
    if !known.is_empty() {
        planner.take(known);
    }
    tasks.spawn_infallible(
        "jwks",
        jwks::follow(
            (fetcher, args.jwks_refresh_interval),
            kept,
            planner.wanted_keys(),
            planner.clone(),
            metrics.clone(),
            stop.clone(),
        ),
    );
    Ok(())
}

/// What is served, and to whom over TLS.
struct Served {
    ads: Ads,
    api: Router,
    clients: Clients,
}

/// xDS in plaintext for this machine; with an identity also over TLS, and the API for those who have a role.
fn serve_all(
    tasks: &Tasks,
    own: Option<Identity>,
    served: Served,
    (grpc, secure, http): (TcpListener, Option<TcpListener>, TcpListener),
    ready: &Ready,
    stop: &Stop,
) {
    let Served { ads, api, clients } = served;
    let streams = ServeConfig::streams();
    tasks.spawn(
        "xds",
        service_kit::serve(grpc, ads.clone().router(), streams.clone(), stop.clone()),
    );
    let Some(own) = own else {
        tasks.spawn("http", service_kit::serve_http(http, api, stop.clone()));
        return;
    };
    let tls = |clients| TlsServer {
        settings: own.settings().clone(),
        ..TlsServer::new(own.identities(), clients)
    };
    if let Some(secure) = secure {
        let router = Ads { tls: true, ..ads }.router();
        tasks.spawn(
            "xds-tls",
            serve_tls(secure, router, streams, tls(clients), stop.clone()),
        );
    }
    let api = own.roles().require_by_method(api);
    tasks.spawn(
        "http",
        serve_tls(
            http,
            api,
            ServeConfig::default(),
            tls(Clients::Required),
            stop.clone(),
        ),
    );
    tasks.spawn_infallible("identity", own.run(ready.clone(), stop.clone()));
}

fn default_name(grpc: Option<SocketAddr>) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let port = grpc.map_or(0, |address| address.port());
    format!("pilot-{}-{port}", host.trim())
}
