//! Flags of `citadel`, with the names of Istio's variables where it has them.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use citadel_core::limits::Rate;
use citadel_core::names::NamedAccount;
use citadel_core::policy::impersonation::TrustedAccounts;
use mesh_types::{SpiffeId, TrustDomain, check_configured_trust_domain};
use service_kit::tls::TlsVersion;
use service_kit::{CommonArgs, ListenAddr, parse_duration};

/// Where a pod finds its own token and the certificates of the API server.
const IN_CLUSTER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Citadel: the mesh's certificate authority.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "citadel", version, about)]
pub struct Args {
    /// The name that all identities of this mesh share
    #[arg(
        long,
        env = "TRUST_DOMAIN",
        value_name = "DOMAIN",
        default_value = "cluster.local",
        value_parser = check_configured_trust_domain
    )]
    pub trust_domain: TrustDomain,

    /// Other names of the same trust domain, for which node agents may ask; separated by commas
    #[arg(long, env = "TRUST_DOMAIN_ALIASES", value_name = "DOMAIN", value_delimiter = ',', value_parser = check_configured_trust_domain)]
    pub trust_domain_aliases: Vec<TrustDomain>,

    /// Namespace of the control plane: where its service accounts are
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "istio-system"
    )]
    pub namespace: String,

    /// Name of this replica, unique among its peers; default citadel-HOST-PORT
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub name: Option<String>,

    /// Folder for citadel.db (if --store is not given), operator.sock and root-cert.pem; made if it does not exist
    #[arg(long, value_name = "DIR", default_value = "citadel-data")]
    pub data_dir: PathBuf,

    /// Where the journal, the keys and everything else is kept: sqlite://FILE or postgres://user:password@host/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub store: Option<String>,

    /// File with 32 random bytes (as they are, hexadecimal or base64) that seal the keys of roots in the store
    #[arg(long, env = "CITADEL_KEY_ENCRYPTION_KEY_FILE", value_name = "FILE")]
    pub key_encryption_key_file: Option<PathBuf>,

    /// Where news goes: memory:, nats://host:4222, or tls://host:4222
    #[arg(
        long,
        env = "NATS_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "memory:"
    )]
    pub bus: String,

    /// DNS name in NATS's certificate, instead of the SPIFFE ID of the service account `nats`
    #[arg(long, value_name = "NAME")]
    pub nats_server_name: Option<String>,

    /// Address for agents, services and operators (gRPC over TLS)
    #[arg(
        long,
        alias = "grpcAddr",
        value_name = "ADDR",
        default_value = "127.0.0.1:8060"
    )]
    pub grpc_addr: ListenAddr,

    /// Connections older than this are asked to leave, so that callers are looked at again
    #[arg(long, alias = "keepaliveMaxServerConnectionAge", value_name = "TIME", value_parser = parse_duration, default_value = "30m")]
    pub max_connection_age: Duration,

    /// Oldest version of TLS that is spoken: 1.2 or 1.3
    #[arg(
        long,
        env = "TLS_MIN_VERSION",
        value_name = "VERSION",
        default_value = "1.2"
    )]
    pub tls_min_version: TlsVersion,

    /// Cipher suites by their registered names, separated by commas; default all that are safe
    #[arg(
        long,
        alias = "tls-cipher-suites",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub tls_ciphers: Vec<String>,

    /// More host names for Citadel's and Pilot's own certificates, separated by commas
    #[arg(
        long,
        env = "ISTIOD_CUSTOM_HOST",
        value_name = "HOST",
        value_delimiter = ','
    )]
    pub server_names: Vec<String>,

    /// Host name of any service account's certificate: [NAMESPACE/]ACCOUNT=HOST; repeatable, or separated by commas
    #[arg(long, value_name = "ACCOUNT=HOST", value_delimiter = ',')]
    pub names: Vec<NamedAccount>,

    /// Revision of the control plane: istiod-REVISION is one of its host names
    #[arg(long, env = "REVISION", value_name = "NAME", default_value = "")]
    pub revision: String,

    /// SPIFFE IDs that are operators, besides the service account flotilla-operator
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = SpiffeId::parse)]
    pub operators: Vec<SpiffeId>,

    /// SPIFFE IDs that are viewers, besides the service account flotilla-viewer
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = SpiffeId::parse)]
    pub viewers: Vec<SpiffeId>,

    /// Flags about certificates
    #[command(flatten)]
    pub issue: IssueArgs,

    /// Flags about roots
    #[command(flatten)]
    pub roots: RootArgs,

    /// Flags about callers
    #[command(flatten)]
    pub callers: CallerArgs,

    /// Flags all services have
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What certificates are issued, and how many.
#[derive(Debug, Clone, clap::Args)]
pub struct IssueArgs {
    /// Life of a certificate if the request does not say
    #[arg(long, env = "DEFAULT_WORKLOAD_CERT_TTL", value_name = "TIME", value_parser = parse_duration, default_value = "24h")]
    pub workload_cert_ttl: Duration,

    /// Longest life that may be asked for
    #[arg(long, env = "MAX_WORKLOAD_CERT_TTL", value_name = "TIME", value_parser = parse_duration, default_value = "2160h")]
    pub max_workload_cert_ttl: Duration,

    /// Certificates a second that one identity may ask for
    #[arg(
        long,
        env = "CITADEL_IDENTITY_RATE",
        value_name = "N",
        default_value = "10"
    )]
    pub identity_rate: NonZeroU32,

    /// Certificates that one identity may ask for at once
    #[arg(
        long,
        env = "CITADEL_IDENTITY_BURST",
        value_name = "N",
        default_value = "50"
    )]
    pub identity_burst: NonZeroU32,

    /// Certificates a second that all may ask for, and at once; 0 sets no limit
    #[arg(
        long,
        env = "CITADEL_TOTAL_RATE",
        value_name = "N",
        default_value_t = 20_000
    )]
    pub total_rate: u32,
}

impl IssueArgs {
    /// The limit of one identity.
    pub fn each(&self) -> Rate {
        Rate {
            per_second: self.identity_rate,
            burst: self.identity_burst,
        }
    }

    /// The limit of all.
    pub fn total(&self) -> Option<Rate> {
        let rate = NonZeroU32::new(self.total_rate)?;
        Some(Rate {
            per_second: rate,
            burst: rate,
        })
    }
}

/// Kind of key of a self-signed root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RootKey {
    /// EC P-256.
    Ec,
    /// RSA.
    Rsa,
}

/// Where the root comes from.
#[derive(Debug, Clone, clap::Args)]
pub struct RootArgs {
    /// Folder with an authority made elsewhere (ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem); if it holds none of them, a root is made and kept in the store
    #[arg(
        long,
        env = "ROOT_CA_DIR",
        value_name = "DIR",
        default_value = "./etc/cacerts"
    )]
    pub root_ca_dir: PathBuf,

    /// Key of a root that is made
    #[arg(
        long,
        env = "CITADEL_SELF_SIGNED_CA_KEY_TYPE",
        value_enum,
        value_name = "KIND",
        default_value = "ec"
    )]
    pub root_key: RootKey,

    /// Bits of its key, with --root-key rsa
    #[arg(
        long,
        env = "CITADEL_SELF_SIGNED_CA_RSA_KEY_SIZE",
        value_name = "BITS",
        default_value_t = 2048
    )]
    pub root_rsa_bits: u16,

    /// Life of a root that is made
    #[arg(long, env = "CITADEL_SELF_SIGNED_CA_CERT_TTL", value_name = "TIME", value_parser = parse_duration, default_value = "87600h")]
    pub root_ttl: Duration,

    /// How often is looked whether the root must be made anew; 0 never
    #[arg(long, env = "CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL", value_name = "TIME", value_parser = interval, default_value = "1h", allow_hyphen_values = true)]
    pub root_check_interval: Duration,

    /// Percent of its life before its end at which a root is made anew, with the same key
    #[arg(long, env = "CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE", value_name = "PERCENT", default_value_t = 20, value_parser = clap::value_parser!(u8).range(0..=99))]
    pub root_grace_percent: u8,

    /// Whether the first look happens at a random time within the interval
    #[arg(long, env = "CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub root_check_jitter: bool,

    /// How long what lets a rotation go on (every proxy has acknowledged, no certificate is left) must be seen without a break; a proxy that changes Pilots is with neither for a moment
    #[arg(long, env = "CITADEL_ROTATION_EVIDENCE_TIME", value_name = "TIME", value_parser = parse_duration, default_value = "30s")]
    pub rotation_evidence_time: Duration,

    /// Whether the folder may bring other roots than before, if one set of them holds the other
    #[arg(long, env = "ISTIO_MULTIROOT_MESH", value_name = "BOOL", default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub multi_root: bool,

    /// Whether ca-crl.pem of the folder counts
    #[arg(long, env = "PILOT_ENABLE_CA_CRL", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub ca_crl: bool,
}

/// Zero and less mean never.
fn interval(text: &str) -> Result<Duration, service_kit::DurationError> {
    match text.trim().strip_prefix('-') {
        Some(positive) => parse_duration(positive).map(|_| Duration::ZERO),
        None => parse_duration(text),
    }
}

/// How callers are known, besides by certificate and join token.
#[derive(Debug, Clone, clap::Args)]
pub struct CallerArgs {
    /// Audiences of which a token must name one, separated by commas
    #[arg(
        long,
        env = "TOKEN_AUDIENCES",
        value_name = "NAME",
        value_delimiter = ',',
        default_value = "istio-ca"
    )]
    pub token_audiences: Vec<String>,

    /// Issuer whose JWTs are taken: {"issuer": "https://..", "jwks_uri": "https://..", "audiences": [".."]}
    #[arg(long, env = "JWT_RULE", value_name = "JSON", default_value = "")]
    pub jwt_rule: String,

    /// File with the issuer's keys, instead of jwks_uri
    #[arg(long, env = "CITADEL_JWKS_FILE", value_name = "FILE")]
    pub jwks_file: Option<PathBuf>,

    /// Certificates to trust as the server of jwks_uri; default those of the system
    #[arg(long, env = "CITADEL_JWKS_CA", value_name = "FILE")]
    pub jwks_ca: Option<PathBuf>,

    /// How often the issuer's keys are read again
    #[arg(long, env = "CITADEL_JWKS_REFRESH", value_name = "TIME", value_parser = parse_duration, default_value = "5m")]
    pub jwks_refresh: Duration,

    /// Kubernetes API server that reviews tokens: its URL, or in-cluster
    #[arg(long, env = "CITADEL_KUBERNETES_API", value_name = "URL")]
    pub kubernetes_api: Option<String>,

    /// File with our own token for it
    #[arg(long, env = "CITADEL_KUBERNETES_TOKEN", value_name = "FILE")]
    pub kubernetes_token: Option<PathBuf>,

    /// Certificates to trust as API server
    #[arg(long, env = "CITADEL_KUBERNETES_CA", value_name = "FILE")]
    pub kubernetes_ca: Option<PathBuf>,

    /// Id of this cluster, as agents name it
    #[arg(
        long,
        env = "CLUSTER_ID",
        value_name = "NAME",
        default_value = "Kubernetes"
    )]
    pub cluster_id: String,

    /// Other names of this cluster, separated by commas
    #[arg(
        long,
        env = "CLUSTER_ALIASES",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub cluster_aliases: Vec<String>,

    /// Service accounts of node agents, which may ask for the pods of their node: namespace/serviceaccount, separated by commas
    #[arg(
        long,
        env = "CA_TRUSTED_NODE_ACCOUNTS",
        value_name = "ACCOUNTS",
        default_value = ""
    )]
    pub trusted_node_accounts: TrustedAccounts,

    /// Host of the API server, as Kubernetes tells pods
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", hide = true)]
    pub kubernetes_service_host: Option<String>,

    /// Its port
    #[arg(long, env = "KUBERNETES_SERVICE_PORT", hide = true)]
    pub kubernetes_service_port: Option<u16>,
}

/// Where the API server is, and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesApi {
    /// `https://host:port`.
    pub url: String,
    /// File with our own token.
    pub token: Option<PathBuf>,
    /// Certificates to trust; `None` those of the system.
    pub ca: Option<PathBuf>,
}

impl CallerArgs {
    /// The API server, if there is one.
    ///
    /// # Errors
    /// `in-cluster`, outside of one.
    pub fn api(&self) -> Result<Option<KubernetesApi>, String> {
        let Some(url) = &self.kubernetes_api else {
            return Ok(None);
        };
        if url != "in-cluster" {
            return Ok(Some(KubernetesApi {
                url: url.clone(),
                token: self.kubernetes_token.clone(),
                ca: self.kubernetes_ca.clone(),
            }));
        }
        let Some(host) = &self.kubernetes_service_host else {
            return Err("--kubernetes-api in-cluster: this is no pod of Kubernetes (KUBERNETES_SERVICE_HOST is not set); give the URL of the API server".into());
        };
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let file = |given: &Option<PathBuf>, name: &str| {
            Some(
                given
                    .clone()
                    .unwrap_or_else(|| PathBuf::from(IN_CLUSTER).join(name)),
            )
        };
        Ok(Some(KubernetesApi {
            url: format!(
                "https://{host}:{}",
                self.kubernetes_service_port.unwrap_or(443)
            ),
            token: file(&self.kubernetes_token, "token"),
            ca: file(&self.kubernetes_ca, "ca.crt"),
        }))
    }
}

impl Args {
    /// The store's URL.
    pub fn store_url(&self) -> String {
        match &self.store {
            Some(url) => url.clone(),
            None => format!("sqlite:{}", self.data_dir.join("citadel.db").display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_flags_agree_with_each_other() {
        Args::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_field() {
        let args = Args::parse_from(["citadel"]);
        assert_eq!(args.issue.workload_cert_ttl, Duration::from_secs(86_400));
        assert_eq!(
            args.issue.max_workload_cert_ttl,
            Duration::from_secs(90 * 86_400)
        );
        assert_eq!(args.roots.root_ttl, Duration::from_secs(3650 * 86_400));
        assert_eq!(args.roots.rotation_evidence_time, Duration::from_secs(30));
        assert_eq!(args.callers.token_audiences, ["istio-ca"]);
        assert!(args.grpc_addr.is_loopback());
        assert_eq!(args.issue.each().burst.get(), 50);
        assert_eq!(args.store_url(), "sqlite:citadel-data/citadel.db");
        assert_eq!(args.callers.api(), Ok(None));
    }

    #[test]
    fn less_than_zero_disables_the_rotator() {
        for never in ["0", "-1s", "-1h"] {
            let args = Args::parse_from(["citadel", "--root-check-interval", never]);
            assert_eq!(args.roots.root_check_interval, Duration::ZERO, "{never}");
        }
    }

    #[test]
    fn bad_lists_are_refused_at_the_start() {
        for bad in [
            ["citadel", "--trusted-node-accounts", "ztunnel"],
            ["citadel", "--operators", "admin"],
            ["citadel", "--trust-domain", "a/b"],
            ["citadel", "--identity-rate", "0"],
            ["citadel", "--tls-min-version", "1.1"],
        ] {
            assert!(Args::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pod_finds_its_api_server() {
        let mut args = Args::parse_from(["citadel", "--kubernetes-api", "in-cluster"]).callers;
        assert!(args.api().is_err() || args.kubernetes_service_host.is_some());
        args.kubernetes_service_host = Some("fd00::1".into());
        args.kubernetes_service_port = Some(6443);
        let api = args.api().unwrap().unwrap();
        assert_eq!(api.url, "https://[fd00::1]:6443");
        assert_eq!(api.ca, Some(PathBuf::from(IN_CLUSTER).join("ca.crt")));
    }
}
