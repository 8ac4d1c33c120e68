//! Flags of `pilot`, with pilot-discovery's names where it has them.

use std::path::PathBuf;
use std::time::Duration;

use service_kit::{CommonArgs, ListenAddr, parse_duration};

/// Pilot: serves xDS to the mesh's proxies.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "pilot", version, about)]
pub struct Args {
    /// `discovery` is accepted in front of the flags, as pilot-discovery has it
    #[arg(hide = true, value_parser = ["discovery"])]
    pub command: Option<String>,

    /// Galley's address; ignored with --config-dir
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9901")]
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

    /// Address for xDS without TLS
    #[arg(
        long,
        alias = "grpcAddr",
        value_name = "ADDR",
        default_value = "127.0.0.1:15010"
    )]
    pub grpc_addr: ListenAddr,

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

    /// Flags all services have
    #[command(flatten)]
    pub common: CommonArgs,
}
