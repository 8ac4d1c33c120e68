//! `flotilla wait`: blocks until a revision is live on every proxy, and tells the truth if it is not.

use std::process::ExitCode;
use std::time::Duration;

use mesh_api::pilot::RevisionStatus;
use serde_json::Value;

use crate::client::PilotAddress;
use crate::table::{self, Output};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    address: PilotAddress,

    /// Revision to wait for; default the newest that the asked Pilot has
    #[arg(long, value_name = "N")]
    revision: Option<u64>,

    /// What to wait for
    #[arg(long = "for", value_enum, default_value = "live")]
    condition: Condition,

    /// How long to wait
    #[arg(long, value_parser = service_kit::parse_duration, default_value = "30s")]
    timeout: Duration,

    /// One line, json or yaml
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Condition {
    /// Accepted by every connected proxy.
    Live,
}

/// Succeeds if the revision is live everywhere within the time.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Condition::Live = args.condition;
    let pilot = args.address.service()?;
    let revision = match args.revision {
        Some(revision) => revision,
        None => {
            let newest: Value = pilot.get("/v1/revision", Duration::from_secs(10)).await?;
            newest["revision"].as_u64().unwrap_or_default()
        }
    };
    let path = format!(
        "/v1/revisions/{revision}?wait={}ms",
        args.timeout.as_millis()
    );
    let status: RevisionStatus = pilot
        .get(&path, args.timeout + Duration::from_secs(10))
        .await?;
    let live =
        status.live == status.total && status.silent_pilots.is_empty() && status.pending.is_empty();
    match args.output {
        Output::Short => table::say!("{}", sentence(&status)),
        output => table::print(&status, output)?,
    }
    Ok(if live {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// "revision 7 is live on 118 of 120 proxies; rejected by a.b; not yet on c.d".
pub fn sentence(status: &RevisionStatus) -> String {
    let mut text = format!(
        "revision {} is live on {} of {} proxies",
        status.revision, status.live, status.total
    );
    for (what, names) in [
        ("rejected by", &status.rejected),
        ("not yet on", &status.pending),
        ("unknown at", &status.silent_pilots),
    ] {
        if !names.is_empty() {
            let shown: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
            let more = names.len() - shown.len();
            text.push_str(&format!("; {what} {}", shown.join(", ")));
            if more > 0 {
                text.push_str(&format!(" and {more} more"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_who_lags() {
        let status = RevisionStatus {
            revision: 7,
            live: 1,
            total: 3,
            pending: vec!["c.d".into()],
            rejected: vec!["a.b".into()],
            ..RevisionStatus::default()
        };
        assert_eq!(
            sentence(&status),
            "revision 7 is live on 1 of 3 proxies; rejected by a.b; not yet on c.d"
        );
    }
}
