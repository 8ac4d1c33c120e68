//! Wiring: listeners, tasks, and how they end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use galley_core::analyze::{Analyst, News};
use identity::{Identity, accounts};
use mesh_types::Finding;
use prometheus::Registry;
use service_kit::tls::{Clients, Identities, TlsServer, TlsSettings, serve_tls};
use service_kit::{ListenAddr, PortsFile, Ready, Role, Roles, ServeConfig, Stop, Tasks};
use tokio::sync::watch;

use crate::api::Api;
use crate::args::Args;
use crate::hints;
use crate::keeper::Keeper;
use crate::metrics::Metrics;
use crate::published::{Inputs, KeeperOptions, Published};
use crate::source::SourceSet;
use crate::stream::Streams;

/// After SIGTERM everything has ended within this.
const STOP_BOUND: Duration = Duration::from_secs(10);

/// Why Galley did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] service_kit::BindError),
    /// The bus's URL cannot be used.
    #[error(transparent)]
    Bus(#[from] bus::BusError),
    /// A task failed.
    #[error(transparent)]
    Tasks(#[from] service_kit::TasksError),
    /// A metric cannot be registered.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// The flags about identity make no sense together.
    #[error(transparent)]
    Identity(#[from] identity::ArgsError),
    /// A file or folder cannot be used.
    #[error("{what}: {error}")]
    Io {
        /// Which.
        what: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// Other machines would be served in plaintext, and nobody said that this is wanted.
    #[error(
        "--{flag} {addr}: other machines can reach this address, and without --ca-addr nothing is encrypted; use 127.0.0.1, or give --ca-addr and --ca-root (--insecure serves in plaintext all the same)"
    )]
    Plaintext {
        /// The flag, without dashes.
        flag: &'static str,
        /// The address as written.
        addr: ListenAddr,
    },
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> RunError {
    let what = what.into();
    |error| RunError::Io { what, error }
}

/// Runs Galley as a program of its own: with the identity and the bus that the flags ask for.
///
/// # Errors
/// See [`RunError`].
pub async fn run_alone(args: Args, stop: Stop) -> Result<(), RunError> {
    let identity = args.own_identity()?;
    let options = bus::BusOptions {
        name: "galley".into(),
        tls: identity.as_ref().map(|identity| bus::BusTls {
            identities: identity.identities(),
            server: identity.nats().clone(),
        }),
        ..bus::BusOptions::default()
    };
    let bus = bus::connect(&args.bus, &options).await?;
    run_as(args, identity, bus, stop).await
}

/// As [`run_as`], with the identity that the flags ask for.
///
/// # Errors
/// See [`RunError`].
pub async fn run(args: Args, bus: Arc<dyn Bus>, stop: Stop) -> Result<(), RunError> {
    let identity = args.own_identity()?;
    run_as(args, identity, bus, stop).await
}

/// Runs Galley until `stop`. With an identity Pilots are served over mutual TLS, and the API asks for a role; without one both are
/// plaintext, for this machine.
///
/// # Errors
/// See [`RunError`].
pub async fn run_as(
    args: Args,
    identity: Option<Identity>,
    bus: Arc<dyn Bus>,
    stop: Stop,
) -> Result<(), RunError> {
    for (flag, addr) in [
        ("grpc-addr", &args.grpc_addr),
        ("http-addr", &args.http_addr),
    ] {
        if identity.is_none() && !args.insecure && !addr.is_loopback() {
            let addr = addr.clone();
            return Err(RunError::Plaintext { flag, addr });
        }
    }
    let pilot = args.identity.id_of(accounts::PILOT)?;
    let registry = Registry::new();
    service_kit::register_process_metrics(&registry)?;
    let metrics = Metrics::new(&registry)?;
    let ready = Ready::new(&stop);
    let tasks = Tasks::new(&stop, &ready);
    let sources = SourceSet::new(&args).map_err(io("--source"))?;

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
        ports.add(name, listener).map_err(io(name))?;
    }

    let (scans, scanned) = watch::channel(None);
    if sources.is_empty() {
        tracing::info!("no --source: serving what the store has");
    } else {
        let watched = config_source::watch(sources.folders(), scans, stop.clone());
        tasks.spawn_infallible("sources", watched);
    }
    let (heard, hears) = watch::channel(0);
    tasks.spawn_infallible("news-in", hints::hear(bus.clone(), heard, stop.clone()));
    let published = Published::default();
    let news = hints::tell(bus, published.committed.subscribe(), stop.clone());
    tasks.spawn_infallible("news-out", news);

    let options = KeeperOptions {
        store_url: args.store_url(),
        holder: holder(grpc.local_addr().ok()),
        lease_ttl: args.lease_ttl,
        poll: args.poll,
        keep_revisions: args.keep_revisions,
        sources: sources.clone(),
        registry: mesh_registry::Options {
            domain: (*args.domain).into(),
            ..mesh_registry::Options::default()
        },
    };
    let inputs = Inputs {
        scans: scanned.clone(),
        heard: hears,
    };
    let keeper = Keeper::new(options, inputs, published.clone(), metrics.clone(), &ready);
    tasks.spawn("keeper", keeper.run(stop.clone()));

    let (analysis, analyzed) = watch::channel(Arc::new(Vec::new()));
    let work = analyze(
        Analyst::new(&args.domain),
        published.clone(),
        analysis,
        metrics.clone(),
        stop.clone(),
    );
    tasks.spawn_infallible("analysis", work);

    let streams = Streams {
        snapshots: published.snapshot.subscribe(),
        metrics,
        stop: stop.clone(),
    };
    let secured = identity.as_ref().map(Secured::of);
    match &secured {
        Some(secured) => {
            // It holds no secrets: whoever may look at the mesh may look at its configuration.
            let router = secured
                .roles
                .require_or(Role::Viewer, [pilot], streams.router());
            let tls = secured.server(Clients::Required);
            let served = serve_tls(grpc, router, ServeConfig::streams(), tls, stop.clone());
            tasks.spawn("grpc", served);
        }
        None => {
            let config = ServeConfig::streams();
            let served = service_kit::serve(grpc, streams.router(), config, stop.clone());
            tasks.spawn("grpc", served);
        }
    }
    let api = Api {
        published,
        analysis: analyzed,
        scans: scanned,
        sources,
    };
    match &secured {
        Some(secured) => {
            let router = secured.roles.require_by_method(api.router());
            let tls = secured.server(Clients::Optional);
            let served = serve_tls(http, router, ServeConfig::default(), tls, stop.clone());
            tasks.spawn("http", served);
        }
        None => tasks.spawn(
            "http",
            service_kit::serve_http(http, api.router(), stop.clone()),
        ),
    }
    if let Some(identity) = identity {
        tasks.spawn_infallible("identity", identity.run(ready.clone(), stop.clone()));
    }
    let endpoints = service_kit::http_router(registry, ready, service_kit::version!());
    tasks.spawn(
        "monitoring",
        service_kit::serve_http(monitoring, endpoints, stop.clone()),
    );

    ports
        .write(args.common.ports_file.as_deref())
        .map_err(io("--ports-file"))?;
    tracing::info!(ports = ?ports.addrs(), "listening");
    tasks.join(STOP_BOUND).await?;
    Ok(())
}

/// What listeners need of an identity.
struct Secured {
    identities: Identities,
    settings: TlsSettings,
    roles: Roles,
}

impl Secured {
    fn of(identity: &Identity) -> Secured {
        Secured {
            identities: identity.identities(),
            settings: identity.settings().clone(),
            roles: identity.roles().clone(),
        }
    }

    fn server(&self, clients: Clients) -> TlsServer {
        TlsServer {
            settings: self.settings.clone(),
            ..TlsServer::new(self.identities.clone(), clients)
        }
    }
}

/// Analyzes the newest revision after it was published, so that nobody waits for it, and counts all findings.
async fn analyze(
    mut analyst: Analyst,
    published: Published,
    out: watch::Sender<Arc<Vec<Finding>>>,
    metrics: Metrics,
    stop: Stop,
) {
    let mut news = published.news.subscribe();
    let mut found = published.findings.subscribe();
    loop {
        tokio::select! {
            () = stop.wait() => return,
            Ok(()) = news.changed() => {
                let mut unseen = News::default();
                // Taking it out is no news to anybody.
                published.news.send_if_modified(|news| {
                    std::mem::swap(&mut unseen, news);
                    false
                });
                let done = tokio::task::spawn_blocking(move || {
                    let findings = analyst.analyze(unseen);
                    (analyst, findings)
                });
                let Ok((back, now)) = done.await else {
                    tracing::error!("findings about more than one object end here: the analysis failed");
                    return;
                };
                analyst = back;
                if **out.borrow() != now {
                    out.send_replace(Arc::new(now));
                }
            }
            Ok(()) = found.changed() => {}
        }
        let sources = found.borrow_and_update().clone();
        metrics.findings(sources.iter().chain(out.borrow().iter()));
    }
}

/// A name for the lease that no other process has, nor a successor of this one.
fn holder(grpc: Option<std::net::SocketAddr>) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let unique = std::fs::read_to_string(Path::new("/proc/sys/kernel/random/uuid"));
    let unique = unique.unwrap_or_else(|_| format!("{:p}", &host));
    let port = grpc.map_or(0, |address| address.port());
    format!(
        "{}:{port}/{}/{}",
        host.trim(),
        std::process::id(),
        unique.trim()
    )
}
