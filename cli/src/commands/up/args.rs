//! Flags of `flotilla up`.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use service_kit::LogFormat;

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for everything this mesh keeps: configuration, database, logs
    #[arg(long, value_name = "DIR", default_value = ".flotilla")]
    pub dir: PathBuf,

    /// Run Galley, Pilot and a NATS server as processes of their own
    #[arg(long)]
    pub split: bool,

    /// Begin anew: throw away the edits and the history in --dir
    #[arg(long)]
    pub fresh: bool,

    /// Start the plane alone, without the sample and its Envoys; it serves whatever is put into DIR/config
    #[arg(long)]
    pub no_sample: bool,

    /// Loopback network of the sample: the gateway gets .1, the workloads the addresses after it
    #[arg(long, value_name = "A.B.C", default_value = "127.77.0")]
    pub network: Network,

    /// Let the plane listen on any free ports, not on Istio's
    #[arg(long)]
    pub any_ports: bool,

    /// The Envoy to run; default .cache/bin/envoy here or above (where `make setup` puts it), else the one in PATH
    #[arg(long, env = "FLOTILLA_ENVOY", value_name = "FILE")]
    pub envoy: Option<PathBuf>,

    /// The NATS server to run with --split; found as Envoy is
    #[arg(long, env = "FLOTILLA_NATS_SERVER", value_name = "FILE")]
    pub nats_server: Option<PathBuf>,

    /// The sample application; default the program `sample` beside this one
    #[arg(long, value_name = "FILE", hide = true)]
    pub sample: Option<PathBuf>,

    /// Log levels of the plane, which logs into DIR/logs
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

    /// Where programs are looked for
    #[arg(long, env = "PATH", hide = true, default_value = "")]
    pub path: OsString,
}

/// The first three numbers of a loopback network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network([u8; 3]);

/// Why a text is no [`Network`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no loopback network; write its first three numbers, as in 127.77.0")]
pub struct NetworkError(String);

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let wrong = || NetworkError(text.to_owned());
        let address: Ipv4Addr = format!("{text}.1").parse().map_err(|_| wrong())?;
        let [a, b, c, _] = address.octets();
        // 127.0.0 is everybody's: ports there are taken by others.
        if a != 127 || (b, c) == (0, 0) {
            return Err(wrong());
        }
        Ok(Network([a, b, c]))
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c] = self.0;
        write!(f, "{a}.{b}.{c}")
    }
}

impl Network {
    /// The address with this last number.
    pub fn host(self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.0;
        Ipv4Addr::new(a, b, c, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_loopback_and_not_everybodys() {
        let network: Network = "127.77.3".parse().unwrap();
        assert_eq!(network.host(10), Ipv4Addr::new(127, 77, 3, 10));
        assert_eq!(network.to_string(), "127.77.3");
        for bad in [
            "",
            "127.77",
            "127.77.0.1",
            "10.0.0",
            "127.0.0",
            "127.300.0",
            "x",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
