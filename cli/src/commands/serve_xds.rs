//! `flotilla serve-xds`: a folder of Envoy resources, served as they are over the same xDS engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pilot::ads::{Admission, Admitted, Ads, Snapshots};
use pilot::debug::Api;
use pilot::metrics::Metrics;
use pilot::node;
use pilot::peers::Peers;
use pilot::planner::ConnectionId;
use pilot::roster::Roster;
use serde_json::Value;
use service_kit::{CommonArgs, ListenAddr, PortsFile, Ready, ServeConfig, Stop, Tasks};
use tokio::sync::watch;
use xds_core::{Encoded, Set, Setup, Snapshot, TypeId};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of YAML or JSON: each document an Envoy resource with "@type", a list of them, or {"resources": [..]}
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Address for xDS without TLS
    #[arg(
        long,
        alias = "grpcAddr",
        value_name = "ADDR",
        default_value = "127.0.0.1:15010"
    )]
    grpc_addr: ListenAddr,

    /// Address for the HTTP API
    #[arg(
        long,
        alias = "httpAddr",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080"
    )]
    http_addr: ListenAddr,

    /// How often the folder is read again
    #[arg(long, value_parser = service_kit::parse_duration, default_value = "200ms")]
    poll: Duration,

    #[command(flatten)]
    common: CommonArgs,
}

/// Everyone gets the same.
struct Folder(watch::Receiver<Arc<Snapshot>>);

impl Snapshots for Folder {
    fn admit(
        &self,
        _: ConnectionId,
        first: Option<hyper::body::Bytes>,
        _: pilot::ads::Client,
    ) -> Admission {
        let snapshots = self.0.clone();
        Box::pin(async move {
            // Any node will do here; names are taken where there are some.
            let known = node::introduce(first.as_deref()).ok();
            let name = known
                .as_ref()
                .map_or_else(|| "unnamed".into(), |known| known.proxy.id.clone());
            let node_id = known
                .as_ref()
                .map_or_else(|| name.clone(), |known| known.proxy.node_id.clone());
            let cluster_id = known
                .as_ref()
                .map_or_else(|| "".into(), |known| known.proxy.cluster_id.clone());
            let version = known.map(|known| known.version).unwrap_or_default();
            Ok(Admitted {
                proxy: name,
                node_id,
                cluster_id,
                version,
                snapshots,
            })
        })
    }

    fn leave(&self, _: ConnectionId) {}
}

/// Serves the folder until told to stop; a change is read within `--poll`, and one that cannot be read changes nothing.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.common.init_logs()?;
    let stop = Stop::new();
    service_kit::signals(&stop)?;
    let registry = Default::default();
    let metrics = Metrics::new(&registry)?;
    let ready = Ready::new(&stop);
    let tasks = Tasks::new(&stop, &ready);
    let roster = Arc::new(Roster::new("serve-xds"));

    let mut last = read(&args.dir)?;
    let mut revision = 1;
    let (snapshots, current) = watch::channel(Arc::new(snapshot(revision, &last)));
    roster.built(mesh_types::Revision(revision));
    tasks.spawn_infallible("folder", {
        let (dir, poll, stop, roster) = (args.dir.clone(), args.poll, stop.clone(), roster.clone());
        async move {
            loop {
                tokio::select! {
                    () = stop.wait() => return,
                    () = tokio::time::sleep(poll) => {}
                }
                match read(&dir) {
                    Ok(resources) if resources != last => {
                        revision += 1;
                        last = resources;
                        snapshots.send_replace(Arc::new(snapshot(revision, &last)));
                        roster.built(mesh_types::Revision(revision));
                        tracing::info!(revision, resources = last.len(), "read");
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!(
                        error = format!("{error:#}"),
                        "still serving what was read before"
                    ),
                }
            }
        }
    });

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
        ports.add(name, listener)?;
    }
    let ads = Ads {
        snapshots: Arc::new(Folder(current)),
        roster: roster.clone(),
        setup: Arc::new(Setup::default()),
        missing: Arc::new(|_, _| None),
        metrics,
        tls: false,
        stop: stop.clone(),
    };
    let peers = Peers::join(
        roster.clone(),
        bus::connect("memory:", &Default::default()).await?,
        watch::channel(None).1,
    )
    .await?;
    tasks.spawn(
        "xds",
        service_kit::serve(grpc, ads.router(), ServeConfig::streams(), stop.clone()),
    );
    let api = Api {
        roster,
        peers,
        planner: None,
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
    ports.write(args.common.ports_file.as_deref())?;
    eprintln!(
        "serving {} at {}",
        args.dir.display(),
        ports.addrs()["grpc"]
    );
    tasks.join(Duration::from_secs(10)).await?;
    Ok(ExitCode::SUCCESS)
}

/// Encoded resources by type URL and name.
type Resources = BTreeMap<(String, String), Vec<u8>>;

fn read(dir: &Path) -> anyhow::Result<Resources> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .with_context(|| format!("{} cannot be read", dir.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
        })
        .collect();
    files.sort();
    let mut resources = Resources::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).with_context(|| file.display().to_string())?;
        for document in documents {
            take(document, &mut resources).with_context(|| file.display().to_string())?;
        }
    }
    Ok(resources)
}

fn take(value: Value, resources: &mut Resources) -> anyhow::Result<()> {
    match value {
        Value::Array(items) => items.into_iter().try_for_each(|item| take(item, resources)),
        Value::Object(mut map) if !map.contains_key("@type") => take(
            map.remove("resources")
                .context("a document without \"@type\" and without \"resources\"")?,
            resources,
        ),
        value => {
            let (url, bytes) =
                envoy_api::json::from_json(&value).map_err(|errors| anyhow::anyhow!("{errors}"))?;
            let name =
                envoy_api::resource_name(&url, &bytes).context("a resource without a name")?;
            resources.insert((url, name), bytes);
            Ok(())
        }
    }
}

fn snapshot(revision: u64, resources: &Resources) -> Snapshot {
    let mut snapshot = Snapshot::new(revision);
    for type_id in TypeId::ALL {
        let encoded: Vec<Arc<Encoded>> = resources
            .iter()
            .filter(|((url, _), _)| url == type_id.url())
            .map(|((_, name), bytes)| Arc::new(Encoded::new(&**name, type_id, bytes)))
            .collect();
        snapshot.set(type_id, Arc::new(Set::from_sorted(encoded)));
    }
    snapshot
}
