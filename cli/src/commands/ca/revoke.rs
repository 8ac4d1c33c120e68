//! `flotilla ca revoke`, `lift`, `revocations`.

use std::process::ExitCode;

use mesh_api::citadel::revoke_request::What;
use mesh_api::citadel::{LiftRequest, Revocation, RevocationsRequest, RevokeRequest, Span};

use super::connect::Address;
use super::words::{at, seconds};
use crate::table::{self, Output};

/// What is taken back: one of them.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Target {
    /// An identity: all its certificates, no new ones, and every proxy denies it
    #[arg(long, value_name = "ID", conflicts_with_all = ["serial", "node", "issued_from"])]
    spiffe_id: Option<String>,

    /// One certificate, by its serial number in hexadecimal
    #[arg(long, value_name = "HEX", conflicts_with_all = ["node", "issued_from"])]
    serial: Option<String>,

    /// A node: all certificates that were issued to it, and no new ones
    #[arg(long, value_name = "NAME", conflicts_with = "issued_from")]
    node: Option<String>,

    /// Every certificate issued from this time on, as 2026-11-28T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = seconds, requires = "issued_to")]
    issued_from: Option<i64>,

    /// Until before this time
    #[arg(long, value_name = "TIME", value_parser = seconds, requires = "issued_from")]
    issued_to: Option<i64>,
}

/// Flags.
#[derive(Debug, clap::Args)]
pub struct RevokeArgs {
    #[command(flatten)]
    address: Address,

    #[command(flatten)]
    target: Target,

    /// Why; kept in the journal
    #[arg(long, value_name = "TEXT")]
    reason: String,

    /// With --serial: it may be put in force again
    #[arg(long, requires = "serial")]
    hold: bool,

    /// For people, json or yaml
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Flags.
#[derive(Debug, clap::Args)]
pub struct LiftArgs {
    #[command(flatten)]
    address: Address,

    /// Number of the revocation, as `flotilla ca revocations` prints it
    id: u64,

    /// Why; kept in the journal
    #[arg(long, value_name = "TEXT")]
    reason: String,

    /// For people, json or yaml
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Flags.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    address: Address,

    /// Table, json or yaml
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Takes something back.
pub async fn revoke(args: RevokeArgs) -> anyhow::Result<ExitCode> {
    let target = args.target;
    let what = match (target.spiffe_id, target.serial, target.node) {
        (Some(id), ..) => What::SpiffeId(id),
        (_, Some(serial), _) => What::Serial(serial),
        (.., Some(node)) => What::Node(node),
        _ => What::Issued(Span {
            from: target.issued_from.unwrap_or_default(),
            to: target.issued_to.unwrap_or_default(),
        }),
    };
    let request = RevokeRequest {
        what: Some(what),
        reason: args.reason,
        hold: args.hold,
    };
    let mut client = args.address.connect().await?;
    let revocation = args.address.ask(client.revoke(request)).await?;
    if args.output.is_table() {
        table::say!(
            "revocation {}: {} ({} certificates); `flotilla ca lift {} --reason ..` takes it back",
            revocation.id,
            words(&revocation),
            revocation.certificates,
            revocation.id
        );
    } else {
        table::print(&revocation, args.output)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes a revocation back.
pub async fn lift(args: LiftArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.address.connect().await?;
    let request = LiftRequest {
        id: args.id,
        reason: args.reason,
    };
    let revocation = args.address.ask(client.lift(request)).await?;
    if args.output.is_table() {
        table::say!(
            "revocation {} is lifted: {}",
            revocation.id,
            words(&revocation)
        );
    } else {
        table::print(&revocation, args.output)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints every revocation.
pub async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let mut client = args.address.connect().await?;
    let list = args
        .address
        .ask(client.revocations(RevocationsRequest {}))
        .await?;
    if !args.output.is_table() {
        table::print(&list.revocations, args.output)?;
    } else if list.revocations.is_empty() {
        table::say!("nothing is revoked");
    } else {
        let rows: Vec<Vec<String>> = list.revocations.iter().map(row).collect();
        table::lines(&HEAD, &rows)
            .iter()
            .for_each(|line| table::say!("{line}"));
    }
    Ok(ExitCode::SUCCESS)
}

const HEAD: [&str; 7] = ["ID", "AT", "WHAT", "CERTIFICATES", "BY", "LIFTED", "REASON"];

fn row(revocation: &Revocation) -> Vec<String> {
    let request = revocation.request.clone().unwrap_or_default();
    vec![
        revocation.id.to_string(),
        at(revocation.at),
        words(revocation),
        revocation.certificates.to_string(),
        revocation.requester.clone(),
        at(revocation.lifted_at),
        request.reason,
    ]
}

fn words(revocation: &Revocation) -> String {
    let request = revocation.request.clone().unwrap_or_default();
    match request.what {
        Some(What::SpiffeId(id)) => id,
        Some(What::Serial(serial)) if request.hold => format!("serial {serial} (on hold)"),
        Some(What::Serial(serial)) => format!("serial {serial}"),
        Some(What::Node(node)) => format!("node {node}"),
        Some(What::Issued(span)) => format!("issued {} to {}", at(span.from), at(span.to)),
        None => "nothing".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_revoked() {
        let of = |what| {
            words(&Revocation {
                request: Some(RevokeRequest {
                    what: Some(what),
                    ..RevokeRequest::default()
                }),
                ..Revocation::default()
            })
        };
        assert_eq!(of(What::Node("n1".into())), "node n1");
        assert_eq!(of(What::Serial("0a".into())), "serial 0a");
        assert_eq!(
            of(What::Issued(Span { from: 1, to: 2 })),
            "issued 1970-01-01T00:00:01Z to 1970-01-01T00:00:02Z"
        );
    }
}
