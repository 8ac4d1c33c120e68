//! `flotilla ca status`: how the authority stands.

use std::process::ExitCode;

use mesh_api::citadel::{CaStatus, StatusRequest};

use super::connect::Address;
use super::rotate;
use super::words::{at, dash, short};
use crate::table::{self, Output};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    address: Address,

    /// For people, json or yaml
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Prints it; fails if the journal is not whole.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut client = args.address.connect().await?;
    let status = args.address.ask(client.status(StatusRequest {})).await?;
    if args.output.is_table() {
        lines(&status).iter().for_each(|line| table::say!("{line}"));
    } else {
        table::print(&status, args.output)?;
    }
    Ok(if status.journal_intact {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn lines(status: &CaStatus) -> Vec<String> {
    let bundle = status.bundle.clone().unwrap_or_default();
    let journal = if status.journal_intact {
        "whole"
    } else {
        "NOT WHOLE: somebody has changed it, or it is damaged; see the log of Citadel"
    };
    let mut lines = vec![
        format!("trust domain   {}", status.trust_domain),
        format!("root           {}", status.mode),
        format!("replica        {}", status.replica),
        format!("leader         {}", dash(&status.leader)),
        format!(
            "bundle         {} (generation {}, {} roots, {} identities denied)",
            short(&bundle.digest),
            bundle.generation,
            bundle.roots.len(),
            bundle.denied.len()
        ),
        format!(
            "certificates   {} issued and not expired",
            status.live_certificates
        ),
        format!(
            "journal        {} entries, {journal}",
            status.journal_entries
        ),
        String::new(),
    ];
    let rows: Vec<Vec<String>> = status
        .authorities
        .iter()
        .map(|authority| {
            let uses = [(authority.signing, "signs"), (authority.trusted, "trusted")];
            let uses: Vec<&str> = uses
                .iter()
                .filter(|(is, _)| *is)
                .map(|(_, word)| *word)
                .collect();
            vec![
                short(&authority.fingerprint),
                authority.key.clone(),
                at(authority.not_before),
                at(authority.not_after),
                dash(&uses.join(", ")),
            ]
        })
        .collect();
    lines.extend(table::lines(
        &["CERTIFICATE", "KEY", "FROM", "UNTIL", "USE"],
        &rows,
    ));
    if let Some(rotation) = &status.rotation {
        lines.push(String::new());
        lines.extend(rotate::lines(rotation));
    }
    lines
}

#[cfg(test)]
mod tests {
    use mesh_api::citadel::{Authority, TrustBundle};

    use super::*;

    #[test]
    fn says_what_signs_and_until_when() {
        let status = CaStatus {
            replica: "citadel-1".into(),
            trust_domain: "cluster.local".into(),
            mode: "self-signed".into(),
            bundle: Some(TrustBundle {
                generation: 3,
                digest: "ab".repeat(32),
                roots: vec![String::new()],
                ..TrustBundle::default()
            }),
            authorities: vec![Authority {
                fingerprint: "cd".repeat(32),
                key: "EC P-256".into(),
                not_before: 1,
                not_after: 1_800_000_000,
                signing: true,
                trusted: true,
            }],
            journal_intact: true,
            ..CaStatus::default()
        };
        let lines = lines(&status);
        assert!(
            lines.contains(
                &"bundle         abababababababab (generation 3, 1 roots, 0 identities denied)"
                    .to_owned()
            )
        );
        assert!(lines.contains(&"leader         -".to_owned()));
        assert_eq!(
            lines.last().unwrap(),
            "cdcdcdcdcdcdcdcd   EC P-256   1970-01-01T00:00:01Z   2027-01-15T08:00:00Z   signs, trusted"
        );
    }
}
