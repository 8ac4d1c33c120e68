//! Flags of `galley`, with the old galley's names where it has them.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use identity::{ArgsError, Identity, IdentityArgs, accounts};
use service_kit::{CommonArgs, ListenAddr, parse_duration};

/// Galley: keeps the mesh's configuration and distributes it to Pilots.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "galley", version, about)]
pub struct Args {
    /// `server` is accepted in front of the flags, as the old galley has it
    #[arg(hide = true, value_parser = ["server"])]
    pub command: Option<String>,

    /// Folder of YAML or JSON, as a path or file:// URL; repeatable, the first definition of an object counts. Without any, the store is served
    #[arg(
        long,
        aliases = ["configPath", "config-path", "config-dir", "configDir"],
        value_name = "file://DIR"
    )]
    pub source: Vec<SourceUrl>,

    /// File with the mesh's settings (MeshConfig)
    #[arg(
        long,
        aliases = ["meshConfig", "meshConfigFile", "mesh-config-file"],
        value_name = "FILE"
    )]
    pub mesh_config: Option<PathBuf>,

    /// Where revisions are kept: sqlite://FILE or postgres://user:password@host/database; default galley.db in --data-dir
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub store: Option<String>,

    /// Folder for galley.db, if --store is not given; made if it does not exist
    #[arg(long, value_name = "DIR", default_value = "galley-data")]
    pub data_dir: PathBuf,

    /// Domain of Kubernetes services
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub domain: String,

    /// Address for Pilots (gRPC)
    #[arg(
        long,
        aliases = ["grpcAddr", "server-address"],
        value_name = "ADDR",
        default_value = "127.0.0.1:9901",
        value_parser = listen_addr
    )]
    pub grpc_addr: ListenAddr,

    /// Address for the HTTP API
    #[arg(
        long,
        alias = "httpAddr",
        value_name = "ADDR",
        default_value = "127.0.0.1:8081"
    )]
    pub http_addr: ListenAddr,

    /// Serve without TLS on addresses that other machines reach, if there is no identity
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub insecure: bool,

    /// Where news goes: memory: or nats://host:4222
    #[arg(
        long,
        env = "NATS_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "memory:"
    )]
    pub bus: String,

    /// How long this Galley may write without renewing its lease: after a crash, the next one waits this long
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "3s")]
    pub lease_ttl: Duration,

    /// How often a Galley that does not write looks for new revisions, if no news comes
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1s")]
    pub poll: Duration,

    /// How many revisions back can be looked at and returned to; 0 keeps all
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub keep_revisions: u64,

    /// Who this Galley is, and who may ask it what
    #[command(flatten)]
    pub identity: IdentityArgs,

    /// Flags all services have
    #[command(flatten)]
    pub common: CommonArgs,
}

impl Args {
    /// The identity that the flags ask for: to be made before the bus is connected, and handed to [`run_as`](crate::run_as).
    ///
    /// # Errors
    /// See [`ArgsError`].
    pub fn own_identity(&self) -> Result<Option<Identity>, ArgsError> {
        self.identity.identity(accounts::GALLEY, &self.data_dir)
    }

    /// The store's URL.
    pub fn store_url(&self) -> String {
        match &self.store {
            Some(url) => url.clone(),
            None => format!("sqlite:{}", self.data_dir.join("galley.db").display()),
        }
    }
}

/// A source, as written and understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceUrl {
    /// The folder or file, absolute. Links in it are not resolved: they may be swapped.
    pub path: PathBuf,
}

impl SourceUrl {
    /// The source of a folder.
    ///
    /// # Errors
    /// The path is empty, or relative and there is no current folder.
    pub fn of(path: &std::path::Path) -> std::io::Result<SourceUrl> {
        Ok(SourceUrl {
            path: std::path::absolute(path)?,
        })
    }
}

impl FromStr for SourceUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<SourceUrl, String> {
        let path = match text.split_once("://") {
            Some(("file" | "fs", path)) => path,
            Some((scheme, _)) => {
                return Err(format!(
                    "{scheme}:// is no source of this version; write file:///etc/mesh, or a path"
                ));
            }
            None => text,
        };
        SourceUrl::of(path.as_ref()).map_err(|error| format!("{path:?} is no path: {error}"))
    }
}

/// The old galley writes `tcp://host:port`.
fn listen_addr(text: &str) -> Result<ListenAddr, service_kit::listen::ListenAddrError> {
    text.strip_prefix("tcp://").unwrap_or(text).parse()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn takes_the_old_galleys_words() {
        let args = Args::parse_from([
            "galley",
            "server",
            "--configPath",
            "/etc/config",
            "--server-address",
            "tcp://127.0.0.1:0",
            "--meshConfigFile=/etc/mesh-config/mesh",
            "--insecure=true",
        ]);
        assert_eq!(args.source[0].path, PathBuf::from("/etc/config"));
        assert_eq!(args.grpc_addr.to_string(), "127.0.0.1:0");
        assert_eq!(args.mesh_config, Some("/etc/mesh-config/mesh".into()));
        assert!(args.insecure);
        assert_eq!(args.store_url(), "sqlite:galley-data/galley.db");
    }

    #[test]
    fn sources_are_files_for_now() {
        assert_eq!(
            "file:///etc/mesh".parse::<SourceUrl>().unwrap().path,
            PathBuf::from("/etc/mesh")
        );
        assert!("k8s://".parse::<SourceUrl>().unwrap_err().contains("k8s"));
        assert!("".parse::<SourceUrl>().is_err());
    }
}
