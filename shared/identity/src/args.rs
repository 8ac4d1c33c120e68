//! Flags of every service about its identity.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_types::{SpiffeError, SpiffeId, TrustDomain, WorkloadId, check_configured_trust_domain};
use service_kit::roles::Roles;
use service_kit::tls::{ServerId, TlsSettings, TlsVersion};
use service_kit::{ListenAddr, parse_duration};

/// Service accounts of the control plane, by their defaults.
pub mod accounts {
    /// Citadel's.
    pub const CITADEL: &str = "istio-citadel-service-account";
    /// Pilot's.
    pub const PILOT: &str = "istio-pilot-service-account";
    /// Galley's.
    pub const GALLEY: &str = "istio-galley-service-account";
    /// NATS's.
    pub const NATS: &str = "nats";
    /// The injector's.
    pub const INJECTOR: &str = "istio-sidecar-injector-service-account";
    /// Of people who may change things.
    pub const OPERATOR: &str = "flotilla-operator";
    /// Of people who may look.
    pub const VIEWER: &str = "flotilla-viewer";
}

/// Flags about who a service is: `#[command(flatten)] identity: IdentityArgs` in its own `args.rs`.
///
/// Without `--ca-addr` and `--identity-dir` it is nobody, speaks plaintext and listens on loopback only.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Identity")]
pub struct IdentityArgs {
    /// Address of Citadel, host:port; with it everything is spoken over mutual TLS
    #[arg(long, env = "CA_ADDR", value_name = "ADDR", requires = "ca_root")]
    pub ca_addr: Option<String>,

    /// File with root certificates for the first contact with Citadel, which writes one into its data folder; waited for, and read anew each time
    #[arg(long, env = "CA_ROOT_CA", value_name = "FILE", requires = "ca_addr")]
    pub ca_root: Option<PathBuf>,

    /// DNS name in Citadel's certificate, instead of its SPIFFE ID
    #[arg(long, env = "CA_SAN", value_name = "NAME", requires = "ca_addr")]
    pub ca_server_name: Option<String>,

    /// File with a token that shows Citadel who we are (a service account's, or an issuer's JWT); read for each request
    #[arg(
        long,
        value_name = "FILE",
        requires = "ca_addr",
        conflicts_with = "join_token_file"
    )]
    pub ca_token_file: Option<PathBuf>,

    /// File with a one-time token of `flotilla ca token create`, used until there is a certificate
    #[arg(long, value_name = "FILE", requires = "ca_addr")]
    pub join_token_file: Option<PathBuf>,

    /// Folder for key.pem, cert-chain.pem and root-cert.pem; default `identity` in the data folder. Without --ca-addr they are somebody else's: read, and read again when they change
    #[arg(long, env = "FLOTILLA_IDENTITY_DIR", value_name = "DIR")]
    pub identity_dir: Option<PathBuf>,

    /// The name that all identities of this mesh share
    #[arg(
        long,
        env = "TRUST_DOMAIN",
        value_name = "DOMAIN",
        default_value = "cluster.local",
        value_parser = check_configured_trust_domain
    )]
    pub trust_domain: TrustDomain,

    /// Namespace of the control plane: where its service accounts are
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "istio-system"
    )]
    pub namespace: String,

    /// Our own service account; default that of the service
    #[arg(long, env = "SERVICE_ACCOUNT", value_name = "NAME")]
    pub service_account: Option<String>,

    /// SPIFFE IDs that may change things, besides flotilla-operator of the control plane's namespace; separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub operators: Vec<SpiffeId>,

    /// SPIFFE IDs that may look at things, besides flotilla-viewer of the control plane's namespace; separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub viewers: Vec<SpiffeId>,

    /// DNS name in NATS's certificate, instead of the SPIFFE ID of the service account `nats`
    #[arg(long, value_name = "NAME")]
    pub nats_server_name: Option<String>,

    /// How long our certificates shall be valid; Citadel may say less
    #[arg(long, env = "SECRET_TTL", value_name = "TIME", value_parser = parse_duration, default_value = "24h")]
    pub cert_ttl: Duration,

    /// Oldest version of TLS that is spoken: 1.2 or 1.3
    #[arg(long, value_name = "VERSION", default_value = "1.2")]
    pub tls_min_version: TlsVersion,

    /// Cipher suites that are spoken, by their registered or OpenSSL's names, separated by commas; default all, with forward secrecy
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub tls_cipher_suites: Vec<String>,
}

/// What is wrong with the flags about identity.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// No identity can be made of namespace and service account.
    #[error("--namespace {namespace} and --service-account {account} are no identity: {source}")]
    Id {
        /// The namespace.
        namespace: String,
        /// The account.
        account: String,
        /// What is wrong.
        source: SpiffeError,
    },
    /// A server name that is none.
    #[error("--ca-server-name: {0}")]
    ServerName(String),
    /// A server name that is none.
    #[error("--nats-server-name: {0}")]
    NatsServerName(String),
    /// Citadel's address is none.
    #[error("--ca-addr: {0}")]
    CaAddr(#[from] service_kit::tls::ConnectError),
    /// Ciphers that are not there.
    #[error("--tls-cipher-suites: {0}")]
    Ciphers(String),
    /// Others would be served in plaintext.
    #[error(
        "--{flag} {addr}: other machines can reach this address, and without --ca-addr nothing is encrypted; use 127.0.0.1, or give --ca-addr and --ca-root"
    )]
    Plaintext {
        /// The flag, without dashes.
        flag: String,
        /// The address as written.
        addr: ListenAddr,
    },
}

impl IdentityArgs {
    /// Whether there is an identity, and with it TLS.
    pub fn enabled(&self) -> bool {
        self.ca_addr.is_some() || self.identity_dir.is_some()
    }

    /// The identity of a service account of the control plane's namespace (see [`accounts`]).
    ///
    /// # Errors
    /// `--namespace` is none.
    pub fn id_of(&self, account: &str) -> Result<SpiffeId, ArgsError> {
        WorkloadId::new(self.trust_domain.clone(), &self.namespace, account)
            .map(|id| id.to_spiffe_id())
            .map_err(|source| ArgsError::Id {
                namespace: self.namespace.clone(),
                account: account.to_owned(),
                source,
            })
    }

    /// Our own identity: `--service-account`, or else `default` (see [`accounts`]).
    ///
    /// # Errors
    /// `--namespace` or `--service-account` is none.
    pub fn own_id(&self, default: &str) -> Result<SpiffeId, ArgsError> {
        self.id_of(self.service_account.as_deref().unwrap_or(default))
    }

    /// Who Citadel must be.
    ///
    /// # Errors
    /// `--namespace` or `--ca-server-name` is none.
    pub fn citadel(&self) -> Result<ServerId, ArgsError> {
        match &self.ca_server_name {
            Some(name) => ServerId::name(name).map_err(ArgsError::ServerName),
            None => Ok(ServerId::spiffe(self.id_of(accounts::CITADEL)?)),
        }
    }

    /// Who the bus's server must be, if it is NATS over TLS.
    ///
    /// # Errors
    /// `--namespace` or `--nats-server-name` is none.
    pub fn nats(&self) -> Result<ServerId, ArgsError> {
        match &self.nats_server_name {
            Some(name) => ServerId::name(name).map_err(ArgsError::NatsServerName),
            None => Ok(ServerId::spiffe(self.id_of(accounts::NATS)?)),
        }
    }

    /// Who may look and who may change: the default accounts, and those of `--operators` and `--viewers`.
    ///
    /// # Errors
    /// `--namespace` is none.
    pub fn roles(&self) -> Result<Roles, ArgsError> {
        let operators = self.operators.iter().cloned();
        let viewers = self.viewers.iter().cloned();
        Ok(Roles::new(
            operators.chain([self.id_of(accounts::OPERATOR)?]),
            viewers.chain([self.id_of(accounts::VIEWER)?]),
        ))
    }

    /// Versions and ciphers.
    ///
    /// # Errors
    /// A cipher that is not there.
    pub fn tls_settings(&self) -> Result<TlsSettings, ArgsError> {
        TlsSettings::with_ciphers(self.tls_min_version, &self.tls_cipher_suites)
            .map_err(ArgsError::Ciphers)
    }

    /// Where key and certificate are kept: `--identity-dir`, or `identity` in the data folder.
    pub fn folder(&self, data_dir: &Path) -> PathBuf {
        let given = self.identity_dir.clone();
        given.unwrap_or_else(|| data_dir.join("identity"))
    }

    /// Refuses an address that other machines reach, if what is served there is not encrypted. `flag` is without dashes.
    ///
    /// # Errors
    /// [`ArgsError::Plaintext`].
    pub fn check_listen(&self, flag: &str, addr: &ListenAddr) -> Result<(), ArgsError> {
        if self.enabled() || addr.is_loopback() {
            return Ok(());
        }
        Err(ArgsError::Plaintext {
            flag: flag.to_owned(),
            addr: addr.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        identity: IdentityArgs,
    }

    fn parse(flags: &[&str]) -> Result<IdentityArgs, String> {
        Cli::try_parse_from(std::iter::once("pilot").chain(flags.iter().copied()))
            .map(|cli| cli.identity)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn without_flags_nothing_is_encrypted_and_nobody_else_gets_in() {
        let args = parse(&[]).unwrap();
        assert!(!args.enabled());
        let here = "127.0.0.1:15010".parse().unwrap();
        assert!(args.check_listen("grpc-addr", &here).is_ok());
        let everywhere = ":15010".parse().unwrap();
        let refused = args.check_listen("grpc-addr", &everywhere).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "--grpc-addr :15010: other machines can reach this address, and without --ca-addr nothing is encrypted; use 127.0.0.1, or give --ca-addr and --ca-root"
        );
    }

    #[test]
    fn names_follow_namespace_and_trust_domain() {
        let args = parse(&[
            "--ca-addr=citadel:8060",
            "--ca-root=/r.pem",
            "--trust-domain=mesh.example",
            "--namespace=plane",
            "--operators=spiffe://mesh.example/ns/ops/sa/ann,spiffe://mesh.example/ns/ops/sa/bob",
        ])
        .unwrap();
        assert!(args.enabled());
        assert_eq!(
            args.own_id(accounts::PILOT).unwrap().to_string(),
            "spiffe://mesh.example/ns/plane/sa/istio-pilot-service-account"
        );
        let roles = args.roles().unwrap();
        for (id, role) in [
            (
                "spiffe://mesh.example/ns/ops/sa/bob",
                Some(service_kit::Role::Operator),
            ),
            (
                "spiffe://mesh.example/ns/plane/sa/flotilla-operator",
                Some(service_kit::Role::Operator),
            ),
            (
                "spiffe://mesh.example/ns/plane/sa/flotilla-viewer",
                Some(service_kit::Role::Viewer),
            ),
            ("spiffe://cluster.local/ns/plane/sa/flotilla-operator", None),
        ] {
            assert_eq!(roles.of(&id.parse().unwrap()), role, "{id}");
        }
        assert_eq!(
            args.folder("/data".as_ref()),
            PathBuf::from("/data/identity")
        );
    }

    #[test]
    fn flags_that_make_no_sense_alone_are_refused() {
        for flags in [
            &["--ca-addr=citadel:8060"][..],
            &["--ca-root=/r.pem"],
            &["--join-token-file=/t"],
            &[
                "--ca-addr=c:1",
                "--ca-root=/r",
                "--join-token-file=/t",
                "--ca-token-file=/u",
            ],
            &["--operators=ann"],
            &["--tls-min-version=1.1"],
        ] {
            assert!(parse(flags).is_err(), "{flags:?}");
        }
        let args = parse(&["--namespace=No_Such"]).unwrap();
        assert!(args.own_id(accounts::PILOT).is_err());
    }
}
