//! Rules that hand a pod's traffic to its proxy: what `iptables` is told, and when it need not be told anything.
//!
//! [`Settings::check`] takes flags as written and refuses whatever could not be a port, a range, a name or a number, so that nothing of
//! what a user wrote reaches a rule as text. [`Wanted::of`] lays the rules out, in Istio's chains and order. [`plan`] compares them with what
//! `iptables-save` shows and writes what `iptables-restore --noflush` has to be given: nothing, if all is as wanted. [`Routes`] are the
//! addresses and routes that go with them.
//!
//! Who runs the programs is the agent.

mod names;
mod plan;
mod probes;
mod routes;
mod rule;
mod rules;
mod settings;
mod state;
mod surroundings;
#[cfg(test)]
mod tests;
mod value;
mod variant;

pub use names::Names;
pub use plan::{How, Plan, PlanError, plan};
pub use probes::{Probe, passthrough, probes};
pub use routes::{IpCommand, Routes};
pub use rule::{Chain, Family, Is, Match, Owner, Ports, Rule, Ruleset, Table, TableRules, Target};
pub use rules::{Wanted, Warning};
pub use settings::{Cidrs, Inbound, Mode, Outbound, OwnerGroups, Settings, Written};
pub use state::State;
pub use surroundings::{Surroundings, name_servers};
pub use value::{Interface, SettingError, SettingReason};
pub use variant::{Restore, Seen, Variant, choose, restores};
