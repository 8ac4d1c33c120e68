//! Flags of `pilot`, with pilot-discovery's names where it has them.

use std::path::PathBuf;
use std::time::Duration;

use identity::IdentityArgs;
use ipnet::IpNet;
use mesh_model::PolicySettings;
use pilot_core::{Compliance, Options};
use service_kit::{CommonArgs, ListenAddr, parse_duration};

/// Pilot: serves xDS to the mesh's proxies.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "pilot", version, about)]
pub struct Args {
    /// `discovery` is accepted in front of the flags, as pilot-discovery has it
    #[arg(hide = true, value_parser = ["discovery"])]
    pub command: Option<String>,

    /// Galley's address, host:port; ignored with --config-dir
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9901")]
    pub galley: String,

    /// Folder of YAML or JSON to read instead of asking Galley; repeatable
    #[arg(long, alias = "configDir", value_name = "DIR")]
    pub config_dir: Vec<PathBuf>,

    /// File with the mesh's settings (MeshConfig); with --config-dir only, as Galley distributes them otherwise
    #[arg(
        long,
        alias = "meshConfig",
        value_name = "FILE",
        requires = "config_dir"
    )]
    pub mesh_config: Option<PathBuf>,

    /// Domain of Kubernetes services; with --config-dir only
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub domain: String,

    /// Address for xDS without TLS: of this machine only
    #[arg(
        long,
        alias = "grpcAddr",
        value_name = "ADDR",
        default_value = "127.0.0.1:15010"
    )]
    pub grpc_addr: ListenAddr,

    /// Address for xDS over TLS, used with --ca-addr or --identity-dir; clients must show a certificate
    #[arg(
        long,
        alias = "secureGRPCAddr",
        value_name = "ADDR",
        default_value = "127.0.0.1:15012"
    )]
    pub secure_grpc_addr: ListenAddr,

    /// Whether a proxy's node must agree with its certificate: namespace and service account; `false` also lets in clients without a certificate
    #[arg(
        long,
        env = "PILOT_ENABLE_XDS_IDENTITY_CHECK",
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub xds_identity_check: bool,

    /// Address for the HTTP API and /debug
    #[arg(
        long,
        alias = "httpAddr",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080"
    )]
    pub http_addr: ListenAddr,

    /// Where news comes from: memory: or nats://host:4222
    #[arg(long, value_name = "URL", default_value = "memory:")]
    pub bus: String,

    /// Folder for the last revision, served when Galley is away; nothing is kept if unset
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Name of this Pilot, unique among its peers; default the host's name and the xDS port
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub name: Option<String>,

    /// A burst of changes goes out when nothing more came for this long; a lone change goes at once
    #[arg(long, env = "PILOT_DEBOUNCE_AFTER", value_parser = parse_duration, default_value = "100ms")]
    pub debounce_after: Duration,

    /// A burst of changes goes out at the latest this long after it began
    #[arg(long, env = "PILOT_DEBOUNCE_MAX", value_parser = parse_duration, default_value = "10s")]
    pub debounce_max: Duration,

    /// Who this Pilot is, and who may ask it what
    #[command(flatten)]
    pub identity: IdentityArgs,

    /// How keys of token issuers are fetched
    #[command(flatten)]
    pub jwks: JwksArgs,

    /// TLS of proxies
    #[command(flatten)]
    pub tls: TlsArgs,

    /// Let CUSTOM policies of one workload name several authorizers; otherwise what they are for is refused
    #[arg(long, env = "PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS")]
    pub several_authorizers: bool,

    /// Flags all services have
    #[command(flatten)]
    pub common: CommonArgs,
}

impl Args {
    /// What policies are translated by.
    pub fn policies(&self) -> PolicySettings {
        PolicySettings {
            several_authorizers: self.several_authorizers,
        }
    }
}

/// What all TLS of proxies keeps to.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "TLS of proxies")]
pub struct TlsArgs {
    /// Standard that all TLS of proxies keeps to: fips-140-2, fips-140-3 or pqc; none if unset
    #[arg(long, env = "COMPLIANCE_POLICY", value_name = "STANDARD", value_parser = compliance, default_value = "")]
    pub compliance_policy: Compliance,

    /// Close clusters whose DestinationRule names a credential that the proxy cannot have, rather than reach them without TLS
    #[arg(long)]
    pub refuse_unavailable_credentials: bool,
}

impl TlsArgs {
    /// The same for translation.
    pub fn options(&self) -> Options {
        Options {
            compliance: self.compliance_policy,
            refuse_unavailable_credentials: self.refuse_unavailable_credentials,
        }
    }
}

fn compliance(word: &str) -> Result<Compliance, String> {
    Compliance::parse(word)
        .ok_or_else(|| format!("{word:?} is none of fips-140-2, fips-140-3, pqc"))
}

/// How the keys of token issuers (`jwksUri`, or by discovery from the issuer) are fetched.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Keys of token issuers")]
pub struct JwksArgs {
    /// Networks that keys are never fetched from, separated by commas; besides link-local addresses, loopback, and addresses of this machine and of cloud metadata
    #[arg(
        long,
        env = "BLOCKED_CIDRS_IN_JWKS_URIS",
        value_name = "CIDRS",
        value_delimiter = ','
    )]
    pub blocked_cidrs_in_jwks_uris: Vec<IpNet>,

    /// Networks that keys may be fetched from although they are loopback, link-local, or of this machine; separated by commas
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    pub allowed_cidrs_in_jwks_uris: Vec<IpNet>,

    /// File with root certificates that servers of keys may have, besides those of the system
    #[arg(long, value_name = "FILE")]
    pub jwks_extra_roots: Option<PathBuf>,

    /// Keys are fetched again after this long
    #[arg(long, env = "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL", value_name = "TIME", value_parser = parse_duration, default_value = "20m")]
    pub jwks_refresh_interval: Duration,
}
