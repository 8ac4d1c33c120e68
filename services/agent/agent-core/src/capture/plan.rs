//! From what is in force to what is wanted: the text for `iptables-restore --noflush`.

use std::fmt::Write as _;

use super::rule::{NOTE, Ruleset, Table, TableRules};
use super::state::State;

/// Most lines of a difference that are told.
const DIFFERENCES: usize = 20;

/// What may be done about rules that are there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct How {
    /// Whether rules of ours that are not as wanted are replaced, with new connections held off meanwhile.
    pub reconcile: bool,
    /// Whether everything is written anew even if it is as wanted.
    pub force: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: all is as wanted.
    AsWanted,
    /// Give this to `iptables-restore --noflush`. Each table of it takes effect at once and whole.
    Restore(String),
}

/// Why nothing can be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Other rules of ours, or Istio's, are there.
    #[error(
        "rules that redirect traffic are there already and differ from what is wanted; --reconcile replaces them, --cleanup-only removes them\n  {}",
        .0.join("\n  ")
    )]
    Drift(Vec<String>),
}

/// Compares and writes the difference; an empty ruleset removes everything of ours, and may always do so.
///
/// # Errors
/// Something of ours is there that is not as wanted, and `how` does not allow to replace it.
pub fn plan(state: &State, wanted: &Ruleset, how: How) -> Result<Plan, PlanError> {
    let removes = wanted.0.is_empty();
    if state.is(wanted) && (!how.force || removes) {
        return Ok(Plan::AsWanted);
    }
    let there = state.has_ours();
    if there && !removes && !how.reconcile && !how.force {
        return Err(PlanError::Drift(state.differences(wanted, DIFFERENCES)));
    }
    let guarded = there && !removes && how.reconcile;
    Ok(Plan::Restore(restore(state, wanted, guarded)))
}

fn restore(state: &State, wanted: &Ruleset, guarded: bool) -> String {
    let mut out = String::new();
    if guarded {
        guard(&mut out, "-I");
    }
    let none = TableRules::default();
    for table in Table::ALL {
        write_table(
            &mut out,
            table,
            state,
            wanted.0.get(&table).unwrap_or(&none),
        );
    }
    if guarded {
        guard(&mut out, "-D");
    }
    out
}

/// Rules that hold off new connections while the ones that redirect them are replaced. If that fails half-way they stay, and nothing passes
/// by the proxy; the next run removes them, as they bear our comment.
fn guard(out: &mut String, command: &str) {
    out.push_str("*filter\n");
    for chain in ["INPUT", "OUTPUT"] {
        let place = if command == "-I" { " 1" } else { "" };
        let _ = writeln!(
            out,
            "{command} {chain}{place} -m conntrack --ctstate NEW -m comment --comment {NOTE} -j DROP"
        );
    }
    out.push_str("COMMIT\n");
}

fn write_table(out: &mut String, table: Table, state: &State, wanted: &TableRules) {
    let chains = wanted.chains();
    let saved = state.table(table);
    let old: Vec<&(String, String)> = saved
        .into_iter()
        .flat_map(|saved| saved.ours_in_system(wanted))
        .collect();
    let gone: Vec<&String> = saved
        .into_iter()
        .flat_map(|saved| &saved.chains)
        .filter(|chain| !chains.contains(chain.as_str()))
        .collect();
    if chains.is_empty() && old.is_empty() && gone.is_empty() && wanted.in_order().next().is_none()
    {
        return;
    }
    let _ = writeln!(out, "*{}", table.name());
    // A chain that is there is emptied by this.
    for chain in chains
        .iter()
        .copied()
        .chain(gone.iter().map(|s| s.as_str()))
    {
        let _ = writeln!(out, ":{chain} - [0:0]");
    }
    for (chain, body) in old {
        let _ = writeln!(out, "-D {chain} {body}");
    }
    for (place, rule) in (1..).zip(&wanted.first) {
        let (chain, body) = (rule.chain.name(), rule.body());
        let _ = writeln!(out, "-I {chain} {place} {body}");
    }
    for rule in &wanted.last {
        let _ = writeln!(out, "{rule}");
    }
    for chain in gone {
        let _ = writeln!(out, "-X {chain}");
    }
    out.push_str("COMMIT\n");
}
