//! Wiring: what is opened, in which order, and how it ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, BusOptions, BusTls};
use citadel_core::issue::Policy;
use citadel_core::limits::Limits;
use citadel_core::names::{ControlPlane, NATS, OPERATOR, VIEWER};
use citadel_core::policy::jwt::{JwtRule, JwtRuleError};
use citadel_core::policy::kubernetes::Clusters;
use citadel_core::rotation;
use mesh_types::{SpiffeError, WorkloadId};
use pki::KeyType;
use prometheus::Registry;
use service_kit::roles::Roles;
use service_kit::tls::{Clients, ServerId, TlsServer, TlsSettings};
use service_kit::{Backoff, PortsFile, Ready, ServeConfig, Stop, Tasks};
use store::StoreError;
use time::OffsetDateTime;
use tokio::sync::watch;
use tonic::service::Routes;

use crate::args::{Args, RootKey};
use crate::ca_service::{CaService, too_long};
use crate::callers::kubernetes::{Api, Reviewer};
use crate::callers::{Callers, Guesses, jwks};
use crate::desk::{Desk, MOST_IDENTITIES};
use crate::https::{self, HttpsError, Target};
use crate::ledger::{KeyEncryption, Ledger, SealError};
use crate::metrics::Metrics;
use crate::operator::OperatorService;
use crate::own::{self, Own, OwnIdentity};
use crate::roots::{Roots, RootsConfig, RootsError};
use crate::rotate::Rotor;
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

fn https(flag: &'static str) -> impl FnOnce(HttpsError) -> RunError {
    move |error| RunError::Https { flag, error }
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

/// Flags that were checked before anything is opened.
struct Settings {
    plane: ControlPlane,
    policy: Policy,
    roles: Roles,
    tls: TlsSettings,
    jwt: Option<(JwtRule, jwks::Source)>,
    api: Option<Api>,
    roots: RootsConfig,
}

impl Settings {
    fn check(args: &Args) -> Result<Settings, RunError> {
        for (flag, name) in args
            .server_names
            .iter()
            .map(|name| ("server-names", name))
            .chain(args.names.iter().map(|named| ("names", &named.host)))
        {
            if !name.is_empty() && rustls::pki_types::ServerName::try_from(name.as_str()).is_err() {
                let name = name.clone();
                return Err(RunError::Host { flag, name });
            }
        }
        let plane = ControlPlane::new(
            args.trust_domain.clone(),
            &args.namespace,
            &args.revision,
            &args.server_names,
            &args.names,
        )?;
        let life = |time: Duration| {
            time::Duration::try_from(time).map_err(|_| RunError::Flag("a time is too long".into()))
        };
        let policy = Policy {
            default_life: life(args.issue.workload_cert_ttl)?,
            longest_life: life(args.issue.max_workload_cert_ttl)?,
        };
        if policy.default_life < time::Duration::SECOND || policy.longest_life < policy.default_life
        {
            return Err(RunError::Flag(
                "--workload-cert-ttl must be a second at least, and --max-workload-cert-ttl no less"
                    .into(),
            ));
        }
        let operators = args.operators.iter().cloned().chain([plane.id(OPERATOR)?]);
        let viewers = args.viewers.iter().cloned().chain([plane.id(VIEWER)?]);
        let roots = RootsConfig {
            folder: Some(args.roots.root_ca_dir.clone()),
            multi_root: args.roots.multi_root,
            ca_crl: args.roots.ca_crl,
            key_type: match args.roots.root_key {
                RootKey::Ec => KeyType::EcP256,
                RootKey::Rsa => KeyType::Rsa(args.roots.root_rsa_bits.into()),
            },
            root_life: life(args.roots.root_ttl)?,
            grace_percent: args.roots.root_grace_percent,
            check_interval: args.roots.root_check_interval,
            check_jitter: args.roots.root_check_jitter,
            longest_life: policy.longest_life,
            rotation: rotation::Settings {
                settle: life(args.roots.rotation_evidence_time)?,
            },
            ..RootsConfig::new(args.trust_domain.clone(), String::new())
        };
        Ok(Settings {
            roles: Roles::new(operators, viewers),
            tls: TlsSettings::with_ciphers(args.tls_min_version, &args.tls_ciphers)
                .map_err(|error| RunError::Flag(format!("--tls-ciphers: {error}")))?,
            jwt: jwt(args)?,
            api: api(args)?,
            plane,
            policy,
            roots,
        })
    }
}

fn jwt(args: &Args) -> Result<Option<(JwtRule, jwks::Source)>, RunError> {
    let callers = &args.callers;
    if callers.jwt_rule.trim().is_empty() {
        if callers.jwks_file.is_some() || callers.jwks_ca.is_some() {
            return Err(RunError::Flag(
                "--jwks-file and --jwks-ca need --jwt-rule: nobody's tokens are taken without"
                    .into(),
            ));
        }
        return Ok(None);
    }
    let rule = JwtRule::parse(&callers.jwt_rule, &callers.token_audiences)?;
    let source = match &callers.jwks_file {
        Some(file) => jwks::Source::File(file.clone()),
        None => {
            let url = rule.jwks_uri.as_deref().unwrap_or(&rule.issuer);
            Target::parse(url).map_err(https("jwt-rule"))?;
            let tls = https::tls(callers.jwks_ca.as_deref()).map_err(https("jwks-ca"))?;
            jwks::Source::Url(tls)
        }
    };
    Ok(Some((rule, source)))
}

fn api(args: &Args) -> Result<Option<Api>, RunError> {
    let Some(api) = args.callers.api().map_err(RunError::Flag)? else {
        if !args.callers.trusted_node_accounts.is_empty() {
            return Err(RunError::Flag(
                "--trusted-node-accounts need --kubernetes-api: who runs on a node is known there"
                    .into(),
            ));
        }
        return Ok(None);
    };
    Ok(Some(Api {
        tls: https::tls(api.ca.as_deref()).map_err(https("kubernetes-ca"))?,
        base: Target::parse(&api.url).map_err(https("kubernetes-api"))?,
        token: api.token,
    }))
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
