//! `bench ca`: what a certificate costs the authority.
//!
//! Our own Citadel is started anew for each kind of root, on SQLite in a temporary folder. Callers ask it for certificates as agents do
//! (`CreateCertificate` over TLS), each for its own identity, with a request that was made before: so that the processor time is the
//! server's, and what its clients spend does not count.

mod authority;
mod load;
mod report;

use std::path::PathBuf;

use clap::ValueEnum;

use crate::args::name_of;
pub use authority::Authority;
use load::Load;
use report::Line;

/// Measures what a certificate costs the authority
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Kinds of root
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Root::value_variants().to_vec())]
    pub roots: Vec<Root>,

    /// How callers are known
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Known::value_variants().to_vec())]
    pub known_by: Vec<Known>,

    /// How they connect
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Connections::value_variants().to_vec())]
    pub connections: Vec<Connections>,

    /// Certificates to ask for in each row
    #[arg(long, value_name = "N", default_value_t = 4000)]
    pub requests: usize,

    /// Certificates that are asked for and thrown away before anything is measured
    #[arg(long, value_name = "N", default_value_t = 400)]
    pub warmups: usize,

    /// Callers, each with an identity of its own
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub callers: usize,

    /// Requests that are under way at once, over all callers
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub concurrency: usize,

    /// Our program; default `flotilla` beside this program
    #[arg(long, value_name = "FILE")]
    pub server: Option<PathBuf>,
}

/// Kind of root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Root {
    /// EC P-256
    Ec,
    /// RSA of 2048 bits
    Rsa,
}

/// How a caller is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Known {
    /// By its client certificate: a renewal
    Certificate,
    /// By a JWT of a configured issuer, as a first request
    Jwt,
}

/// How callers connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Connections {
    /// One connection for each caller, open already
    Warm,
    /// One connection for each certificate
    Each,
}

/// Runs every row and says whether all gates hold.
///
/// # Errors
/// The server cannot be started, or refuses something.
pub async fn run(args: &Args) -> anyhow::Result<bool> {
    println!("{}", report::HEAD);
    let mut lines = Vec::new();
    for root in &args.roots {
        let authority = Authority::start(args.server.as_deref(), *root).await?;
        for known_by in &args.known_by {
            let callers = authority.callers(*known_by, args.callers).await?;
            for connections in &args.connections {
                let load = Load {
                    address: authority.address.clone(),
                    server: authority.server.clone(),
                    callers: &callers,
                    connections: *connections,
                    concurrency: args.concurrency.max(1),
                };
                load.run(args.warmups).await?;
                let mut meter = authority.meter()?;
                let before = meter.read()?;
                let took = load.run(args.requests).await?;
                let line = Line {
                    root: *root,
                    known_by: *known_by,
                    connections: *connections,
                    cpu: meter.read()?.saturating_sub(before),
                    took,
                };
                println!("{line}");
                lines.push(line);
            }
        }
        authority.end().await;
    }
    let gates = report::gates(&lines);
    for gate in &gates {
        println!("{gate}");
    }
    Ok(gates.iter().all(report::Gate::holds))
}

impl Root {
    fn flag(self) -> String {
        name_of(&self)
    }
}
