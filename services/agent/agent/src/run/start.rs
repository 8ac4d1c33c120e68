//! Everything that is there before Envoy is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use agent_core::bootstrap::Places;
use agent_core::dns::{Own, Resolver};
use agent_core::metrics::targets;
use agent_core::options::Options;
use agent_core::paths::{self, Found, IdentitySource, Paths};
use agent_core::probes::Probes;
use envoy_api::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryServiceServer;
use identity::accounts;
use service_kit::tls::{ClientTls, Identities};
use service_kit::{PortsFile, Ready, Stop, Tasks};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;

use super::{RunError, about};
use crate::args::ProxyArgs;
use crate::dns::Dns;
use crate::envoy::Admin;
use crate::identity::{Handover, RootFile};
use crate::metrics::Metrics;
use crate::probe::Prober;
use crate::scrape::Scraper;
use crate::sds::{FileSecrets, Store};
use crate::status::{Parts, Status};
use crate::trust::TrustKeeper;
use crate::xds::{Inbox, Pilots};
use crate::{dns, identity as own_identity, machine, scrape, sds, xds};

/// Streams of secrets at once.
const MAX_SECRET_STREAMS: u32 = 100_000;

/// What is there.
pub(super) struct Started {
    pub(super) places: Places,
    pub(super) status: Status,
    /// Ports of listeners whose connections nobody waits for.
    pub(super) own_ports: Vec<u16>,
    /// Sockets to take away at the end.
    pub(super) sockets: Vec<PathBuf>,
}

/// Starts everything that Envoy needs.
pub(super) async fn start(
    args: &ProxyArgs,
    options: &Options,
    paths: &Paths,
    tasks: &Tasks,
    ready: &Ready,
    stop: &Stop,
    quit: &Stop,
) -> Result<Started, RunError> {
    let end = tasks.stop().clone();
    let metrics = Metrics::new()?;
    let mut ports = PortsFile::new();

    // Ports first: what is wrong with them should be told at once.
    let status_listener =
        service_kit::bind(options.status.address.to_string(), "status-addr").await?;
    let status_addr = status_listener.local_addr().map_err(about("status-addr"))?;
    ports.add_addr("status", status_addr);
    let mut free = |name: &str, at: SocketAddr| {
        let found = machine::free(at).map_err(about(format!("{name} {at}")))?;
        ports.add_addr(name, found);
        Ok::<_, RunError>(found)
    };
    let admin = free("envoy-admin", options.envoy.admin)?;
    let envoy_status = free("envoy-status", options.envoy.status)?;
    let prometheus = free("envoy-prometheus", options.envoy.prometheus)?;
    let names = start_dns(options, paths, tasks, &metrics, &mut ports).await?;

    let socket = paths.workload_socket(&options.identity.socket);
    let source = paths::choose(
        paths,
        options,
        Found {
            foreign_server: sds::foreign_server(&socket).await,
            platform: own_identity::all_there(&paths.platform_certificates()),
            mounted: own_identity::all_there(&paths.mounted_certificates()),
        },
    )?;
    let store = Store::default();
    let domain = options.identity.trust_domain.clone();
    let keeper = TrustKeeper::new(domain, store.clone());
    let kept = own_identity::source(&source, options, paths, &metrics, ready, &end)?;
    let has_identity = kept.is_some();
    let identities = kept.as_ref().map(|kept| kept.identities.clone());
    if let Some(kept) = kept {
        let handover = Handover {
            store: store.clone(),
            trust: keeper.clone(),
            pkcs8: options.identity.pkcs8,
            output: options
                .identity
                .output
                .as_ref()
                .map(|path| paths.resolve(path)),
            // In Kubernetes others of the pod read them, under another user.
            mode: match machine::variables().contains_key("KUBERNETES_SERVICE_HOST") {
                true => 0o644,
                false => 0o600,
            },
            metrics: metrics.clone(),
        };
        tasks.spawn_infallible(
            "handover",
            handover.run(kept.material, kept.bundle, kept.identities, end.clone()),
        );
        tasks.spawn_infallible("identity", kept.run);
        tasks.spawn_infallible(
            "crl",
            own_identity::follow_crl(
                paths.crl(),
                keeper.clone(),
                options.identity.file_debounce,
                end.clone(),
            ),
        );
    }
    tracing::info!(source = ?source, "where the identity comes from");

    let files_only = source == IdentitySource::Foreign;
    let secrets = sds::Server {
        store: has_identity.then_some(store),
        files: FileSecrets::new(paths.clone(), options.identity.file_debounce, end.clone()),
        metrics: metrics.clone(),
        stop: end.clone(),
        streams: Arc::new(AtomicU64::new(0)),
        epoch: uuid::Uuid::new_v4().simple().to_string()[..8].into(),
    };
    let own_socket = if files_only {
        paths.files_socket()
    } else {
        socket.clone()
    };
    let listener = sds::listen(&own_socket).await?;
    serve_secrets(tasks, secrets, listener);

    let inbox = Inbox {
        names: names.as_ref().map(|names| names.sender.clone()),
        trust: has_identity.then_some(keeper),
        pcds: options.control.pcds,
    };
    let pilots = pilots(options, paths, tasks, identities, &end).await?;
    let xds_socket = paths.xds_socket(options);
    let listener = sds::listen(&xds_socket).await?;
    let proxy = xds::Proxy::new(pilots, inbox, metrics.clone(), end.clone());
    let router = tonic::transport::Server::builder().add_service(proxy);
    serve(tasks, "xds", router, listener);

    let own_ports: Vec<u16> = [admin, envoy_status, prometheus, status_addr]
        .iter()
        .map(SocketAddr::port)
        .chain([
            options.envoy.secure_metrics,
            options.envoy.secure_merged_metrics,
        ])
        .collect();
    let status = start_status(
        options,
        StatusPlaces {
            admin,
            prometheus,
            own_ports: &own_ports,
        },
        names.map(|names| names.table),
        &metrics,
        stop,
        quit,
    )?;
    tasks.spawn(
        "status",
        service_kit::serve_http(status_listener, status.router(), end.clone()),
    );
    let external = Some(paths.credential_socket()).filter(|path| path.exists());
    ports
        .write(args.ports_file.as_deref())
        .map_err(about("--ports-file"))?;
    tracing::info!(ports = ?ports.addrs(), "listening");
    Ok(Started {
        places: Places {
            admin,
            status: envoy_status,
            prometheus,
            agent: status_addr,
            xds: xds_socket.clone(),
            sds: socket,
            files: files_only.then(|| own_socket.clone()),
            external,
            identity: has_identity || files_only,
        },
        status,
        own_ports,
        sockets: vec![own_socket, xds_socket],
    })
}

struct StatusPlaces<'a> {
    admin: SocketAddr,
    prometheus: SocketAddr,
    own_ports: &'a [u16],
}

fn start_status(
    options: &Options,
    places: StatusPlaces<'_>,
    names: Option<watch::Receiver<Option<Arc<agent_core::dns::Table>>>>,
    metrics: &Metrics,
    stop: &Stop,
    quit: &Stop,
) -> Result<Status, RunError> {
    let probes = match &options.status.probers {
        Some(text) => Probes::parse(text)?,
        None => Probes::default(),
    };
    let targets = match &options.status.prometheus {
        Some(text) => targets(text, places.own_ports)?,
        None => Vec::new(),
    };
    let pod = options.node.addresses[0];
    let loopback: IpAddr = match pod {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let host = match options.status.probe_localhost {
        false => pod,
        true => loopback,
    };
    Ok(Status::new(Parts {
        admin: Admin(places.admin),
        kind: options.node.kind,
        probes,
        prober: Prober::new(host)?,
        scraper: Scraper {
            envoy: places.prometheus,
            loopback,
            targets,
            metrics: metrics.clone(),
            turns: Arc::new(tokio::sync::Semaphore::new(scrape::TURNS)),
        },
        names,
        stop: stop.clone(),
        quit: quit.clone(),
    }))
}

/// The way to Pilot.
async fn pilots(
    options: &Options,
    paths: &Paths,
    tasks: &Tasks,
    identities: Option<Identities>,
    end: &Stop,
) -> Result<Pilots, RunError> {
    let control = &options.control;
    let id = options.identity.workload();
    let domain = id
        .map_err(own_identity::IdentityError::Name)?
        .trust_domain()
        .clone();
    if control.pilots.iter().all(|pilot| !pilot.tls) {
        return Ok(Pilots::new(&control.pilots, None, &control.headers, None)?);
    }
    let server = own_identity::server(
        "ISTIOD_SAN",
        &control.sans,
        &domain,
        &control.namespace,
        accounts::PILOT,
    )?;
    let roots = || -> Result<RootFile, RunError> {
        let places = paths.roots(control.roots.as_ref(), options);
        Ok(RootFile {
            path: own_identity::root_file("XDS_ROOT_CA", places)?,
            domain: domain.clone(),
            debounce: options.identity.file_debounce,
        })
    };
    let (tls, token): (ClientTls, _) = match (identities, &control.roots) {
        (Some(identities), None) => (identities.into(), None),
        // Other roots than the workload's were named for Pilot.
        (Some(identities), Some(_)) => {
            let (out, derived) = watch::channel(None);
            tasks.spawn_infallible("xds-roots", roots()?.follow(identities, out, end.clone()));
            (derived.into(), None)
        }
        // Nobody here has a certificate: a token says who we are.
        (None, _) => {
            let Some(trust) = roots()?.wait(end).await else {
                return Err(xds::UpstreamError::NoIdentity.into());
            };
            (trust.into(), Some(paths.token()))
        }
    };
    Ok(Pilots::new(
        &control.pilots,
        Some((tls, server)),
        &control.headers,
        token,
    )?)
}

/// What answering names needs of others, and gives them.
struct Names {
    sender: xds::Names,
    table: watch::Receiver<Option<Arc<agent_core::dns::Table>>>,
}

async fn start_dns(
    options: &Options,
    paths: &Paths,
    tasks: &Tasks,
    metrics: &Metrics,
    ports: &mut PortsFile,
) -> Result<Option<Names>, RunError> {
    if !options.dns.enabled {
        return Ok(None);
    }
    let end = tasks.stop().clone();
    let at = options.dns.address;
    let sockets = dns::bind(at)
        .await
        .map_err(about(format!("DNS_PROXY_ADDR {at}")))?;
    let at = sockets.tcp.local_addr().map_err(about("DNS_PROXY_ADDR"))?;
    ports.add_addr("dns", at);
    let mut resolver = paths.resolver();
    if !resolver.exists() {
        resolver = Paths::new("/").resolver();
    }
    let text = machine::optional(&resolver).map_err(about(resolver.display().to_string()))?;
    let also = dns::other_family(at);
    let mut own: Vec<SocketAddr> = [Some(at), also].into_iter().flatten().collect();
    if at.ip().is_unspecified() {
        // It answers at every address of this machine.
        let addresses = options.node.addresses.iter().copied();
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        own.extend(
            addresses
                .chain(loopback)
                .map(|ip| SocketAddr::new(ip, at.port())),
        );
    }
    let resolver = Resolver::parse(&text.unwrap_or_default(), &own);
    let (sender, received) = watch::channel(None);
    let (tables, table) = watch::channel(None);
    let whose = Own {
        namespace: options.node.namespace.clone(),
        domain: options.dns.domain.clone(),
        search: resolver.search.clone(),
    };
    tasks.spawn_infallible("names", dns::tables(received, tables, whose, end.clone()));
    let answers = Dns {
        table: table.clone(),
        resolver: Arc::new(resolver),
        patience: options.dns.forward_timeout,
        parallel: options.dns.forward_parallel,
        is_first: at.port() == 53,
        metrics: metrics.clone(),
    };
    tasks.spawn_infallible("dns", answers.clone().serve(sockets, end.clone()));
    // A machine need not have the other family.
    if let Some(other) = also
        && let Ok(sockets) = dns::bind(other).await
    {
        tasks.spawn_infallible("dns-other", answers.serve(sockets, end));
    }
    Ok(Some(Names { sender, table }))
}

fn serve_secrets(tasks: &Tasks, server: sds::Server, listener: UnixListener) {
    let router = tonic::transport::Server::builder()
        .max_concurrent_streams(MAX_SECRET_STREAMS)
        .add_service(SecretDiscoveryServiceServer::new(server));
    serve(tasks, "sds", router, listener);
}

fn serve(
    tasks: &Tasks,
    name: &str,
    router: tonic::transport::server::Router,
    listener: UnixListener,
) {
    let end = tasks.stop().clone();
    tasks.spawn(name, async move {
        let incoming = UnixListenerStream::new(listener);
        let stopped = end.clone();
        let serving =
            router.serve_with_incoming_shutdown(incoming, async move { stopped.wait().await });
        // Streams end with the stop; whoever keeps a connection open all the same does not keep the agent.
        let late = async {
            end.wait().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        tokio::select! {
            served = serving => served,
            () = late => Ok(()),
        }
    });
}
