//! Flags of `agent`. A flag of `agent proxy` is another way to set a variable of Istio's agent, and wins over it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use agent_core::options::Kind;
use service_kit::{LogControl, LogError, LogFormat, init_logs};

/// Flotilla's agent: what runs beside an Envoy
#[derive(Debug, clap::Parser)]
#[command(name = "agent", version, about)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What the agent can do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Run an Envoy: its identity, its configuration, its end
    Proxy(Box<ProxyArgs>),
    /// Hand a pod's traffic to its proxy by iptables
    Capture(Box<crate::capture::Args>),
    /// Wait until the proxy is ready
    Wait(WaitArgs),
    /// Ask Envoy's administration
    Request(RequestArgs),
    /// Run a program that ends when its parent does
    #[command(hide = true)]
    Child(ChildArgs),
    /// Print an encoded bootstrap as JSON
    #[command(hide = true)]
    PrintBootstrap,
}

/// Kind of proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Beside a workload
    Sidecar,
    /// A gateway
    Router,
}

impl From<Role> for Kind {
    fn from(role: Role) -> Kind {
        match role {
            Role::Sidecar => Kind::Sidecar,
            Role::Router => Kind::Router,
        }
    }
}

/// Flags of `agent proxy`. Everything else is said in variables, see docs/agent.md.
#[derive(Debug, Clone, clap::Args)]
pub struct ProxyArgs {
    /// Kind of proxy
    #[arg(value_enum, default_value = "sidecar")]
    pub role: Role,

    /// Folder that the agent's and the pod's files are below
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root_dir: PathBuf,

    /// Pilots, separated by commas, tried in turn: host:port, or http://127.0.0.1:PORT without TLS (DISCOVERY_ADDRESS)
    #[arg(long, value_name = "ADDRS")]
    pub discovery_address: Option<String>,

    /// The certificate authority, host:port (CA_ADDR)
    #[arg(long, value_name = "ADDR")]
    pub ca_addr: Option<String>,

    /// Root certificates for the first contact with the authority: a file, or SYSTEM (CA_ROOT_CA)
    #[arg(long, value_name = "FILE")]
    pub ca_root: Option<String>,

    /// File with a one-time token for the first certificate (JOIN_TOKEN_FILE)
    #[arg(long, value_name = "FILE")]
    pub join_token_file: Option<String>,

    /// Name that all identities of the mesh share (TRUST_DOMAIN)
    #[arg(long, value_name = "DOMAIN")]
    pub trust_domain: Option<String>,

    /// Namespace of the workload (POD_NAMESPACE)
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// Service account of the workload (SERVICE_ACCOUNT)
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<String>,

    /// Name of the workload's instance (POD_NAME)
    #[arg(long, value_name = "NAME")]
    pub pod_name: Option<String>,

    /// Addresses of the workload, separated by commas (INSTANCE_IP)
    #[arg(long, value_name = "IPS")]
    pub ip: Option<String>,

    /// A label of the workload, KEY=VALUE; repeatable (ISTIO_METAJSON_LABELS)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,

    /// Domain of Kubernetes services (DOMAIN_SUFFIX)
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,

    /// Envoy's program (binaryPath of PROXY_CONFIG)
    #[arg(long, value_name = "FILE")]
    pub envoy: Option<PathBuf>,

    /// Address of health, metrics and probes (STATUS_ADDRESS)
    #[arg(long, value_name = "ADDR")]
    pub status_addr: Option<String>,

    /// Address of Envoy's administration (ENVOY_ADMIN_ADDRESS)
    #[arg(long, value_name = "ADDR")]
    pub envoy_admin_addr: Option<String>,

    /// Address of Envoy's health (ENVOY_STATUS_ADDRESS)
    #[arg(long, value_name = "ADDR")]
    pub envoy_status_addr: Option<String>,

    /// Address of Envoy's metrics (ENVOY_PROMETHEUS_ADDRESS)
    #[arg(long, value_name = "ADDR")]
    pub envoy_prometheus_addr: Option<String>,

    /// Address of names (DNS_PROXY_ADDR)
    #[arg(long, value_name = "ADDR")]
    pub dns_addr: Option<String>,

    /// Envoy's worker threads; 0 is one per core (concurrency of PROXY_CONFIG)
    #[arg(long, value_name = "N")]
    pub concurrency: Option<u32>,

    /// Level of Envoy's log (PROXY_LOG_LEVEL)
    #[arg(
        long = "proxyLogLevel",
        alias = "proxy-log-level",
        value_name = "LEVEL"
    )]
    pub proxy_log_level: Option<String>,

    /// Levels of parts of Envoy's log (PROXY_COMPONENT_LOG_LEVEL)
    #[arg(
        long = "proxyComponentLogLevel",
        alias = "proxy-component-log-level",
        value_name = "LEVELS"
    )]
    pub proxy_component_log_level: Option<String>,

    /// Write the addresses in use to this file, as JSON, before Envoy starts
    #[arg(long, value_name = "FILE")]
    pub ports_file: Option<PathBuf>,

    /// Log levels: scope:level,.. with `default` for the rest
    #[arg(
        long,
        alias = "log_output_level",
        value_name = "LEVELS",
        default_value = "default:info"
    )]
    pub log_output_level: String,

    /// Log lines for people (text) or machines (json)
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// The same as --log-format json
    #[arg(long = "log_as_json", alias = "log-as-json", hide = true)]
    pub log_as_json: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("want KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl ProxyArgs {
    /// Sets up logging as the flags say.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn init_logs(&self) -> Result<LogControl, LogError> {
        let format = if self.log_as_json {
            LogFormat::Json
        } else {
            self.log_format
        };
        init_logs(format, &self.log_output_level)
    }

    /// Puts what the flags say over variables.
    pub fn over(&self, mut vars: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let flags = [
            ("DISCOVERY_ADDRESS", &self.discovery_address),
            ("CA_ADDR", &self.ca_addr),
            ("CA_ROOT_CA", &self.ca_root),
            ("JOIN_TOKEN_FILE", &self.join_token_file),
            ("TRUST_DOMAIN", &self.trust_domain),
            ("POD_NAMESPACE", &self.namespace),
            ("SERVICE_ACCOUNT", &self.service_account),
            ("POD_NAME", &self.pod_name),
            ("INSTANCE_IP", &self.ip),
            ("DOMAIN_SUFFIX", &self.domain),
            ("STATUS_ADDRESS", &self.status_addr),
            ("ENVOY_ADMIN_ADDRESS", &self.envoy_admin_addr),
            ("ENVOY_STATUS_ADDRESS", &self.envoy_status_addr),
            ("ENVOY_PROMETHEUS_ADDRESS", &self.envoy_prometheus_addr),
            ("DNS_PROXY_ADDR", &self.dns_addr),
            ("PROXY_LOG_LEVEL", &self.proxy_log_level),
            ("PROXY_COMPONENT_LOG_LEVEL", &self.proxy_component_log_level),
        ];
        for (name, value) in flags {
            if let Some(value) = value {
                vars.insert(name.to_owned(), value.clone());
            }
        }
        if !self.label.is_empty() {
            let labels = self.label.iter();
            let labels: serde_json::Map<_, _> = labels
                .map(|(key, value)| (key.clone(), value.clone().into()))
                .collect();
            vars.insert(
                "ISTIO_METAJSON_LABELS".into(),
                serde_json::Value::Object(labels).to_string(),
            );
        }
        vars
    }
}

/// Flags of `agent wait`.
#[derive(Debug, Clone, clap::Args)]
pub struct WaitArgs {
    /// Where the proxy says that it is ready
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://localhost:15021/healthz/ready"
    )]
    pub url: String,

    /// How long to wait in all, in seconds
    #[arg(
        long = "timeoutSeconds",
        alias = "timeout-seconds",
        value_name = "N",
        default_value_t = 60
    )]
    pub timeout_seconds: u64,

    /// Time between two looks, in milliseconds
    #[arg(
        long = "periodMillis",
        alias = "period-millis",
        value_name = "N",
        default_value_t = 500
    )]
    pub period_millis: u64,

    /// How long one look may take, in milliseconds
    #[arg(
        long = "requestTimeoutMillis",
        alias = "request-timeout-millis",
        value_name = "N",
        default_value_t = 500
    )]
    pub request_timeout_millis: u64,
}

/// Flags of `agent request`.
#[derive(Debug, Clone, clap::Args)]
pub struct RequestArgs {
    /// GET or POST
    pub method: String,

    /// Path and query, for example config_dump?resource=dynamic_active_secrets
    pub path: String,

    /// Where Envoy's administration is
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15000")]
    pub addr: SocketAddr,

    /// Its port on loopback, instead
    #[arg(long, value_name = "PORT")]
    pub debug_port: Option<u16>,
}

/// Flags of `agent child`.
#[derive(Debug, Clone, clap::Args)]
pub struct ChildArgs {
    /// Process id of the parent
    #[arg(long, value_name = "PID")]
    pub parent: i32,

    /// Program and its arguments
    #[arg(last = true, required = true, num_args = 1.., value_name = "PROGRAM")]
    pub command: Vec<OsString>,
}
