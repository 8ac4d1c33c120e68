//! Wiring: what is opened, in which order, and how it ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, BusOptions, BusTls};
use citadel_core::limits::Limits;
use citadel_core::names::NATS;
use citadel_core::policy::jwt::JwtRuleError;
use citadel_core::policy::kubernetes::Clusters;
use mesh_types::{SpiffeError, WorkloadId};
use prometheus::Registry;
use service_kit::tls::{Clients, ServerId, TlsServer};
use service_kit::{Backoff, PortsFile, Ready, ServeConfig, Stop, Tasks};
use store::StoreError;
use time::OffsetDateTime;
use tokio::sync::watch;
use tonic::service::Routes;

use crate::args::Args;
use crate::ca_service::{CaService, too_long};
use crate::callers::kubernetes::Reviewer;
use crate::callers::{Callers, Guesses, jwks};
use crate::desk::{Desk, MOST_IDENTITIES};
use crate::https::HttpsError;
use crate::ledger::{KeyEncryption, Ledger, SealError};
use crate::metrics::Metrics;
use crate::operator::OperatorService;
use crate::own::{self, Own, OwnIdentity};
use crate::roots::{Roots, RootsConfig, RootsError};
use crate::rotate::Rotor;
use crate::settings::Settings;
use crate::socket;
use crate::trust_service::{self, TrustService};

/// After SIGTERM everything has ended within this.
const STOP_BOUND: Duration = Duration::from_secs(10);

/// How often the metrics about expiry are brought up to date.
const EXPIRY: Duration = Duration::from_secs(10);

/// Why Citadel did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] service_kit::BindError),
    /// The bus cannot be used.
    #[error(transparent)]
    Bus(#[from] BusError),
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
    /// The database cannot be used, and waiting will not help.
    #[error("--store: {0}")]
    Store(StoreError),
    /// There is no signer.
    #[error(transparent)]
    Roots(RootsError),
    /// The key that seals the keys of roots.
    #[error("--key-encryption-key-file: {0}")]
    Seal(#[from] SealError),
    /// The control plane's identities.
    #[error("--namespace or --names: {0}")]
    Names(#[from] SpiffeError),
    /// A host name that no certificate can have.
    #[error("--{flag} {name:?} is no host name and no address")]
    Host {
        /// The flag, without dashes.
        flag: &'static str,
        /// The name.
        name: String,
    },
    /// The issuer whose JWTs are taken.
    #[error("JWT_RULE: {0}")]
    JwtRule(#[from] JwtRuleError),
    /// A flag that makes no sense.
    #[error("{0}")]
    Flag(String),
    /// A server to ask, or whom to trust as it.
    #[error("--{flag}: {error}")]
    Https {
        /// The flag, without dashes.
        flag: &'static str,
        /// What is wrong.
        error: HttpsError,
    },
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> RunError {
    let what = what.into();
    |error| RunError::Io { what, error }
}

/// The bus that the flags say. Over TLS it is met as `own`, as soon as that is known.
///
/// # Errors
/// The URL, or who the server must be.
pub async fn connect(args: &Args, own: &OwnIdentity) -> Result<Arc<dyn Bus>, RunError> {
    let server = match &args.nats_server_name {
        Some(name) => ServerId::name(name)
            .map_err(|error| RunError::Flag(format!("--nats-server-name: {error}")))?,
        None => {
            let nats = WorkloadId::new(args.trust_domain.clone(), &args.namespace, NATS)?;
            ServerId::spiffe(nats.to_spiffe_id())
        }
    };
    let options = BusOptions {
        name: "citadel".into(),
        tls: Some(BusTls {
            identities: own.identities(),
            server,
        }),
        ..BusOptions::default()
    };
    Ok(bus::connect(&args.bus, &options).await?)
}

/// Runs Citadel until `stop`.
///
/// # Errors
/// See [`RunError`]. A database that is away at the start is waited for.
pub async fn run(args: Args, bus: Arc<dyn Bus>, stop: Stop) -> Result<(), RunError> {
    run_as(args, OwnIdentity::default(), bus, stop).await
}

/// The same, with an identity that is told to `identity` as soon as it is issued.
///
/// # Errors
/// See [`run`].
pub async fn run_as(
    args: Args,
    identity: OwnIdentity,
    bus: Arc<dyn Bus>,
    stop: Stop,
) -> Result<(), RunError> {
    let settings = Settings::check(&args)?;
    let registry = Registry::new();
    service_kit::register_process_metrics(&registry)?;
    let metrics = Metrics::new(&registry)?;
    let ready = Ready::new(&stop);
    let tasks = Tasks::new(&stop, &ready);

    socket::make_folder(&args.data_dir).map_err(io("--data-dir"))?;
    let grpc = service_kit::bind(args.grpc_addr.to_string(), "grpc-addr").await?;
    let monitoring =
        service_kit::bind(args.common.monitoring_addr.to_string(), "monitoring-addr").await?;
    let path = args.data_dir.join("operator.sock");
    let operators = socket::bind(&path)
        .await
        .map_err(io(path.display().to_string()))?;
    let mut ports = PortsFile::new();
    for (name, listener) in [("grpc", &grpc), ("monitoring", &monitoring)] {
        ports.add(name, listener).map_err(io(name))?;
    }
    let endpoints = service_kit::http_router(registry, ready.clone(), service_kit::version!());
    tasks.spawn(
        "monitoring",
        service_kit::serve_http(monitoring, endpoints, stop.clone()),
    );
    ports
        .write(args.common.ports_file.as_deref())
        .map_err(io("--ports-file"))?;
    tracing::info!(ports = ?ports.addrs(), socket = %path.display(), "listening");

    let replica = args.replica(grpc.local_addr().ok());
    let Some((ledger, roots)) = open(&args, &settings, &replica, &ready, &stop).await? else {
        tasks.join(STOP_BOUND).await?;
        return Ok(());
    };
    let (signings, bundles) = (roots.signings(), roots.bundles());
    tasks.spawn_infallible("journal", {
        let (ledger, stop) = (ledger.clone(), stop.clone());
        async move { ledger.keep_verifying(stop).await }
    });
    tasks.spawn_infallible("roots", roots.clone().run(bus.clone(), stop.clone()));
    let rotor = Rotor::new(roots.clone(), bus.clone());
    tasks.spawn_infallible("rotation", rotor.clone().run(stop.clone()));

    let own = Own {
        plane: settings.plane.clone(),
        policy: settings.policy,
        ledger: ledger.clone(),
        replica: replica.clone(),
        identity: identity.clone(),
    };
    let work = own::keep(
        own,
        signings.clone(),
        bundles.clone(),
        ready.clone(),
        stop.clone(),
    );
    tasks.spawn_infallible("identity", work);
    let file = args.data_dir.join("root-cert.pem");
    let work = trust_service::write_file(bundles.clone(), file, ready.clone(), stop.clone());
    tasks.spawn_infallible("root-file", work);
    let work = trust_service::announce(bus, bundles.clone(), stop.clone());
    tasks.spawn_infallible("announce", work);
    let work = watch_expiry(roots.clone(), metrics.clone(), ready.clone(), stop.clone());
    tasks.spawn_infallible("expiry", work);

    let keys = settings.jwt.clone().map(|(rule, source)| {
        let (sender, keys) = watch::channel(None);
        let work = jwks::follow(
            rule.clone(),
            source,
            args.callers.jwks_refresh,
            sender,
            ready.clone(),
            stop.clone(),
        );
        tasks.spawn_infallible("jwks", work);
        (rule, keys)
    });
    let reviewer = settings.api.clone().map(|api| {
        let audiences = args.callers.token_audiences.clone();
        Reviewer::new(api, audiences, args.trust_domain.clone(), metrics.clone())
    });
    let callers = Callers {
        trust_domain: args.trust_domain.clone(),
        aliases: args.trust_domain_aliases.clone(),
        ledger: ledger.clone(),
        guesses: Guesses::default(),
        jwt: keys,
        reviewer,
        clusters: Clusters {
            local: args.callers.cluster_id.clone(),
            aliases: args.callers.cluster_aliases.clone(),
        },
        trusted: args.callers.trusted_node_accounts.clone(),
        metrics: metrics.clone(),
    };
    let limits = Limits::new(args.issue.each(), args.issue.total(), MOST_IDENTITIES);
    let desk = Arc::new(Desk::new(
        callers,
        signings,
        settings.plane,
        settings.policy,
        limits,
    ));
    let operator = OperatorService {
        roles: settings.roles,
        ledger,
        rotor,
        roots: roots.clone(),
        trust_domain: args.trust_domain.clone(),
        replica: replica.into(),
    };
    let trust = TrustService::new(bundles, metrics, stop.clone());
    let router = Routes::new(CaService { desk }.server())
        .add_service(trust.server())
        .add_service(operator.clone().server())
        .into_axum_router()
        .layer(axum::middleware::map_response(too_long));
    let local = Routes::new(operator.server()).into_axum_router();
    let config = ServeConfig {
        max_age: Some(args.max_connection_age),
        ..ServeConfig::streams()
    };
    let tls = TlsServer {
        settings: settings.tls,
        ..TlsServer::new(identity.identities(), Clients::Optional)
    };
    tasks.spawn(
        "grpc",
        service_kit::tls::serve_tls(grpc, router, config, tls, stop.clone()),
    );
    tasks.spawn_infallible("socket", socket::serve(operators, local, stop.clone()));
    tasks.join(STOP_BOUND).await?;
    Ok(())
}

/// The ledger and the roots, as soon as the database is there; `None`: told to stop before.
async fn open(
    args: &Args,
    settings: &Settings,
    replica: &str,
    ready: &Ready,
    stop: &Stop,
) -> Result<Option<(Ledger, Arc<Roots>)>, RunError> {
    let condition = ready.condition("ledger", "the database");
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut ledger = None;
    loop {
        let outcome = tokio::select! {
            () = stop.wait() => return Ok(None),
            outcome = attempt(args, settings, replica, &mut ledger) => outcome,
        };
        let reason = match outcome {
            Ok(roots) => {
                condition.met();
                return Ok(Some(roots));
            }
            Err(RunError::Store(error)) if error.is_transient() => error.to_string(),
            Err(RunError::Roots(error)) if error.is_transient() => error.to_string(),
            Err(error) => return Err(error),
        };
        let wait = backoff.next_delay();
        tracing::warn!(%reason, ?wait, "the database cannot be used, trying again");
        condition.unmet(format!("the database: {reason}"));
        tokio::select! {
            () = stop.wait() => return Ok(None),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn attempt(
    args: &Args,
    settings: &Settings,
    replica: &str,
    known: &mut Option<Ledger>,
) -> Result<(Ledger, Arc<Roots>), RunError> {
    let ledger = match known {
        Some(ledger) => ledger.clone(),
        None => {
            let file = args.key_encryption_key_file.as_deref();
            let encryption = file.map(KeyEncryption::from_file).transpose()?;
            let opened = Ledger::open(&args.store_url(), encryption).await;
            known.insert(opened.map_err(RunError::Store)?).clone()
        }
    };
    let config = RootsConfig {
        replica: replica.to_owned(),
        ..settings.roots.clone()
    };
    let clock = Arc::new(OffsetDateTime::now_utc);
    let roots = Roots::start(config, ledger.clone(), clock).await;
    Ok((ledger, roots.map_err(RunError::Roots)?))
}

/// Keeps the metrics about what signs, and what `/ready` says of it, until `stop`.
async fn watch_expiry(roots: Arc<Roots>, metrics: Metrics, ready: Ready, stop: Stop) {
    let (mut signings, mut bundles) = (roots.signings(), roots.bundles());
    let mut leading = roots.leading();
    let mut refused = 0;
    loop {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        if let Some(signing) = signings.borrow_and_update().as_ref() {
            let authority = &signing.authority;
            let root = authority
                .roots()
                .roots()
                .iter()
                .map(|root| root.not_after().unix_timestamp())
                .min()
                .unwrap_or_default();
            let chain = authority.chain_not_after().unix_timestamp();
            metrics.expiry(root, chain, now);
            if chain <= now {
                ready.note(
                    "authority",
                    "the signing certificate has expired: nothing is issued",
                );
            } else {
                ready.clear_note("authority");
            }
        }
        if let Some(bundle) = bundles.borrow_and_update().as_ref() {
            metrics.generation(bundle.generation);
        }
        metrics.leader(leading.borrow_and_update().is_some());
        let total = roots.refused_reloads();
        for _ in refused..total {
            metrics.refused_material();
        }
        refused = refused.max(total);
        let withheld = roots.lists_withheld();
        if withheld.is_empty() {
            ready.clear_note("revocation-lists");
        } else {
            let why = withheld.join("; ");
            ready.note(
                "revocation-lists",
                format!("no revocation lists are given out: {why}"),
            );
        }
        tokio::select! {
            () = stop.wait() => return,
            changed = signings.changed() => if changed.is_err() { return stop.wait().await },
            changed = bundles.changed() => if changed.is_err() { return stop.wait().await },
            changed = leading.changed() => if changed.is_err() { return stop.wait().await },
            () = tokio::time::sleep(EXPIRY) => {}
        }
    }
}

/// A name for this replica that survives its restart.
impl Args {
    fn replica(&self, grpc: Option<std::net::SocketAddr>) -> String {
        if let Some(name) = self.name.as_ref().filter(|name| !name.is_empty()) {
            return name.clone();
        }
        let host = std::fs::read_to_string(PathBuf::from("/proc/sys/kernel/hostname"));
        let host = host.unwrap_or_default();
        let port = grpc.map_or(0, |address| address.port());
        format!("citadel-{}-{port}", host.trim())
    }
}
