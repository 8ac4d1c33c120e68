//! Which iptables is spoken: rules live with the kernel's old tables or with nftables, and each is blind to the other's.

use super::state::State;
use super::{Family, Plan, PlanError, Ruleset, Wanted, plan};
use crate::capture::How;

/// A variant of iptables' programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// `iptables-nft`: rules live with nftables.
    Nft,
    /// `iptables-legacy`: rules live with the kernel's old tables.
    Legacy,
    /// `iptables`, whichever that is.
    Plain,
}

impl Variant {
    /// What a user calls it: `nft`, `legacy`, or `plain`.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Nft => "nft",
            Variant::Legacy => "legacy",
            Variant::Plain => "plain",
        }
    }

    /// A program: `("save")` gives `iptables-nft-save`.
    pub fn program(self, family: Family, verb: &str) -> String {
        let tables = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        match self {
            Variant::Nft => format!("{tables}-nft-{verb}"),
            Variant::Legacy => format!("{tables}-legacy-{verb}"),
            Variant::Plain => format!("{tables}-{verb}"),
        }
    }

    /// What `iptables --version` tells: `iptables v1.8.9 (nf_tables)`. Before 1.8 there were no variants.
    pub fn of_version(text: &str) -> Option<Variant> {
        if text.contains("(nf_tables)") {
            return Some(Variant::Nft);
        }
        if text.contains("(legacy)") {
            return Some(Variant::Legacy);
        }
        let number = text.split_ascii_whitespace().find_map(|word| {
            let digits = word.strip_prefix('v').unwrap_or(word);
            digits
                .starts_with(|c: char| c.is_ascii_digit())
                .then_some(digits)
        })?;
        let good = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        good.then_some(Variant::Plain)
    }
}

/// What a variant shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Rules of IPv4.
    pub v4: State,
    /// Rules of IPv6; empty if they cannot be read.
    pub v6: State,
}

impl Seen {
    /// Rules of one version of IP.
    pub fn of_family(&self, family: Family) -> &State {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn has_ours(&self) -> bool {
        self.v4.has_ours() || self.v6.has_ours()
    }

    fn rule_count(&self) -> usize {
        self.v4.rule_count() + self.v6.rule_count()
    }
}

/// Which of the variants that work is to be spoken: the one that has our rules, else the one that has any, else the system's own choice.
///
/// `None` if none works.
pub fn choose(seen: &[(Variant, Seen)], default: Option<Variant>) -> Option<Variant> {
    let first = |good: &dyn Fn(&Seen) -> bool| {
        let mut found = seen.iter().filter(|(_, seen)| good(seen));
        let first = found.next().map(|(variant, _)| *variant);
        // The system's own choice wins among equals.
        match found.find(|(variant, _)| Some(*variant) == default) {
            Some((variant, _)) => Some(*variant),
            None => first,
        }
    };
    first(&Seen::has_ours)
        .or_else(|| first(&|seen| seen.rule_count() > 0))
        .or_else(|| first(&|_| true))
}

/// One run of `iptables-restore --noflush`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// Whose.
    pub variant: Variant,
    /// Of which version of IP.
    pub family: Family,
    /// What it is given.
    pub text: String,
}

/// Everything to be run, in order: what is wanted with the chosen variant, and nothing of ours with the others.
///
/// # Errors
/// As [`plan`].
pub fn restores(
    seen: &[(Variant, Seen)],
    chosen: Variant,
    wanted: &Wanted,
    how: How,
) -> Result<Vec<Restore>, PlanError> {
    let nothing = Ruleset::default();
    let mut out = Vec::new();
    for family in [Family::V4, Family::V6] {
        for (variant, seen) in seen {
            let state = seen.of_family(family);
            let rules = match *variant == chosen {
                true => wanted.of_family(family),
                false => &nothing,
            };
            // What the other variant has would redirect a second time; so would an old IPv6 that is no longer wanted.
            let removes = rules.0.is_empty() && state.has_ours();
            let all_go = wanted.v4.0.is_empty() && wanted.v6.0.is_empty();
            if removes && !all_go && !how.reconcile && !how.force {
                return Err(PlanError::Drift(state.differences(rules, 20)));
            }
            if let Plan::Restore(text) = plan(state, rules, how)? {
                out.push(Restore {
                    variant: *variant,
                    family,
                    text,
                });
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(variant: Variant, v4: &str) -> (Variant, Seen) {
        let v4 = State::parse(v4);
        let v6 = State::default();
        (variant, Seen { v4, v6 })
    }

    const OTHERS: &str = "*filter\n-A INPUT -j ACCEPT\nCOMMIT\n";
    const OURS: &str = "*nat\n:ISTIO_OUTPUT - [0:0]\n-A OUTPUT -j ISTIO_OUTPUT\nCOMMIT\n";

    #[test]
    fn rules_that_are_there_choose_the_variant() {
        use Variant::{Legacy, Nft};
        for (nft, legacy, default, want) in [
            ("", "", Some(Nft), Nft),
            ("", "", Some(Legacy), Legacy),
            ("", "", None, Nft),
            ("", OTHERS, Some(Nft), Legacy),
            (OTHERS, "", Some(Legacy), Nft),
            (OTHERS, OTHERS, Some(Legacy), Legacy),
            (OTHERS, OURS, Some(Nft), Legacy),
            (OURS, OTHERS, Some(Legacy), Nft),
        ] {
            let all = [seen(Nft, nft), seen(Legacy, legacy)];
            assert_eq!(
                choose(&all, default),
                Some(want),
                "{nft} {legacy} {default:?}"
            );
        }
        assert_eq!(choose(&[], Some(Nft)), None);
    }

    #[test]
    fn what_another_variant_has_is_not_left_to_redirect_twice() {
        let all = [seen(Variant::Nft, ""), seen(Variant::Legacy, OURS)];
        let wanted = Wanted::default();
        // Removing is always allowed.
        let restores_of = |wanted: &Wanted, how| restores(&all, Variant::Nft, wanted, how);
        assert_eq!(restores_of(&wanted, How::default()).unwrap().len(), 1);
        let wanted = super::super::tests::everything();
        assert!(restores_of(&wanted, How::default()).is_err());
        let how = How {
            reconcile: true,
            force: false,
        };
        let runs = restores_of(&wanted, how).unwrap();
        let variants: Vec<_> = runs.iter().map(|run| run.variant).collect();
        assert_eq!(variants, [Variant::Nft, Variant::Legacy, Variant::Nft]);
    }

    #[test]
    fn versions_tell_their_variant() {
        for (text, want) in [
            ("iptables v1.8.9 (nf_tables)", Some(Variant::Nft)),
            ("1.8.7 (legacy)", Some(Variant::Legacy)),
            ("iptables v1.6.1", Some(Variant::Plain)),
            ("1.8.4", Some(Variant::Plain)),
            ("latest", None),
            ("1.8;reboot", None),
        ] {
            assert_eq!(Variant::of_version(text), want, "{text}");
        }
        let program = Variant::Nft.program(Family::V6, "restore");
        assert_eq!(program, "ip6tables-nft-restore");
    }
}
