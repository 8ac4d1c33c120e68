//! Wiring: listeners, tasks, and how they end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use galley_core::analyze::{Analyst, News};
use mesh_types::Finding;
use prometheus::Registry;
use service_kit::{ListenAddr, PortsFile, Ready, ServeConfig, Stop, Tasks};
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
    /// A task failed.
    #[error(transparent)]
    Tasks(#[from] service_kit::TasksError),
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
    /// Other machines would be served in plaintext, and nobody said that this is wanted.
    #[error(
        "--{flag} {addr}: other machines can reach this address, and there is no TLS yet; use 127.0.0.1, or add --insecure"
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

/// Runs Galley until `stop`.
///
/// # Errors
/// See [`RunError`].
pub async fn run(args: Args, bus: Arc<dyn Bus>, stop: Stop) -> Result<(), RunError> {
    for (flag, addr) in [
        ("grpc-addr", &args.grpc_addr),
        ("http-addr", &args.http_addr),
    ] {
        if !args.insecure && !addr.is_loopback() {
            let addr = addr.clone();
            return Err(RunError::Plaintext { flag, addr });
        }
    }
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
    tasks.spawn(
        "grpc",
        service_kit::serve(grpc, streams.router(), ServeConfig::streams(), stop.clone()),
    );
    let api = Api {
        published,
        analysis: analyzed,
        scans: scanned,
        sources,
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
        .map_err(io("--ports-file"))?;
    tracing::info!(ports = ?ports.addrs(), "listening");
    tasks.join(STOP_BOUND).await?;
    Ok(())
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
