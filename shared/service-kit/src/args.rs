//! Flags every service has.

use std::path::PathBuf;

use crate::{ListenAddr, LogControl, LogError, LogFormat, init_logs};

/// Flags shared by all services: `#[command(flatten)] common: CommonArgs` in a service's own `args.rs`.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonArgs {
    /// Address for /metrics, /ready, /healthz and /version; :PORT listens on every interface, port 0 takes a free one
    #[arg(
        long,
        alias = "monitoringAddr",
        value_name = "ADDR",
        default_value = "127.0.0.1:15014"
    )]
    pub monitoring_addr: ListenAddr,

    /// Write the addresses in use to this file, as JSON, once everything listens
    #[arg(long, value_name = "FILE")]
    pub ports_file: Option<PathBuf>,

    /// Log levels: scope:level,.. with `default` for the rest (default:info,ads:debug), or tracing's own form (info,pilot::ads=debug)
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

impl CommonArgs {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        common: CommonArgs,
    }

    #[test]
    fn old_spellings_still_work() {
        let cli = Cli::try_parse_from([
            "pilot",
            "--monitoringAddr=:15014",
            "--log_output_level=default:warn",
            "--log_as_json",
        ])
        .ok()
        .unwrap();
        assert_eq!(cli.common.monitoring_addr.as_ref(), ":15014");
        assert_eq!(cli.common.log_output_level, "default:warn");
        assert!(cli.common.log_as_json);
    }

    #[test]
    fn defaults_stay_on_loopback() {
        let cli = Cli::try_parse_from(["pilot"]).ok().unwrap();
        assert!(cli.common.monitoring_addr.is_loopback());
        assert_eq!(cli.common.monitoring_addr.port(), 15014);
    }
}
