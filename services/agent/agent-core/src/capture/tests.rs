//! Rules as a whole: goldens of combinations, and what no setting can do.

mod goldens;
mod hostile;
mod plans;

use super::*;

/// Settings of a pod that captures everything, changed by `change`.
pub(super) fn written(change: impl FnOnce(&mut Written)) -> Written {
    let mut written = Written {
        inbound_ports: "*".into(),
        outbound_cidrs: "*".into(),
        ..Written::default()
    };
    change(&mut written);
    written
}

pub(super) fn names() -> Names {
    Names::parse("app:x:1000:1000::/:/\n", "java:x:202:\n")
}

pub(super) fn checked(change: impl FnOnce(&mut Written)) -> Settings {
    Settings::check(&written(change), &names()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// A pod with IPv4 alone that asks 10.0.0.10 for names.
pub(super) fn v4() -> Surroundings {
    Surroundings {
        v4: true,
        v6: false,
        name_servers: vec!["10.0.0.10".parse().unwrap()],
    }
}

/// All of a pod, both versions of IP.
pub(super) fn everything() -> Wanted {
    let around = Surroundings { v6: true, ..v4() };
    Wanted::of(&checked(|w| w.dual_stack = true), &around).0
}

/// What `iptables-save` would show once these rules are in force.
pub(super) fn saved(rules: &Ruleset) -> String {
    rules.as_saved()
}

/// What a fresh pod's `iptables-restore` is given.
pub(super) fn fresh(rules: &Ruleset) -> String {
    match plan(&State::default(), rules, How::default()) {
        Ok(Plan::Restore(text)) => text,
        other => panic!("{other:?}"),
    }
}
