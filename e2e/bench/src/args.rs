//! Flags of `bench`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measures what a control plane costs: a fleet of xDS clients, and edits of its configuration
///
/// Without --address it starts our own server anew for every row. With --address, --pid, --static and --hot it drives a server that runs
/// already, istiod for instance, whose two sources of configuration are these two folders.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Something else than a fleet of proxies
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Rows to run
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [RowName::A1, RowName::A2, RowName::B1])]
    pub rows: Vec<RowName>,

    /// Edits to measure in each row
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Event::value_variants().to_vec())]
    pub events: Vec<Event>,

    /// Protocols to run each row with
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Variant::Sotw, Variant::Delta])]
    pub protocols: Vec<Variant>,

    /// Proxies instead of what the row says
    #[arg(long, value_name = "N")]
    pub proxies: Option<usize>,

    /// Services instead of what the row says
    #[arg(long, value_name = "N")]
    pub services: Option<usize>,

    /// How often each edit is measured
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub repeats: usize,

    /// Edits that are made and thrown away before anything is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub warmups: usize,

    /// An edit is over when nothing came for this long; also how long an edit that should cost nothing is watched
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "600ms")]
    pub quiet: Duration,

    /// How long the first message of an edit is waited for
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "20s")]
    pub patience: Duration,

    /// How long loading, and connecting all proxies, may take
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub connect_timeout: Duration,

    /// Write one JSON object per measured edit, and one per row and edit, to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Our own server's program; default `flotilla` beside this program
    #[arg(long, value_name = "FILE", conflicts_with = "address")]
    pub server: Option<PathBuf>,

    /// One more argument for our own server; repeatable
    #[arg(
        long,
        value_name = "ARG",
        allow_hyphen_values = true,
        conflicts_with = "address"
    )]
    pub server_arg: Vec<String>,

    /// ADS address of a server that runs already
    #[arg(long, value_name = "HOST:PORT", requires_all = ["pid", "static_dir", "hot_dir"])]
    pub address: Option<SocketAddr>,

    /// Process id of that server
    #[arg(long, value_name = "PID", requires = "address")]
    pub pid: Option<u32>,

    /// Folder where that server finds what is never edited; everything of ours in it is replaced
    #[arg(long = "static", value_name = "DIR", requires = "address")]
    pub static_dir: Option<PathBuf>,

    /// Folder where that server finds what is edited; everything of ours in it is replaced
    #[arg(long = "hot", value_name = "DIR", requires = "address")]
    pub hot_dir: Option<PathBuf>,

    /// Serve xDS over mutual TLS, with an authority of our own, instead of plaintext
    #[arg(long, conflicts_with = "address")]
    pub tls: bool,

    /// ISTIO_VERSION of the proxies
    #[arg(long, value_name = "VERSION", default_value = "1.29.6")]
    pub istio_version: String,

    /// CLUSTER_ID of the proxies
    #[arg(long, value_name = "NAME", default_value = "Kubernetes")]
    pub cluster_id: String,
}

/// What else can be measured.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// What a certificate costs the authority
    Ca(crate::ca::Args),
}

/// A row of the table: what is configured, and how many proxies see how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RowName {
    /// 100 services, 100 proxies, each sees all
    #[value(name = "A1")]
    A1,
    /// 1000 services, 100 proxies, each sees all
    #[value(name = "A2")]
    A2,
    /// 5000 services, 50 proxies, each sees all
    #[value(name = "A3")]
    A3,
    /// 1000 services, 1000 proxies, each sees the 20 of its namespace
    #[value(name = "B1")]
    B1,
    /// 5000 services, 1000 proxies, each sees the 100 of its namespace
    #[value(name = "B2")]
    B2,
}

/// An edit of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Event {
    /// One endpoint of one service gets another address
    #[value(name = "e1")]
    Endpoint,
    /// The timeout of one VirtualService changes
    #[value(name = "e3")]
    Route,
    /// One service is added
    #[value(name = "e5")]
    NewService,
    /// An object that no proxy depends on changes
    #[value(name = "e10")]
    Irrelevant,
    /// An object is written anew with the same meaning
    #[value(name = "e11")]
    Rewrite,
}

/// The two protocols of ADS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Variant {
    /// State of the world
    Sotw,
    /// Incremental
    Delta,
}

/// The name by which people and reports know a value.
pub fn name_of(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(
        text.find(|c: char| c.is_ascii_alphabetic())
            .unwrap_or(text.len()),
    );
    let number: u64 = number
        .parse()
        .map_err(|_| "want a whole number and a unit: 600ms, 20s".to_owned())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        _ => Err("want ms or s as unit: 600ms, 20s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_the_gates_are_about() {
        let args = Args::parse_from(["bench"]);
        assert_eq!(
            args.rows.iter().map(name_of).collect::<Vec<_>>(),
            ["A1", "A2", "B1"]
        );
        assert_eq!(
            args.events.iter().map(name_of).collect::<Vec<_>>(),
            ["e1", "e3", "e5", "e10", "e11"]
        );
        assert_eq!(args.protocols, [Variant::Sotw, Variant::Delta]);
    }

    #[test]
    fn a_running_server_needs_all_four_flags() {
        let all = [
            "bench",
            "--address=127.0.0.1:1",
            "--pid=1",
            "--static=a",
            "--hot=b",
        ];
        assert!(Args::try_parse_from(all).is_ok());
        for left_out in 1..all.len() {
            let some = all
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != left_out)
                .map(|(_, arg)| arg);
            assert!(
                Args::try_parse_from(some).is_err(),
                "without {}",
                all[left_out]
            );
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("600ms"), Ok(Duration::from_millis(600)));
        assert_eq!(duration("20s"), Ok(Duration::from_secs(20)));
        assert!(duration("20").is_err() && duration("s").is_err() && duration("2h").is_err());
    }
}
