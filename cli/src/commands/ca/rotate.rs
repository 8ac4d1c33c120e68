//! `flotilla ca rotate`: a new root, without an interruption.

use std::process::ExitCode;

use mesh_api::citadel::rotate_request::Step;
use mesh_api::citadel::rotation::Phase;
use mesh_api::citadel::{RotateRequest, Rotation};

use super::connect::Address;
use super::words::{at, short};
use crate::table::{self, Output};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do
    #[arg(value_enum)]
    step: StepArg,

    #[command(flatten)]
    address: Address,

    /// Why; required to force, and kept in the journal
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        required_if_eq("step", "force")
    )]
    reason: String,

    /// For people, json or yaml
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum StepArg {
    /// Make a new root and distribute it
    Start,
    /// Say how far it is, and who is waited for
    Status,
    /// Stay in the phase
    Pause,
    /// Go on
    Resume,
    /// Go back to the old root
    Abort,
    /// Go past the gate that is waited at, whoever has not acknowledged
    Force,
}

/// Takes the step, and prints how the rotation stands.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let step = match args.step {
        StepArg::Start => Step::Start,
        StepArg::Status => Step::Status,
        StepArg::Pause => Step::Pause,
        StepArg::Resume => Step::Resume,
        StepArg::Abort => Step::Abort,
        StepArg::Force => Step::Force,
    };
    let mut client = args.address.connect().await?;
    let request = RotateRequest {
        step: step.into(),
        reason: args.reason,
    };
    let rotation = args.address.ask(client.rotate(request)).await?;
    if args.output.is_table() {
        lines(&rotation)
            .iter()
            .for_each(|line| table::say!("{line}"));
    } else {
        table::print(&rotation, args.output)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How a rotation stands, for people.
pub fn lines(rotation: &Rotation) -> Vec<String> {
    let paused = if rotation.paused { ", paused" } else { "" };
    let since = at(rotation.phase_since);
    let (old, new) = (short(&rotation.old_root), short(&rotation.new_root));
    let mut lines = match rotation.phase() {
        Phase::Idle => vec![
            "rotation       none; `flotilla ca rotate start` makes a new root".into(),
            acknowledged(rotation),
        ],
        Phase::Distribute => vec![
            format!("rotation       distributing the new root since {since}{paused}"),
            acknowledged(rotation),
        ],
        Phase::Drain => vec![
            format!("rotation       the new root signs since {since}{paused}"),
            format!(
                "               {} certificates of the old root are not renewed yet",
                rotation.old_leaves
            ),
        ],
        Phase::Retire => vec![
            format!("rotation       the old root has left the bundle at {since}{paused}"),
            acknowledged(rotation),
        ],
    };
    if rotation.phase() != Phase::Idle {
        lines.push(format!("               from {old} to {new}"));
    }
    for (what, names) in [
        ("waiting for", &rotation.pending),
        ("silent Pilots", &rotation.silent_pilots),
    ] {
        if !names.is_empty() {
            let shown: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
            let more = names.len() - shown.len();
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            lines.push(format!("{what:14} {}{more}", shown.join(", ")));
        }
    }
    if !rotation.blocked.is_empty() {
        lines.push(format!("blocked        {}", rotation.blocked));
    }
    lines
}

fn acknowledged(rotation: &Rotation) -> String {
    format!(
        "               {} of {} proxies have acknowledged the bundle",
        rotation.acknowledged, rotation.total
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stalled_gate_names_whom_it_waits_for() {
        let rotation = Rotation {
            phase: Phase::Distribute.into(),
            old_root: "aa".repeat(32),
            new_root: "bb".repeat(32),
            acknowledged: 2,
            total: 3,
            pending: vec!["web-1.default".into()],
            phase_since: 1_800_000_000,
            blocked: "waits".into(),
            ..Rotation::default()
        };
        assert_eq!(
            lines(&rotation),
            [
                "rotation       distributing the new root since 2027-01-15T08:00:00Z",
                "               2 of 3 proxies have acknowledged the bundle",
                "               from aaaaaaaaaaaaaaaa to bbbbbbbbbbbbbbbb",
                "waiting for    web-1.default",
                "blocked        waits",
            ]
        );
        // Without a rotation, what of the bundle has arrived: a plugged-in authority is rotated by that.
        let idle = Rotation {
            acknowledged: 2,
            total: 3,
            pending: vec!["web-1.default".into()],
            ..Rotation::default()
        };
        assert_eq!(
            lines(&idle),
            [
                "rotation       none; `flotilla ca rotate start` makes a new root",
                "               2 of 3 proxies have acknowledged the bundle",
                "waiting for    web-1.default",
            ]
        );
    }
}
